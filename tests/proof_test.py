"""Comparisons of searches whose outcome is known."""

import numpy as np
import pytest

from cdnet_tf.bench import proof


def test_the_best_of_all_splits_has_their_share():
    found = proof.compare([5.0, 6.0, 7.0], [1.0, 2.0, 3.0])
    assert found.gain.value == pytest.approx(4.0)
    assert found.p_value == pytest.approx(1 / 20)  # of 6 over 3 splits
    assert 0 < found.gain.low < 4 < found.gain.high
    worse = proof.compare([1.0, 2.0, 3.0], [5.0, 6.0, 7.0])
    assert worse.gain.value == pytest.approx(-4.0) and worse.p_value == 1


def test_equal_searches_are_no_proof():
    # 0.1 + 0.2 is not 0.3: the observed split must count whatever the order.
    found = proof.compare([0.1, 0.2, 0.3], [0.3, 0.2, 0.1])
    assert found.gain.value == pytest.approx(0) and found.p_value > 0.5


def test_p_values_of_searches_alike_are_even():
    random = np.random.default_rng(0)
    p_values = [proof.compare(*random.normal(size=(2, 5))).p_value for _ in range(200)]
    assert 0.02 < np.mean(np.array(p_values) < 0.1) < 0.18
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.08)


def test_many_searches_are_split_by_drawing():
    random = np.random.default_rng(1)
    ours, theirs = random.normal(size=(2, 12))
    first = proof.compare(ours, theirs)
    assert first.p_value == proof.compare(ours, theirs).p_value
    exact = proof.compare(ours[:5], theirs[:5])
    assert 0 < first.p_value < 1 and 0 < exact.p_value < 1
    assert proof.compare(ours + 3, theirs).p_value < 1e-3


def test_an_empty_group():
    with pytest.raises(ValueError, match="0 and 2 searches; both need one"):
        proof.compare([], [1.0, 2.0])
