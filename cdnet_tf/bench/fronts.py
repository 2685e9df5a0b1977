"""Fronts of networks: those that no other one beats in both its cost and its score.

How good a front is, its hypervolume says in one number. Fronts of several searches are
compared by `proof.compare`, of which each search gets one hypervolume.
"""

from __future__ import annotations

import numpy as np

from cdnet_tf.bench.agreement import Values


def pareto(costs: Values, scores: Values) -> np.ndarray:
    """Returns which networks are on the front, the cheapest first.

    Args:
      costs: (n,), to be small.
      scores: (n,), to be large.

    Returns:
      (m,) indices. Along them cost and score both rise; of networks that are equal in
      both the first one is taken.
    """
    costs, scores = np.asarray(costs, float), np.asarray(scores, float)
    order = np.lexsort((-scores, costs))
    best_so_far = np.maximum.accumulate(scores[order])
    better = np.diff(best_so_far, prepend=-np.inf) > 0
    return order[better]


def spread(costs: Values, count: int) -> np.ndarray:
    """Chooses points of a front whose costs are about evenly spaced.

    Args:
      costs: (n,) of a front, in ascending order.
      count: of points, at least 2; all are taken where there are no more.

    Returns:
      (m,) ascending indices, m at most `count`; the first point and the last are among
      them.
    """
    costs = np.asarray(costs, float)
    if len(costs) <= count:
        return np.arange(len(costs))
    wanted = np.linspace(costs[0], costs[-1], count)
    return np.unique(np.abs(costs - wanted[:, np.newaxis]).argmin(axis=1))


def hypervolume(
    costs: Values, scores: Values, worst_cost: float, worst_score: float
) -> float:
    """The area of what networks beat, up to a worst cost and down to a worst score.

    A point (cost, score) beats everything that costs as much or more and scores as low
    or lower. Networks beyond either end add nothing, and no network takes anything away
    (Zitzler and Thiele, 1999).

    Args:
      costs: (n,), to be small, such as milliseconds.
      scores: (n,), to be large, such as mAP in %.
      worst_cost: such as the limit of the searches that are compared.
      worst_score: such as the mAP of the worst network of all searches.

    Returns:
      In units of cost times score, 0 for no network. Only areas with the same worst
      cost and worst score can be compared.
    """
    costs, scores = np.asarray(costs, float), np.asarray(scores, float)
    counted = (costs < worst_cost) & (scores > worst_score)
    costs, scores = costs[counted], scores[counted]
    front = pareto(costs, scores)
    gained = np.diff(scores[front], prepend=worst_score)
    return float(((worst_cost - costs[front]) * gained).sum())
