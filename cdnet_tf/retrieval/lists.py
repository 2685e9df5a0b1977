"""The heads of some rankings, for pictures of ranked lists."""

from __future__ import annotations

import numpy as np

from cdnet_tf.data import datasets
from cdnet_tf.retrieval import pictures, ranking


def spread(queries: int, count: int) -> np.ndarray:
    """Returns the places of up to `count` queries, spread evenly over all, (n,) int."""
    return np.linspace(0, queries - 1, min(count, queries)).astype(int)


def of_some(
    query_embeddings: np.ndarray,
    query: datasets.Images,
    gallery_embeddings: np.ndarray,
    gallery: datasets.Images,
    count: int,
    length: int,
) -> list[pictures.Ranked]:
    """Returns the images found first, for queries spread evenly over all.

    Args:
      query_embeddings: (q, d) floats.
      query: the q queries.
      gallery_embeddings: (g, d) floats.
      gallery: the g gallery images.
      count: of queries.
      length: of each list, images.

    Raises:
      ValueError: as `ranking.nearest`.
    """
    shown = spread(len(query), count)
    if not len(shown):
        return []
    some = datasets.Images(
        tuple(query.paths[i] for i in shown),
        query.identities[shown],
        query.cameras[shown],
    )
    nearest = ranking.nearest(
        query_embeddings[shown], some, gallery_embeddings, gallery, length
    )
    rows = []
    for i, (found, distances) in enumerate(zip(*nearest)):
        found = found[found >= 0]  # a shorter ranking ends in -1
        right = gallery.identities[found] == some.identities[i]
        files = [gallery.paths[j] for j in found]
        rows.append(pictures.Ranked(some.paths[i], files, distances, right))
    return rows
