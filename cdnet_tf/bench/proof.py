"""Whether one way of searching finds better networks than another.

A search is one draw, however often the network that it found is trained: so each search
counts as one number, the mean over the trainings of its network, and searches are
compared with searches.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np

from cdnet_tf.bench.agreement import Estimate, Values

_MOST_SPLITS = 200_000
_DRAWS = 10_000


class Gain(NamedTuple):
    """How much better the networks of one kind of search are.

    Attributes:
      gain: difference of the means over searches, with its 95 % interval.
      p_value: of the one-sided permutation test: how often a split of the searches at
        random gives such a gain or a greater one.
    """

    gain: Estimate
    p_value: float


def compare(ours: Values, theirs: Values, seed: int = 0) -> Gain:
    """Compares two groups of independent searches.

    Args:
      ours: (n,), a number for each search, such as the mean test mAP of its network.
      theirs: (m,), of the other kind of search.
      seed: of what is drawn: the bootstrap over searches, and the splits where there
        are more than 200,000.

    Raises:
      ValueError: a group is empty.
    """
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    if not (len(ours) and len(theirs)):
        raise ValueError(f"{len(ours)} and {len(theirs)} searches; both need one.")
    random = np.random.default_rng(seed)
    gain = ours.mean() - theirs.mean()
    drawn = [random.choice(group, (_DRAWS, len(group))) for group in (ours, theirs)]
    gains = drawn[0].mean(1) - drawn[1].mean(1)
    low, high = np.quantile(gains, (0.025, 0.975))
    everyone = np.concatenate([ours, theirs])
    sums = _sums_of_splits(everyone, len(ours), random)
    # Rounding must not make the split that was observed the rarer.
    at_least = sums >= ours.sum() - 1e-9 * np.abs(everyone).sum()
    estimate = Estimate(float(gain), float(low), float(high))
    return Gain(estimate, float(at_least.mean()))


def _sums_of_splits(
    values: np.ndarray, size: int, random: np.random.Generator
) -> np.ndarray:
    """The sum of `size` of the values, for all ways to take them, or for many."""
    if math.comb(len(values), size) <= _MOST_SPLITS:
        splits = itertools.combinations(values, size)
        return np.array([math.fsum(split) for split in splits])
    orders = random.permuted(np.tile(values, (_MOST_SPLITS, 1)), axis=1)
    return orders[:, :size].sum(1)


def beyond_cost(
    values: Values, macs: Values, table_values: Values, table_macs: Values
) -> np.ndarray:
    """What networks have beyond others of as many MACs, by a line through a table.

    Args:
      values: (n,), such as the mean test mAP of networks.
      macs: (n,), of the same networks.
      table_values: (m,), of networks that were not chosen for being good.
      table_macs: (m,).

    Returns:
      (n,) the values less those on the least-squares line of value over log MACs.
    """
    line = np.polyfit(np.log(table_macs), np.asarray(table_values, float), 1)
    return np.asarray(values, float) - np.polyval(line, np.log(macs))
