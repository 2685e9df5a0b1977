"""Scores a ranking by the Market-1501 protocol: CMC, mAP and mINP; NumPy only.

No row of distances is ever sorted: the scores need the places of the matches alone, and
a match's place is the number of gallery images before it, which is two comparisons and
a count. A match is compared with the others of its own row, so no rounding comes
between them.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator

import numpy as np

from cdnet_tf.retrieval import distances, protocol
from cdnet_tf.retrieval.distances import BLOCK_BYTES, Embeddings
from cdnet_tf.retrieval.protocol import Labels

_CMC_RANKS = 50


@dataclasses.dataclass(frozen=True)
class Scores:
    """What the protocol reports; fractions in 0..1, means over the scored queries.

    Attributes:
      rank1, rank5, rank10: queries with a match among the first 1, 5, 10.
      mean_ap: mAP, the precision at each match averaged, without interpolation.
      mean_inp: mINP, the number of matches over the place of the last one.
      queries: how many were scored.
      skipped: how many were not, for want of a match under another camera.
      cmc: the CMC curve: at index k - 1 queries with a match among the first k, up to
        k = 50, however small the gallery.
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
    rows = distances.rows(
        Embeddings.of(query_embeddings, "query", query),
        Embeddings.of(gallery_embeddings, "gallery", gallery),
        normalize,
        block_bytes,
    )
    return _summarise(score_queries(rows, query, gallery), len(query.identities))


def evaluate_rows(rows: Iterable[np.ndarray], query: Labels, gallery: Labels) -> Scores:
    """Scores the ranking that rows of distances give, one at a time; see `evaluate`.

    For distances of one's own that are too many to hold, such as re-ranked ones.

    Args:
      rows: for each query in turn its (g,) floats, smaller is nearer; overwritten.
      query: labels of the queries.
      gallery: labels of the g gallery images.

    Raises:
      ValueError: as `evaluate`, or rows of another number, length or not finite.
    """
    protocol.check(len(query.identities), query, "query")
    protocol.check(len(gallery.identities), gallery, "gallery")
    rows = _checked_rows(rows, query, len(gallery.identities))
    return _summarise(score_queries(rows, query, gallery), len(query.identities))


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
    protocol.check(distances.shape[0], query, "query")
    protocol.check(distances.shape[1], gallery, "gallery")
    odd = np.flatnonzero(~np.isfinite(distances).all(axis=1))
    if len(odd):
        raise ValueError(
            f"distances of {len(odd)} queries are not finite: "
            f"{protocol.named(odd, query)}; check the embeddings they were computed "
            "from."
        )
    rows = (np.array(row, np.result_type(row, np.float32)) for row in distances)
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
    """Returns the first k gallery images of each query's ranking, and how far they are.

    The ranking is the one that `evaluate` scores: what is ignored and what is junk do
    not appear in it. Arguments and errors are those of `evaluate`, and k is at least 1.

    Returns:
      Indices into the gallery (q, k), nearest first, -1 where the ranking is shorter;
      and Euclidean distances (q, k), not squared, infinite there.
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
    query = Embeddings.of(query_embeddings, "query")
    gallery = Embeddings.of(gallery_embeddings, "gallery")
    # (q, g), in one block
    block = next(distances.blocks(query, gallery, normalize, sys.maxsize), None)
    return np.zeros((0, len(gallery.rows))) if block is None else np.maximum(block, 0)


@dataclasses.dataclass(frozen=True, eq=False)
class QueryScores:
    """The queries that have a match, and for each what the means are taken of.

    Attributes:
      queries: their indices, (n,).
      firsts: place of the first match of each, counted from 1, (n,).
      precisions: mean precision at the matches of each, (n,).
      penalties: number of matches over the place of the last one, (n,).
    """

    queries: np.ndarray
    firsts: np.ndarray
    precisions: np.ndarray
    penalties: np.ndarray


def score_queries(
    rows: Iterable[np.ndarray], query: Labels, gallery: Labels
) -> QueryScores:
    """Scores single queries, of which `evaluate` takes the means.

    Args:
      rows: for each query in turn its (g,) distances, finite; overwritten.
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
    """Counts for each match the images up to and with it, earlier ones winning ties."""
    count = np.count_nonzero
    return [
        1 + count(row[:match] <= row[match]) + count(row[match:] < row[match])
        for match in matches
    ]


def first(row: np.ndarray, k: int) -> np.ndarray:
    """Returns the indices of the k smallest, ascending, earlier ones winning ties.

    Args:
      row: (n,) floats; infinite ones are never among the first.
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
            f"{count} rows of distances for {len(query.identities)}"
            " queries; pass one for each, in the same order."
        )
