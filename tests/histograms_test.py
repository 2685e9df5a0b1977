"""Histograms show the pairs that thresholds are chosen on."""

import numpy as np
import pytest

from cdnet_tf.data import datasets
from cdnet_tf.retrieval import histograms, verification


def _labels(identities, cameras):
    paths = tuple("" for _ in identities)
    return datasets.Images(paths, np.array(identities), np.array(cameras))


def test_distances_by_hand():
    query = _labels([1], [1])
    # Of one person; of the query's own camera; of another person; junk.
    gallery = _labels([1, 1, 2, -1], [2, 1, 3, 2])
    embeddings = np.array([[0, 3.0], [1, 0], [-2, 0], [0, 1]])
    genuine, impostor = histograms.pair_distances(
        np.array([[5.0, 0]]), query, embeddings, gallery
    )
    np.testing.assert_allclose(genuine, [np.sqrt(2)])
    np.testing.assert_allclose(impostor, [2])


def test_pairs_are_those_of_the_thresholds():
    rng = np.random.default_rng(0)
    query = _labels(rng.integers(0, 6, 40), rng.integers(1, 4, 40))
    gallery = _labels(rng.integers(-1, 6, 90), rng.integers(1, 4, 90))
    split = rng.normal(size=(40, 8)), query, rng.normal(size=(90, 8)), gallery
    genuine, impostor = histograms.pair_distances(*split)
    found = verification.thresholds(*split, rates=(0.05,))
    assert len(genuine) == found.genuine_pairs
    assert len(impostor) == found.impostor_pairs
    (threshold,) = found.at_rates
    accepted = np.mean(impostor < threshold.distance)
    assert accepted == pytest.approx(threshold.false_accept_rate)


def test_figure_draws_both_shares_and_the_threshold():
    threshold = verification.Threshold(0.5, 0.25, 2 / 3)
    genuine, impostor = np.array([0.1, 0.4, 0.8]), np.array([0.3, 1.0, 1.2, 1.6])
    axes = histograms.distance_figure(genuine, impostor, threshold).axes[0]
    first, second = axes.containers
    assert sum(bar.get_height() for bar in first) == pytest.approx(100)
    assert sum(bar.get_height() for bar in second) == pytest.approx(100)
    (line,) = axes.lines
    assert set(line.get_xdata()) == {0.5}
    assert line.get_label().startswith("threshold 0.500: 66.7% of one person's")
    assert "pairs, %" in axes.get_ylabel() and axes.get_title()


def test_figure_without_a_threshold_has_no_line():
    nothing = verification.Threshold(None, None, None, "too few pairs")
    figure = histograms.distance_figure(np.array([0.1]), np.array([1.0]), nothing)
    assert not figure.axes[0].lines
