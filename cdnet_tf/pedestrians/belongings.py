"""Draws hats and things that a person carries."""

from __future__ import annotations

from cdnet_tf.pedestrians import people, skeleton


def hat(pen, person):
    """Draws the hat, if there is one."""
    if person.hat == "none":
        return
    colour = people.COLOURS[person.hat_colour]
    if person.hat == "beanie":
        pen.dome((0, 0.062, -0.004), 0.062, 0.07, colour)
        pen.oval((0, -0.012, 0), 0.018, 0.016, skeleton.shade(colour, 0.75))
    elif person.hat == "cap":
        pen.dome((0, 0.05, 0), 0.06, 0.056, colour)
        pen.limb(
            ((0, 0.046, 0.03), (0, 0.052, 0.095)), 0.02, skeleton.shade(colour, 0.75)
        )
    else:
        pen.dome((0, 0.045, 0), 0.056, 0.062, colour)
        pen.oval((0, 0.046, 0), 0.115, 0.017, skeleton.shade(colour, 0.85))


def carried(pen, person, pose):
    """Prepares the drawing of the thing that a person carries.

    Returns:
      The thing's depth, and the function of (pen, person) that draws it.
    """
    return _CARRIED[person.carried](pen, person, pose)


def _backpack(pen, person, pose):
    half_height = 0.125 if person.large else 0.075
    half = pen.spread(0.105 if person.large else 0.07, 0.05)
    centre = (0, 0.19 + half_height, -0.105)

    def part(pen, person):
        colour = people.COLOURS[person.carried_colour]
        pen.box(centre, half, half_height, skeleton.shade(colour, 0.9))
        pocket = (0, centre[1] + half_height * 0.45, -0.11)
        pen.box(pocket, half * 0.7, half_height * 0.35, skeleton.shade(colour, 0.62))

    return pen.depth(0, -0.105), part


def _satchel(pen, person, pose):
    side = person.side
    rx, ry = (0.085, 0.075) if person.large else (0.05, 0.042)
    centre = (side * 0.115 * person.girth, 0.49, 0.02)

    def part(pen, person):
        colour = people.COLOURS[person.carried_colour]
        z = 0.06 if pen.cos > 0 else -0.06
        ends = ((-side * 0.06, 0.17, z), (centre[0], 0.47, z / 2))
        pen.limb(ends, 0.018, skeleton.shade(colour, 0.7))
        _bag(pen, centre, pen.spread(rx * 0.75, rx), ry, colour)

    return pen.depth(centre[0], 0.02) + 0.02, part


def _handbag(pen, person, pose):
    hand = skeleton.arm_joints(person, pose, person.side)[2]
    rx, ry = (0.075, 0.085) if person.large else (0.045, 0.042)
    centre = (hand[0] + person.side * 0.015, hand[1] + ry + 0.05, hand[2])

    def part(pen, person):
        colour = people.COLOURS[person.carried_colour]
        pen.limb((hand, (*centre[:2], centre[2])), 0.016, skeleton.shade(colour, 0.6))
        _bag(pen, centre, pen.spread(rx * 0.7, rx), ry, colour)

    return pen.depth(hand[0], hand[2]) + 0.01, part


def _bag(pen, centre, rx, ry, colour):
    pen.box(centre, rx, ry, colour)
    flap = (centre[0], centre[1] - ry * 0.55, centre[2])
    pen.box(flap, rx, ry * 0.45, skeleton.shade(colour, 0.68))


def _book(pen, person, pose):
    elbow, hand = skeleton.arm_joints(person, pose, person.side)[1:]
    x, y, z = skeleton.middle(elbow, hand)
    centre = (x + person.side * 0.025, y, z)
    rx, ry = (0.1, 0.09) if person.large else (0.068, 0.06)

    def part(pen, person):
        colour = people.COLOURS[person.carried_colour]
        pen.box(centre, pen.spread(0.055, rx), ry, colour)
        label = (centre[0], centre[1] - ry * 0.2, centre[2])
        pen.box(
            label, pen.spread(0.03, rx * 0.6), ry * 0.25, skeleton.shade(colour, 1.6)
        )

    return pen.depth(elbow[0], elbow[2]) - 0.001, part


def _umbrella(pen, person, pose):
    hand = skeleton.arm_joints(person, pose, person.side)[2]

    def opened(pen, person):
        colour = people.COLOURS[person.carried_colour]
        top = (hand[0] * 0.7, -0.17, hand[2] * 0.5)
        pen.limb((hand, top), 0.012, (60, 60, 60))
        rim = (top[0], 0.0, top[2])
        pen.dome(rim, 0.25, 0.17, colour)
        pen.dome(rim, 0.09, 0.17, skeleton.shade(colour, 0.7))

    def folded(pen, person):
        colour = people.COLOURS[person.carried_colour]
        tip = (hand[0] + person.side * 0.03, 0.93, hand[2] + 0.05)
        start = (hand[0], hand[1] + 0.02, hand[2])
        pen.limb((start, tip), 0.016, skeleton.shade(colour, 0.6))
        pen.limb(
            (
                skeleton.middle(start, skeleton.middle(start, tip)),
                skeleton.middle(start, tip),
            ),
            0.04,
            colour,
        )

    part = opened if person.large else folded
    return pen.depth(hand[0], hand[2]) + 0.02, part


def _case(pen, person, pose):
    hand = skeleton.arm_joints(person, pose, person.side)[2]
    rx, ry = (0.1, 0.16) if person.large else (0.065, 0.095)
    centre = (person.side * 0.19, 0.97 - ry, -0.07)

    def part(pen, person):
        colour = people.COLOURS[person.carried_colour]
        pen.limb((hand, centre), 0.014, (70, 70, 74))
        pen.box(centre, pen.spread(rx * 0.8, rx), ry, colour)
        for level in (-0.4, 0.3):
            strap = (centre[0], centre[1] + level * ry, centre[2])
            pen.box(strap, pen.spread(rx * 0.8, rx), 0.012, skeleton.shade(colour, 0.6))

    return pen.depth(centre[0], centre[2]), part


_CARRIED = {
    "backpack": _backpack,
    "satchel": _satchel,
    "handbag": _handbag,
    "book": _book,
    "umbrella": _umbrella,
    "case": _case,
}
