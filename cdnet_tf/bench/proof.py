"""Tests whether one way of searching finds better networks than another.

A search is a single draw, however often the network that it found is trained. So each
search counts as one number, the mean over the trainings of its network.
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
      p_value: from the one-sided permutation test: the share of random splits of the
        searches that give such a gain or a greater one.
    """

    gain: Estimate
    p_value: float


def compare(ours: Values, theirs: Values, seed: int = 0) -> Gain:
    """Compares two groups of independent searches.

    Args:
      ours: (n,), a number for each search, such as the mean test mAP of its network.
      theirs: (m,), of the other kind of search.
      seed: seed of the bootstrap over searches, and of the splits if there are more
        than 200,000.

    Raises:
      ValueError: a group is empty.
    """
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    if not (len(ours) and len(theirs)):
        raise ValueError(
            f"The groups have {len(ours)} and {len(theirs)} searches; both need one."
        )
    random = np.random.default_rng(seed)
    gain = ours.mean() - theirs.mean()
    drawn = [random.choice(group, (_DRAWS, len(group))) for group in (ours, theirs)]
    gains = drawn[0].mean(1) - drawn[1].mean(1)
    low, high = np.quantile(gains, (0.025, 0.975))
    everyone = np.concatenate([ours, theirs])
    sums = _sums_of_splits(everyone, len(ours), random)
    # The tolerance makes sure that the observed split counts in spite of rounding.
    at_least = sums >= ours.sum() - 1e-9 * np.abs(everyone).sum()
    estimate = Estimate(float(gain), float(low), float(high))
    return Gain(estimate, float(at_least.mean()))


def _sums_of_splits(
    values: np.ndarray, size: int, random: np.random.Generator
) -> np.ndarray:
    """Returns the sum of `size` of the values, for all or many ways to choose them."""
    if math.comb(len(values), size) <= _MOST_SPLITS:
        splits = itertools.combinations(values, size)
        return np.array([math.fsum(split) for split in splits])
    orders = random.permuted(np.tile(values, (_MOST_SPLITS, 1)), axis=1)
    return orders[:, :size].sum(1)
