"""Scores a ranking by the Market-1501 protocol: CMC, mAP and mINP; NumPy only.

No row of distances is ever sorted: the scores need the places of the matches alone, and
a match's place is the number of gallery images before it, which is two comparisons and
a count. The distances of one query block come from one matrix product, and a match is
compared with the others of its own row, so no pair's distance is ever computed twice,
with two roundings.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np

_JUNK = -1
_NAMED_AT_MOST = 20
_BLOCK_BYTES = 2**28
_TINY = 1e-24


class Labels(Protocol):
    """Who is on each image and which camera took it, as `datasets.Images` holds it.

    Where there is also `paths`, errors name the files.
    """

    @property
    def identities(self) -> np.ndarray: ...

    @property
    def cameras(self) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class Scores:
    """What the protocol reports; fractions in 0..1, means over the scored queries.

    Attributes:
      rank1, rank5, rank10: queries with a match among the first 1, 5, 10.
      mean_ap: mAP, the precision at each match averaged, without interpolation.
      mean_inp: mINP, the number of matches over the place of the last one.
      queries: how many were scored.
      skipped: how many were not, for want of a match under another camera.
    """

    rank1: float
    rank5: float
    rank10: float
    mean_ap: float
    mean_inp: float
    queries: int
    skipped: int


def evaluate(
    query_embeddings: np.ndarray,
    query: Labels,
    gallery_embeddings: np.ndarray,
    gallery: Labels,
    *,
    normalize: bool = True,
    block_bytes: int = _BLOCK_BYTES,
) -> Scores:
    """Ranks the gallery for each query by Euclidean distance, and scores the ranking.

    Gallery images with the query's identity and camera are ignored, junk (identity -1)
    is dropped, distractors (0) stay, a query without a match is skipped, and among
    equal distances the earlier gallery image comes first. Queries are taken in blocks,
    so the memory beyond the embeddings is about `block_bytes`, whatever the sizes;
    under some thirty queries a block (two million gallery images and the default) the
    product is bound by reading the gallery, and a larger budget pays.

    Args:
      query_embeddings: (q, d) floats; float32 or float64 are used as they are.
      query: labels of the q queries.
      gallery_embeddings: (g, d) floats; may be a memory map.
      gallery: labels of the g gallery images.
      normalize: compare directions only, as after L2 normalisation.
      block_bytes: of distances held at once; at least one query's are.

    Raises:
      ValueError: an empty gallery, sizes that do not agree, embeddings that are not
        finite, or no query with a match.
    """
    _check_labels(len(query_embeddings), query, "query")
    _check_labels(len(gallery_embeddings), gallery, "gallery")
    blocks = _blocks(
        _Embeddings.of(query_embeddings, "query", query),
        _Embeddings.of(gallery_embeddings, "gallery", gallery),
        normalize,
        block_bytes,
    )
    return _score(itertools.chain.from_iterable(blocks), query, gallery)


def evaluate_distances(distances: np.ndarray, query: Labels, gallery: Labels) -> Scores:
    """Scores the ranking that a whole matrix of distances gives; see `evaluate`.

    Args:
      distances: (q, g), smaller is nearer; left unchanged.
      query: labels of the q queries.
      gallery: labels of the g gallery images.

    Raises:
      ValueError: as `evaluate`.
    """
    distances = np.asarray(distances)
    if distances.ndim != 2:
        raise ValueError(
            f"distances has shape {distances.shape}; pass (queries, gallery images)."
        )
    _check_labels(distances.shape[0], query, "query")
    _check_labels(distances.shape[1], gallery, "gallery")
    odd = np.flatnonzero(~np.isfinite(distances).all(axis=1))
    if len(odd):
        raise ValueError(
            f"distances of {len(odd)} queries are not finite: {_named(odd, query)}; "
            "check the embeddings they were computed from."
        )
    rows = (np.array(row, np.result_type(row, np.float32)) for row in distances)
    return _score(rows, query, gallery)


def squared_distances(
    query_embeddings: np.ndarray,
    gallery_embeddings: np.ndarray,
    *,
    normalize: bool = True,
) -> np.ndarray:
    """Returns the whole (q, g) matrix of squared Euclidean distances, none below 0.

    For galleries whose matrix fits in memory; `evaluate` needs no such matrix.

    Args:
      query_embeddings: (q, d) floats.
      gallery_embeddings: (g, d) floats.
      normalize: of L2-normalised embeddings; the distances then lie in 0..4.

    Raises:
      ValueError: sizes that do not agree, or embeddings that are not finite.
    """
    query = _Embeddings.of(query_embeddings, "query")
    gallery = _Embeddings.of(gallery_embeddings, "gallery")
    # (q, g), in one block
    block = next(_blocks(query, gallery, normalize, sys.maxsize), None)
    return np.zeros((0, len(gallery.rows))) if block is None else np.maximum(block, 0)


@dataclasses.dataclass(frozen=True)
class _Embeddings:
    """Rows and their squared norms, both checked to be finite."""

    rows: np.ndarray
    squares: np.ndarray
    name: str

    @classmethod
    def of(cls, rows: np.ndarray, name: str, labels: Labels | None = None):
        rows = np.asarray(rows)
        if rows.ndim != 2:
            raise ValueError(
                f"{name} embeddings have shape {rows.shape}; pass (images, dimensions)."
            )
        rows = np.asarray(rows, np.result_type(rows, np.float32))
        # (n,); a NaN, an infinity or an overflow anywhere in a row shows here, and
        # no mask of the embeddings' size is needed to find it.
        squares = np.einsum("nd,nd->n", rows, rows)
        odd = np.flatnonzero(~np.isfinite(squares))
        if len(odd):
            raise ValueError(
                f"{len(odd)} of {len(rows)} {name} embeddings hold NaN, infinity or "
                f"values too large to square: {_named(odd, labels)}. Look at these "
                "images, or for weights that diverged."
            )
        return cls(rows, squares, name)


def _blocks(
    query: _Embeddings, gallery: _Embeddings, normalize: bool, block_bytes: int
) -> Iterator[np.ndarray]:
    """Yields the squared distances of the next few queries to the whole gallery.

    All blocks share one buffer, so a block is to be used up before the next is taken.
    """
    if query.rows.shape[1] != gallery.rows.shape[1]:
        raise ValueError(
            f"query embeddings have {query.rows.shape[1]} dimensions and gallery "
            f"embeddings {gallery.rows.shape[1]}; extract both with one network."
        )
    dtype = np.result_type(query.rows, gallery.rows)
    step = max(1, block_bytes // (max(1, len(gallery.rows)) * dtype.itemsize))
    buffer = np.empty((min(step, len(query.rows)), len(gallery.rows)), dtype)
    # (g,); a row of zeros has no direction and gets distance 2 to everything.
    scale = 1 / np.sqrt(np.maximum(gallery.squares, _TINY))
    for start in range(0, len(query.rows), step):
        rows = query.rows[start : start + step]
        squares = query.squares[start : start + step, np.newaxis]
        if normalize:
            rows = rows / np.sqrt(np.maximum(squares, _TINY))
        # (step, g)
        block = np.matmul(-2 * rows, gallery.rows.T, out=buffer[: len(rows)])
        if normalize:
            block *= scale
            block += 2
        else:
            block += gallery.squares
            block += squares
        yield block


def _score(rows: Iterable[np.ndarray], query: Labels, gallery: Labels) -> Scores:
    """Turns rows of distances, which it overwrites, into scores."""
    lookup = _Lookup(gallery)
    firsts, precisions, penalties = [], [], []
    for row, identity, camera in zip(rows, query.identities, query.cameras):
        matches, ignored = lookup.find(identity, camera)
        if not len(matches):
            continue
        row[lookup.junk] = np.inf
        row[ignored] = np.inf
        # (matches,), counted from 1
        places = np.sort(_places(row, matches))
        firsts.append(places[0])
        precisions.append(np.mean(np.arange(1, len(places) + 1) / places))
        penalties.append(len(places) / places[-1])
    if not firsts:
        raise ValueError(
            f"none of the {len(query.identities)} queries has a gallery image of its "
            "identity under another camera; check identities and cameras, or whether "
            "query and gallery belong together."
        )
    rank1, rank5, rank10 = (float(np.mean(np.array(firsts) <= k)) for k in (1, 5, 10))
    return Scores(
        rank1=rank1,
        rank5=rank5,
        rank10=rank10,
        mean_ap=float(np.mean(precisions)),
        mean_inp=float(np.mean(penalties)),
        queries=len(firsts),
        skipped=len(query.identities) - len(firsts),
    )


def _places(row: np.ndarray, matches: np.ndarray) -> list[int]:
    """Counts for each match the images up to and with it, earlier ones winning ties."""
    count = np.count_nonzero
    return [
        1 + count(row[:match] <= row[match]) + count(row[match:] < row[match])
        for match in matches
    ]


class _Lookup:
    """Finds the gallery images of an identity without a pass over the gallery."""

    def __init__(self, gallery: Labels):
        identities = np.asarray(gallery.identities)
        self._cameras = np.asarray(gallery.cameras)
        self._order = np.argsort(identities, kind="stable")
        self._sorted = identities[self._order]
        self.junk = np.flatnonzero(identities == _JUNK)

    def find(self, identity: int, camera: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the gallery indices to be found and those to be ignored."""
        if identity == _JUNK:
            return self.junk[:0], self.junk
        start, stop = np.searchsorted(self._sorted, [identity, identity + 1])
        same = self._order[start:stop]
        ignored = self._cameras[same] == camera
        return same[~ignored], same[ignored]


def _check_labels(images: int, labels: Labels, name: str) -> None:
    if not images:
        raise ValueError(f"the {name} holds no images; check the data set's folders.")
    counts = images, len(labels.identities), len(labels.cameras)
    if len(set(counts)) != 1:
        raise ValueError(
            f"{name}: {counts[0]} images, {counts[1]} identities and {counts[2]} "
            "cameras; pass one label an image, in the same order."
        )


def _named(indices: np.ndarray, labels: Labels | None) -> str:
    """Joins the first of the images, by index and, where known, by file."""
    paths = getattr(labels, "paths", None)
    names = [f"{i} ({paths[i]})" if paths else str(i) for i in indices]
    more = f", and {len(names) - _NAMED_AT_MOST} more" * (len(names) > _NAMED_AT_MOST)
    return ", ".join(names[:_NAMED_AT_MOST]) + more
