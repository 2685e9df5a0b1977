"""The attributes of a drawn person, and the values that they take."""

from __future__ import annotations

import dataclasses

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
SKINS = {
    "pale": (238, 204, 180),
    "tan": (214, 166, 128),
    "brown": (152, 104, 72),
    "dark": (92, 62, 46),
}
HAIRS = {
    "black": (28, 24, 24),
    "brown": (88, 56, 34),
    "fair": (206, 170, 100),
    "red": (150, 66, 30),
    "grey": (168, 168, 168),
}
_CLOTHES = tuple(COLOURS)
OPTIONS = {
    "skin": tuple(SKINS),
    "hair": ("short", "long", "bun", "ponytail", "bald", "afro"),
    "hair_colour": tuple(HAIRS),
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
    """The looks of a person, alike in all images; the values are in `OPTIONS`.

    Attributes:
      accent: second colour of the top's pattern; not used by "plain".
      coarse: whether the pattern is large; not used by "plain".
      carried: the thing carried. `large`, `left` and `carried_colour` describe it, if
        there is one. A large umbrella is open.
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
        """The sign of x on the side on which something is carried."""
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
