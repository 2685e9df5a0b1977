"""Generates pedestrians on disk, in Market-1501's layout, from a seed.

People come in families of four that differ in one or two details - the pattern of the
top, what is carried and on which side, a hat - so that colour alone does not tell them
apart. Cameras differ in colour, light, sharpness, background, angle and what stands in
the way, so that pixels alone do not either. No photograph of anyone is needed.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import shutil

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from cdnet_tf.data import figures

FAMILY = 4
_DETAILS = ("pattern", "coarse", "carried", "large", "left", "hat", "legs", "accent")
_RECORD = "pedestrians.json"
_VERSION = 1  # of the drawing: raise it when the same seed gives other images


@dataclasses.dataclass(frozen=True)
class _Camera:
    """What all images of one camera share."""

    gains: np.ndarray  # (3,), colour cast
    gamma: float
    contrast: float
    blur: float  # radius at 128 rows, pixels
    noise: float  # standard deviation, grey levels
    quality: int  # of the JPEG
    scene: str
    colours: np.ndarray  # (2, 3), of the background
    yaw: float  # where people mostly look, radians
    spread: float  # and how far they turn from it
    jitter: float  # of the crop, as a part of its height
    occlusion: float  # probability of something in the way


_SCENES = ("wall", "brick", "street", "foliage", "shutter", "shop")


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

    The folder appears whole or not at all. One that was written with the same
    parameters is left as it is.

    Args:
      root: folder to make.
      train_identities, test_identities: disjoint; each is seen by every camera.
      cameras: at least 2.
      images_per_camera: of each identity, at least 2 (one becomes a test query).
      distractors: gallery images of other people, identity 0000.
      junk: gallery images of identity -1, badly cropped.
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
        partial.replace(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return counts


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
    raise FileExistsError(
        f"{root} exists and holds "
        + ("pedestrians of other parameters" if found else "something else")
        + "; name another folder, or delete it."
    )


def _write(
    root: pathlib.Path,
    *,
    train_identities: int,
    test_identities: int,
    cameras: int,
    images_per_camera: int,
    distractors: int,
    junk: int,
    height: int,
    width: int,
    seed: int,
) -> dict[str, int]:
    folders = ("bounding_box_train", "query", "bounding_box_test")
    train, query, gallery = (root / folder for folder in folders)
    for folder in (train, query, gallery):
        folder.mkdir(parents=True)
    size = height, width
    counts = dict.fromkeys(folders, 0)

    def save(folder, identity, person, camera, number, **options):
        random = np.random.default_rng((seed, 2, person, camera, number))
        image = _image(
            family(person, seed), _camera(camera, seed), size, random, **options
        )
        name = f"{identity}_c{camera}s1_{person * 100 + number:06d}_{number:02d}.jpg"
        image.save(folder / name, quality=_camera(camera, seed).quality)
        counts[folder.name] += 1

    for person in range(1, train_identities + test_identities + 1):
        for camera in range(1, cameras + 1):
            for number in range(images_per_camera):
                folder = query if number == 0 else gallery
                folder = train if person <= train_identities else folder
                save(folder, f"{person:04d}", person, camera, number)
    others = train_identities + test_identities + 1
    for number in range(distractors):
        save(gallery, "0000", others + number, 1 + number % cameras, 0)
    for number in range(junk):
        person = others + distractors + number
        save(gallery, "-1", person, 1 + number % cameras, 0, junk=True)
    return counts


def family(person: int, seed: int = 0) -> figures.Person:
    """The attributes of a person; four in a row are a family.

    Args:
      person: number, from 1.
      seed: of the data set.
    """
    number, member = divmod(person - 1, FAMILY)
    random = np.random.default_rng((seed, 0, number))
    members: list[figures.Person] = []
    base = {name: _one_of(values, random) for name, values in figures.OPTIONS.items()}
    while len(members) < FAMILY:
        values = dict(base)
        for name in random.choice(_DETAILS, 2 if members else 0, replace=False):
            values[name] = _one_of(figures.OPTIONS[name], random)
        looks = _visible(figures.Person(**values))
        if all(_visible(other) != looks for other in members):
            members.append(figures.Person(**values))
    return members[member]


def _one_of(values, random: np.random.Generator):
    return values[random.integers(len(values))]


def _visible(person: figures.Person) -> dict:
    """A person's attributes without those that nothing shows."""
    values = dataclasses.asdict(person)
    hidden = []
    if person.pattern == "plain":
        hidden += ["accent", "coarse"]
    if person.accent == person.top:
        hidden += ["pattern", "coarse"]
    if person.carried == "none":
        hidden += ["large", "left", "carried_colour"]
    if person.hat == "none":
        hidden += ["hat_colour"]
    return {name: value for name, value in values.items() if name not in hidden}


def _camera(number: int, seed: int) -> _Camera:
    random = np.random.default_rng((seed, 1, number))
    return _Camera(
        gains=random.uniform(0.72, 1.22, 3),
        gamma=random.uniform(0.7, 1.5),
        contrast=random.uniform(0.65, 1.15),
        blur=random.uniform(0.2, 1.1),
        noise=random.uniform(3, 12),
        quality=int(random.integers(60, 92)),
        scene=_SCENES[(number - 1) % len(_SCENES)],
        colours=random.uniform(60, 215, (2, 3)),
        yaw=random.uniform(-math.pi, math.pi),
        spread=random.uniform(0.5, 1.0),
        jitter=random.uniform(0.02, 0.06),
        occlusion=random.uniform(0.05, 0.35),
    )


def _image(person, camera, size, random, junk: bool = False) -> Image.Image:
    """One image, drawn at twice the size for smooth edges."""
    height, width = 2 * size[0], 2 * size[1]
    image = _background(camera, (height, width), random)
    pose = figures.Pose(
        yaw=camera.yaw + camera.spread * random.standard_normal(),
        phase=random.uniform(0, 2 * math.pi),
        stride=random.uniform(0, 0.6),
    )
    jitter = camera.jitter * height * (6 if junk else 1)
    dx, dy = random.normal(0, jitter, 2)
    tall = height * random.uniform(0.82, 0.95) * (1.5 if junk else 1)
    figures.draw(image, person, pose, (width / 2 + dx / 2, height * 0.96 + dy), tall)
    if random.random() < camera.occlusion:
        _occlude(image, random)
    image = image.filter(ImageFilter.GaussianBlur(2 * camera.blur * size[0] / 128))
    image = image.resize((size[1], size[0]), Image.Resampling.BOX)
    return Image.fromarray(_expose(np.asarray(image, np.float32), camera, random))


def _expose(pixels, camera: _Camera, random) -> np.ndarray:
    """Light, colour cast and noise of a camera."""
    light = camera.gains * random.uniform(0.85, 1.15)
    pixels = 255 * (pixels / 255) ** camera.gamma * light
    pixels = 128 + camera.contrast * (pixels - 128)
    pixels += random.normal(0, camera.noise, pixels.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _background(camera: _Camera, size, random) -> Image.Image:
    """The camera's scene, seen through a window that moves from image to image."""
    height, width = size
    first, second = (tuple(int(v) for v in colour) for colour in camera.colours)
    image = Image.new("RGB", (width, height), first)
    paint = ImageDraw.Draw(image)
    x0, y0 = random.integers(0, width, 2)
    if camera.scene == "brick":
        for row, y in enumerate(range(-int(y0) % 24, height, 24)):
            paint.line((0, y, width, y), second, 3)
            for x in range((int(x0) + 24 * (row % 2)) % 48, width, 48):
                paint.line((x, y, x, y + 24), second, 3)
    elif camera.scene == "shutter":
        for y in range(int(y0) % 16, height, 16):
            paint.line((0, y, width, y), second, 6)
    elif camera.scene == "foliage":
        for _ in range(60):
            x, y, r = random.uniform((0, 0, 6), (width, height, 22))
            colour = second if random.random() < 0.5 else tuple(v // 2 for v in first)
            paint.ellipse((x - r, y - r, x + r, y + r), colour)
    elif camera.scene == "shop":
        paint.rectangle((x0, height * 0.1, x0 + width * 0.6, height * 0.6), second)
        paint.rectangle((x0 - width, height * 0.15, x0 - width * 0.3, height), second)
    ground = height * random.uniform(0.68, 0.8)
    if camera.scene in ("wall", "street", "shop"):
        paint.rectangle((0, ground, width, height), second)
    if camera.scene == "street":
        for x in (-x0, width - x0, 2 * width - x0):
            paint.line((x, height, x + width / 2, ground), first, 8)
    return image


def _occlude(image: Image.Image, random) -> None:
    """A pole, a low wall, a box or a passer-by's shoulder in front."""
    width, height = image.size
    paint = ImageDraw.Draw(image)
    colour = tuple(int(v) for v in random.uniform(20, 220, 3))
    kind = random.integers(4)
    x = random.uniform(0, width)
    if kind == 0:
        paint.rectangle((x, 0, x + width * 0.09, height), colour)
    elif kind == 1:
        top = height * random.uniform(0.72, 0.9)
        paint.rectangle((0, top, width, height), colour)
    elif kind == 2:
        top = height * random.uniform(0.55, 0.8)
        paint.rectangle((x, top, x + width * 0.4, height), colour)
    else:
        edge = -0.2 * width if random.random() < 0.5 else 0.75 * width
        paint.ellipse((edge, height * 0.2, edge + width * 0.45, height * 1.1), colour)


def contact_sheet(
    people: int = 8, cameras: int = 6, height: int = 128, width: int = 64, seed: int = 0
) -> Image.Image:
    """A picture of the data set: a person a row, a camera a column."""
    sheet = Image.new("RGB", (width * cameras, height * people))
    for row in range(people):
        for column in range(cameras):
            random = np.random.default_rng((seed, 2, row + 1, column + 1, 0))
            camera = _camera(column + 1, seed)
            image = _image(family(row + 1, seed), camera, (height, width), random)
            sheet.paste(image, (width * column, height * row))
    return sheet
