"""Thresholds, by hand and against a sort of all pairs."""

from __future__ import annotations

import types

import numpy as np
import pytest

from cdnet_tf.retrieval import verification


def _labels(identities, cameras):
    return types.SimpleNamespace(
        identities=np.array(identities), cameras=np.array(cameras)
    )


def _at(squared):
    """Returns embeddings that, normalised, have these squared distances from (1, 0)."""
    cosine = 1 - np.array(squared) / 2
    return 3 * np.stack([cosine, np.sqrt(1 - cosine**2)], axis=1)


def test_by_hand():
    # Genuine pairs 0.25, 0.5 and 1.5; impostors 0.75, 1, 2 (a distractor) and 3. Not
    # counted: junk, the query's own image, an impostor of its camera.
    squared = [0.25, 0.5, 1.5, 0.75, 1, 2, 3, 0.1, 0.01, 0.6]
    gallery = _labels([7, 7, 7, 8, 8, 0, 9, -1, 7, 8], [2, 3, 2, 2, 3, 2, 4, 2, 1, 1])
    found = verification.thresholds(
        np.array([[5.0, 0.0]]),
        _labels([7], [1]),
        _at(squared),
        gallery,
        [0.25, 0.5, 0.2],
    )
    assert (found.genuine_pairs, found.impostor_pairs) == (3, 4)
    assert found.rates == (0.25, 0.5, 0.2)
    # One impostor of four may be accepted, so the threshold goes up to the second.
    quarter, half, fifth = found.at_rates
    assert quarter.distance == pytest.approx(1, abs=4e-6)
    assert quarter.false_accept_rate == 0.25
    assert quarter.true_accept_rate == pytest.approx(2 / 3)
    assert half.distance == pytest.approx(np.sqrt(2), abs=4e-6)
    assert (half.false_accept_rate, half.true_accept_rate) == (0.5, 1)
    # Less than one of four: a fifth impostor pair would be needed to tell.
    assert (fifth.distance, fifth.true_accept_rate) == (None, None)
    assert fifth.note == "4 impostor pairs cannot tell a rate of 0.2; it takes 5."
    # Between 0.75 and 1 a quarter of the impostors is accepted and a third of the
    # genuine rejected; everywhere else the two differ by more.
    assert found.equal_error.distance == pytest.approx(np.sqrt(0.875), abs=4e-6)
    assert found.equal_error.false_accept_rate == 0.25


def test_people_told_apart_without_error():
    gallery = _labels([7, 8], [2, 2])
    found = verification.thresholds(
        np.array([[1.0, 0.0]]), _labels([7], [1]), _at([0.5, 1.5]), gallery
    )
    assert found.equal_error.distance == pytest.approx(1, abs=4e-6)
    assert found.equal_error.false_accept_rate == 0
    assert found.equal_error.true_accept_rate == 1
    assert [t.distance for t in found.at_rates] == [None, None]


@pytest.mark.parametrize("identities, error", [([7, 8], 0), ([8, 7], 1)])
def test_equal_and_opposite_embeddings(identities, error):
    # Squared distances of 0 and 4, the ends of the scale: either everyone is told
    # apart, or everyone is taken for someone else.
    found = verification.thresholds(
        np.array([[1.0, 0.0]]),
        _labels([7], [1]),
        np.array([[2.0, 0.0], [-2.0, 0.0]]),
        _labels(identities, [2, 2]),
    )
    assert (found.genuine_pairs, found.impostor_pairs) == (1, 1)
    assert found.equal_error.distance == pytest.approx(np.sqrt(2), abs=4e-6)
    assert found.equal_error.false_accept_rate == error
    assert found.equal_error.true_accept_rate == 1 - error


def _draw(seed, dtype=np.float64):
    random = np.random.default_rng(seed)
    query = _labels(random.integers(-1, 9, 60), random.integers(1, 5, 60))
    gallery = _labels(random.integers(-1, 8, 300), random.integers(1, 4, 300))
    centres = random.standard_normal((10, 12))
    embeddings = [
        (centres[each.identities] + random.standard_normal((len(each.cameras), 12)))
        for each in (query, gallery)
    ]
    return query, gallery, *(each.astype(dtype) for each in embeddings)


def _pairs(query, gallery, q, g):
    """Returns squared distances of genuine and of impostor pairs, both ascending."""
    q, g = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q, g))
    genuine: list[float] = []
    impostor: list[float] = []
    for i in range(len(q)):
        for j in range(len(g)):
            junk = -1 in (query.identities[i], gallery.identities[j])
            if not junk and query.cameras[i] != gallery.cameras[j]:
                same = query.identities[i] == gallery.identities[j]
                (genuine if same else impostor).append(((q[i] - g[j]) ** 2).sum())
    return np.sort(genuine), np.sort(impostor)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("block_bytes", [1, 30000, 2**25])
def test_agrees_with_a_sort_of_all_pairs(seed, block_bytes):
    query, gallery, q, g = _draw(seed)
    genuine, impostor = _pairs(query, gallery, q, g)
    found = verification.thresholds(q, query, g, gallery, block_bytes=block_bytes)
    assert found.genuine_pairs == len(genuine)
    assert found.impostor_pairs == len(impostor) > 1000
    for rate, threshold in zip((0.01, 0.001), found.at_rates):
        # The first impostor that may not be accepted; the step of 2^-18 ends below.
        first = impostor[int(rate * len(impostor))]
        assert first - 2**-18 <= _squared(threshold) <= first + 1e-12
        _check_rates(threshold, genuine, impostor)
    _check_rates(found.equal_error, genuine, impostor)
    # No distance of any pair would bring the two rates closer.
    edges = np.concatenate([genuine, impostor])
    false = np.searchsorted(impostor, edges) / len(impostor)
    true = np.searchsorted(genuine, edges) / len(genuine)
    error = found.equal_error
    gap = _gap(np.mean(impostor < _squared(error)), np.mean(genuine < _squared(error)))
    assert gap <= _gap(false, true).min() + 1e-12


def _squared(threshold):
    return threshold.distance**2


def _gap(false_accepts, true_accepts):
    """Returns the gap between the two error rates."""
    return np.abs(false_accepts - (1 - true_accepts))


def _check_rates(threshold, genuine, impostor):
    edge = _squared(threshold)
    assert threshold.false_accept_rate == pytest.approx(np.mean(impostor < edge))
    assert threshold.true_accept_rate == pytest.approx(np.mean(genuine < edge))


def test_single_precision():
    query, gallery, q, g = _draw(0)
    double = verification.thresholds(q, query, g, gallery)
    single = verification.thresholds(
        q.astype(np.float32), query, g.astype(np.float32), gallery
    )
    for one, two in zip(single.at_rates, double.at_rates):
        assert one.distance == pytest.approx(two.distance, abs=1e-5)
        assert one.true_accept_rate == two.true_accept_rate


def test_inputs_stay_as_they_were():
    query, gallery, q, g = _draw(1)
    before = q.copy(), g.copy()
    verification.thresholds(q, query, g, gallery)
    np.testing.assert_array_equal(before[0], q)
    np.testing.assert_array_equal(before[1], g)


def test_no_impostor():
    one = np.ones((1, 2))
    found = verification.thresholds(one, _labels([7], [1]), one, _labels([7], [2]))
    assert found.impostor_pairs == 0
    assert found.equal_error.distance is None
    assert found.equal_error.note == "there is no impostor pair."


@pytest.mark.parametrize(
    "identity, rate, message",
    [
        (8, 0.01, "none of the 1 queries has a gallery image"),
        (7, 0, "rate=0 is out of range"),
        (7, 1, "rate=1 is out of range"),
    ],
)
def test_errors(identity, rate, message):
    one = np.ones((1, 2))
    query, gallery = _labels([7], [1]), _labels([identity], [2])
    with pytest.raises(ValueError, match=message):
        verification.thresholds(one, query, one, gallery, [rate])
