"""Scores a ranking by the Market-1501 protocol: CMC, mAP and mINP; NumPy only.

No row of distances is sorted, because the scores need only the places of the matches. A
match's place is the number of gallery images before it, which takes two comparisons
and a count. A match's distance is taken from the very row that it is compared with, so
that rounding cannot shift it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from cdnet_tf.retrieval import distances, protocol
from cdnet_tf.retrieval.distances import BLOCK_BYTES, Embeddings
from cdnet_tf.retrieval.protocol import Labels

_CMC_RANKS = 50


@dataclasses.dataclass(frozen=True)
class Scores:
    """The scores of the protocol, as fractions in 0..1 over the scored queries.

    Attributes:
      rank1, rank5, rank10: share of queries with a match among the first 1, 5, 10.
      mean_ap: mAP, the mean precision at each match, without interpolation.
      mean_inp: mINP, the mean of the number of matches over the last match's place.
      queries: number of scored queries.
      skipped: number of queries that have no match under another camera.
      cmc: the CMC curve: entry k - 1 is the share of queries with a match among the
        first k. It has 50 entries even if the gallery is smaller.
    """

    rank1: float
    rank5: float
    rank10: float
    mean_ap: float
    mean_inp: float
    queries: int
    skipped: int
    cmc: tuple[float, ...]


def evaluate(
    query_embeddings: np.ndarray,
    query: Labels,
    gallery_embeddings: np.ndarray,
    gallery: Labels,
    *,
    normalize: bool = True,
    block_bytes: int = BLOCK_BYTES,
) -> Scores:
    """Ranks the gallery for each query by Euclidean distance, and scores the ranking.

    Gallery images with the query's identity and camera are ignored, junk (identity -1)
    is dropped, distractors (0) stay, a query without a match is skipped, and among
    equal distances the earlier gallery image comes first. Queries are taken in blocks,
    so memory beyond the embeddings is about `block_bytes`. Give it more if a block has
    fewer than about thirty queries, which by default happens from two million gallery
    images on: time is then spent on reading the gallery.

    Args:
      query_embeddings: (q, d) floats; float32 or float64 are used as they are.
      query: labels of the q queries.
      gallery_embeddings: (g, d) floats; may be a memory map.
      gallery: labels of the g gallery images.
      normalize: compare directions only, as after L2 normalisation.
      block_bytes: memory for distances held at once; those of one query always are.

    Raises:
      ValueError: the gallery is empty, sizes do not agree, embeddings are not finite,
        or no query has a match.
    """
    rows = distances.rows(
        Embeddings.of(query_embeddings, "query", query),
        Embeddings.of(gallery_embeddings, "gallery", gallery),
        normalize,
        block_bytes,
    )
    return _summarise(score_queries(rows, query, gallery), len(query.identities))


def evaluate_rows(rows: Iterable[np.ndarray], query: Labels, gallery: Labels) -> Scores:
    """Scores a ranking by rows of distances, one row at a time; see `evaluate`.

    This is for distances from elsewhere that do not fit in memory, such as re-ranked
    ones.

    Args:
      rows: each query's distances in turn, (g,) floats; they are overwritten.
      query: labels of the queries.
      gallery: labels of the g gallery images.

    Raises:
      ValueError: as `evaluate`, or rows have a wrong number or length or no finite
        values.
    """
    protocol.check(len(query.identities), query, "query")
    protocol.check(len(gallery.identities), gallery, "gallery")
    rows = _checked_rows(rows, query, len(gallery.identities))
    return _summarise(score_queries(rows, query, gallery), len(query.identities))


def nearest(
    query_embeddings: np.ndarray,
    query: Labels,
    gallery_embeddings: np.ndarray,
    gallery: Labels,
    k: int = 10,
    *,
    normalize: bool = True,
    block_bytes: int = BLOCK_BYTES,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first k gallery images of each query's ranking, and their distances.

    The ranking is the one that `evaluate` scores, without ignored images and junk.
    Arguments and errors are those of `evaluate`; k is at least 1.

    Returns:
      Indices into the gallery (q, k), nearest first; and Euclidean distances (q, k),
      not squared. A ranking shorter than k is filled up with -1 and infinity.
    """
    if k < 1:
        raise ValueError(f"k={k} names no image; use at least 1.")
    rows = distances.rows(
        Embeddings.of(query_embeddings, "query", query),
        Embeddings.of(gallery_embeddings, "gallery", gallery),
        normalize,
        block_bytes,
    )
    lookup = protocol.Lookup(gallery)
    indices = np.full((len(query.identities), k), -1)
    far = np.full((len(query.identities), k), np.inf)
    for i, row in enumerate(rows):
        _, ignored = lookup.find(query.identities[i], query.cameras[i])
        row[lookup.junk] = np.inf
        row[ignored] = np.inf
        found = first(row, k)
        indices[i, : len(found)] = found
        far[i, : len(found)] = np.sqrt(np.maximum(row[found], 0))
    return indices, far


@dataclasses.dataclass(frozen=True, eq=False)
class QueryScores:
    """The scores of each of the n queries that have a match.

    Attributes:
      queries: indices of these queries, (n,).
      firsts: place of each query's first match, counted from 1, (n,).
      precisions: mean precision at each query's matches, (n,).
      penalties: number of each query's matches over the place of the last one, (n,).
    """

    queries: np.ndarray
    firsts: np.ndarray
    precisions: np.ndarray
    penalties: np.ndarray


def score_queries(
    rows: Iterable[np.ndarray], query: Labels, gallery: Labels
) -> QueryScores:
    """Scores single queries; `evaluate` takes the means of these scores.

    Args:
      rows: each query's distances in turn, (g,), finite; they are overwritten.
      query: labels of the queries.
      gallery: labels of the g gallery images.
    """
    lookup = protocol.Lookup(gallery)
    queries, firsts, precisions, penalties = [], [], [], []
    for i, row in enumerate(rows):
        matches, ignored = lookup.find(query.identities[i], query.cameras[i])
        if not len(matches):
            continue
        row[lookup.junk] = np.inf
        row[ignored] = np.inf
        # (matches,), counted from 1
        places = np.sort(_places(row, matches))
        queries.append(i)
        firsts.append(places[0])
        precisions.append(np.mean(np.arange(1, len(places) + 1) / places))
        penalties.append(len(places) / places[-1])
    return QueryScores(
        np.array(queries, int),
        np.array(firsts, int),
        np.array(precisions),
        np.array(penalties),
    )


def _summarise(scored: QueryScores, queries: int) -> Scores:
    count = len(scored.queries)
    if not count:
        raise ValueError(
            f"none of the {queries} queries has a gallery image of its identity under "
            "another camera; check identities and cameras, or whether query and "
            "gallery belong together."
        )
    found = np.bincount(scored.firsts, minlength=_CMC_RANKS + 1)[1 : _CMC_RANKS + 1]
    cmc = tuple((np.cumsum(found) / count).tolist())
    return Scores(
        rank1=cmc[0],
        rank5=cmc[4],
        rank10=cmc[9],
        mean_ap=float(np.mean(scored.precisions)),
        mean_inp=float(np.mean(scored.penalties)),
        queries=count,
        skipped=queries - count,
        cmc=cmc,
    )


def _places(row: np.ndarray, matches: np.ndarray) -> list[int]:
    """Returns the place of each match, from 1, where the earlier image wins ties."""
    count = np.count_nonzero
    return [
        1 + count(row[:match] <= row[match]) + count(row[match:] < row[match])
        for match in matches
    ]


def first(row: np.ndarray, k: int) -> np.ndarray:
    """Returns the indices of the k smallest, ascending, where the earlier wins ties.

    Args:
      row: (n,) floats; infinite ones are left out.
      k: at least 1.
    """
    k = min(k, len(row))
    near = np.flatnonzero(row <= np.partition(row, k - 1)[k - 1])
    near = near[np.argsort(row[near], kind="stable")[:k]]
    return near[row[near] < np.inf]


def _checked_rows(
    rows: Iterable[np.ndarray], query: Labels, images: int
) -> Iterator[np.ndarray]:
    count = 0
    for count, row in enumerate(rows, start=1):
        if row.shape != (images,) or count > len(query.identities):
            raise ValueError(
                f"row {count - 1} of the distances has shape {row.shape}; pass a row "
                f"of {images} for each of the {len(query.identities)} queries."
            )
        if not np.isfinite(row).all():
            raise ValueError(
                "distances are not finite for query "
                f"{protocol.named(np.array([count - 1]), query)}; check its embedding."
            )
        yield row
    if count != len(query.identities):
        raise ValueError(
            f"There are {count} rows of distances for {len(query.identities)} queries; "
            "pass one for each, in the same order."
        )
