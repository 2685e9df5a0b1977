"""Embeddings of many cameras, kept and asked: `Gallery`.

Whatever is common to all databases stands here: checks, the network's identity, pooled
tracks, retention. A `store.Store` keeps the rows.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

try:
    import pyarrow
except ImportError as error:
    raise ImportError(
        "A gallery needs packages that are not installed: pip install "
        "'cdnet_tf[gallery]' for one in a folder, 'cdnet_tf[postgres]' for one in "
        "PostgreSQL."
    ) from error

from cdnet_tf.deploy.identity import Network
from cdnet_tf.gallery import (
    answers,
    conditions,
    opening,
    parquet,
    retention,
    rows,
    same_network,
    store,
    tracks,
)
from cdnet_tf.gallery.records import Match, NetworkLike, Settings, Where


class Gallery(retention.Retention):
    """A gallery in a folder, or in a PostgreSQL server with pgvector.

        with Gallery("people", network=reid.network) as gallery:
            gallery.add(reid(paths), cameras, times, pictures=paths)
            for match in gallery.search(reid(path), k=10, not_cameras=["entrance"]):
                print(match.distance, match.camera, match.time, match.picture)

    A folder may be used by several processes of one machine, a server by many machines.
    Methods may be called from several threads. A row that was added is found by every
    search that begins later, in every process.

    Attributes:
      location: the path or URL, without a password.
    """

    def __init__(
        self,
        path_or_url: str | os.PathLike,
        *,
        network: NetworkLike | None = None,
        memory_mb: int = store.MEMORY_MB,
    ):
        """Opens a gallery. One that does not exist is made when rows are added.

        Args:
          path_or_url: a folder, or `postgresql://USER:PASSWORD@HOST/DATABASE`.
          network: whose embeddings are added and searched for: anything with a `name`
            and a `checksum`, such as `cdnet_tf.load(...).network` or a
            `cdnet_tf.Network`. The first rows fix the network of the gallery for ever.
          memory_mb: how much memory this process may use for a copy of a folder's
            embeddings, in MiB; the first search makes it. Larger galleries are searched
            in their files. A gallery in PostgreSQL needs no copy.

        Raises:
          ValueError: the path holds something else, or embeddings of another network;
            or less than no memory.
          store.VersionError: a gallery of another version.
          ImportError: the packages of this kind of gallery are not installed.
        """
        self._network = None if network is None else same_network.checked(network)
        self.location, self._store = opening.open_store(path_or_url, memory_mb)
        same_network.check(self._store.settings(), self._network, self.location)

    def add(
        self,
        embeddings: np.ndarray,
        cameras: Any,
        times: Any,
        *,
        keys: Sequence[str] | None = None,
        tracks: Any = None,
        pictures: Sequence[str | os.PathLike | bytes | None] | None = None,
        metadata: Sequence[dict[str, Any] | None] | None = None,
        network: NetworkLike | None = None,
    ) -> int:
        """Adds rows, all or none of them, and returns how many were new.

        A row whose key is in the gallery already is left out, so a batch may be added
        again after a failure. Batches of some thousand rows are quickest.

        Args:
          embeddings: (n, d) finite numbers of any length; kept normalised to length 1.
          cameras: n texts or whole numbers, or one for all rows. Kept as text: 3 and
            "3" are one camera.
          times: n `datetime` objects with a time zone or NumPy times (taken for UTC),
            or one for all rows.
          keys: n texts. Left out, a key is made of the row's camera, time, track and
            embedding.
          tracks: n texts, whole numbers or None, or one for all rows.
          pictures: n paths, encoded pictures of up to 1 MiB, or None.
          metadata: n dicts that JSON can hold, or None.
          network: as in `__init__`, which it replaces for this call.

        Raises:
          ValueError: a row is wrong, the network is unknown or another one, or the
            embeddings have another number of dimensions than the gallery's.
          OSError: the gallery cannot be written, for instance because the disk is full.
        """
        known = self._known_network(network)
        table = rows.table(
            embeddings,
            cameras,
            times,
            keys=keys,
            tracks=tracks,
            pictures=pictures,
            metadata=metadata,
        )
        return self._add(table, known)

    def add_parquet(
        self, path: str | os.PathLike, *, network: NetworkLike | None = None
    ) -> int:
        """Adds the rows of Parquet files, some thousand at a time; returns how many.

        Args:
          path: a file that `export` wrote: it has the columns key, embedding, camera
            and time, and may have track, picture_path, picture and metadata; or the
            folder of a bulk embedding, all of whose shards must be there. Rows with an
            `error` are left out. After a failure both may be added again.
          network: as in `__init__`, which it replaces for this call. Without either it
            is the one that the file names.

        Raises:
          ValueError, OSError: as `add`; a column or a shard is missing; or a file names
            another network, and then nothing is added.
        """
        files = parquet.files(path)
        named = {file: parquet.read_network(file) for file in files}
        known = self._known_network(network or self._network or named[files[0]])
        for file, theirs in named.items():
            same_network.check_same(theirs, known, f"The file {file}")
        return sum(
            self._add(table, known) for file in files for table in parquet.read(file)
        )

    def search(
        self,
        query: np.ndarray | str,
        k: int = 10,
        *,
        cameras: Sequence[Any] | None = None,
        not_cameras: Sequence[Any] | None = None,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
        exact: bool = False,
        pool_tracks: bool = False,
        network: NetworkLike | None = None,
    ) -> list:
        """Finds the rows nearest to a query, or the tracks.

        Args:
          query: (d,) an embedding of any length; (n, d) several of them; or the key of
            a row, which then is among the matches itself.
          k: how many matches to return at most.
          cameras, not_cameras: only rows of these cameras; none of these.
          since, until: only rows of this time span; `until` itself is outside.
          exact: compare with every row, where the index would be quicker and might
            miss a match. Every search does in a folder that fits into memory, without
            an index, and where conditions leave few rows.
          pool_tracks: rank tracks by the mean of their rows' embeddings, normalised to
            length 1. Conditions choose the rows before. Such a search reads all these
            rows, so it takes long in a large gallery.
          network: as in `__init__`, which it replaces for this call.

        Returns:
          `records.Match` objects, nearest first, equally near ones by key; for several
          queries a list of such lists.

        Raises:
          ValueError: a query that `add` would refuse, the network is unknown or
            another one, k is below 1, or the key is not in the gallery.
        """
        if k < 1:
            raise ValueError(f"k={k} asks for no match; use at least 1.")
        where = conditions.meant(cameras, not_cameras, since, until)
        queries = self._queries(query, network)
        if self._store.settings().network is None:
            found: list[list[Match]] = [[] for _ in queries]
        elif pool_tracks:
            found = self._tracks(queries, k, where)
        else:
            tables = [self._store.search(q, k, where, exact) for q in queries]
            found = [answers.of_rows(table) for table in tables]
        return found if np.ndim(query) == 2 else found[0]

    def count(self, **chosen: Any) -> int:
        """Counts rows; cameras, not_cameras, since and until are those of `search`."""
        return self._store.count(conditions.meant(**chosen))

    def scan(
        self, columns: Sequence[str] = rows.DESCRIPTION, **chosen: Any
    ) -> Iterator[pyarrow.Table]:
        """Yields rows as Arrow tables, some thousand at a time, in no order.

        Args:
          columns: of key, embedding, camera, time, track, picture_path, picture and
            metadata.
          **chosen: cameras, not_cameras, since and until, as in `search`.

        Raises:
          ValueError: an unknown column.
        """
        unknown = set(columns) - set(rows.schema(1).names)
        if unknown or not columns:
            raise ValueError(
                f"columns={list(columns)!r} has unknown names or none; use some of "
                f"{', '.join(rows.schema(1).names)}."
            )
        return self._store.scan(conditions.meant(**chosen), columns)

    def prepare(self) -> None:
        """Copies embeddings into memory now, as far as `memory_mb` allows.

        Otherwise the first search does, and takes about a second for a GiB.
        """
        self._store.prepare()

    def index(self) -> None:
        """Builds the index, or takes in the rows that were added since.

        Worth it for a folder whose embeddings do not fit into `memory_mb`, and in
        PostgreSQL from some 100,000 rows on; a small gallery gets none. Rows that are
        not in the index yet are found all the same. Additions wait meanwhile.
        """
        self._store.index()

    def export(self, path: str | os.PathLike) -> int:
        """Writes all rows to a Parquet file, which `add_parquet` reads.

        Returns:
          The number of rows.

        Raises:
          ValueError: nothing was ever added.
        """
        settings = self._store.settings()
        if settings.network is None or settings.dimensions is None:
            raise ValueError(
                f"The gallery {self.location} has never had a row; add some before "
                "exporting, or look for a mistake in its name."
            )
        tables = self._store.scan(Where(), rows.schema(1).names)
        return parquet.write(path, tables, settings.network, settings.dimensions)

    @property
    def settings(self) -> Settings:
        """Network, dimensions, retention, and since when deleted bytes wait."""
        return self._store.settings()

    def close(self) -> None:
        """Gives back files and connections. The gallery cannot be used any more."""
        self._store.close()

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _known_network(self, network: NetworkLike | None) -> Network:
        if network is not None:
            return same_network.checked(network)
        if self._network is None:
            raise ValueError(
                "Say which network made the embeddings, since those of two networks "
                "cannot be compared: pass network=reid.network to Gallery or to this "
                "call."
            )
        return self._network

    def _add(self, table: pyarrow.Table, network: Network) -> int:
        dimensions = table.schema.field("embedding").type.list_size
        settings = self._store.settings()
        if settings.network is None:
            settings = self._store.claim(network, dimensions)
        same_network.check(settings, network, self.location)
        same_network.check_dimensions(settings, dimensions, self.location)
        return self._store.add(table)

    def _queries(
        self, query: np.ndarray | str, network: NetworkLike | None
    ) -> np.ndarray:
        """The query's embeddings (n, d), of length 1."""
        if isinstance(query, str):
            where = Where(keys=(rows.text(query, "key"),))
            for table in self._store.scan(where, ["embedding"]):
                if len(table):
                    return tracks.matrix(table).astype(np.float32)
            raise ValueError(f"The gallery {self.location} has no row {query!r}.")
        found = rows.unit_rows(np.atleast_2d(query))
        settings = self._store.settings()
        same_network.check(settings, self._known_network(network), self.location)
        same_network.check_dimensions(settings, found.shape[1], self.location)
        return found

    def _tracks(self, queries: np.ndarray, k: int, where: Where) -> list[list[Match]]:
        scanned = self._store.scan(where, tracks.COLUMNS)
        found = []
        for ranked in tracks.rank(scanned, queries, k):
            keys = tuple(each.key for each in ranked)
            described = self._store.scan(Where(keys=keys), rows.DESCRIPTION)
            found.append(answers.of_tracks(ranked, described))
        return found
