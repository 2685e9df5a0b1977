"""Keeps rows in a folder with LanceDB, for several processes of one machine."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import math
import os
import warnings
from collections.abc import Iterator, Sequence

import lancedb
import numpy as np
import pyarrow
from lancedb import index

from cdnet_tf.deploy.identity import Network
from cdnet_tf.gallery import memory, store
from cdnet_tf.gallery.folder import Folder
from cdnet_tf.gallery.records import Settings, Where
from cdnet_tf.gallery.rows import DESCRIPTION, nothing

_TABLE = "rows"
_INDEX = "embedding_idx"
# Every addition makes a fragment, and many fragments slow searches and additions.
_MOST_SMALL_FRAGMENTS = 64
# Versions older than this are removed when the folder is tidied, if nobody reads.
_OLD = datetime.timedelta(hours=1)
_NEVER = datetime.timedelta(days=36_500)
_SCANNED_ROWS = 10_000
# The index is searched in this many lists first, if no row is filtered out. This many
# times k candidates are then compared again by their full embeddings.
_LISTS = 24
_REFINED = 8


class LanceStore:
    """A `store.Store` in a folder."""

    def __init__(
        self,
        path: str | os.PathLike,
        exact_rows: int = store.EXACT_ROWS,
        exact_share: float = store.EXACT_SHARE,
        list_rows: int = 8192,
        memory_bytes: int = 0,
    ):
        """Opens a folder, which the first row creates.

        Args:
          path: the folder.
          exact_rows, exact_share: as in `store.is_exact`.
          list_rows: mean number of rows in a list of the index.
          memory_bytes: memory that a copy of the embeddings may use. Searches are exact
            while the embeddings fit into it.

        Raises:
          ValueError, VersionError: as `folder.Folder`.
        """
        self._folder = Folder(path)
        self._exact = exact_rows, exact_share
        self._list_rows = list_rows
        self._copy = memory.Copy(memory_bytes)
        self._opened: lancedb.table.Table | None = None

    def settings(self) -> Settings:
        """Reads the settings from the folder."""
        return self._folder.read()

    def claim(self, network: Network, dimensions: int) -> Settings:
        """Writes network and dimensions, unless some are written already."""
        with self._writing():
            found = self._folder.read()
            if found.network is None:
                found = self._folder.change(network=network, dimensions=dimensions)
            return found

    def keep(self, days: int | None) -> None:
        """Writes the retention."""
        with self._writing():
            self._folder.change(retention_days=days)

    def add(self, table: pyarrow.Table) -> int:
        """Adds rows in one commit of Lance, which a reader sees whole or not at all."""
        with self._writing():
            rows = self._made(table.schema)
            merge = rows.merge_insert("key").when_not_matched_insert_all()
            added = merge.execute(table).num_inserted_rows
            small = rows.stats()["fragment_stats"]["num_small_fragments"]
            if small > _MOST_SMALL_FRAGMENTS:
                self._tidy(rows)
            return added

    def search(
        self, query: np.ndarray, k: int, where: Where, exact: bool
    ) -> pyarrow.Table:
        """Searches row by row in memory, or else in the files.

        In the files, the index is used if the filter leaves many rows.
        """
        with self._reading() as table:
            if table is None:
                return nothing()
            if (copied := self._copy.of(table)) is not None:
                return copied.search(query, k, where)
            condition = _sql(where)
            matching = table.count_rows(condition)
            total = matching if condition is None else table.count_rows()
            search = _Search(table, query, k, condition)
            few = store.is_exact(matching, total, *self._exact)
            if exact or few or not _has_index(table):
                return search.exactly()
            lists = math.ceil(total / self._list_rows)
            found = search.by_index(round(_LISTS * total / matching), lists)
            return found if len(found) == min(k, matching) else search.exactly()

    def scan(self, where: Where, columns: Sequence[str]) -> Iterator[pyarrow.Table]:
        """Yields the rows of the version that is the newest at the start."""
        with self._reading() as table:
            if table is None:
                return
            found = table.search().select(list(columns))
            if (condition := _sql(where)) is not None:
                found = found.where(condition)
            for batch in found.to_batches(_SCANNED_ROWS):
                yield pyarrow.Table.from_batches([batch])

    def count(self, where: Where) -> int:
        """Counts the rows without reading embeddings."""
        with self._reading() as table:
            return 0 if table is None else table.count_rows(_sql(where))

    def delete(self, where: Where) -> int:
        """Marks rows as deleted; `erase` removes their bytes."""
        if not self._folder.path.exists():
            return 0
        with self._writing():
            table = self._table()
            if table is None or not table.count_rows(_sql(where)):
                return 0
            # The note is written first, in case the process is killed in between.
            if self._folder.read().unerased_since is None:
                now = datetime.datetime.now(datetime.timezone.utc)
                self._folder.change(unerased_since=now)
            return table.delete(_sql(where) or "true").num_deleted_rows

    def erase(self) -> None:
        """Rewrites the files that hold deleted rows, and removes all older files."""
        if not self._folder.path.exists():
            return
        with self._writing():
            table = self._table()
            if table is not None:
                # LanceDB's own `optimize` leaves a file as it is when less than a tenth
                # of its rows are deleted. The index is rewritten along with the rows.
                table.to_lance().optimize.compact_files(
                    materialize_deletions=True, materialize_deletions_threshold=0.0
                )
                table.checkout_latest()
                table.optimize(cleanup_older_than=_NEVER)
                # A version records the condition of the deletion that made it, which
                # may name a row. This deletion of no row makes a version without one.
                table.delete("false")
                with self._folder.removing():
                    _remove_old_versions(table)
                # The copy in memory may hold deleted rows, too.
                self._copy.drop()
            if self._folder.read().unerased_since is not None:
                self._folder.change(unerased_since=None)

    def expire(self, before: datetime.datetime) -> int:
        """Deletes the rows before a time; erases deleted rows, if there are any."""
        count = self.delete(Where(until=before))
        if self.settings().unerased_since is not None:
            self.erase()
        return count

    def prepare(self) -> bool:
        """Copies the embeddings into memory, if they fit."""
        with self._reading() as table:
            return table is None or self._copy.of(table) is not None

    def index(self) -> None:
        """Builds an IVF index of 8-bit codes, or adds new rows to it."""
        if not self._folder.path.exists():
            return
        with self._writing():
            table = self._table()
            if table is None or table.count_rows() <= self._exact[0]:
                return
            if _has_index(table):
                self._tidy(table)
            else:
                config = index.IvfRq(num_bits=8, target_partition_size=self._list_rows)
                table.create_index("embedding", config=config, name=_INDEX)

    def close(self) -> None:
        """Drops the table and the copy in memory; the files need no closing."""
        self._opened = None
        self._copy.drop()

    def _tidy(self, table: lancedb.table.Table) -> None:
        """Merges small files, and adds new rows to the index."""
        table.optimize(cleanup_older_than=_NEVER)
        with self._folder.removing(wait=False) as alone:
            if alone:
                table.optimize(cleanup_older_than=_OLD)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._folder.writing():
            try:
                yield
            except RuntimeError as error:  # LanceDB's core raises nothing else.
                raise OSError(
                    f"The gallery {self._folder.path} could not be written: {error}. "
                    "What was being changed is changed whole or not at all. Look for a "
                    "full disk or missing permissions, then do the same again."
                ) from error

    @contextlib.contextmanager
    def _reading(self) -> Iterator[lancedb.table.Table | None]:
        if not self._folder.path.exists():
            yield None
            return
        with self._folder.reading():
            yield self._table()

    def _table(self) -> lancedb.table.Table | None:
        """Returns the table of rows, or None if there is none yet."""
        versions = self._folder.path / f"{_TABLE}.lance" / "_versions"
        if self._opened is None and any(versions.glob("*.manifest")):
            self._opened = self._connected().open_table(_TABLE)
        return self._opened

    def _made(self, schema: pyarrow.Schema) -> lancedb.table.Table:
        """Returns the table of rows, and creates it if needed, inside `_writing`."""
        self._opened = self._table() or self._connected().create_table(
            _TABLE, schema=schema
        )
        return self._opened

    def _connected(self) -> lancedb.db.DBConnection:
        # Connecting creates the folder. With an interval of 0, each read looks for what
        # other processes have written.
        return lancedb.connect(
            str(self._folder.path), read_consistency_interval=datetime.timedelta(0)
        )


@dataclasses.dataclass(frozen=True)
class _Search:
    """One query, which can be answered exactly or by the index."""

    table: lancedb.table.Table
    query: np.ndarray
    k: int
    condition: str | None

    def exactly(self) -> pyarrow.Table:
        return _squared(self._asked().bypass_vector_index().to_arrow())

    def by_index(self, some: int, lists: int) -> pyarrow.Table:
        """Searches more and more lists of the index, until the result stays the same.

        A fixed number of lists is not enough for every filter: the lists whose centres
        are nearest to the query may hold only rows of cameras that are filtered out.

        Args:
          some: number of lists to search first.
          lists: number of lists in the index.
        """
        found = self._in_lists(some)
        while some < lists:
            some *= 2
            before, found = found, self._in_lists(some)
            if set(before["key"].to_pylist()) == set(found["key"].to_pylist()):
                break
        return found

    def _in_lists(self, some: int) -> pyarrow.Table:
        return _squared(self._asked().nprobes(some).refine_factor(_REFINED).to_arrow())

    def _asked(self) -> lancedb.query.LanceVectorQueryBuilder:
        asked = self.table.search(self.query, vector_column_name="embedding")
        asked = asked.distance_type("l2").limit(self.k)
        asked = asked.select([*DESCRIPTION, "_distance"])
        return asked.where(self.condition, prefilter=True) if self.condition else asked


def _has_index(table: lancedb.table.Table) -> bool:
    return any(each.name == _INDEX for each in table.list_indices())


def _remove_old_versions(table: lancedb.table.Table) -> None:
    with warnings.catch_warnings():
        # LanceDB warns of other readers and writers, but the locks keep them waiting.
        warnings.filterwarnings("ignore", "optimize", UserWarning)
        table.optimize(cleanup_older_than=datetime.timedelta(0), delete_unverified=True)


def _squared(found: pyarrow.Table) -> pyarrow.Table:
    return found.rename_columns([*DESCRIPTION, "squared"])


def _sql(where: Where) -> str | None:
    """Returns the condition in LanceDB's SQL, or None if there is none."""
    parts = []
    for column, values in (
        ("camera", where.cameras),
        ("track", where.tracks),
        ("key", where.keys),
    ):
        if values is not None:
            parts.append(f"{column} IN ({_quoted(values)})" if values else "false")
    if where.not_cameras:
        parts.append(f"camera NOT IN ({_quoted(where.not_cameras)})")
    for sign, time in ((">=", where.since), ("<", where.until)):
        if time is not None:
            parts.append(f"time {sign} timestamp '{time:%Y-%m-%d %H:%M:%S.%f}'")
    return " AND ".join(parts) or None


def _quoted(values: Sequence[str]) -> str:
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)
