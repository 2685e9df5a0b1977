"""Embeddings without learning, to compare networks with: `BASELINES`."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image


def chance(path: str) -> np.ndarray:
    """Draws an embedding from the file's name, (8,)."""
    seed = np.frombuffer(os.path.basename(path).encode(), np.uint8)
    return np.random.default_rng(seed).standard_normal(8).astype(np.float32)


def raw_pixels(path: str) -> np.ndarray:
    """Returns the middle of the image at a quarter of its size, as one vector."""
    middle = _middle(path)
    rows, columns = (size // 4 * 4 for size in middle.shape[:2])
    small = middle[:rows, :columns].reshape(rows // 4, 4, columns // 4, 4, 3)
    return small.mean((1, 3)).ravel()


def colour_histograms(path: str) -> np.ndarray:
    """Returns colour histograms of six stripes of the image's middle, (6 * 512,)."""
    pixels = _middle(path)
    bins = np.clip((pixels + 2) * 2, 0, 7).astype(int)  # 8 bins of half a deviation
    vectors = []
    for stripe in np.array_split(bins @ (64, 8, 1), 6):
        counts = np.bincount(stripe.ravel(), minlength=512)
        vectors.append(np.sqrt(counts / counts.sum()))
    return np.concatenate(vectors).astype(np.float32)


def _middle(path: str) -> np.ndarray:
    """Cuts out the person, without most of the background and the camera's cast."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"), np.float32)
    height, width, _ = pixels.shape
    pixels = pixels[height // 16 : -height // 16, width // 4 : -width // 4]
    return (pixels - pixels.mean((0, 1))) / (pixels.std((0, 1)) + 1e-6)


BASELINES = {
    "chance": chance,
    "raw pixels": raw_pixels,
    "colour histograms": colour_histograms,
}
