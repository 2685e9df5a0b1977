"""Copies a folder's embeddings into memory, and searches them row by row.

NumPy multiplies 100,000 embeddings by a query in less time than any database needs to
search an index, and the result is exact under every filter. All other columns stay in
the folder, and are read for the rows that were found.
"""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import lance
import lancedb
import numpy as np
import pyarrow

from cdnet_tf.gallery.records import Where
from cdnet_tf.gallery.rows import DESCRIPTION, nothing

_BATCH_ROWS = 8192
# A row has its number in Lance, its camera and its time beside its embedding.
_ROW_BYTES = 20
# If a filter leaves a smaller share of the rows, copying these is faster than
# multiplying all rows.
_SMALL_SHARE = 0.25
# Products of float32 are rounded, so this many more rows are compared exactly.
_SPARE = 16


@dataclasses.dataclass(frozen=True)
class _Part:
    """The rows of one fragment of Lance; the files of a fragment never change.

    Attributes:
      files: the names of its files; the last is that of the list of deleted rows.
      numbers: (n,) row numbers in Lance, ascending.
      embeddings: (n, d) float32, of length 1.
      cameras: (n,) numbers that `Copy` gave to the cameras.
      times: (n,) microseconds since 1970, UTC.
    """

    files: tuple[str, ...]
    numbers: np.ndarray
    embeddings: np.ndarray
    cameras: np.ndarray
    times: np.ndarray

    def kept(self, where: Where, cameras: dict[str, int]) -> np.ndarray | None:
        """Marks the rows that meet the conditions, (n,) bool; None means all rows."""
        tests = []
        for names, wanted in ((where.cameras, True), (where.not_cameras, False)):
            if names is not None:
                known = [cameras[name] for name in names if name in cameras]
                tests.append(np.isin(self.cameras, known) == wanted)
        if where.since is not None:
            tests.append(self.times >= _microseconds(where.since))
        if where.until is not None:
            tests.append(self.times < _microseconds(where.until))
        return np.logical_and.reduce(tests) if tests else None

    def nearest(
        self, query: np.ndarray, k: int, kept: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns places and squared distances of rows that include the k nearest."""
        if kept is None:
            places = np.arange(len(self.numbers))
            products = self.embeddings @ query
        elif np.count_nonzero(kept) < _SMALL_SHARE * len(kept):
            places = np.flatnonzero(kept)
            products = self.embeddings[places] @ query
        else:
            places = np.flatnonzero(kept)
            products = (self.embeddings @ query)[places]
        if len(places) > k + _SPARE:
            places = places[np.argpartition(products, -k - _SPARE)[-k - _SPARE :]]
        # 2 - 2 * product is the same for rows of length 1, but it loses the digits of
        # small distances.
        apart = self.embeddings[places].astype(np.float64) - query
        return places, np.einsum("nd,nd->n", apart, apart)


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """All rows of one version of a folder."""

    dataset: lance.LanceDataset
    parts: tuple[_Part, ...]
    cameras: dict[str, int]

    def search(self, query: np.ndarray, k: int, where: Where) -> pyarrow.Table:
        """Finds the rows nearest to a query, as `store.Store.search` does.

        Args:
          where: conditions on cameras and times; others are ignored.
        """
        offsets, distances, begin = [], [], 0
        for part in self.parts:
            places, squared = part.nearest(query, k, part.kept(where, self.cameras))
            offsets.append(begin + places)
            distances.append(squared)
            begin += len(part.numbers)
        if not sum(map(len, offsets)):
            return nothing()
        squared = np.concatenate(distances)
        first = np.argsort(squared, kind="stable")[:k]
        # `take` counts the rows that are not deleted, in the order of the fragments, as
        # the offsets do.
        found = self.dataset.take(np.concatenate(offsets)[first], [*DESCRIPTION])
        return found.append_column("squared", pyarrow.array(squared[first]))


class Copy:
    """Keeps a snapshot of a folder, and updates it whenever it is asked for.

    Only new fragments are read. Threads may share a copy.
    """

    def __init__(self, limit_bytes: int):
        """Reads nothing yet.

        Args:
          limit_bytes: memory for the copy; a folder that needs more is not copied.
        """
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._version: int | None = None
        self._newest: Snapshot | None = None
        self._cameras: dict[str, int] = {}

    def of(self, table: lancedb.table.Table) -> Snapshot | None:
        """Returns the rows as they are now, or None if they need too much memory.

        The caller must be inside `folder.Folder.reading`.
        """
        if not self._limit:
            return None
        with self._lock:
            if table.version != self._version:
                dataset = table.to_lance()
                self._newest = self._read(dataset)
                self._version = dataset.version
            return self._newest

    def drop(self) -> None:
        """Frees the memory; the next search reads the rows again."""
        with self._lock:
            self._version, self._newest = None, None

    def _read(self, dataset: lance.LanceDataset) -> Snapshot | None:
        dimensions = dataset.schema.field("embedding").type.list_size
        fragments = dataset.get_fragments()
        rows = sum(each.physical_rows - each.num_deletions for each in fragments)
        if rows * (4 * dimensions + _ROW_BYTES) > self._limit:
            return None
        known = (
            {part.files: part for part in self._newest.parts} if self._newest else {}
        )
        # Old parts stay in memory only until all new ones are read.
        parts = tuple(self._part(each, known) for each in fragments)
        return Snapshot(dataset, parts, self._cameras)

    def _part(
        self, fragment: lance.LanceFragment, known: dict[tuple[str, ...], _Part]
    ) -> _Part:
        data = [file.path for file in fragment.data_files()]
        files = (*data, fragment.deletion_file() or "")
        if files in known:
            return known[files]
        for before in known.values():
            if before.files[:-1] == files[:-1]:
                return _left(before, fragment, files)
        return self._load(fragment, files)

    def _load(self, fragment: lance.LanceFragment, files: tuple[str, ...]) -> _Part:
        rows = fragment.physical_rows - fragment.num_deletions
        dimensions = fragment.schema.field("embedding").type.list_size
        embeddings = np.empty((rows, dimensions), np.float32)
        columns: dict[str, list[np.ndarray]] = {"_rowid": [], "camera": [], "time": []}
        begin = 0
        for batch in _batches(fragment, ["embedding", "camera", "time"]):
            end = begin + len(batch)
            numbers = batch["embedding"].flatten().to_numpy()
            embeddings[begin:end] = numbers.reshape(-1, dimensions)
            columns["_rowid"].append(batch["_rowid"].to_numpy())
            columns["camera"].append(self._numbered(batch["camera"]))
            columns["time"].append(batch["time"].cast(pyarrow.int64()).to_numpy())
            begin = end
        found = (np.concatenate(each) for each in columns.values())
        numbers, cameras, times = found
        return _Part(files, numbers, embeddings, cameras, times)

    def _numbered(self, names: pyarrow.StringArray) -> np.ndarray:
        encoded = names.dictionary_encode()
        known = self._cameras
        numbers = [
            known.setdefault(name, len(known))
            for name in encoded.dictionary.to_pylist()
        ]
        return np.array(numbers, np.int32)[encoded.indices.to_numpy()]


def _left(
    before: _Part, fragment: lance.LanceFragment, files: tuple[str, ...]
) -> _Part:
    """Returns a part without the rows that were deleted after it was read."""
    numbers = [each["_rowid"].to_numpy() for each in _batches(fragment, [])]
    left = np.isin(before.numbers, np.concatenate(numbers), assume_unique=True)
    rest = (before.embeddings, before.cameras, before.times)
    return _Part(files, before.numbers[left], *(each[left] for each in rest))


def _batches(fragment: lance.LanceFragment, columns: list[str]) -> Any:
    return fragment.to_batches(
        columns=columns, batch_size=_BATCH_ROWS, with_row_id=True
    )


def _microseconds(time: Any) -> int:
    return int(np.datetime64(time.replace(tzinfo=None), "us").astype(np.int64))
