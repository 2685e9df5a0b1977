"""How well scores of genotypes agree: of two seeds, or of a predictor with the truth.

Seeds and search strategies are judged by the same functions, so that their numbers can
stand side by side. Every function takes arrays whose first axis is the genotypes, and
`within`, a label of each genotype such as its depth: then only genotypes with the same
label are compared with each other. NumPy and SciPy only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

Values = Sequence[float] | np.ndarray
_DRAWS = 2000
_ENDS = (0.025, 0.975)  # of an interval, as quantiles


class Estimate(NamedTuple):
    """A value, and its 95 % interval."""

    value: float
    low: float
    high: float


class Variances(NamedTuple):
    """Where the differences between trainings come from.

    Attributes:
      between: variance of the genotypes' true means; an estimate, which may be below 0.
      noise: variance of the seeds of one genotype.
      genotypes_df, seeds_df: degrees of freedom of the two.
      seeds: of a genotype; where their numbers differ, a mean.
    """

    between: float
    noise: float
    genotypes_df: int
    seeds_df: int
    seeds: float

    @property
    def icc(self) -> Estimate:
        """ICC(1,1): the share of the variance that is the genotypes'.

        It is also the correlation of two seeds: 1 where seeds agree, about 0 where all
        is noise. The interval is that of the F distribution (Shrout and Fleiss,
        Psychological Bulletin 1979), because a bootstrap draws genotypes twice, which
        vary less than different ones.
        """
        if not (self.between + self.noise) > 0:
            return Estimate(math.nan, math.nan, math.nan)
        value = self.between / (self.between + self.noise)
        if not self.noise:
            return Estimate(value, value, value)
        ratio = 1 + self.seeds * self.between / self.noise
        degrees = self.genotypes_df, self.seeds_df
        ratios = ratio / stats.f.ppf(_ENDS[::-1], *degrees)
        low, high = (ratios - 1) / (ratios - 1 + self.seeds)
        return Estimate(value, float(low), float(high))


class Comparison(NamedTuple):
    """How much better one predictor is than another.

    Attributes:
      gain: the difference of their taus.
      p_value: share of the bootstrap's draws in which the gain is not above 0.
    """

    gain: Estimate
    p_value: float


def tau(scores: Values, truth: Values, within: Values | None = None) -> float:
    """Kendall's tau-b of two rankings.

    Pairs of genotypes in the same order less pairs in the opposite order, over the
    geometric mean of the pairs that differ in the one and in the other (Kendall, 1945).

    Args:
      scores: (g,); NaN where a genotype has none.
      truth: (g,), as `scores`.
      within: (g,) labels.

    Returns:
      -1..1; NaN where no pair differs.
    """
    scores, truth = np.asarray(scores, float), np.asarray(truth, float)
    known = ~np.isnan(scores + truth)
    first, second = (_orders(x[known]) for x in (scores, truth))
    if within is not None:
        same = np.asarray(within)[known]
        pairs = same[:, np.newaxis] == same
        first, second = first * pairs, second * pairs
    differing = np.count_nonzero(first) * np.count_nonzero(second)
    return float((first * second).sum() / np.sqrt(differing)) if differing else np.nan


def _orders(values: np.ndarray) -> np.ndarray:
    """Of each pair: 1, 0 or -1. (n,) -> (n, n)."""
    return np.sign(values[:, np.newaxis] - values)


def seed_tau(scores: np.ndarray, within: Values | None = None) -> float:
    """`tau` of one seed with another, the mean over all pairs of seeds.

    Args:
      scores: (g, s), a column for each seed; NaN where a genotype lacks one.
      within: (g,) labels.
    """
    pairs = itertools.combinations(np.asarray(scores, float).T, 2)
    found = np.array([tau(first, second, within) for first, second in pairs])
    found = found[~np.isnan(found)]
    return float(found.mean()) if len(found) else np.nan


def variances(scores: np.ndarray, within: Values | None = None) -> Variances:
    """Splits the variance by one-way analysis of variance over the genotypes.

    With `within` the genotypes' means are taken relative to their label's. Genotypes
    may have any numbers of seeds (Searle, Linear Models, chapter 11).

    Args:
      scores: (g, s); NaN where a genotype lacks a seed.
      within: (g,) labels.

    Returns:
      NaN where a variance cannot be estimated: no genotype has two seeds, or no label
      two genotypes.
    """
    scores = np.asarray(scores, float)
    labels = np.zeros(len(scores)) if within is None else np.asarray(within)
    known = ~np.isnan(scores).all(axis=1)
    scores, labels = scores[known], labels[known]
    counts, means = (~np.isnan(scores)).sum(axis=1), np.nanmean(scores, axis=1)
    groups = [labels == label for label in np.unique(labels)]
    spare = counts.sum() - len(counts), len(counts) - len(groups)
    if not all(spare):
        return Variances(np.nan, np.nan, *spare[::-1], np.nan)
    noise = np.nansum((scores - means[:, np.newaxis]) ** 2) / spare[0]
    around, weight = 0.0, float(counts.sum())
    for own in groups:
        centre = np.average(means[own], weights=counts[own])
        around += (counts[own] * (means[own] - centre) ** 2).sum()
        weight -= (counts[own] ** 2).sum() / counts[own].sum()
    seeds = weight / spare[1]
    between = (around / spare[1] - noise) / seeds
    return Variances(float(between), float(noise), *spare[::-1], seeds)


def estimate(
    statistic: Callable[..., float],
    *arrays: Values | None,
    draws: int = _DRAWS,
    seed: int = 0,
) -> Estimate:
    """Computes a statistic, and its interval by a bootstrap over the genotypes.

    Args:
      statistic: of this module, or any function of arrays.
      *arrays: its arguments, genotypes along their first axis, or None.
      draws: of as many genotypes as there are, with replacement.
      seed: of the draws, non-negative.

    Returns:
      NaN ends where the statistic is NaN in all draws; in some, it is left out.
    """
    found = _bootstrap(statistic, arrays, draws, seed)
    return _estimate(statistic(*arrays), found)


def compare(
    first: Values,
    second: Values,
    truth: Values,
    within: Values | None = None,
    *,
    draws: int = _DRAWS,
    seed: int = 0,
) -> Comparison:
    """Compares two predictors of the same genotypes by a paired bootstrap.

    Args:
      first, second: scores of the predictors, (g,).
      truth: (g,).
      within: (g,) labels.
      draws: of as many genotypes as there are, with replacement.
      seed: of the draws, non-negative.
    """

    def gain(first, second, truth, within):
        return tau(first, truth, within) - tau(second, truth, within)

    arrays = first, second, truth, within
    found = _bootstrap(gain, arrays, draws, seed)
    p_value = float((found <= 0).mean()) if len(found) else np.nan
    return Comparison(_estimate(gain(*arrays), found), p_value)


def _bootstrap(statistic, arrays, draws: int, seed: int) -> np.ndarray:
    """The statistic of each draw, those left out in which it is NaN."""
    given = [None if each is None else np.asarray(each) for each in arrays]
    rng = np.random.default_rng(seed)
    genotypes = len(next(each for each in given if each is not None))
    found = []
    for chosen in rng.integers(genotypes, size=(draws, genotypes)):
        found.append(
            statistic(*(None if each is None else each[chosen] for each in given))
        )
    values = np.array(found)
    return values[~np.isnan(values)]


def _estimate(value: float, found: np.ndarray) -> Estimate:
    if not len(found):
        return Estimate(value, np.nan, np.nan)
    low, high = np.quantile(found, _ENDS)
    return Estimate(value, float(low), float(high))
