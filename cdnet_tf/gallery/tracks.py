"""Ranks tracks by the mean of their embeddings, in one pass over the rows.

A track belongs to one camera: rows of two cameras with the same track are two tracks.
A row without a track is a track of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import pyarrow

COLUMNS = ("key", "embedding", "camera", "track")


@dataclasses.dataclass(frozen=True)
class Ranked:
    """A track's place in the ranking for one query.

    Attributes:
      key: key of the track's row that is nearest to the query.
      rows: how many rows the track has.
      distance: Euclidean, from the query to the mean embedding of length 1.
    """

    key: str
    rows: int
    distance: float


def rank(tables: Iterable[pyarrow.Table], queries: np.ndarray, k: int):
    """Ranks the tracks of all rows for each query.

    Memory holds a sum for each track, and the nearest row for each track and query.

    Args:
      tables: rows with `COLUMNS`, embeddings of length 1.
      queries: (q, d), of length 1.
      k: greatest number of tracks to return.

    Returns:
      A list of `Ranked` for each query, nearest first. Tracks whose embeddings cancel
      out have no direction and are left out.
    """
    sums = _Sums(queries)
    for table in tables:
        sums.add(table)
    return sums.ranked(k)


class _Sums:
    """What is known of each track so far; a track has a place in all arrays."""

    def __init__(self, queries: np.ndarray):
        self._queries = queries.astype(np.float64)
        self._places: dict[tuple, int] = {}
        count, dimensions = queries.shape
        self._sums = np.zeros((0, dimensions))
        self._counts = np.zeros(0, int)
        # (tracks, queries): the greatest product with each query, and its row's key.
        self._best = np.zeros((0, count))
        self._keys = np.zeros((0, count), object)

    def add(self, table: pyarrow.Table) -> None:
        if not len(table):
            return
        rows = matrix(table)
        keys = np.array(table["key"].to_pylist(), object)
        places = self._place(keys, table)
        # The rows of a track stand side by side in this order.
        order = np.argsort(places, kind="stable")
        there, starts = np.unique(places[order], return_index=True)
        self._sums[there] += np.add.reduceat(rows[order], starts)
        self._counts[there] += np.diff([*starts, len(order)])
        for q, products in enumerate((rows @ self._queries.T).T):
            # The nearest row comes first in its track.
            first = np.lexsort((-products, places))[starts]
            nearer = products[first] > self._best[there, q]
            self._best[there[nearer], q] = products[first][nearer]
            self._keys[there[nearer], q] = keys[first][nearer]

    def _place(self, keys: np.ndarray, table: pyarrow.Table) -> np.ndarray:
        """Returns the place of each row's track, (rows,); makes room for new tracks."""
        known = self._places
        cameras, tracks = (table[name].to_pylist() for name in ("camera", "track"))
        names = (
            (key,) if track is None else (camera, track)
            for key, camera, track in zip(keys, cameras, tracks)
        )
        places = np.array([known.setdefault(name, len(known)) for name in names])
        more = len(known) - len(self._counts)
        self._sums = _longer(self._sums, more, 0)
        self._counts = _longer(self._counts, more, 0)
        self._best = _longer(self._best, more, -np.inf)
        self._keys = _longer(self._keys, more, None)
        return places

    def ranked(self, k: int) -> list[list[Ranked]]:
        lengths = np.linalg.norm(self._sums, axis=1)
        there = np.flatnonzero(lengths > 1e-6 * self._counts)
        means = self._sums[there] / lengths[there, np.newaxis]
        found = []
        for q, query in enumerate(self._queries):
            distances = np.linalg.norm(means - query, axis=1)
            first = np.argsort(distances, kind="stable")[:k]
            keys, counts = self._keys[there[first], q], self._counts[there[first]]
            found.append(
                [Ranked(*each) for each in zip(keys, counts.tolist(), distances[first])]
            )
        return found


def _longer(array: np.ndarray, more: int, value) -> np.ndarray:
    added = np.full((more, *array.shape[1:]), value, array.dtype)
    return np.concatenate([array, added])


def matrix(table: pyarrow.Table) -> np.ndarray:
    """Returns the embeddings of a table of rows, (rows, dimensions) float64."""
    column = table["embedding"].combine_chunks()
    dimensions = column.type.list_size
    numbers = column.flatten().to_numpy(zero_copy_only=False)
    return numbers.reshape(-1, dimensions).astype(np.float64)
