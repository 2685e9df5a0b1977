"""Computes squared distances between embeddings, a few rows at a time; NumPy only.

A block of rows comes from one matrix product. So memory is bounded, and no distance is
computed twice with different rounding.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from cdnet_tf.retrieval import protocol

BLOCK_BYTES = 2**28
TINY = 1e-24  # a squared length above 0, to divide by


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """Rows and their squared norms, both checked to be finite.

    Attributes:
      rows: (n, d) float32 or float64.
      squares: (n,) of the same type.
      name: of the split, for messages.
    """

    rows: np.ndarray
    squares: np.ndarray
    name: str

    @classmethod
    def of(
        cls, rows: np.ndarray, name: str, labels: protocol.Labels | None = None
    ) -> Embeddings:
        """Checks embeddings.

        Args:
          rows: (n, d) numbers; float32 and float64 are used as they are.
          name: of the split.
          labels: of the rows, one for each. If they hold `paths`, errors name files.

        Raises:
          ValueError: the rows are no matrix, are not finite, or are not as many as the
            labels.
        """
        if labels is not None:
            protocol.check(len(rows), labels, name)
        rows = np.asarray(rows)
        if rows.ndim != 2:
            raise ValueError(
                f"{name} embeddings have shape {rows.shape}; pass (images, dimensions)."
            )
        rows = np.asarray(rows, np.result_type(rows, np.float32))
        # (n,); a NaN, an infinity or an overflow anywhere in a row shows here, without
        # a mask of the embeddings' size.
        squares = np.einsum("nd,nd->n", rows, rows)
        odd = np.flatnonzero(~np.isfinite(squares))
        if len(odd):
            raise ValueError(
                f"{len(odd)} of {len(rows)} {name} embeddings hold NaN, infinity or "
                f"values too large to square: {protocol.named(odd, labels)}. Look at "
                "these images, or check whether the weights diverged."
            )
        return cls(rows, squares, name)

    def take(self, indices: np.ndarray) -> Embeddings:
        """Returns a copy of some rows."""
        return Embeddings(self.rows[indices], self.squares[indices], self.name)

    def normalised(self) -> Embeddings:
        """Returns a copy with rows of length 1; see `blocks` for rows of zeros."""
        scale = 1 / np.sqrt(np.maximum(self.squares, TINY))
        rows = self.rows * scale[:, np.newaxis]
        return Embeddings(rows, np.ones_like(self.squares), self.name)


def blocks(
    query: Embeddings, gallery: Embeddings, normalize: bool, block_bytes: int
) -> Iterator[np.ndarray]:
    """Yields the squared distances of the next few queries to the whole gallery.

    All blocks share one buffer, so a block must be used before the next one is taken.
    Rounding may make a distance slightly negative.

    Args:
      query, gallery: (q, d) and (g, d).
      normalize: compare directions only, as after L2 normalisation. A row of zeros has
        no direction and gets distance 2 to everything.
      block_bytes: memory for distances held at once; those of one query always are.

    Yields:
      (up to step, g), of the embeddings' type.

    Raises:
      ValueError: the dimensions differ.
    """
    check_dimensions(query, gallery)
    dtype = np.result_type(query.rows, gallery.rows)
    step = max(1, block_bytes // (max(1, len(gallery.rows)) * dtype.itemsize))
    buffer = np.empty((min(step, len(query.rows)), len(gallery.rows)), dtype)
    # (g,)
    scale = 1 / np.sqrt(np.maximum(gallery.squares, TINY))
    for start in range(0, len(query.rows), step):
        rows = query.rows[start : start + step]
        squares = query.squares[start : start + step, np.newaxis]
        if normalize:
            rows = rows / np.sqrt(np.maximum(squares, TINY))
        # (step, g)
        block = np.matmul(-2 * rows, gallery.rows.T, out=buffer[: len(rows)])
        if normalize:
            block *= scale
            block += 2
        else:
            block += gallery.squares
            block += squares
        yield block


def rows(
    query: Embeddings, gallery: Embeddings, normalize: bool, block_bytes: int
) -> Iterator[np.ndarray]:
    """Yields the rows of `blocks`, (g,) each."""
    return itertools.chain.from_iterable(blocks(query, gallery, normalize, block_bytes))


def check_dimensions(query: Embeddings, gallery: Embeddings) -> None:
    """Raises ValueError unless both have the same dimensions."""
    if query.rows.shape[1] != gallery.rows.shape[1]:
        raise ValueError(
            f"query embeddings have {query.rows.shape[1]} dimensions and gallery "
            f"embeddings {gallery.rows.shape[1]}; extract both with one network."
        )
