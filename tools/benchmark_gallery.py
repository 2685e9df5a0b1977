"""Compares a gallery with ranking in memory; `benchmark.py gallery` runs it.

For each number of rows, this measures how many rows are added per second, and how long
the index takes to build.

  python tools/benchmark_gallery.py                          # in a folder
  python tools/benchmark_gallery.py --url=postgresql://...   # in PostgreSQL, too
  python tools/benchmark_gallery.py --rows_from=PARQUET      # of your own images

For each filter it measures how long a search takes row by row in the files, with the
index, in a folder's copy in memory, and with `ranking.nearest` on embeddings in memory,
and what recall each has. Rows are made up: people seen by eight cameras, whose
embeddings are biased by their camera. --rows_from takes those of a file of
`Gallery.export` or of a folder of tools/embed.py. Times are medians over queries, made
one at a time. Each result is a JSON line. 1,000,000 rows need 10 GB of memory.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import statistics
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import cdnet_tf  # isort: skip  # noqa: F401  (quiets TensorFlow)
import numpy as np
from absl import app, flags

from cdnet_tf.deploy.identity import Network
from cdnet_tf.gallery import parquet, tracks
from cdnet_tf.gallery.gallery import Gallery
from cdnet_tf.retrieval import ranking

_SIZES = flags.DEFINE_list(
    "gallery_rows", ["100000", "1000000"], "Numbers of made-up rows to try."
)
_ROWS_FROM = flags.DEFINE_string(
    "rows_from",
    None,
    "Parquet file or folder of rows to try instead. --queries of them are drawn, and "
    "searched for among the others.",
)
_DIMENSIONS = flags.DEFINE_integer("dimensions", 768, "Size of an embedding.", 1)
_QUERIES = flags.DEFINE_integer("queries", 20, "Timed searches of each kind.", 1)
_DIRECTORY = flags.DEFINE_string(
    "directory",
    None,
    "Folder in which the gallery is made and then removed; 1,000,000 rows take 6 GB. "
    "Default: the system's directory for temporary files.",
)
_URL = flags.DEFINE_string(
    "url",
    None,
    "A PostgreSQL database without a gallery, postgresql://USER@HOST/DATABASE, to test "
    "as well. The rows added to it stay there.",
)

_NETWORK = Network("made up", "0" * 64)
_START = np.datetime64("2026-01-01")
_BATCH = 10_000
_K = 50
_CAMERAS = (0.05, 0.058, 0.008, 0.3, 0.2, 0.15, 0.134, 0.1)  # shares of made-up rows


@dataclasses.dataclass(frozen=True)
class _People:
    embeddings: np.ndarray
    cameras: np.ndarray
    queries: np.ndarray

    @functools.cached_property
    def filters(self) -> dict[str, dict[str, Any]]:
        """Conditions that keep all rows, most, few and the fewest.

        Of a made-up gallery these are 100 %, 95 %, 5.8 % and 0.8 %.
        """
        names, counts = np.unique(self.cameras, return_counts=True)
        rarest, second, third = names[np.resize(counts.argsort()[:3], 3)]
        return {
            "all": {},
            "without a camera": {"not_cameras": [second]},
            "one camera": {"cameras": [third]},
            "the rarest camera": {"cameras": [rarest]},
        }

    def chosen(self, name: str) -> np.ndarray:
        """Returns the numbers of the rows that a filter keeps."""
        conditions = self.filters[name]
        left = np.isin(self.cameras, conditions.get("cameras", self.cameras))
        return np.flatnonzero(
            left & ~np.isin(self.cameras, conditions.get("not_cameras", []))
        )


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    for people in _peoples():
        rows = len(people.cameras)
        wanted = {name: _rank(people, name) for name in people.filters}
        with tempfile.TemporaryDirectory(dir=_DIRECTORY.value) as folder:
            path = pathlib.Path(folder, "gallery")
            with Gallery(path, network=_NETWORK, memory_mb=0) as gallery:
                _measure(gallery, people, wanted)
            _measure_memory(path, people, wanted)
            size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
            _emit(rows=rows, gallery="folder", megabytes=size // 2**20)
        if _URL.value:
            with Gallery(_URL.value, network=_NETWORK) as gallery:
                if gallery.count():
                    raise app.UsageError(f"--url={gallery.location} is not empty.")
                _measure(gallery, people, wanted)


def _peoples() -> Iterator[_People]:
    if _ROWS_FROM.value:
        yield _read_people(_ROWS_FROM.value, _QUERIES.value)
        return
    for rows in map(int, _SIZES.value):
        yield _make_people(rows, _DIMENSIONS.value, _QUERIES.value)


def _read_people(path: str, queries: int) -> _People:
    tables = [table for file in parquet.files(path) for table in parquet.read(file)]
    embeddings = np.concatenate([tracks.matrix(each) for each in tables])
    cameras = np.concatenate([each["camera"].to_pylist() for each in tables])
    order = np.random.default_rng(0).permutation(len(cameras))
    asked, kept = order[:queries], order[queries:]
    return _People(embeddings[kept], cameras[kept], embeddings[asked])


def _make_people(count: int, dimensions: int, queries: int) -> _People:
    draw = np.random.default_rng(0)
    people = draw.standard_normal((max(1, count // 20), dimensions), np.float32)
    places = draw.standard_normal((len(_CAMERAS), dimensions), np.float32)
    cameras = draw.choice(len(_CAMERAS), count + queries, p=_CAMERAS)
    embeddings = np.empty((count + queries, dimensions), np.float32)
    for start in range(0, len(embeddings), _BATCH):
        part = embeddings[start : start + _BATCH]
        part[:] = draw.standard_normal(part.shape, np.float32)
        part += people[draw.integers(0, len(people), len(part))]
        part += 0.8 * places[cameras[start : start + _BATCH]]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return _People(embeddings[:count], cameras[:count], embeddings[count:])


def _rank(people: _People, name: str) -> list[set[str]]:
    """Ranks in memory, and prints the time; returns each query's first ten keys."""
    chosen = people.chosen(name)
    # The copy is like a gallery with these rows only.
    left = people.embeddings if name == "all" else people.embeddings[chosen]
    # All are different people, so the protocol ignores no row.
    query, gallery = (
        types.SimpleNamespace(identities=np.full(n, who), cameras=np.zeros(n, int))
        for n, who in ((1, 1), (len(chosen), 2))
    )

    def nearest(embedding):
        return ranking.nearest(embedding[np.newaxis], query, left, gallery, _K)

    found, milliseconds = _timed(nearest, people.queries)
    _emit(
        rows=len(people.cameras),
        gallery="retrieval.ranking",
        filter=name,
        rows_left=len(chosen),
        search_ms=milliseconds,
    )
    return [{f"{chosen[i]}" for i in indices[0][:10]} for indices, _ in found]


def _measure(gallery: Gallery, people: _People, wanted: dict) -> None:
    rows, kind = len(people.cameras), _kind(gallery)
    began = time.perf_counter()
    for start in range(0, rows, _BATCH):
        part = slice(start, min(rows, start + _BATCH))
        places = np.arange(part.start, part.stop)
        gallery.add(
            people.embeddings[part],
            people.cameras[part],
            _START + places.astype("timedelta64[s]"),
            keys=[str(place) for place in places],
        )
    added = time.perf_counter()
    gallery.index()
    built = time.perf_counter()
    _emit(
        rows=rows,
        gallery=kind,
        added_rows_per_s=round(rows / (added - began)),
        index_s=round(built - added, 1),
    )
    for name in people.filters:
        result: dict[str, Any] = {"rows": rows, "gallery": kind, "filter": name}
        for way in ("exact", "index"):
            result |= _searched(gallery, people, wanted, name, way)
        _emit(**result)


def _measure_memory(path: pathlib.Path, people: _People, wanted: dict) -> None:
    """Times searches in a copy of all embeddings, and the making of the copy."""
    rows, dimensions = people.embeddings.shape
    enough = rows * (4 * dimensions + 100) // 2**20 + 1
    with Gallery(path, network=_NETWORK, memory_mb=enough) as gallery:
        began = time.perf_counter()
        gallery.prepare()
        copied = round(time.perf_counter() - began, 2)
        _emit(rows=rows, gallery="folder in memory", copy_s=copied)
        for name in people.filters:
            found = _searched(gallery, people, wanted, name, "memory")
            _emit(rows=rows, gallery="folder in memory", filter=name, **found)


def _searched(
    gallery: Gallery, people: _People, wanted: dict, name: str, way: str
) -> dict[str, float]:
    """How long searches under a filter take, and how much of the ranking they find."""

    def search(query):
        return gallery.search(query, _K, exact=way == "exact", **people.filters[name])

    found, milliseconds = _timed(search, people.queries)
    hits = [
        len(keys & {match.key for match in matches[:10]}) / len(keys)
        for keys, matches in zip(wanted[name], found)
    ]
    return {
        f"{way}_ms": milliseconds,
        f"{way}_recall_at_10": round(statistics.mean(hits), 4),
        f"{way}_lowest_recall": min(hits),
    }


def _kind(gallery: Gallery) -> str:
    return "PostgreSQL" if "://" in str(gallery.location) else "folder"


def _timed(search: Callable, queries: np.ndarray) -> tuple[list, float]:
    """Returns answers and their median milliseconds, after one search to warm up."""
    search(queries[0])
    found, took = [], []
    for query in queries:
        began = time.perf_counter()
        found.append(search(query))
        took.append(1000 * (time.perf_counter() - began))
    return found, round(statistics.median(took), 1)


def _emit(**result) -> None:
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    app.run(main)
