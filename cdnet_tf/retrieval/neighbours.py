"""The nearest images of every image, and how far the farthest is; NumPy only.

The whole matrix of distances is computed but never held, and never sorted: in each row
a bound that k images cannot miss leaves a few candidates, and these are sorted.
"""

from __future__ import annotations

import numpy as np

from cdnet_tf.retrieval.distances import Embeddings, blocks

# Candidates are about k * (1 + k / groups): more groups leave fewer, and cost more.
_GROUPS_PER_NEIGHBOUR = 12


def of_all(
    images: Embeddings, k: int, block_bytes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nearest k images of each image, itself first.

    Args:
      images: (n, d).
      k: 1..n.
      block_bytes: of distances held at once.

    Returns:
      Indices (n, k) int32, nearest first, earlier images winning ties; and the greatest
      squared distance of each image to any (n,).
    """
    nearest = np.empty((len(images.rows), k), np.int32)
    farthest = np.empty(len(images.rows), images.rows.dtype)
    start = 0
    for block in blocks(images, images, False, block_bytes):
        rows = np.arange(len(block))
        # However rounding has it, and though another image may be a copy.
        block[rows, start + rows] = -np.inf
        own = slice(start, start + len(block))
        nearest[own] = _smallest(block, k)
        farthest[own] = np.maximum(block.max(axis=1), 0)
        start += len(block)
    return nearest, farthest


def _smallest(block: np.ndarray, k: int) -> np.ndarray:
    """Places of each row's k smallest, ascending, earlier ones winning ties."""
    candidates = np.flatnonzero(block <= _bounds(block, k)[:, np.newaxis])
    rows, columns = np.divmod(candidates, block.shape[1])
    # Stable, so that of equal values the earlier column stays the earlier.
    order = np.lexsort((block.ravel()[candidates], rows))
    # (rows, 1): where the row's candidates begin
    starts = np.searchsorted(rows, np.arange(len(block)))[:, np.newaxis]
    return columns[order][starts + np.arange(k)]


def _bounds(block: np.ndarray, k: int) -> np.ndarray:
    """For each row a value that at least k of its entries do not exceed.

    It is the k-th smallest of the minima of groups of columns. A group takes every
    m-th column, so that neighbouring images, which are often alike, fall into
    different groups; the last columns may be in none.
    """
    rows, columns = block.shape
    size = max(1, columns // (k * _GROUPS_PER_NEIGHBOUR))
    groups = columns // size
    minima = block[:, : size * groups].reshape(rows, size, groups).min(axis=1)
    return np.partition(minima, k - 1, axis=1)[:, k - 1]
