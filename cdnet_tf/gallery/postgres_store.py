"""Keeps rows in PostgreSQL with pgvector: one server that many machines share."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterator, Sequence

import numpy as np
import psycopg
import pyarrow
from pgvector import Vector
from pgvector.psycopg import register_vector
from psycopg_pool import ConnectionPool

from cdnet_tf.deploy.identity import Network
from cdnet_tf.gallery import postgres_queries as queries
from cdnet_tf.gallery import postgres_tables as tables
from cdnet_tf.gallery import rows, store
from cdnet_tf.gallery.records import Settings, Where

# Connections of one process; one thread at a time uses a connection.
_CONNECTIONS = 8
_CONNECT_S = 10
# Two advisory locks of the server, as pairs of numbers that only galleries use.
_CHANGE, _READ = (0x63646E65, 1), (0x63646E65, 2)
_SCANNED_ROWS = 2_000
_WAIT_S = 60.0


class PostgresStore:
    """A `store.Store` in a server."""

    def __init__(self, url: str, exact_rows: int = store.EXACT_ROWS):
        """Connects to a server, in which the first row creates the tables.

        Args:
          url: a connection URL of `libpq`.
          exact_rows: no index is built for this many rows or fewer.

        Raises:
          OSError: the connection fails.
          VersionError: another version of this package wrote the gallery.
        """
        self._exact_rows = exact_rows
        with _reported():
            # This connection says why it fails, which those of the pool would not.
            with psycopg.connect(url, connect_timeout=_CONNECT_S) as connection:
                self._place = f"{connection.info.host}/{connection.info.dbname}"
        # Prepared statements would share one plan for all conditions.
        options = {"prepare_threshold": None, "connect_timeout": _CONNECT_S}
        self._pool = ConnectionPool(
            url,
            kwargs=options,
            min_size=0,
            max_size=_CONNECTIONS,
            check=ConnectionPool.check_connection,
            open=True,
        )
        self.settings()

    def settings(self) -> Settings:
        """Reads the one row of settings."""
        with self._transaction() as connection:
            return self._settings(connection)

    def claim(self, network: Network, dimensions: int) -> Settings:
        """Creates the tables and writes network and dimensions, if none are written."""
        with self._transaction() as connection:
            self._begin(connection)
            found = self._settings(connection)
            if found.network is not None:
                return found
            queries.make_extension(connection)
            connection.execute(tables.rows(dimensions))
            connection.execute(
                "UPDATE cdnet_gallery SET network = %s, checksum = %s, dimensions = %s",
                [network.name, network.checksum, dimensions],
            )
            return self._settings(connection)

    def keep(self, days: int | None) -> None:
        """Writes the retention."""
        with self._transaction() as connection:
            self._begin(connection)
            connection.execute("UPDATE cdnet_gallery SET retention_days = %s", [days])

    def add(self, table: pyarrow.Table) -> int:
        """Adds rows in one transaction."""
        times = rows.moments(table["time"])
        self._make_partitions({tables.week(each) for each in times})
        with self._transaction() as connection:
            # The keys have an order, or two writers might wait for each other.
            found = connection.execute(
                "INSERT INTO cdnet_keys SELECT * FROM unnest(%s::text[], "
                "%s::timestamptz[]) AS new (key, time) ORDER BY key "
                "ON CONFLICT DO NOTHING RETURNING key",
                [table["key"].to_pylist(), times],
            )
            new = {key for (key,) in found}
            queries.copy(connection, table, new)
        return len(new)

    def search(
        self, query: np.ndarray, k: int, where: Where, exact: bool
    ) -> pyarrow.Table:
        """Searches by the index, if there is one that can be trusted."""
        with self._transaction() as connection:
            dimensions = self._settings(connection).dimensions
            if dimensions is None:
                return rows.nothing()
            vector = Vector(query)
            if not exact and queries.exists(connection, tables.INDEX):
                return queries.by_index(connection, vector, k, where, dimensions)
            return queries.exactly(connection, vector, k, where)

    def scan(self, where: Where, columns: Sequence[str]) -> Iterator[pyarrow.Table]:
        """Yields the rows that are there when the first of them is asked for."""
        condition, values = tables.condition(where)
        selected = queries.selected(columns)
        with self._transaction() as connection:
            dimensions = self._settings(connection).dimensions
            if dimensions is None:
                return
            connection.execute("SELECT pg_advisory_xact_lock_shared(%s, %s)", _READ)
            with connection.cursor("scan", binary=True) as cursor:
                cursor.execute(
                    f"SELECT {selected} FROM cdnet_rows WHERE {condition}", values
                )
                while found := cursor.fetchmany(_SCANNED_ROWS):
                    yield queries.to_table(found, columns, dimensions)

    def count(self, where: Where) -> int:
        """Counts the rows in the server."""
        condition, values = tables.condition(where)
        with self._transaction() as connection:
            if self._settings(connection).dimensions is None:
                return 0
            return queries.one(
                connection, f"SELECT count(*) FROM cdnet_rows WHERE {condition}", values
            )

    def delete(self, where: Where) -> int:
        """Deletes rows and their keys, and notes which tables hold their bytes."""
        with self._transaction() as connection:
            if self._settings(connection).dimensions is None:
                return 0
            return queries.delete(connection, where)

    def erase(self) -> None:
        """Rewrites the tables that hold deleted rows.

        The server's write-ahead log keeps them longer, until its files are reused.

        Raises:
          OSError: another program's transaction still sees deleted rows.
        """
        if self.settings().unerased_since is None:
            return
        with self._transaction() as connection:
            found = connection.execute("SELECT id, name FROM cdnet_unerased").fetchall()
        with self._pool.connection() as connection, _reported():
            connection.autocommit = True
            try:
                self._wait_for_readers(connection)
                for name in sorted({name for _, name in found}):
                    if queries.exists(connection, name):
                        connection.execute(f"VACUUM (FULL, ANALYZE) {name}")
                done = [each for each, _ in found]
                connection.execute(
                    "DELETE FROM cdnet_unerased WHERE id = ANY(%s)", [done]
                )
            finally:
                connection.autocommit = False

    def expire(self, before: datetime.datetime) -> int:
        """Drops partitions that end by a time, deletes other old rows, and erases."""
        with self._transaction() as connection:
            if self._settings(connection).dimensions is None:
                return 0
            count = queries.drop_before(connection, before)
            count += queries.delete(connection, Where(until=before))
        self.erase()
        return count

    def prepare(self) -> bool:
        """Does nothing: the server has a cache, and its owner asks for an index.

        The index may miss rows, so nothing builds it unasked.
        """
        return True

    def index(self) -> None:
        """Builds an HNSW index, which the server then keeps up to date."""
        if self.count(Where()) <= self._exact_rows:
            return
        with self._transaction() as connection:
            dimensions = self._settings(connection).dimensions
            assert dimensions is not None
            # With less memory, building takes many times as long.
            connection.execute(
                "SELECT set_config('maintenance_work_mem', '1GB', true) WHERE "
                "pg_size_bytes(current_setting('maintenance_work_mem')) < 2^30"
            )
            connection.execute(tables.index(dimensions))
            connection.execute("ANALYZE cdnet_rows")

    def close(self) -> None:
        """Closes the connections."""
        self._pool.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection]:
        with _reported(), self._pool.connection() as connection:
            if connection.adapters.types.get("vector") is None:
                with contextlib.suppress(psycopg.ProgrammingError):  # none yet
                    register_vector(connection)
            yield connection

    def _begin(self, connection: psycopg.Connection) -> None:
        """Locks the gallery's tables and settings until the transaction ends."""
        connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", _CHANGE)
        connection.execute(tables.SETTINGS)
        connection.execute(
            "INSERT INTO cdnet_gallery (format) VALUES (%s) ON CONFLICT DO NOTHING",
            [store.FORMAT],
        )

    def _settings(self, connection: psycopg.Connection) -> Settings:
        if not queries.exists(connection, "cdnet_gallery"):
            return Settings()
        found = connection.execute(
            "SELECT format, network, checksum, dimensions, retention_days, "
            "(SELECT min(since) FROM cdnet_unerased) FROM cdnet_gallery"
        ).fetchone()
        if found is None:
            return Settings()
        store.check_format(found[0], self._place)
        network = None if found[1] is None else Network(found[1], found[2])
        return Settings(network, *found[3:])

    def _make_partitions(self, weeks: set) -> None:
        """Creates partitions, in a short transaction, because readers wait for it."""
        with self._transaction() as connection:
            missing = []
            for name, statement in map(tables.partition, sorted(weeks)):
                if not queries.exists(connection, name):
                    missing.append(statement)
            if missing:
                self._begin(connection)
                for statement in missing:
                    connection.execute(statement)

    def _wait_for_readers(self, connection: psycopg.Connection) -> None:
        """Waits for transactions that see deleted rows, which VACUUM would keep."""
        connection.execute("SELECT pg_advisory_lock(%s, %s)", _READ)
        connection.execute("SELECT pg_advisory_unlock(%s, %s)", _READ)
        now = queries.one(connection, "SELECT pg_current_xact_id()::xid::text")
        began = time.monotonic()
        while watching := connection.execute(tables.WATCHING, [now]).fetchone():
            if time.monotonic() - began > _WAIT_S:
                raise OSError(
                    f"Process {watching[0]} ({watching[1]}) of the server {self._place}"
                    " has a transaction that still sees deleted rows; end it and erase "
                    "again."
                )
            time.sleep(0.05)


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except (psycopg.OperationalError, psycopg.InternalError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise OSError(
            f"The server of the gallery reports: {said}. What was being changed is "
            "changed whole or not at all; do the same again when the server works."
        ) from error
