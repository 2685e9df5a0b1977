"""Draws a person: an articulated figure with clothes, hair and something to carry.

The joints stand in three dimensions and are turned before they are drawn, so that one
description serves the front, the back and the sides, a stride looks wide from the side
alone, and a backpack hides behind its owner. Lengths are in units of the body's
height: x to the person's left, y down from the crown, z forward.
"""

from __future__ import annotations

import dataclasses
import math

from PIL import Image, ImageChops, ImageDraw

COLOURS = {
    "white": (232, 232, 228),
    "grey": (128, 130, 134),
    "black": (34, 34, 38),
    "red": (190, 38, 42),
    "orange": (226, 122, 36),
    "yellow": (228, 200, 62),
    "green": (52, 128, 62),
    "blue": (58, 108, 196),
    "navy": (32, 44, 92),
    "purple": (118, 62, 142),
    "pink": (226, 136, 168),
    "brown": (110, 72, 44),
    "beige": (204, 184, 148),
}
_SKINS = {
    "pale": (238, 204, 180),
    "tan": (214, 166, 128),
    "brown": (152, 104, 72),
    "dark": (92, 62, 46),
}
_HAIRS = {
    "black": (28, 24, 24),
    "brown": (88, 56, 34),
    "fair": (206, 170, 100),
    "red": (150, 66, 30),
    "grey": (168, 168, 168),
}
_CLOTHES = tuple(COLOURS)
OPTIONS = {
    "skin": tuple(_SKINS),
    "hair": ("short", "long", "bun", "ponytail", "bald", "afro"),
    "hair_colour": tuple(_HAIRS),
    "height": (0.9, 0.95, 1.0),
    "girth": (0.85, 1.0, 1.18),
    "top": _CLOTHES,
    "accent": _CLOTHES,
    "pattern": ("plain", "hoops", "stripes", "checks", "dots", "bars", "logo", "half"),
    "coarse": (False, True),
    "sleeves": ("short", "long"),
    "legs": ("trousers", "shorts", "skirt"),
    "legs_colour": (
        "grey",
        "black",
        "blue",
        "navy",
        "brown",
        "beige",
        "white",
        "green",
    ),
    "shoes": ("black", "white", "brown", "red", "blue"),
    "carried": ("none", "backpack", "satchel", "handbag", "book", "umbrella", "case"),
    "large": (False, True),
    "left": (False, True),
    "carried_colour": _CLOTHES,
    "hat": ("none", "cap", "brim", "beanie"),
    "hat_colour": _CLOTHES,
}


@dataclasses.dataclass(frozen=True)
class Person:
    """What stays the same in every image of a person; the values are in `OPTIONS`.

    Attributes:
      accent: second colour of the top's pattern.
      coarse: size of the pattern; no matter where `pattern` is "plain".
      carried: with its size, the side it is on and its colour; a large umbrella is
        open. No matter where nothing is carried.
    """

    skin: str
    hair: str
    hair_colour: str
    height: float
    girth: float
    top: str
    accent: str
    pattern: str
    coarse: bool
    sleeves: str
    legs: str
    legs_colour: str
    shoes: str
    carried: str
    large: bool
    left: bool
    carried_colour: str
    hat: str
    hat_colour: str

    @property
    def side(self) -> int:
        """The sign of x on the side of what is carried."""
        return 1 if self.left else -1


@dataclasses.dataclass(frozen=True)
class Pose:
    """How a person stands in one image.

    Attributes:
      yaw: radians; 0 faces us, pi / 2 looks to the right of the image, pi away.
      phase: radians of the walking cycle.
      stride: largest angle of a thigh, radians; 0 stands still.
    """

    yaw: float
    phase: float
    stride: float


def draw(
    image: Image.Image,
    person: Person,
    pose: Pose,
    foot: tuple[float, float],
    height: float,
) -> None:
    """Draws a person onto an image, the farther parts first.

    Args:
      image: RGB, changed in place.
      person: whom.
      pose: how.
      foot: pixel (x, y) between the feet.
      height: pixels from sole to crown of a person of height 1.
    """
    pen = _Pen(image, foot, height * person.height, pose.yaw)
    for side in sorted((-1, 1), key=lambda side: pen.depth(side, 0)):
        _leg(pen, person, pose, side)
    if person.legs == "skirt":
        pen.shape(_SKIRT, person.girth, COLOURS[person.legs_colour])
    parts: list[tuple] = [(0.0, _torso, ()), (0.03, _head, ())]
    if person.hair == "long":
        parts.append((pen.depth(0, -0.05), _long_hair, ()))
    for side in (-1, 1):
        _, elbow, _ = _arm_joints(person, pose, side)
        parts.append((pen.depth(elbow[0], elbow[2]), _arm, (pose, side)))
    if person.carried != "none":
        parts.append(_CARRIED[person.carried](pen, person, pose))
    for _, part, arguments in sorted(parts, key=lambda part: part[0]):
        part(pen, person, *arguments)


# Outlines from the top down: y, half width, half depth.
_TORSO = (
    (0.15, 0.035, 0.035),
    (0.175, 0.095, 0.05),
    (0.215, 0.118, 0.065),
    (0.38, 0.094, 0.066),
    (0.50, 0.102, 0.07),
    (0.535, 0.104, 0.072),
)
_SKIRT = ((0.47, 0.09, 0.07), (0.58, 0.115, 0.09), (0.72, 0.14, 0.115))


class _Pen:
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
        """How much nearer than the body's axis; nearer is larger."""
        return z * self.cos - x * self.sin

    def spread(self, width, depth):
        """Half width, as seen, of something so wide and so deep."""
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
        self._draw.polygon(self.outline(levels, girth), fill=colour)


def _shade(colour, factor):
    return tuple(min(255, int(channel * factor)) for channel in colour)


def _distance_shade(pen, side):
    """The far leg and arm lie in the body's shadow."""
    return 0.8 if pen.depth(side, 0) < -0.4 else 1.0


def _leg(pen, person, pose, side):
    swing = pose.stride * math.sin(pose.phase) * side
    bend = 1.3 * pose.stride * max(0.0, math.cos(pose.phase) * side)
    hip = (side * 0.05 * person.girth, 0.49, 0.0)
    knee = _turned(hip, swing, 0.235)
    ankle = _turned(knee, swing - bend, 0.225)
    toe = (ankle[0] + side * 0.012, ankle[1] + 0.03, ankle[2] + 0.065)
    shade = _distance_shade(pen, side)
    cloth = _shade(COLOURS[person.legs_colour], shade)
    skin = _shade(_SKINS[person.skin], shade)
    width = 0.082 * person.girth
    if person.legs == "trousers":
        pen.limb((knee, ankle), width * 0.78, cloth)
        pen.limb((hip, knee), width, cloth)
    else:
        pen.limb((knee, ankle), width * 0.6, skin)
        pen.limb((hip, knee), width * 0.8, skin)
    if person.legs == "shorts":
        above = tuple(0.15 * a + 0.85 * b for a, b in zip(hip, knee))
        pen.limb((hip, above), width * 1.12, cloth)
    heel = (ankle[0], ankle[1] + 0.025, ankle[2] - 0.01)
    pen.limb((heel, toe), 0.045, _shade(COLOURS[person.shoes], shade))


def _turned(joint, angle, length):
    x, y, z = joint
    return x, y + length * math.cos(angle), z + length * math.sin(angle)


def _arm_joints(person, pose, side):
    """Shoulder, elbow and hand; an arm that carries something is held still."""
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
    elbow = _turned(shoulder, swing, 0.155)
    elbow = (elbow[0] + side * 0.03, *elbow[1:])
    return shoulder, elbow, _turned(elbow, swing + 0.25, 0.15)


def _arm(pen, person, pose, side):
    shoulder, elbow, hand = _arm_joints(person, pose, side)
    shade = _distance_shade(pen, side)
    cloth = _shade(COLOURS[person.top], 0.9 * shade)
    skin = _shade(_SKINS[person.skin], shade)
    width = 0.056 * person.girth
    pen.limb((elbow, hand), width * 0.75, cloth if person.sleeves == "long" else skin)
    if person.sleeves == "long":
        pen.limb((shoulder, elbow), width, cloth)
    else:
        pen.limb((shoulder, elbow), width * 0.8, skin)
        pen.limb((shoulder, _middle(shoulder, elbow)), width * 1.1, cloth)
    pen.oval(hand, 0.021, 0.024, skin)


def _middle(a, b):
    return tuple((x + y) / 2 for x, y in zip(a, b))


def _torso(pen, person):
    points = pen.outline(_TORSO, person.girth)
    left, top = (int(min(axis)) for axis in zip(*points))
    right, bottom = (int(max(axis)) + 1 for axis in zip(*points))
    size = (max(1, right - left), max(1, bottom - top))
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).polygon([(x - left, y - top) for x, y in points], fill=255)
    pen.image.paste(_cloth(pen, person, size), (left, top), mask)
    shadow = Image.linear_gradient("L").rotate(90).resize(size).point(_SHADOW)
    pen.image.paste((0, 0, 0), (left, top), ImageChops.multiply(mask, shadow))
    if person.carried == "backpack" and pen.cos > 0:
        for x in (-0.062, 0.062):
            ends = ((x, 0.17, 0.06), (x * 1.1, 0.36, 0.06))
            pen.limb(ends, 0.022, _shade(COLOURS[person.carried_colour], 0.85))


_SHADOW = [max(0, level - 128) * 0.7 for level in range(256)]


def _cloth(pen, person, size):
    """Makes a piece of the top's cloth; prints show on front and back alone."""
    cloth = Image.new("RGB", size, COLOURS[person.top])
    paint = ImageDraw.Draw(cloth)
    accent = COLOURS[person.accent]
    width, height = size
    step = pen.height * (0.125 if person.coarse else 0.058)
    if person.pattern == "logo" and abs(pen.cos) > 0.3:
        r = pen.height * (0.075 if person.coarse else 0.038)
        x, y = width / 2, height * (0.42 if person.coarse else 0.3)
        rx = r * abs(pen.cos)
        paint.rectangle((x - rx, y - r, x + rx, y + r), fill=accent)
    elif person.pattern == "half":
        band = (0.5, 1.0) if person.coarse else (0.3, 0.47)
        paint.rectangle((0, height * band[0], width, height * band[1]), fill=accent)
    else:
        _PATTERNS.get(person.pattern, lambda *_: None)(paint, size, step, accent)
    return cloth


def _hoops(paint, size, step, accent):
    for y in _marks(size[1], step):
        paint.rectangle((0, y, size[0], y + step / 2), fill=accent)


def _stripes(paint, size, step, accent):
    for x in _marks(size[0], step):
        paint.rectangle((x, 0, x + step / 2, size[1]), fill=accent)


def _checks(paint, size, step, accent):
    for row, y in enumerate(_marks(size[1], step / 2)):
        for x in _marks(size[0], step):
            x += (row % 2) * step / 2
            paint.rectangle((x, y, x + step / 2, y + step / 2), fill=accent)


def _dots(paint, size, step, accent):
    for row, y in enumerate(_marks(size[1], step * 0.8)):
        for x in _marks(size[0], step):
            x += (row % 2) * step / 2
            paint.ellipse((x, y, x + step * 0.55, y + step * 0.55), fill=accent)


def _bars(paint, size, step, accent):
    """Diagonal stripes."""
    for x in _marks(size[0] + size[1], step * 1.2):
        ends = (x - size[1], size[1], x, 0)
        paint.line(ends, fill=accent, width=round(step * 0.45))


def _marks(length, step):
    """Positions a step apart that cover a length, the middle of it among them."""
    first = length / 2 % step - step * 1.25
    return [first + i * step for i in range(int(length / step) + 3)]


_PATTERNS = {
    "hoops": _hoops,
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "bars": _bars,
}


def _head(pen, person):
    skin, hair = _SKINS[person.skin], _HAIRS[person.hair_colour]
    pen.limb(((0, 0.12, 0), (0, 0.165, 0)), 0.05, _shade(skin, 0.85))
    if person.hair == "afro":
        pen.oval((0, 0.062, -0.01), 0.082, 0.08, hair)
    if person.hair == "bun":
        pen.oval((0, 0.015, -0.045), 0.032, 0.03, hair)
    pen.oval((0, 0.072, 0), 0.054, 0.068, skin if person.hair == "bald" else hair)
    if pen.cos > -0.35:
        face = 0.046 * min(1.0, 0.62 + 0.4 * pen.cos)
        pen.oval((0, 0.085, 0.024), face, 0.054, skin)
        if pen.cos > 0.3:
            for x in (-0.02, 0.02):
                pen.oval((x, 0.078, 0.03), 0.007, 0.006, (30, 26, 26))
    if person.hair == "ponytail":
        pen.limb(((0, 0.04, -0.05), (0, 0.10, -0.085), (0, 0.19, -0.08)), 0.034, hair)
    if person.hat != "none":
        _hat(pen, person)


def _long_hair(pen, person):
    hair = _HAIRS[person.hair_colour]
    half = pen.spread(0.062, 0.04)
    pen.box((0, 0.145, -0.028), half, 0.095, hair)


def _hat(pen, person):
    colour = COLOURS[person.hat_colour]
    if person.hat == "beanie":
        pen.dome((0, 0.062, -0.004), 0.062, 0.07, colour)
        pen.oval((0, -0.012, 0), 0.018, 0.016, _shade(colour, 0.75))
    elif person.hat == "cap":
        pen.dome((0, 0.05, 0), 0.06, 0.056, colour)
        pen.limb(((0, 0.046, 0.03), (0, 0.052, 0.095)), 0.02, _shade(colour, 0.75))
    else:
        pen.dome((0, 0.045, 0), 0.056, 0.062, colour)
        pen.oval((0, 0.046, 0), 0.115, 0.017, _shade(colour, 0.85))


# What is carried: each returns its depth, the function that draws it and arguments.


def _backpack(pen, person, pose):
    half_height = 0.125 if person.large else 0.075
    half = pen.spread(0.105 if person.large else 0.07, 0.05)
    centre = (0, 0.19 + half_height, -0.105)

    def part(pen, person):
        colour = COLOURS[person.carried_colour]
        pen.box(centre, half, half_height, _shade(colour, 0.9))
        pocket = (0, centre[1] + half_height * 0.45, -0.11)
        pen.box(pocket, half * 0.7, half_height * 0.35, _shade(colour, 0.62))

    return pen.depth(0, -0.105), part, ()


def _satchel(pen, person, pose):
    side = person.side
    rx, ry = (0.085, 0.075) if person.large else (0.05, 0.042)
    centre = (side * 0.115 * person.girth, 0.49, 0.02)

    def part(pen, person):
        colour = COLOURS[person.carried_colour]
        z = 0.06 if pen.cos > 0 else -0.06
        ends = ((-side * 0.06, 0.17, z), (centre[0], 0.47, z / 2))
        pen.limb(ends, 0.018, _shade(colour, 0.7))
        _bag(pen, centre, pen.spread(rx * 0.75, rx), ry, colour)

    return pen.depth(centre[0], 0.02) + 0.02, part, ()


def _handbag(pen, person, pose):
    hand = _arm_joints(person, pose, person.side)[2]
    rx, ry = (0.075, 0.085) if person.large else (0.045, 0.042)
    centre = (hand[0] + person.side * 0.015, hand[1] + ry + 0.05, hand[2])

    def part(pen, person):
        colour = COLOURS[person.carried_colour]
        pen.limb((hand, (*centre[:2], centre[2])), 0.016, _shade(colour, 0.6))
        _bag(pen, centre, pen.spread(rx * 0.7, rx), ry, colour)

    return pen.depth(hand[0], hand[2]) + 0.01, part, ()


def _bag(pen, centre, rx, ry, colour):
    pen.box(centre, rx, ry, colour)
    flap = (centre[0], centre[1] - ry * 0.55, centre[2])
    pen.box(flap, rx, ry * 0.45, _shade(colour, 0.68))


def _book(pen, person, pose):
    elbow, hand = _arm_joints(person, pose, person.side)[1:]
    centre = tuple(_middle(elbow, hand))
    rx, ry = (0.085, 0.075) if person.large else (0.055, 0.048)

    def part(pen, person):
        colour = COLOURS[person.carried_colour]
        pen.box(centre, pen.spread(0.035, rx), ry, colour)
        label = (centre[0], centre[1] - ry * 0.2, centre[2])
        pen.box(label, pen.spread(0.018, rx * 0.6), ry * 0.25, _shade(colour, 1.6))

    return pen.depth(elbow[0], elbow[2]) - 0.001, part, ()


def _umbrella(pen, person, pose):
    hand = _arm_joints(person, pose, person.side)[2]

    def opened(pen, person):
        colour = COLOURS[person.carried_colour]
        top = (hand[0] * 0.7, -0.17, hand[2] * 0.5)
        pen.limb((hand, top), 0.012, (60, 60, 60))
        rim = (top[0], 0.0, top[2])
        pen.dome(rim, 0.25, 0.17, colour)
        pen.dome(rim, 0.09, 0.17, _shade(colour, 0.7))

    def folded(pen, person):
        colour = COLOURS[person.carried_colour]
        tip = (hand[0] + person.side * 0.03, 0.93, hand[2] + 0.05)
        start = (hand[0], hand[1] + 0.02, hand[2])
        pen.limb((start, tip), 0.016, _shade(colour, 0.6))
        pen.limb(
            (_middle(start, _middle(start, tip)), _middle(start, tip)), 0.04, colour
        )

    part = opened if person.large else folded
    return pen.depth(hand[0], hand[2]) + 0.02, part, ()


def _case(pen, person, pose):
    hand = _arm_joints(person, pose, person.side)[2]
    rx, ry = (0.1, 0.16) if person.large else (0.065, 0.095)
    centre = (person.side * 0.19, 0.97 - ry, -0.07)

    def part(pen, person):
        colour = COLOURS[person.carried_colour]
        pen.limb((hand, centre), 0.014, (70, 70, 74))
        pen.box(centre, pen.spread(rx * 0.8, rx), ry, colour)
        for level in (-0.4, 0.3):
            strap = (centre[0], centre[1] + level * ry, centre[2])
            pen.box(strap, pen.spread(rx * 0.8, rx), 0.012, _shade(colour, 0.6))

    return pen.depth(centre[0], centre[2]), part, ()


_CARRIED = {
    "backpack": _backpack,
    "satchel": _satchel,
    "handbag": _handbag,
    "book": _book,
    "umbrella": _umbrella,
    "case": _case,
}
