"""Drawn figures: every attribute shows, and views differ as they should."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from PIL import Image

from cdnet_tf.pedestrians import figures, people

_PERSON = people.Person(
    skin="tan",
    hair="short",
    hair_colour="brown",
    height=1.0,
    girth=1.0,
    top="white",
    accent="red",
    pattern="hoops",
    coarse=True,
    sleeves="long",
    legs="trousers",
    legs_colour="navy",
    shoes="brown",
    carried="satchel",
    large=True,
    left=True,
    carried_colour="orange",
    hat="cap",
    hat_colour="green",
)
_FRONT, _BACK = 0.0, math.pi


def _drawn(yaw, stride=0.3, **changes):
    image = Image.new("RGB", (128, 256), (150, 160, 160))
    person = dataclasses.replace(_PERSON, **changes)
    figures.draw(image, person, people.Pose(yaw, math.pi / 2, stride), (64, 240), 190)
    return np.asarray(image).astype(int)


def _count(image, colour):
    return np.count_nonzero((image == colour).all(axis=-1))


@pytest.mark.parametrize("name", people.OPTIONS)
def test_every_value_of_an_attribute_looks_different(name):
    # A beanie would hide the difference between some hairstyles.
    base = {"hat": "none"} if name in ("hair", "hair_colour") else {}
    views = [
        tuple(_drawn(yaw, **base, **{name: value}).tobytes() for yaw in (0, 2, 4))
        for value in people.OPTIONS[name]
    ]
    assert len(set(views)) == len(people.OPTIONS[name])


@pytest.mark.parametrize("carried", people.OPTIONS["carried"][1:])
@pytest.mark.parametrize("yaw", [_FRONT, _BACK, math.pi / 2, -math.pi / 2])
def test_a_larger_thing_changes_more_of_the_image(carried, yaw):
    nothing = _drawn(yaw, carried="none")
    small, large = (
        np.count_nonzero((_drawn(yaw, carried=carried, large=large) != nothing).any(-1))
        for large in (False, True)
    )
    # From the front, a backpack of any size is just two straps; a book may hide
    # behind the body altogether.
    assert 0 <= small <= large
    assert large > 0 or carried == "book"


def test_what_is_on_the_left_changes_sides_with_the_view():
    columns = [
        np.nonzero((_drawn(yaw) == people.COLOURS["orange"]).all(-1))[1].mean()
        for yaw in (_FRONT, _BACK)
    ]
    # Facing us, a person's left is on the image's right.
    assert columns[0] > 64 > columns[1]


def test_a_face_shows_from_the_front_alone():
    front, back = (_count(_drawn(yaw)[:80], (214, 166, 128)) for yaw in (_FRONT, _BACK))
    assert front > 50
    assert back == 0


def test_a_stride_is_wide_from_the_side_alone():
    def width(yaw):
        legs = (_drawn(yaw, stride=0.6)[170:] != (150, 160, 160)).any(-1)
        return np.ptp(np.nonzero(legs)[1])

    assert width(math.pi / 2) > 1.5 * width(_FRONT)
