"""Scores of single pairs of cameras, which show the camera that does badly."""

from __future__ import annotations

import dataclasses

import numpy as np

from cdnet_tf.retrieval import distances, ranking
from cdnet_tf.retrieval.distances import BLOCK_BYTES, Embeddings
from cdnet_tf.retrieval.protocol import Labels


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores of one camera's queries against another camera's gallery images alone.

    Attributes:
      query_camera, gallery_camera: as numbered by the data set.
      rank1, mean_ap: as in `ranking.Scores`.
      queries: number of queries with a match under this gallery camera; only these
        count.
    """

    query_camera: int
    gallery_camera: int
    rank1: float
    mean_ap: float
    queries: int


def evaluate(
    query_embeddings: np.ndarray,
    query: Labels,
    gallery_embeddings: np.ndarray,
    gallery: Labels,
    *,
    normalize: bool = True,
    block_bytes: int = BLOCK_BYTES,
) -> tuple[Scores, ...]:
    """Scores each camera's queries against each other camera's gallery images alone.

    Unlike the mean over all, this shows which camera does badly. It copies one camera's
    gallery embeddings at a time. Arguments and errors are those of `ranking.evaluate`.
    Pairs in which no query has a match, and unknown cameras (below 0), are left out.

    Returns:
      Pairs in ascending order of query camera, then gallery camera.
    """
    queries = Embeddings.of(query_embeddings, "query", query)
    images = Embeddings.of(gallery_embeddings, "gallery", gallery)
    query_cameras = np.asarray(query.cameras)
    pairs = []
    for camera in _known(np.unique(gallery.cameras)):
        part = _part(gallery, np.flatnonzero(np.asarray(gallery.cameras) == camera))
        rows = distances.rows(
            queries, images.take(part.indices), normalize, block_bytes
        )
        scored = ranking.score_queries(rows, query, part)
        of_queries = query_cameras[scored.queries]
        for query_camera in _known(np.unique(of_queries)):
            pairs.append(_pair(query_camera, camera, scored, of_queries))
    return tuple(sorted(pairs, key=lambda p: (p.query_camera, p.gallery_camera)))


def _known(cameras: np.ndarray) -> np.ndarray:
    return cameras[cameras >= 0]


@dataclasses.dataclass(frozen=True, eq=False)
class _Part:
    """Some images of a split: their indices in it and their labels."""

    indices: np.ndarray
    identities: np.ndarray
    cameras: np.ndarray


def _part(labels: Labels, indices: np.ndarray) -> _Part:
    identities, cameras = np.asarray(labels.identities), np.asarray(labels.cameras)
    return _Part(indices, identities[indices], cameras[indices])


def _pair(
    query_camera: int, camera: int, scored: ranking.QueryScores, of_queries: np.ndarray
) -> Scores:
    chosen = of_queries == query_camera
    return Scores(
        query_camera=int(query_camera),
        gallery_camera=int(camera),
        rank1=float(np.mean(scored.firsts[chosen] == 1)),
        mean_ap=float(np.mean(scored.precisions[chosen])),
        queries=int(chosen.sum()),
    )
