"""`Gallery` keeps the embeddings of many cameras, and finds the nearest ones.

This module has what both databases share: checks, the network's identity, and pooled
tracks. A `store.Store` keeps the rows, and `retention` deletes them.
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
        "A gallery needs packages that are not installed. In the checkout, run pip "
        "install '.[gallery]' for one in a folder, '.[postgres]' for one in PostgreSQL."
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

    Several processes of one machine may share a folder; many machines may share a
    server. Methods may be called from several threads. Every search that begins after
    an addition finds the new rows, in every process.

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
        """Opens a gallery. If there is none, the first addition creates it.

        Args:
          path_or_url: a folder, or `postgresql://USER:PASSWORD@HOST/DATABASE`.
          network: the network that made the embeddings: an object with a `name` and a
            `checksum`, such as `cdnet_tf.load(...).network` or a `cdnet_tf.Network`.
            The first rows fix the network of the gallery for ever.
          memory_mb: MiB of memory that this process may use for a copy of a folder's
            embeddings. The first search makes the copy. Larger galleries are searched
            in their files. A gallery in PostgreSQL needs no copy.

        Raises:
          ValueError: the path holds something else or embeddings of another network,
            or `memory_mb` is below 0.
          store.VersionError: another version of this package wrote the gallery.
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
        again after a failure. Batches of some thousand rows are the fastest.

        Args:
          embeddings: (n, d) finite numbers. They are normalised to length 1.
          cameras: n texts or whole numbers, or one for all rows. They are kept as text,
            so 3 and "3" are the same camera.
          times: n `datetime` objects with a time zone or NumPy times (taken for UTC),
            or one for all rows.
          keys: n texts. By default, a row's key is a hash of its camera, time, track
            and embedding.
          tracks: n texts, whole numbers or None, or one for all rows.
          pictures: n paths, encoded pictures of up to 1 MiB, or None.
          metadata: n dicts that JSON can hold, or None.
          network: replaces the network of `__init__` in this call.

        Raises:
          ValueError: a row is wrong, no network is named, or the network or the number
            of dimensions is not the gallery's.
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
        """Adds the rows of Parquet files, and returns how many were new.

        Args:
          path: a file, such as `export` writes, or the folder of a bulk embedding with
            all its shards. Files have the columns key, embedding, camera and time, and
            may have track, picture_path, picture and metadata. Rows with an `error` are
            left out. After a failure, the same path may be added again.
          network: replaces the network of `__init__` in this call. If neither is given,
            it is the network that the file names.

        Raises:
          ValueError, OSError: as `add`. Or a column or a shard is missing. Or a file
            names another network; then nothing is added.
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
        """Finds the rows, or the tracks, that are nearest to a query.

        Args:
          query: an embedding (d,) or several (n, d), of any length; or the key of a
            row, which is then among the matches itself.
          k: greatest number of matches to return, at least 1.
          cameras: search only the rows of these cameras.
          not_cameras: leave out the rows of these cameras.
          since, until: search only the rows from `since` on and before `until`.
          exact: compare the query with every row, instead of using the index, which is
            faster and may miss a match. Every search is exact without an index; in a
            folder also where the embeddings fit into memory or where the conditions
            leave few rows.
          pool_tracks: rank tracks by the mean of their rows' embeddings, normalised to
            length 1. Only rows that meet the conditions count. The search reads all of
            them, so it takes long in a large gallery.
          network: replaces the network of `__init__` in this call.

        Returns:
          A list of `records.Match`, nearest first; equally near rows are in the order
          of their keys. For several queries, a list of such lists.

        Raises:
          ValueError: `add` would refuse the query, no network is named or it is not the
            gallery's, k is below 1, or no row has the key.
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
        """Counts rows.

        Args:
          **chosen: cameras, not_cameras, since and until, as in `search`.
        """
        return self._store.count(conditions.meant(**chosen))

    def scan(
        self, columns: Sequence[str] = rows.DESCRIPTION, **chosen: Any
    ) -> Iterator[pyarrow.Table]:
        """Yields rows as Arrow tables, some thousand at a time, in any order.

        Args:
          columns: some of key, embedding, camera, time, track, picture_path, picture
            and metadata.
          **chosen: cameras, not_cameras, since and until, as in `search`.

        Raises:
          ValueError: a column is unknown, or none is named.
        """
        unknown = set(columns) - set(rows.schema(1).names)
        if unknown or not columns:
            raise ValueError(
                f"columns={list(columns)!r} has unknown names or none; use some of "
                f"{', '.join(rows.schema(1).names)}."
            )
        return self._store.scan(conditions.meant(**chosen), columns)

    def prepare(self) -> bool:
        """Copies the embeddings into memory now, if `memory_mb` allows.

        Otherwise the first search copies them, which takes about a second per GiB.

        Returns:
          Whether searches are best left without an index: those in memory are, and
          those in PostgreSQL, whose index may miss rows.
        """
        return self._store.prepare()

    def index(self) -> None:
        """Builds the approximate index, or adds newer rows to it.

        An index pays for a folder whose embeddings do not fit into `memory_mb`, and in
        PostgreSQL from some 100,000 rows on; a small gallery gets none. Searches also
        find rows that are not in the index yet. Additions wait until it is built.
        """
        self._store.index()

    def export(self, path: str | os.PathLike) -> int:
        """Writes all rows to a Parquet file, which `add_parquet` reads.

        Returns:
          The number of rows.

        Raises:
          ValueError: no row was ever added.
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
        """The network, dimensions, retention, and the oldest unerased deletion."""
        return self._store.settings()

    def close(self) -> None:
        """Closes files and connections. The gallery cannot be used afterwards."""
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
        """Returns the query as embeddings of length 1, (n, d) float32."""
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
