"""Finds fronts of networks: those that no other network beats in cost and score.

The hypervolume of a front says in one number how good it is. `proof.compare` compares
the hypervolumes of several searches.
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
      (m,) indices, along which cost and score both rise. Of networks that are equal in
      both, the first is taken.
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
      count: number of points, at least 2. If there are no more, all are taken.

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
    """Returns the area that networks beat, within a worst cost and a worst score.

    A network beats all points that cost as much or more and score as low or lower.
    Networks beyond either end add nothing, and no network takes anything away
    (Zitzler and Thiele, 1999).

    Args:
      costs: (n,), to be small, such as milliseconds.
      scores: (n,), to be large, such as mAP in %.
      worst_cost: for instance the limit of the searches that are compared.
      worst_score: for instance the mAP of the worst network of all searches.

    Returns:
      The area in units of cost times score; 0 if there is no network. Only areas with
      the same worst cost and worst score can be compared.
    """
    costs, scores = np.asarray(costs, float), np.asarray(scores, float)
    counted = (costs < worst_cost) & (scores > worst_score)
    costs, scores = costs[counted], scores[counted]
    front = pareto(costs, scores)
    gained = np.diff(scores[front], prepend=worst_score)
    return float(((worst_cost - costs[front]) * gained).sum())
