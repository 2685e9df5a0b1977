"""The input that a network's file takes, and how uint8 images are turned into it."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cdnet_tf.data import preprocess

Run = Callable[[np.ndarray], np.ndarray]


def unchanged(values: np.ndarray) -> np.ndarray:
    return values


@dataclasses.dataclass(frozen=True)
class FileInput:
    """The input that a file takes.

    Attributes:
      path: of the file, for errors.
      batch: number of images at a time, None if free.
      size: (height, width), None if free.
      channels_first: whether images are (b, 3, h, w).
      dtype: of the values.
      pixels: whether values are pixels 0..255 instead of normalised.
      normalisation: of the values, if they are normalised.
    """

    path: pathlib.Path
    batch: int | None
    size: tuple[int, int] | None
    channels_first: bool
    dtype: Any
    pixels: bool
    normalisation: preprocess.Normalisation = preprocess.IMAGENET

    @classmethod
    def of(cls, path: pathlib.Path, shape: Sequence[int | None], dtype) -> FileInput:
        all_sides = sides(shape)
        if len(all_sides) != 4 or 3 not in (all_sides[1], all_sides[3]):
            raise ValueError(
                f"{path} takes an input of shape {all_sides}; RGB images are "
                "(batch, height, width, 3) or (batch, 3, height, width)."
            )
        if dtype not in (np.float32, np.float16, np.int8, np.uint8):
            raise ValueError(
                f"{path} takes {np.dtype(dtype).name} images; export it with a "
                "float32, float16, int8 or uint8 input."
            )
        channels_first = all_sides[3] != 3
        height, width = all_sides[2:] if channels_first else all_sides[1:3]
        size = None if height is None or width is None else (height, width)
        return cls(path, all_sides[0], size, channels_first, dtype, dtype == np.uint8)

    def in_batches(self, run: Run, quantise: Run = unchanged) -> Run:
        """Wraps `run`, which takes the file's input, to take (n, h, w, 3) uint8."""

        def whole(images: np.ndarray) -> np.ndarray:
            values = images
            if not self.pixels:
                values = preprocess.normalise(images, self.normalisation).numpy()
            values = quantise(values).astype(self.dtype, copy=False)
            if self.channels_first:
                values = np.ascontiguousarray(values.transpose(0, 3, 1, 2))
            batch = self.batch or len(values)
            missing = -len(values) % batch
            if missing:  # The last image fills up the last batch.
                padding = [(0, missing), (0, 0), (0, 0), (0, 0)]
                values = np.pad(values, padding, mode="edge")
            starts = range(0, len(values), batch)
            results = [run(values[start : start + batch]) for start in starts]
            return np.concatenate(results)[: len(images)]

        return whole


def sides(shape: Sequence[int | None]) -> tuple[int | None, ...]:
    """Returns a shape with None for free sides, which are -1 in TFLite."""
    return tuple(None if side is None or side < 0 else int(side) for side in shape)
