"""Rows that wait on a camera's disk until the service has them; SQLite only.

A row is in the file before `put` returns, and leaves it when the service has it. So a
camera, its network and its service may fail at any time, and no row is lost.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

_TABLES = """
CREATE TABLE IF NOT EXISTS rows (
    number INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    network TEXT,
    row TEXT
)
"""


class Batch(NamedTuple):
    """Rows of one network, as `POST /v1/rows` takes them; empty if none waits."""

    network: dict[str, str]
    rows: list[dict[str, Any]]


class Outbox:
    """A file of rows. Several threads and processes may use it."""

    def __init__(self, path: str | os.PathLike):
        """Opens or makes the file.

        Raises:
          OSError: the file cannot be opened, or is something else.
        """
        self._lock = threading.Lock()
        try:
            # Statements are committed one by one.
            self._file = sqlite3.connect(
                path, timeout=60, isolation_level=None, check_same_thread=False
            )
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=FULL")
            self._file.execute(_TABLES)
        except sqlite3.Error as error:
            raise OSError(
                f"{os.fspath(path)} cannot be used for waiting rows ({error}); name "
                "another file."
            ) from error

    def knows(self, key: str) -> bool:
        """Whether a row of this key was ever put here."""
        with self._lock:
            query = "SELECT 1 FROM rows WHERE key = ?"
            return self._file.execute(query, [key]).fetchone() is not None

    def put(self, network: dict[str, str], rows: Iterable[dict[str, Any]]) -> None:
        """Keeps rows, each with a `key`, all or none; known keys are left out.

        Args:
          network: `name` and `checksum` of the network that made the embeddings.
          rows: see `messages.NewRow`.

        Raises:
          sqlite3.OperationalError: the disk is full.
        """
        written = json.dumps(network, sort_keys=True)
        values = [(row["key"], written, json.dumps(row)) for row in rows]
        with self._lock:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                self._file.executemany(
                    "INSERT OR IGNORE INTO rows (key, network, row) VALUES (?, ?, ?)",
                    values,
                )
                self._file.execute("COMMIT")
            except BaseException:
                self._file.execute("ROLLBACK")
                raise

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
        """Lets rows go that the service has; their keys stay known."""
        with self._lock:
            self._file.execute("BEGIN IMMEDIATE")
            self._file.executemany(
                "UPDATE rows SET row = NULL, network = NULL WHERE key = ?",
                [(key,) for key in keys],
            )
            self._file.execute("COMMIT")

    def __len__(self) -> int:
        """Counts the rows that wait."""
        with self._lock:
            query = "SELECT count(*) FROM rows WHERE row IS NOT NULL"
            return self._file.execute(query).fetchone()[0]

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._file.close()
