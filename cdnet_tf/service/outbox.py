"""Keeps rows on a camera's disk until the service has them; SQLite only.

A row is in the file before `put` returns, and leaves it when the service has it. So no
row is lost when the camera, its network or the service fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

_TABLES = """
CREATE TABLE IF NOT EXISTS rows (
    number INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    network TEXT,
    row TEXT
);
CREATE TABLE IF NOT EXISTS gone (key TEXT PRIMARY KEY, since REAL NOT NULL);
"""
# The statements unmark images that are back, mark those that are newly gone, and delete
# the keys of those that have been gone for long enough.
_FORGETTING = (
    "DELETE FROM gone WHERE is_there(key) AND substr(key, 1, :length) = :begin",
    "INSERT OR IGNORE INTO gone SELECT key, :now FROM rows WHERE row IS NULL "
    "AND substr(key, 1, :length) = :begin AND NOT is_there(key)",
    "DELETE FROM rows WHERE row IS NULL "
    "AND key IN (SELECT key FROM gone WHERE since <= :before)",
)


class Batch(NamedTuple):
    """Rows of one network, as `POST /v1/rows` takes them; empty if no row waits."""

    network: dict[str, str]
    rows: list[dict[str, Any]]


class Outbox:
    """A file of rows. Several threads and processes may use it."""

    def __init__(self, path: str | os.PathLike):
        """Opens the file, or creates it.

        Raises:
          OSError: the file cannot be opened, or is something else.
        """
        self._lock = threading.Lock()
        try:
            # Without an isolation level, each statement is committed at once.
            self._file = sqlite3.connect(
                path, timeout=60, isolation_level=None, check_same_thread=False
            )
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=FULL")
            self._file.executescript(_TABLES)
        except sqlite3.Error as error:
            raise OSError(
                f"{os.fspath(path)} cannot be used for waiting rows ({error}); name "
                "another file."
            ) from error

    def knows(self, key: str) -> bool:
        """Says whether a row of this key was put here and is not forgotten."""
        with self._lock:
            query = "SELECT 1 FROM rows WHERE key = ?"
            return self._file.execute(query, [key]).fetchone() is not None

    def put(self, network: dict[str, str], rows: Iterable[dict[str, Any]]) -> None:
        """Writes rows, all or none; rows whose key is known are left out.

        Args:
          network: `name` and `checksum` of the network that made the embeddings.
          rows: fields of `messages.NewRow`, always with a `key`.

        Raises:
          sqlite3.OperationalError: the disk is full.
        """
        written = json.dumps(network, sort_keys=True)
        values = [(row["key"], written, json.dumps(row)) for row in rows]
        with self._transaction() as file:
            file.executemany(
                "INSERT OR IGNORE INTO rows (key, network, row) VALUES (?, ?, ?)",
                values,
            )

    def waiting(self, most: int) -> Batch:
        """Returns the oldest rows that wait, up to `most`, of one network."""
        with self._lock:
            found = self._file.execute(
                "SELECT network, row FROM rows WHERE row IS NOT NULL "
                "ORDER BY number LIMIT ?",
                [most],
            ).fetchall()
        if not found:
            return Batch({}, [])
        first = found[0][0]
        rows = [json.loads(row) for network, row in found if network == first]
        return Batch(json.loads(first), rows)

    def sent(self, keys: Collection[str]) -> None:
        """Drops rows that the service has; their keys stay known."""
        with self._transaction() as file:
            file.executemany(
                "UPDATE rows SET row = NULL, network = NULL WHERE key = ?",
                [(key,) for key in keys],
            )

    def forget(
        self, camera: str, is_there: Callable[[str], bool], after_s: float
    ) -> int:
        """Forgets the keys of a camera's rows that were sent and whose images are gone.

        An image may come back, for instance on a disk that was away, and must not be
        sent again then. So a key is forgotten by a call that comes `after_s` or more
        after the first call that found its image gone.

        Args:
          camera: name of the camera, with which the keys begin, before a slash.
          is_there: says whether the image of a key is there.
          after_s: seconds.

        Returns:
          How many keys were forgotten.
        """
        mine = {"begin": f"{camera}/", "length": len(camera) + 1}
        times = {"now": time.time(), "before": time.time() - after_s}
        with self._transaction() as file:
            file.create_function("is_there", 1, is_there)
            for statement in _FORGETTING:
                forgotten = file.execute(statement, {**mine, **times}).rowcount
            file.execute("DELETE FROM gone WHERE since <= :before", times)
        return forgotten

    def __len__(self) -> int:
        """Counts the rows that wait."""
        with self._lock:
            query = "SELECT count(*) FROM rows WHERE row IS NOT NULL"
            return self._file.execute(query).fetchone()[0]

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._file.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Makes all changes within the block, or none of them if it raises."""
        with self._lock:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield self._file
                self._file.execute("COMMIT")
            except BaseException:
                self._file.execute("ROLLBACK")
                raise
