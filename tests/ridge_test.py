"""The regression on kernels and repeats, on scores that are such a sum."""

import itertools

import numpy as np
import pytest

from cdnet_tf.nn import genotype
from cdnet_tf.strategies import ridge

_RANDOM = np.random.default_rng(0)


def _networks(count, seed=0):
    draws = np.random.default_rng(seed).integers(12, size=(count, 6))
    return [genotype.Genotype(tuple(genotype.CDS[i] for i in row)) for row in draws]


@pytest.fixture(scope="module")
def score():
    """An additive score of a network."""
    levels = [{}, {}, {}]
    for table, column in zip(levels, zip(*genotype.CDS)):
        for block, value in itertools.product(range(6), sorted(set(column))):
            table[block, value] = _RANDOM.normal()

    def of(network):
        return sum(
            table[block, value]
            for block, branch in enumerate(network.layers)
            for table, value in zip(levels, branch)
        )

    return of


def test_features_are_one_hots():
    (row,) = ridge.features([genotype.Genotype(((3, 5, 1),) * 6)])
    assert row.shape == (6 * 8,)
    assert row.sum() == 6 * 3


def test_an_additive_score_is_found(score):
    seen, unseen = _networks(200), _networks(50, seed=1)
    fitted = ridge.Ridge(seen, [score(network) for network in seen])
    expected = [score(network) for network in unseen]
    np.testing.assert_allclose(fitted.predict(unseen), expected, atol=0.1)


def test_scores_are_a_sum_over_the_blocks(score):
    seen, unseen = _networks(200), _networks(50, seed=1)
    fitted = ridge.Ridge(seen, [score(network) for network in seen])
    choices = [[genotype.CDS.index(b) for b in network.layers] for network in unseen]
    found = fitted.as_sum(genotype.CDS).of(np.array(choices))
    np.testing.assert_allclose(found, fitted.predict(unseen))


def test_a_width_adds_its_own():
    """Noise calls for a strong ridge, which must not shrink what a width adds."""
    seen = _networks(30)
    widths = [0.25, 0.5] * 15
    scores = _RANDOM.normal(size=30) + np.where(np.equal(widths, 0.5), 20.0, 0.0)
    fitted = ridge.Ridge(seen, scores, widths=widths)
    narrow, wide = (fitted.as_sum(genotype.CDS, width) for width in (0.25, 0.5))
    assert wide.rest - narrow.rest == pytest.approx(20, abs=2)
    np.testing.assert_array_equal(wide.blocks, narrow.blocks)
    predicted = fitted.predict(seen[:1], widths=[0.5])
    choice = [[genotype.CDS.index(branch) for branch in seen[0].layers]]
    np.testing.assert_allclose(wide.of(np.array(choice)), predicted)


def test_what_else_is_known_counts_as_much_as_the_one_hots(score):
    seen, unseen = _networks(12), _networks(60, seed=1)
    exact, noise = (np.array([score(n) for n in g]) for g in (seen, unseen))
    alone = ridge.Ridge(seen, exact).predict(unseen)
    # A copy of the score on another scale, and something that says nothing.
    told = ridge.Ridge(seen, exact, 1000 - 5 * exact).predict(unseen, 1000 - 5 * noise)
    lied = ridge.Ridge(seen, exact, _RANDOM.normal(size=12)).predict(
        unseen, _RANDOM.normal(size=60)
    )
    alone, told, lied = (np.corrcoef(p, noise)[0, 1] for p in (alone, told, lied))
    assert told > 0.98 > alone
    assert lied > alone - 0.3
