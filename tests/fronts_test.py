"""Fronts and their hypervolume, by hand, by brute force and against pymoo."""

import numpy as np
import pytest
from pymoo.indicators.hv import HV

from cdnet_tf.bench import fronts


def test_front_of_a_few_points():
    # (1, 0.2) twice, and (2, 0.5): nothing else is as cheap or as good.
    costs = [5, 1, 1, 3, 2, 4]
    scores = [0.1, 0.2, 0.2, 0.3, 0.5, 0.5]
    assert fronts.pareto(costs, scores).tolist() == [1, 4]


@pytest.mark.parametrize("seed", range(3))
def test_front_is_what_nothing_beats(seed):
    # Small integers, so that there are equal costs and equal scores.
    costs, scores = np.random.default_rng(seed).integers(0, 12, (2, 60))
    no_worse = (costs <= costs[:, None]) & (scores >= scores[:, None])
    better = (costs < costs[:, None]) | (scores > scores[:, None])
    unbeaten = ~(no_worse & better).any(axis=1)
    found = fronts.pareto(costs, scores)
    pairs = set(zip(costs[found], scores[found]))
    assert pairs == set(zip(costs[unbeaten], scores[unbeaten]))
    assert len(pairs) == len(found)
    assert (np.diff(costs[found]) > 0).all() and (np.diff(scores[found]) > 0).all()


def test_no_networks_have_no_front():
    assert len(fronts.pareto([], [])) == 0
    assert fronts.hypervolume([], [], 1, 0) == 0


def test_spread_keeps_both_ends():
    costs = np.array([1.0, 1.1, 1.2, 4.9, 5.2, 9.0])
    # 1, 5 and 9 are wanted.
    assert fronts.spread(costs, 3).tolist() == [0, 3, 5]
    assert fronts.spread(costs, 6).tolist() == list(range(6))
    # 0, 3.3, 6.7 and 10 are wanted, and 10 is the nearest to two of them.
    assert fronts.spread([0, 0.1, 0.2, 0.3, 0.5, 10], 4).tolist() == [0, 4, 5]


def test_hypervolume_by_hand():
    # (1, 2) beats 3 x 2 below cost 4; (3, 5) another 1 x 3. (2, 1) is beaten.
    assert fronts.hypervolume([3, 1, 2], [5, 2, 1], 4, 0) == 6 + 3


def test_points_beyond_the_ends_count_nothing():
    assert fronts.hypervolume([1, 5, 0.5], [2, 9, -1], 4, 0) == 6


@pytest.mark.parametrize("seed", range(3))
def test_hypervolume_is_that_of_pymoo(seed):
    costs, scores = np.random.default_rng(seed).uniform(0, 10, (2, 40))
    theirs = HV(ref_point=np.array([8.0, -3.0]))(np.column_stack([costs, -scores]))
    assert fronts.hypervolume(costs, scores, 8, 3) == pytest.approx(theirs)
