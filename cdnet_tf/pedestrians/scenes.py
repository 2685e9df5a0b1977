"""Photographs a drawn person: cameras, backgrounds, and things in front."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from cdnet_tf.pedestrians import figures, people


@dataclasses.dataclass(frozen=True)
class Camera:
    """The properties that all images of one camera share."""

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
    jitter: float  # deviation of the crop's place, as a part of its height
    occlusion: float  # probability of something in the way


_SCENES = ("wall", "brick", "street", "foliage", "shutter", "shop")


@functools.lru_cache(maxsize=64)
def camera(number: int, seed: int) -> Camera:
    """Draws a camera, whose number, from 1, chooses the scene."""
    random = np.random.default_rng((seed, 1, number))
    return Camera(
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


def photograph(
    person: people.Person,
    camera: Camera,
    size: tuple[int, int],
    random: np.random.Generator,
    junk: bool = False,
) -> Image.Image:
    """Takes one image of a person, drawn at twice the size for smooth edges.

    Args:
      person: the person to draw.
      camera: from `camera`.
      size: height and width, pixels.
      random: decides pose, place, light and noise.
      junk: crop badly.
    """
    height, width = 2 * size[0], 2 * size[1]
    image = _background(camera, (height, width), random)
    pose = people.Pose(
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


def _expose(pixels, camera: Camera, random) -> np.ndarray:
    """Adds the light, colour cast and noise of a camera."""
    light = camera.gains * random.uniform(0.85, 1.15)
    pixels = 255 * (pixels / 255) ** camera.gamma * light
    pixels = 128 + camera.contrast * (pixels - 128)
    pixels += random.normal(0, camera.noise, pixels.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _background(camera: Camera, size, random) -> Image.Image:
    """Draws the camera's scene, shifted at random in each image."""
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
    """Draws a pole, a low wall, a box or a passer-by's shoulder in front."""
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
