"""Generates pedestrians on disk, in Market-1501's layout, from a seed.

People come in families of four who differ in one or two details - the pattern of the
top, the thing carried and its side, a hat - so that colour alone does not tell them
apart. Cameras differ in colour, light, sharpness, background, angle and obstacles, so
that pixels alone do not tell them apart either. No photograph of anyone is needed.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from cdnet_tf.pedestrians import people, scenes

FAMILY = 4
_DETAILS = ("pattern", "coarse", "carried", "large", "left", "hat", "legs")
_RECORD = "pedestrians.json"
_VERSION = 2  # Raise it when the same seed gives other images.


def write_pedestrians(
    root: str | os.PathLike,
    *,
    train_identities: int = 200,
    test_identities: int = 100,
    cameras: int = 6,
    images_per_camera: int = 2,
    distractors: int = 100,
    junk: int = 50,
    height: int = 128,
    width: int = 64,
    seed: int = 0,
) -> dict[str, int]:
    """Writes `bounding_box_train`, `query` and `bounding_box_test` under `root`.

    The folder appears whole or not at all. A folder that was written with the same
    parameters is left as it is.

    Args:
      root: folder to make.
      train_identities, test_identities: numbers of people, who are all seen by every
        camera. Nobody is in both groups.
      cameras: number of cameras, 2 to 9.
      images_per_camera: of each identity, at least 2 (one becomes a test query).
      distractors: number of gallery images of other people, identity 0000.
      junk: number of badly cropped gallery images, identity -1.
      height, width: pixels.
      seed: the same seed gives the same bytes.

    Returns:
      Number of images by folder.

    Raises:
      ValueError: a parameter is out of range.
      FileExistsError: `root` holds something else.
    """
    parameters = {name: value for name, value in locals().items() if name != "root"}
    _check(parameters)
    root = pathlib.Path(root)
    record = {"version": _VERSION, **parameters}
    if root.exists():
        return _existing(root, record)
    partial = root.with_name(f"{root.name}.part{os.getpid()}")
    try:
        counts = _write(partial, **parameters)
        text = json.dumps({"parameters": record, "images": counts}, indent=1)
        (partial / _RECORD).write_text(text)
        if not root.exists():  # Another process may have been quicker.
            partial.replace(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return _existing(root, record)


def _check(parameters: dict[str, int]) -> None:
    least = {"train_identities": 0, "test_identities": 0, "cameras": 2}
    least |= {"images_per_camera": 2, "distractors": 0, "junk": 0, "seed": 0}
    least |= {"height": 32, "width": 16}
    for name, value in parameters.items():
        if value < least[name]:
            raise ValueError(
                f"{name}={value} is too small; use at least {least[name]}."
            )
    if parameters["cameras"] > 9:
        # Market-1501's pattern has one digit for the camera.
        raise ValueError(f"cameras={parameters['cameras']} is too many; use at most 9.")
    people = parameters["train_identities"] + parameters["test_identities"]
    if people > 9999:
        raise ValueError(
            f"{people} identities do not fit file names of four digits; use at most "
            "9999 for training and test together."
        )


def _existing(root: pathlib.Path, record: dict) -> dict[str, int]:
    try:
        found = json.loads((root / _RECORD).read_text())
    except (OSError, ValueError):
        found = {}
    if found.get("parameters") == record:
        return found["images"]
    found = found.get("parameters", {})
    other = [
        f"{k}={found.get(k)}, not {v}" for k, v in record.items() if found.get(k) != v
    ]
    what = f"pedestrians of other parameters ({', '.join(other)})"
    raise FileExistsError(
        f"{root} exists and holds {what if found else 'something else'}; name another "
        "folder, or delete this one."
    )


_FOLDERS = _TRAIN, _QUERY, _GALLERY = "bounding_box_train", "query", "bounding_box_test"


class _Shot(NamedTuple):
    """An image to draw: its folder, the identity in its name, and who stands where."""

    folder: str
    identity: str
    person: int
    camera: int
    number: int
    junk: bool = False


def _write(
    root: pathlib.Path, *, height: int, width: int, seed: int, **numbers: int
) -> dict[str, int]:
    """Draws all images; returns their number by folder."""
    for folder in _FOLDERS:
        (root / folder).mkdir(parents=True)
    counts = dict.fromkeys(_FOLDERS, 0)
    for shot in _shots(**numbers):
        _, identity, person, place, number, junk = shot
        random = np.random.default_rng((seed, 2, person, place, number))
        camera = scenes.camera(place, seed)
        image = scenes.photograph(
            family(person, seed), camera, (height, width), random, junk=junk
        )
        name = f"{identity}_c{place}s1_{person * 100 + number:06d}_{number:02d}.jpg"
        image.save(root / shot.folder / name, quality=camera.quality)
        counts[shot.folder] += 1
    return counts


def _shots(
    *,
    train_identities: int,
    test_identities: int,
    cameras: int,
    images_per_camera: int,
    distractors: int,
    junk: int,
) -> Iterator[_Shot]:
    """Yields the images of all people, then the distractors and the junk."""
    others = train_identities + test_identities + 1
    for person in range(1, others):
        for camera in range(1, cameras + 1):
            for number in range(images_per_camera):
                folder = _QUERY if number == 0 else _GALLERY
                folder = _TRAIN if person <= train_identities else folder
                yield _Shot(folder, f"{person:04d}", person, camera, number)
    for number in range(distractors):
        yield _Shot(_GALLERY, "0000", others + number, 1 + number % cameras, 0)
    for number in range(junk):
        person = others + distractors + number
        yield _Shot(_GALLERY, "-1", person, 1 + number % cameras, 0, junk=True)


def families(root: str | os.PathLike) -> dict[int, int]:
    """Returns identity -> number of its family for a folder that was written here.

    The result is empty for any other folder.
    """
    try:
        record = json.loads(pathlib.Path(root, _RECORD).read_text())
    except FileNotFoundError:
        return {}
    parameters = record["parameters"]
    count = parameters["train_identities"] + parameters["test_identities"]
    return {person: _place(person)[0] for person in range(1, count + 1)}


def _place(person: int) -> tuple[int, int]:
    """Returns the number of a person's family, and the person's place in it."""
    return divmod(person - 1, FAMILY)


def family(person: int, seed: int = 0) -> people.Person:
    """Returns the looks of a person; four people in a row are a family.

    Args:
      person: number, from 1.
      seed: of the data set.
    """
    number, member = _place(person)
    return _members(number, seed)[member]


@functools.lru_cache(maxsize=64)
def _members(number: int, seed: int) -> tuple[people.Person, ...]:
    """Draws a family: the first member, and others who differ in up to two details."""
    random = np.random.default_rng((seed, 0, number))
    base: dict = {}
    members: dict[frozenset, people.Person] = {}
    while len(members) < FAMILY:
        values = dict(base)
        for name in random.choice(_DETAILS, 2, replace=False) if base else ():
            values[name] = _one_of(people.OPTIONS[name], random)
        if not base:
            values = {k: _one_of(v, random) for k, v in people.OPTIONS.items()}
        person = people.Person(**values)
        if _stands_out(person.accent, person.carried_colour, against=person.top):
            base = base or values
            members.setdefault(frozenset(_visible(person).items()), person)
    return tuple(members.values())


def _stands_out(*colours: str, against: str) -> bool:
    """Whether colours show against another one, even with a camera of low contrast."""
    other = people.COLOURS[against]
    return all(math.dist(people.COLOURS[colour], other) > 80 for colour in colours)


def _one_of(values, random: np.random.Generator):
    return values[random.integers(len(values))]


def _visible(person: people.Person) -> dict:
    """Returns a person's attributes without those that cannot be seen."""
    values = dataclasses.asdict(person)
    hidden = []
    if person.pattern == "plain":
        hidden += ["accent", "coarse"]
    if person.carried == "none":
        hidden += ["large", "left", "carried_colour"]
    if person.carried == "backpack":
        hidden += ["left"]
    if person.hat == "none":
        hidden += ["hat_colour"]
    return {name: value for name, value in values.items() if name not in hidden}


def contact_sheet(
    people: int = 8, cameras: int = 6, height: int = 128, width: int = 64, seed: int = 0
) -> Image.Image:
    """Draws a picture of the data set: a row per person, a column per camera."""
    sheet = Image.new("RGB", (width * cameras, height * people))
    for row in range(people):
        for column in range(cameras):
            random = np.random.default_rng((seed, 2, row + 1, column + 1, 0))
            camera = scenes.camera(column + 1, seed)
            image = scenes.photograph(
                family(row + 1, seed), camera, (height, width), random
            )
            sheet.paste(image, (width * column, height * row))
    return sheet
