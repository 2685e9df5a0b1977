"""Ranks a gallery and scores rankings, from arrays of embeddings; no TensorFlow.

`cdnet_tf.retrieval` does the work; here it takes plain arrays.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cdnet_tf.retrieval import distances, ranking, report, reranking
from cdnet_tf.retrieval.distances import Embeddings


class Ranking(NamedTuple):
    """The gallery images that are most like each query, nearest first.

    Attributes:
      indices: (q, k) rows of the gallery.
      distances: (q, k) Euclidean distances of L2-normalised embeddings, 0..2. For a
        re-ranking, the distances by which it is sorted; no threshold applies to them.
    """

    indices: np.ndarray
    distances: np.ndarray


class _Labels(NamedTuple):
    identities: np.ndarray
    cameras: np.ndarray


def rank(
    query: np.ndarray, gallery: np.ndarray, k: int = 10, *, rerank: bool = False
) -> Ranking:
    """Ranks the gallery for each query by the distance of embeddings.

    Args:
      query: (q, d) floats, of any length.
      gallery: (g, d) floats of the same network; may be a memory map.
      k: gallery images to find for each query, at least 1; at most g are found.
      rerank: rank by k-reciprocal neighbours. This ranks better, and compares all
        images with each other, so the time grows with the square of their number.

    Raises:
      ValueError: the gallery is empty, dimensions differ, an embedding is not finite,
        or k is below 1.
    """
    if k < 1:
        raise ValueError(f"k={k} names no image; use at least 1.")
    queries, images = Embeddings.of(query, "query"), Embeddings.of(gallery, "gallery")
    if not len(images.rows):
        raise ValueError("The gallery holds no embeddings; pass at least one.")
    if rerank:
        rows = reranking.distance_rows(queries.rows, images.rows)
    else:
        rows = distances.rows(queries, images, True, distances.BLOCK_BYTES)
    shape = len(queries.rows), min(k, len(images.rows))
    indices, far = np.empty(shape, int), np.empty(shape)
    for i, row in enumerate(rows):
        indices[i] = ranking.first(row, k)
        far[i] = row[indices[i]]
    return Ranking(indices, far if rerank else np.sqrt(np.maximum(far, 0)))


def evaluate_embeddings(
    query: np.ndarray,
    gallery: np.ndarray,
    query_identities: ArrayLike,
    gallery_identities: ArrayLike,
    query_cameras: ArrayLike | None = None,
    gallery_cameras: ArrayLike | None = None,
    *,
    rerank: bool = False,
) -> dict:
    """Scores embeddings by the Market-1501 protocol, and finds their thresholds.

    A gallery image with the identity and the camera of the query is ignored. If the
    cameras are unknown, leave both arguments out, and remove the query images from the
    gallery.

    Args:
      query: (q, d) floats, of any length.
      gallery: (g, d) floats of the same network.
      query_identities, gallery_identities: (q,) and (g,) integers. In the gallery 0
        stands for a distractor, whom no query shows, and -1 for an image to leave out.
      query_cameras, gallery_cameras: (q,) and (g,) integers from 0 on.
      rerank: score the k-reciprocal re-ranking, too.

    Returns:
      `scores` (rank1, rank5, rank10, mean_ap, mean_inp and cmc, 0..1; queries and
      skipped), `reranked` (the same or None), `thresholds` (fields of
      `verification.Thresholds`) and `camera_pairs`; ready for JSON.

    Raises:
      ValueError: the gallery is empty, sizes differ, an embedding is not finite, only
        one side has cameras, or the gallery shows the person of no query under another
        camera.
    """
    if (query_cameras is None) != (gallery_cameras is None):
        raise ValueError(
            "Only one of query_cameras and gallery_cameras is given; pass both, or "
            "neither if they are unknown."
        )
    if query_cameras is None or gallery_cameras is None:
        # A camera below 0 is unknown. Each image gets another one, so none is ignored.
        unknown = -1 - np.arange(len(query) + len(gallery))
        query_cameras, gallery_cameras = np.split(unknown, [len(query)])
    return report.report(
        query,
        _Labels(np.asarray(query_identities), np.asarray(query_cameras)),
        gallery,
        _Labels(np.asarray(gallery_identities), np.asarray(gallery_cameras)),
        rerank=rerank,
    )
