"""What the gallery asks of a database: one small interface, two implementations.

`lance_store` keeps rows in a folder, `postgres_store` in a server. The gallery checks
and normalises everything before it comes here, so that both databases see the same.
Rows travel as Arrow tables with the columns of `rows.schema`.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import pyarrow

from cdnet_tf.deploy.identity import Network
from cdnet_tf.gallery.records import Settings, Where

FORMAT = 1  # of what both databases hold; another number is refused

# A filter that leaves at most this many rows, or this share of them, is searched row
# by row: an approximate index finds too few of the nearest rows among so few.
EXACT_ROWS = 20_000
EXACT_SHARE = 0.2
# How much memory the copy of a folder's embeddings may take, in MiB.
MEMORY_MB = 1024


class VersionError(ValueError):
    """The gallery was written by another version of this package."""


class Store(Protocol):
    """A database of rows. Every method may be called from several threads."""

    def settings(self) -> Settings:
        """Reads what the gallery is fixed to, as other writers left it."""

    def claim(self, network: Network, dimensions: int) -> Settings:
        """Fixes network and dimensions unless they are fixed; returns what holds."""

    def keep(self, days: int | None) -> None:
        """Records the retention."""

    def add(self, table: pyarrow.Table) -> int:
        """Adds all rows whose key is new, or none; returns how many were added."""

    def search(
        self, query: np.ndarray, k: int, where: Where, exact: bool
    ) -> pyarrow.Table:
        """Finds the rows nearest to the query.

        Returns:
          Up to k rows, all columns but the embedding, and `squared`: the squared
          Euclidean distance (float).
        """

    def scan(self, where: Where, columns: Sequence[str]) -> Iterator[pyarrow.Table]:
        """Yields some columns of the rows that are meant, some rows at a time."""

    def count(self, where: Where) -> int:
        """Counts the rows that are meant."""

    def delete(self, where: Where) -> int:
        """Deletes the rows that are meant; returns how many."""

    def erase(self) -> None:
        """Removes the bytes of all deleted rows from the files."""

    def expire(self, before: datetime.datetime) -> int:
        """Deletes the rows before a time and erases them; returns how many.

        Earlier deletions are erased, too. Waits until nobody reads.
        """

    def prepare(self) -> None:
        """Does now what the first search would do once."""

    def index(self) -> None:
        """Builds the approximate index, or brings it up to date."""

    def close(self) -> None:
        """Gives back files and connections."""


def is_exact(matching: int, total: int, exact_rows: int, exact_share: float) -> bool:
    """Says whether a search among `matching` of `total` rows goes row by row."""
    return matching <= max(exact_rows, exact_share * total)


def check_format(found: int, where: str) -> None:
    """Refuses a gallery of another version.

    Raises:
      VersionError: `found` is not the format of this version.
    """
    if found == FORMAT:
        return
    remedy = (
        "update cdnet_tf"
        if found > FORMAT
        else "export it with the version of cdnet_tf that wrote it, and add the export "
        "to a new gallery"
    )
    raise VersionError(
        f"The gallery {where} has format {found}, and this version of cdnet_tf reads "
        f"format {FORMAT} only; {remedy}."
    )
