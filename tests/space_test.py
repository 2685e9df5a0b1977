"""Choices, costs and limits in a space of CS, against every network one by one."""

import itertools

import numpy as np
import pytest

from cdnet_tf.nn import genotype
from cdnet_tf.strategies import space

_BRANCHES = genotype.CS[:3]
_EVERY = list(itertools.product(range(3), repeat=6))


def _sums(seed, factor=1.0):
    """Costs of a width; a branch of a higher index need not cost more."""
    random = np.random.default_rng(seed)
    return {
        "parameters": space.Sum(100, random.integers(1, 50, (6, 3))),
        "macs": space.Sum(1000, random.integers(1, 900, (6, 3))),
        "ms": space.Sum(2.0 * factor, factor * random.uniform(0.1, 1.0, (6, 3))),
    }


def _space(limits=None, widths=(1.0,)):
    costs = {width: _sums(i, width) for i, width in enumerate(widths)}
    return space.Space(_BRANCHES, costs, limits)


def _every(own):
    widths = len(own.widths)
    if widths == 1:
        return _EVERY
    return [(*each, width) for width in range(widths) for each in _EVERY]


def test_sums_of_all_are_those_of_each():
    each = _sums(0)["ms"]
    expected = [2.0 + sum(each.blocks[i, b] for i, b in enumerate(c)) for c in _EVERY]
    np.testing.assert_allclose(each.of_all(), expected, rtol=1e-12)
    # To the bit, for a limit must mean the same in both.
    np.testing.assert_array_equal(each.of(np.array(_EVERY)), each.of_all())


@pytest.mark.parametrize("widths", [(0.5,), (0.5, 1.0)])
def test_a_choice_is_a_network(widths):
    own = _space(widths=widths)
    choice = (0, 1, 2, 2, 1, 0, 1)[: len(own.sizes)]
    network = own.network(choice)
    assert network.width_multiplier == widths[-1]
    assert network.genotype.layers[1:3] == _BRANCHES[1:3]
    assert own.choice(network) == choice
    assert own.sizes == (3,) * 6 + ((2,) if len(widths) == 2 else ())
    with pytest.raises(ValueError):
        own.choice(network._replace(width_multiplier=0.75))
    with pytest.raises(ValueError):
        own.choice(network._replace(genotype=genotype.load("cdnet")))


def test_limits_and_what_breaks_them():
    own = _space({"ms": 5.0, "macs": 3000}, widths=(0.5, 1.0))
    kept = 0
    for choice in _every(own):
        costs = own.costs(choice)
        excess = own.excess(choice)
        assert excess == pytest.approx([costs["ms"] / 5 - 1, costs["macs"] / 3000 - 1])
        kept += max(excess) <= 0
    assert 0 < kept < len(_every(own))
    assert own.number_within == kept
    own.check()


def test_draws_keep_the_limits_and_are_even():
    own = _space({"ms": 4.6}, widths=(0.75, 1.0))
    drawn = own.drawn(10**6, seed=3)
    # All of them, each once.
    assert len(set(drawn)) == len(drawn) == own.number_within < len(_every(own))
    assert all(own.excess(choice)[0] <= 0 for choice in drawn)
    assert own.drawn(7, seed=3) == drawn[:7] != own.drawn(7, seed=4)
    # Each width in turn, as long as it has networks left.
    widths = np.array([choice[6] for choice in drawn])
    fewest = min(np.bincount(widths))
    assert (widths[: 2 * fewest] == [0, 1] * fewest).all()
    assert len(set(widths[2 * fewest :])) == 1
    # In any order: branches of the first half are not those of the second.
    first = [choice[0] for choice in drawn[:200]]
    assert min(np.bincount(first)) > 20


def test_without_limits_draws_are_those_of_one_generator():
    random = np.random.default_rng(5)
    expected = [tuple(random.integers(3, size=6).tolist()) for _ in range(4)]
    assert _space().drawn(4, seed=5) == expected


@pytest.mark.parametrize("limits", [{}, {"ms": 4.9}, {"ms": 4.9, "parameters": 230}])
def test_the_front_is_exact(limits):
    own = _space(limits, widths=(0.8, 1.0))
    scores = {
        width: space.Sum(width, np.random.default_rng(9).normal(size=(6, 3)))
        for width in own.widths
    }
    every = _every(own)
    ms = np.array([own.costs(choice)["ms"] for choice in every])
    score = np.concatenate([each.of_all() for each in scores.values()])
    score[[max(own.excess(choice), default=0) > 0 for choice in every]] = -np.inf
    found = own.front(scores)
    assert len(found) > 3
    for choice, value in found:
        assert value == score[every.index(choice)]
        assert not (score[ms <= own.costs(choice)["ms"]] > value).any()
    assert found[-1][1] == score.max()
    assert own.costs(found[0][0])["ms"] == ms[np.isfinite(score)].min()
    del scores[0.8]
    assert {choice[6] for choice, _ in own.front(scores)} == {1}


def test_which_cost_a_front_is_over():
    assert _space().by == "ms" and _space().is_bounded
    without = {1.0: {name: _sums(0)[name] for name in ("parameters", "macs")}}
    for limits, by in (({}, "macs"), ({"parameters": 9e9}, "parameters")):
        own = space.Space(_BRANCHES, without, limits)
        assert own.by == by and own.is_bounded == bool(limits)


def test_a_limit_out_of_reach_names_the_least_value():
    own = _space({"ms": 1.0})
    least = min(own.costs(choice)["ms"] for choice in _EVERY)
    with pytest.raises(ValueError, match="keeps max_ms=1. Within reach is ") as error:
        own.check()
    named = float(str(error.value).split("max_ms ")[1].split(";")[0])
    assert least <= named < least + 0.001
    _space({"ms": named}).check()


def test_limits_that_only_one_by_one_can_be_kept():
    ms, macs = (
        min(_space().costs(choice)[name] for choice in _EVERY)
        for name in ("ms", "macs")
    )
    limits = {"ms": ms + 1e-9, "macs": macs}
    own = _space(limits)
    assert not own.number_within  # The fastest network does not have the fewest MACs.
    with pytest.raises(ValueError, match="each while the others are kept") as error:
        own.check()
    cheap = [c for c in _EVERY if own.costs(c)["macs"] <= macs]
    named = float(str(error.value).split("max_ms ")[1].split(",")[0])
    assert named == pytest.approx(min(own.costs(c)["ms"] for c in cheap), abs=0.001)
