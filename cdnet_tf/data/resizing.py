"""The resizing of `preprocess`, in NumPy: for cameras, which have no TensorFlow."""

from __future__ import annotations

import functools

import numpy as np


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes an image as `preprocess.resize` does.

    Bilinear with antialiasing, then rounded. Sums are rounded in another order than
    TensorFlow's, so that a colour in some thousands differs by 1.

    Args:
      image: (h, w, 3) uint8, 0..255.
      height, width: pixels.

    Returns:
      (height, width, 3) uint8.
    """
    rows, columns = _weights(len(image), height), _weights(image.shape[1], width)
    # (height, w, 3)
    narrow = np.tensordot(rows, image.astype(np.float32), 1)
    # (height, 3, width)
    resized = np.tensordot(narrow, columns, (1, 1))
    rounded = np.clip(np.round(resized.transpose(0, 2, 1)), 0, 255)
    return rounded.astype(np.uint8)


@functools.lru_cache(64)
def _weights(source: int, target: int) -> np.ndarray:
    """How much each pixel of a line counts for each of the resized line.

    A triangle around the middle of the new pixel, as wide as two pixels of whichever
    line is coarser.

    Returns:
      (target, source) float32; each row sums to 1.
    """
    scale = source / target
    middles = (np.arange(target) + 0.5) * scale
    apart = np.abs(np.arange(source) + 0.5 - middles[:, np.newaxis])
    weights = np.maximum(0, 1 - apart / max(scale, 1))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
