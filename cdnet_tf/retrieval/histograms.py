"""Histograms of distances between images, with the threshold that separates them."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from cdnet_tf.data import datasets
from cdnet_tf.retrieval import protocol
from cdnet_tf.retrieval.verification import Threshold

_BINS = 80


def pair_distances(
    query_embeddings: np.ndarray,
    query: protocol.Labels,
    gallery_embeddings: np.ndarray,
    gallery: protocol.Labels,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distances of all pairs of different cameras, junk left out.

    The pairs are those that `verification.thresholds` counts. All distances are in
    memory at once, which suits some thousand images.

    Args:
      query_embeddings: (q, d) floats, of any length.
      query: labels of the q queries.
      gallery_embeddings: (g, d) floats, of any length.
      gallery: labels of the g gallery images.

    Returns:
      Euclidean distances of L2-normalised embeddings, 0..2: of the pairs of one person,
      and of the pairs of two people.
    """
    first, second = (
        embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        for embeddings in (query_embeddings, gallery_embeddings)
    )
    # (q, g)
    distances = np.sqrt(np.maximum(0, 2 - 2 * first @ second.T))
    ours, theirs = (np.asarray(each.identities) for each in (query, gallery))
    counted = query.cameras[:, np.newaxis] != gallery.cameras
    counted &= (ours != datasets.JUNK)[:, np.newaxis] & (theirs != datasets.JUNK)
    same = ours[:, np.newaxis] == theirs
    return distances[counted & same], distances[counted & ~same]


def distance_figure(
    genuine: np.ndarray, impostor: np.ndarray, threshold: Threshold
) -> Figure:
    """Draws how distances of one person's and of two people's images are spread.

    Args:
      genuine: distances of pairs of one person, 0..2.
      impostor: distances of pairs of two people.
      threshold: drawn as a line with its rates, if it has a distance.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(
        title="Distances between images of different cameras",
        xlabel="Euclidean distance of embeddings, 0 to 2",
        ylabel="share of the pairs, %",
    )
    edges = np.linspace(0, max(np.max(genuine), np.max(impostor)), _BINS + 1)
    for label, each in (("one person", genuine), ("two people", impostor)):
        weights = np.full(len(each), 100 / len(each))
        label = f"{label}, {len(each):,} pairs"
        axes.hist(each, edges, weights=weights, alpha=0.6, label=label)
    if threshold.distance is not None:
        label = (
            f"threshold {threshold.distance:.3f}: {threshold.true_accept_rate:.1%} of "
            f"one person's,\n{threshold.false_accept_rate:.2%} of two people's pairs"
        )
        axes.axvline(threshold.distance, color="black", linestyle="--", label=label)
    axes.legend(fontsize="small")
    return figure
