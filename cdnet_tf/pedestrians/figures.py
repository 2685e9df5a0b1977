"""Draws a person: an articulated figure with clothes, hair and something to carry.

The joints have three dimensions and are turned before they are drawn. So one
description serves front, back and sides, a stride looks wide only from the side, and a
backpack hides behind its owner. Lengths are in units of the body's height: x to the
person's left, y down from the crown, z forward.
"""

from __future__ import annotations

import math

from PIL import Image, ImageChops, ImageDraw

from cdnet_tf.pedestrians import belongings, people, skeleton


def draw(
    image: Image.Image,
    person: people.Person,
    pose: people.Pose,
    foot: tuple[float, float],
    height: float,
) -> None:
    """Draws a person onto an image, the farther parts first.

    Args:
      image: RGB, changed in place.
      person: the person to draw.
      pose: how the person stands.
      foot: pixel (x, y) between the feet.
      height: pixels from sole to crown of a person of height 1.
    """
    pen = skeleton.Pen(image, foot, height * person.height, pose.yaw)
    for side in sorted((-1, 1), key=lambda side: pen.depth(side, 0)):
        _leg(pen, person, pose, side)
    if person.legs == "skirt":
        pen.shape(_SKIRT, person.girth, people.COLOURS[person.legs_colour])
    parts: list[tuple] = [(0.0, _torso, ()), (0.03, _head, ())]
    if person.hair == "long":
        parts.append((pen.depth(0, -0.05), _long_hair, ()))
    for side in (-1, 1):
        _, elbow, _ = skeleton.arm_joints(person, pose, side)
        parts.append((pen.depth(elbow[0], elbow[2]), _arm, (pose, side)))
    if person.carried != "none":
        depth, part = belongings.carried(pen, person, pose)
        parts.append((depth, part, ()))
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


def _distance_shade(pen, side):
    """Returns a factor of brightness: the far leg and arm are in the body's shadow."""
    return 0.8 if pen.depth(side, 0) < -0.4 else 1.0


def _leg(pen, person, pose, side):
    swing = pose.stride * math.sin(pose.phase) * side
    bend = 1.3 * pose.stride * max(0.0, math.cos(pose.phase) * side)
    hip = (side * 0.05 * person.girth, 0.49, 0.0)
    knee = skeleton.turned(hip, swing, 0.235)
    ankle = skeleton.turned(knee, swing - bend, 0.225)
    toe = (ankle[0] + side * 0.012, ankle[1] + 0.03, ankle[2] + 0.065)
    shade = _distance_shade(pen, side)
    cloth = skeleton.shade(people.COLOURS[person.legs_colour], shade)
    skin = skeleton.shade(people.SKINS[person.skin], shade)
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
    pen.limb((heel, toe), 0.045, skeleton.shade(people.COLOURS[person.shoes], shade))


def _arm(pen, person, pose, side):
    shoulder, elbow, hand = skeleton.arm_joints(person, pose, side)
    shade = _distance_shade(pen, side)
    cloth = skeleton.shade(people.COLOURS[person.top], 0.9 * shade)
    skin = skeleton.shade(people.SKINS[person.skin], shade)
    width = 0.056 * person.girth
    pen.limb((elbow, hand), width * 0.75, cloth if person.sleeves == "long" else skin)
    if person.sleeves == "long":
        pen.limb((shoulder, elbow), width, cloth)
    else:
        pen.limb((shoulder, elbow), width * 0.8, skin)
        pen.limb((shoulder, skeleton.middle(shoulder, elbow)), width * 1.1, cloth)
    pen.oval(hand, 0.021, 0.024, skin)


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
            pen.limb(
                ends, 0.022, skeleton.shade(people.COLOURS[person.carried_colour], 0.85)
            )


_SHADOW = [max(0, level - 128) * 0.7 for level in range(256)]


def _cloth(pen, person, size):
    """Makes a piece of the top's cloth; a logo shows on front and back only."""
    cloth = Image.new("RGB", size, people.COLOURS[person.top])
    paint = ImageDraw.Draw(cloth)
    accent = people.COLOURS[person.accent]
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
    """Paints diagonal stripes."""
    for x in _marks(size[0] + size[1], step * 1.2):
        ends = (x - size[1], size[1], x, 0)
        paint.line(ends, fill=accent, width=round(step * 0.45))


def _marks(length, step):
    """Returns positions a step apart that cover a length, centred on its middle."""
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
    skin, hair = people.SKINS[person.skin], people.HAIRS[person.hair_colour]
    pen.limb(((0, 0.12, 0), (0, 0.165, 0)), 0.05, skeleton.shade(skin, 0.85))
    if pen.cos > 0:
        _ponytail(pen, person)
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
    if pen.cos <= 0:
        _ponytail(pen, person)
    belongings.hat(pen, person)


def _ponytail(pen, person):
    """Draws a ponytail, if there is one; seen from the front, the head hides it."""
    if person.hair == "ponytail":
        joints = ((0, 0.04, -0.05), (0, 0.10, -0.085), (0, 0.19, -0.08))
        pen.limb(joints, 0.034, people.HAIRS[person.hair_colour])


def _long_hair(pen, person):
    hair = people.HAIRS[person.hair_colour]
    half = pen.spread(0.062, 0.04)
    pen.box((0, 0.145, -0.028), half, 0.095, hair)
