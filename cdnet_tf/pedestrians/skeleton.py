"""The joints of a figure, and the pen that turns them before it draws.

Lengths are in units of the body's height: x to the person's left, y down from the
crown, z forward.
"""

from __future__ import annotations

import math

from PIL import ImageDraw


class Pen:
    """Turns joints, projects them and draws between them."""

    def __init__(self, image, foot, height, yaw):
        self.image = image
        self.height = height
        self.cos, self.sin = math.cos(yaw), math.sin(yaw)
        self._draw = ImageDraw.Draw(image)
        self._x, self._y = foot[0], foot[1] - height

    def at(self, x, y, z=0.0):
        """Projects a point onto a pixel."""
        across = x * self.cos + z * self.sin
        return self._x + across * self.height, self._y + y * self.height

    def depth(self, x, z):
        """Returns how much nearer to the camera a point is than the body's axis."""
        return z * self.cos - x * self.sin

    def spread(self, width, depth):
        """Returns the visible half width of a body of this half width and depth."""
        return math.hypot(width * self.cos, depth * self.sin)

    def limb(self, joints, width, colour):
        """Draws a thick line with round joints."""
        points = [self.at(*joint) for joint in joints]
        pixels = max(1, width * self.height)
        self._draw.line(points, fill=colour, width=round(pixels))
        for x, y in points:
            r = pixels / 2 - 0.5
            self._draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def oval(self, centre, rx, ry, colour):
        """Draws an ellipse that looks the same from all sides."""
        x, y = self.at(*centre)
        rx, ry = rx * self.height, ry * self.height
        self._draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=colour)

    def dome(self, centre, rx, ry, colour):
        """Draws the upper half of an oval."""
        x, y = self.at(*centre)
        rx, ry = rx * self.height, ry * self.height
        box = (x - rx, y - ry, x + rx, y + ry)
        self._draw.pieslice(box, 180, 360, fill=colour)

    def box(self, centre, rx, ry, colour):
        """Draws an upright box with rounded corners; `spread` gives its `rx`."""
        x, y = self.at(*centre)
        rx, ry = rx * self.height, ry * self.height
        box = (x - rx, y - ry, x + rx, y + ry)
        self._draw.rounded_rectangle(box, min(rx, ry) * 0.3, fill=colour)

    def outline(self, levels, girth):
        """Projects rings around the body's axis onto a polygon."""
        right = [
            (
                self._x + girth * self.spread(w, d) * self.height,
                self._y + y * self.height,
            )
            for y, w, d in levels
        ]
        left = [(2 * self._x - x, y) for x, y in reversed(right)]
        return right + left

    def shape(self, levels, girth, colour):
        """Fills an `outline`."""
        self._draw.polygon(self.outline(levels, girth), fill=colour)


def shade(colour, factor):
    """Darkens a colour, or with a factor above 1 lightens it."""
    return tuple(min(255, int(channel * factor)) for channel in colour)


def turned(joint, angle, length):
    """Returns the far end of a limb that hangs from a joint and swings forward."""
    x, y, z = joint
    return x, y + length * math.cos(angle), z + length * math.sin(angle)


def middle(a, b):
    """Returns the point halfway between two joints."""
    return tuple((x + y) / 2 for x, y in zip(a, b))


def arm_joints(person, pose, side):
    """Returns shoulder, elbow and hand; an arm that carries something moves less."""
    shoulder = (side * 0.108 * person.girth, 0.205, 0.0)
    swing = -0.9 * pose.stride * math.sin(pose.phase) * side
    busy = side == person.side and person.carried
    if busy == "umbrella" and person.large:
        elbow = (side * 0.135 * person.girth, 0.335, 0.05)
        return shoulder, elbow, (side * 0.085, 0.24, 0.13)
    if busy == "book":
        elbow = (side * 0.15 * person.girth, 0.35, -0.01)
        return shoulder, elbow, (side * 0.135 * person.girth, 0.43, 0.09)
    if busy in ("handbag", "case", "umbrella"):
        swing *= 0.3
    elbow = turned(shoulder, swing, 0.155)
    elbow = (elbow[0] + side * 0.03, *elbow[1:])
    return shoulder, elbow, turned(elbow, swing + 0.25, 0.15)
