"""A sparse matrix, row by row: as much of one as re-ranking needs; NumPy only."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Sparse:
    """Entries that are not zero, in order of their rows.

    Attributes:
      starts: (rows + 1,); row i stands in starts[i]:starts[i + 1] of the other two.
      columns: (entries,) int32.
      values: (entries,) floats.
    """

    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, counts: np.ndarray, columns: np.ndarray, values: np.ndarray):
        """Makes a matrix whose row i has the next `counts[i]` entries."""
        return cls(np.concatenate([[0], np.cumsum(counts)]), columns, values)

    def rows(self) -> np.ndarray:
        """The row of each entry, (entries,) int32."""
        numbers = np.arange(len(self.starts) - 1, dtype=np.int32)
        return np.repeat(numbers, np.diff(self.starts))

    def row(self, i: int) -> slice:
        """Where the entries of a row stand."""
        return slice(self.starts[i], self.starts[i + 1])

    def find(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the entries of some rows stand, row after row, and how many each has.

        Args:
          rows: (n,) numbers, in any order, also repeated.

        Returns:
          (entries of these rows,) and (n,).
        """
        counts = self.starts[rows + 1] - self.starts[rows]
        before = np.cumsum(counts) - counts
        places = np.arange(counts.sum()) + np.repeat(self.starts[rows] - before, counts)
        return places, counts

    def from_row(self, first: int) -> Sparse:
        """The matrix without the rows before `first`."""
        start = self.starts[first]
        return Sparse(
            self.starts[first:] - start, self.columns[start:], self.values[start:]
        )

    def transposed(self, columns: int) -> Sparse:
        """The transposed matrix; this one has so many columns."""
        order = np.argsort(self.columns, kind="stable")
        counts = np.bincount(self.columns, minlength=columns)
        return Sparse.of(counts, self.rows()[order], self.values[order])
