"""The interface between a gallery and its database.

`lance_store` keeps rows in a folder, `postgres_store` in a server. The gallery checks
and normalises all rows first, so that both databases see the same. Rows are passed as
Arrow tables with the columns of `rows.schema`.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import pyarrow

from cdnet_tf.deploy.identity import Network
from cdnet_tf.gallery.records import Settings, Where

FORMAT = 1  # of both databases; a gallery of another format is refused

# If a filter leaves at most this many rows, or this share of them, the search goes row
# by row: an approximate index finds too few of the nearest rows among so few.
EXACT_ROWS = 20_000
EXACT_SHARE = 0.2
# MiB of memory that the copy of a folder's embeddings may use.
MEMORY_MB = 1024


class VersionError(ValueError):
    """The gallery was written by another version of this package."""


class Store(Protocol):
    """A database of rows. Every method may be called from several threads."""

    def settings(self) -> Settings:
        """Reads the settings as the last writer left them."""

    def claim(self, network: Network, dimensions: int) -> Settings:
        """Writes network and dimensions, if none are written; returns the settings."""

    def keep(self, days: int | None) -> None:
        """Writes the retention; None for no limit."""

    def add(self, table: pyarrow.Table) -> int:
        """Adds all rows whose key is new, or none of them; returns how many."""

    def search(
        self, query: np.ndarray, k: int, where: Where, exact: bool
    ) -> pyarrow.Table:
        """Finds the rows nearest to the query.

        Returns:
          Up to k rows, all columns but the embedding, and `squared`: the squared
          Euclidean distance (float).
        """

    def scan(self, where: Where, columns: Sequence[str]) -> Iterator[pyarrow.Table]:
        """Yields some columns of the rows of `where`, some rows at a time."""

    def count(self, where: Where) -> int:
        """Counts the rows of `where`."""

    def delete(self, where: Where) -> int:
        """Deletes the rows of `where`, and returns how many."""

    def erase(self) -> None:
        """Removes the bytes of all deleted rows from the files."""

    def expire(self, before: datetime.datetime) -> int:
        """Deletes the rows before a time, erases them, and returns how many.

        Rows that were deleted earlier are erased, too. The call waits until nobody
        reads.
        """

    def prepare(self) -> bool:
        """Does now what would otherwise delay the first search.

        Returns:
          Whether searches are best left without an index.
        """

    def index(self) -> None:
        """Builds the approximate index, or adds newer rows to it."""

    def close(self) -> None:
        """Closes files and connections."""


def is_exact(matching: int, total: int, exact_rows: int, exact_share: float) -> bool:
    """Says whether a search among `matching` of `total` rows goes row by row."""
    return matching <= max(exact_rows, exact_share * total)


def check_format(found: int, where: str) -> None:
    """Refuses a gallery that another version of this package wrote.

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
