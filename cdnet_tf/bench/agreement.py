"""Measures how well scores of genotypes agree: two seeds, or a predictor and the truth.

Seeds and search strategies are judged by the same functions, so that their numbers can
be compared. The first axis of all arrays is the genotypes. `within` is a label of each
genotype, such as its depth; only genotypes with the same label are then compared with
each other. NumPy and SciPy only.
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
_ENDS = (0.025, 0.975)  # quantiles at the ends of an interval


class Estimate(NamedTuple):
    """A value, and its 95 % interval."""

    value: float
    low: float
    high: float

    def text(self) -> str:
        """Returns the value with its interval, for a table."""
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


class Variances(NamedTuple):
    """The variances of trainings between genotypes and between seeds.

    Attributes:
      between: variance of the genotypes' true means; an estimate, which may be below 0.
      noise: variance between seeds of one genotype.
      genotypes_df, seeds_df: degrees of freedom of the two.
      seeds: number of seeds of a genotype; a mean if genotypes have different numbers.
    """

    between: float
    noise: float
    genotypes_df: int
    seeds_df: int
    seeds: float

    @property
    def icc(self) -> Estimate:
        """ICC(1,1): the share of the variance that is between genotypes.

        It is also the correlation of two seeds: 1 if seeds agree, about 0 if all is
        noise. The interval is that of the F distribution (Shrout and Fleiss,
        Psychological Bulletin 1979). A bootstrap would draw some genotypes twice, and
        so underestimate the variance between genotypes.
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
      p_value: share of the bootstrap's draws in which the gain is 0 or less.
    """

    gain: Estimate
    p_value: float


def tau(scores: Values, truth: Values, within: Values | None = None) -> float:
    """Returns Kendall's tau-b of two rankings.

    It is the number of pairs of genotypes in the same order minus pairs in the opposite
    order, over the geometric mean of the numbers of pairs that differ in each of the
    two rankings (Kendall, 1945).

    Args:
      scores: (g,); NaN if a genotype has no score.
      truth: (g,), like `scores`.
      within: (g,) labels.

    Returns:
      -1..1; NaN if no pair differs.
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
    """Returns the order of each pair as 1, 0 or -1: (n,) -> (n, n)."""
    return np.sign(values[:, np.newaxis] - values)


def seed_tau(scores: np.ndarray, within: Values | None = None) -> float:
    """Returns the mean `tau` of two seeds, over all pairs of seeds.

    Args:
      scores: (g, s), a column for each seed; NaN if a genotype lacks a seed.
      within: (g,) labels.
    """
    pairs = itertools.combinations(np.asarray(scores, float).T, 2)
    found = np.array([tau(first, second, within) for first, second in pairs])
    found = found[~np.isnan(found)]
    return float(found.mean()) if len(found) else np.nan


def variances(scores: np.ndarray, within: Values | None = None) -> Variances:
    """Splits the variance by one-way analysis of variance over the genotypes.

    With `within`, genotypes are compared with the mean of their label. Genotypes may
    have different numbers of seeds (Searle, Linear Models, chapter 11).

    Args:
      scores: (g, s); NaN if a genotype lacks a seed.
      within: (g,) labels.

    Returns:
      The variances; NaN if they cannot be estimated, because no genotype has two seeds,
      or no label has two genotypes.
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
    """Computes a statistic, with its 95 % interval by a bootstrap over the genotypes.

    Args:
      statistic: a function of this module, or any other function of arrays.
      *arrays: arguments of the statistic, genotypes along their first axis, or None.
      draws: number of draws, each of as many genotypes as there are, with replacement.
      seed: seed of the draws, non-negative.

    Returns:
      The value and its interval. Draws in which the statistic is NaN are left out; if
      all are, the ends of the interval are NaN.
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
      draws: number of draws, each of as many genotypes as there are, with replacement.
      seed: seed of the draws, non-negative.
    """

    def gain(first, second, truth, within):
        return tau(first, truth, within) - tau(second, truth, within)

    arrays = first, second, truth, within
    found = _bootstrap(gain, arrays, draws, seed)
    p_value = float((found <= 0).mean()) if len(found) else np.nan
    return Comparison(_estimate(gain(*arrays), found), p_value)


def _bootstrap(statistic, arrays, draws: int, seed: int) -> np.ndarray:
    """Returns the statistic of each draw, without draws in which it is NaN."""
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
