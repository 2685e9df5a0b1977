"""Finds the nearest images of every image, and the distance of the farthest.

Each pair's distance is computed once, for both of its images: a block of rows holds the
columns from its first image on. Only the nearest images so far are kept for each image,
and only distances up to a bound that at least k images meet are sorted. NumPy only.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cdnet_tf.retrieval.distances import Embeddings

# More groups give a lower bound, so fewer candidates, and take longer to search.
_GROUPS_PER_NEIGHBOUR = 12


def of_all(
    images: Embeddings, k: int, block_bytes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nearest k images of each image, itself first.

    Args:
      images: (n, d).
      k: 1..n.
      block_bytes: memory for distances that are held at once.

    Returns:
      Indices (n, k) int32, nearest first, where the earlier image wins ties; and the
      greatest squared distance from each image to any other (n,).
    """
    nearest = _Nearest(len(images.rows), k, images.rows.dtype)
    farthest = np.zeros(len(images.rows), images.rows.dtype)
    for start, block in _triangle(images, block_bytes):
        stop = start + len(block)
        later = block[:, len(block) :]
        for part, most in (
            (slice(start, stop), block.max(axis=1)),
            (slice(stop, None), later.max(axis=0)),
        ):
            farthest[part] = np.maximum(farthest[part], most)
        # An image is its own nearest in spite of rounding, and even before a copy.
        np.fill_diagonal(block, -np.inf)
        nearest.offer_rows(block, start)
        nearest.offer_columns(later, start)
    return nearest.indices, farthest


def _triangle(images: Embeddings, block_bytes: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (first, block), with distances of `first`, ... to all from `first` on."""
    rows, squares = images.rows, images.squares
    numbers = max(len(rows), block_bytes // rows.itemsize)
    buffer = np.empty(min(numbers, len(rows) ** 2), rows.dtype)
    start = 0
    while start < len(rows):
        columns = len(rows) - start
        stop = start + min(columns, numbers // columns)
        block = buffer[: (stop - start) * columns].reshape(stop - start, columns)
        np.matmul(-2 * rows[start:stop], rows[start:].T, out=block)
        block += squares[start:]
        block += squares[start:stop, np.newaxis]
        yield start, block
        start = stop


class _Nearest:
    """The nearest k of each of n images, among those that were offered so far.

    Images must be offered in ascending order, which decides ties.
    """

    def __init__(self, n: int, k: int, dtype: np.dtype):
        self.indices = np.zeros((n, k), np.int32)
        self._values = np.full((n, k), np.inf, dtype)
        self._k = k

    def offer_rows(self, block: np.ndarray, first: int) -> None:
        """Offers images from `first` on to images `first`, ...; (rows, n - first)."""
        bounds = self._values[first : first + len(block), -1]
        if block.shape[1] >= self._k:
            bounds = np.minimum(bounds, _bounds(block, self._k, axis=1))
        rows, columns = _split(block <= bounds[:, np.newaxis])
        self._merge(first + rows, first + columns, block[rows, columns])

    def offer_columns(self, block: np.ndarray, first: int) -> None:
        """Offers images `first`, ... to the last m images; (rows, m)."""
        start = len(self._values) - block.shape[1]
        bounds = self._values[start:, -1]
        near = block <= bounds
        # The bound does not help at first, nor while every new image is nearer.
        many = np.count_nonzero(near) > 2 * self._k * block.shape[1]
        if many and len(block) >= self._k:
            near = block <= np.minimum(bounds, _bounds(block, self._k, axis=0))
        rows, columns = _split(near)
        self._merge(start + columns, first + rows, block[rows, columns])

    def _merge(
        self, images: np.ndarray, indices: np.ndarray, values: np.ndarray
    ) -> None:
        """Merges candidates: the images they are near to, their indices and values."""
        # A stable sort keeps candidates at equal distance in ascending order.
        order = np.lexsort((values, images))
        images, indices, values = images[order], indices[order], values[order]
        # (changed,) images, where their candidates begin; (candidates,) image numbers
        changed, begin, number = np.unique(
            images, return_index=True, return_inverse=True
        )
        place = np.arange(len(images)) - begin[number]
        kept = place < self._k
        at = number[kept], self._k + place[kept]
        shape = len(changed), 2 * self._k
        all_values = np.full(shape, np.inf, values.dtype)
        all_indices = np.zeros(shape, np.int32)
        all_values[:, : self._k] = self._values[changed]
        all_indices[:, : self._k] = self.indices[changed]
        all_values[at], all_indices[at] = values[kept], indices[kept]
        best = np.argsort(all_values, axis=1, kind="stable")[:, : self._k]
        self._values[changed] = np.take_along_axis(all_values, best, axis=1)
        self.indices[changed] = np.take_along_axis(all_indices, best, axis=1)


def _split(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Does `np.nonzero`, but several times as fast if few entries are set."""
    return np.divmod(np.flatnonzero(mask), max(1, mask.shape[1]))


def _bounds(block: np.ndarray, k: int, axis: int) -> np.ndarray:
    """Finds for each line along the axis a value that at least k entries do not exceed.

    This is the k-th smallest of the minima of groups. A group takes every m-th entry,
    so that neighbouring images, which are often alike, fall into different groups. The
    last entries may be in no group.
    """
    length = block.shape[axis]
    size = max(1, length // (k * _GROUPS_PER_NEIGHBOUR))
    groups = length // size
    if axis == 1:
        minima = block[:, : size * groups].reshape(-1, size, groups).min(axis=1)
        return np.partition(minima, k - 1, axis=1)[:, k - 1]
    minima = block[: size * groups].reshape(size, groups, -1).min(axis=0)
    return np.partition(minima, k - 1, axis=0)[k - 1]
