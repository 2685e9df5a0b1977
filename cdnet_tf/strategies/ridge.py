"""Predicts a network's score from the kernels and repeats of its blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn import linear_model

from cdnet_tf.nn import genotype
from cdnet_tf.strategies.space import Sum

# The values that k1, k2 and r of a block may have; there is a one-hot for each value.
_LEVELS = tuple(sorted(set(column)) for column in zip(*genotype.CDS))
_FREE = 100.0  # a one-hot so large that a ridge hardly shrinks its weight
_STRENGTHS = np.logspace(-3, 3, 13)


def features(networks: Sequence[genotype.Genotype]) -> np.ndarray:
    """Returns one-hots of k1, k2 and r of each block, (n, 6 * 8) floats."""
    rows = [
        [
            float(value == level)
            for branch in network.layers
            for value, levels in zip(branch, _LEVELS)
            for level in levels
        ]
        for network in networks
    ]
    return np.array(rows)


class Ridge:
    """A ridge regression whose strength is chosen by leave-one-out cross-validation.

    A prediction is a sum over the blocks, without interactions of two blocks.

    Args:
      networks: n networks, at least 2.
      scores: their scores, (n,).
      known: another predictor of the scores, (n,), such as the scores of a supernet. It
        is scaled to the variance that all one-hots have together, so that the ridge
        does not shrink it more than these.
      widths: width multipliers of the networks, (n,). A width adds far more than a
        branch, so the ridge hardly shrinks what it adds.
    """

    def __init__(
        self,
        networks: Sequence[genotype.Genotype],
        scores: Sequence[float],
        known: Sequence[float] | None = None,
        widths: Sequence[float] | None = None,
    ) -> None:
        self._levels = sorted(set(widths or ()))
        self._model = linear_model.RidgeCV(_STRENGTHS)
        self._scale = 0.0, 1.0
        rows = features(networks)
        if known is not None:
            factor = np.sqrt(rows.var(0).sum()) / (np.std(known) or 1.0)
            self._scale = float(np.mean(known)), float(factor)
        self._model.fit(self._rows(networks, known, widths), np.asarray(scores))

    def predict(
        self,
        networks: Sequence[genotype.Genotype],
        known: Sequence[float] | None = None,
        widths: Sequence[float] | None = None,
    ) -> np.ndarray:
        """Returns predicted scores, (n,); `known` and `widths` are as in the fit."""
        return self._model.predict(self._rows(networks, known, widths))

    def _rows(self, networks, known, widths) -> np.ndarray:
        columns = [features(networks)]
        if widths is not None:
            columns.append(_FREE * np.equal.outer(widths, self._levels))
        if known is not None:
            mean, factor = self._scale
            columns.append((np.asarray(known) - mean) * factor)
        return np.column_stack(columns)

    def as_sum(
        self, branches: Sequence[genotype.Branch], width: float | None = None
    ) -> Sum:
        """Returns the predicted scores as a sum over blocks, without what `known` adds.

        Args:
          branches: the branches that each block may have.
          width: width multiplier of the networks, if the fit was given widths.
        """
        alone = [genotype.Genotype((each,) * genotype.NUM_BLOCKS) for each in branches]
        one_hots = features(alone).reshape(len(alone), genotype.NUM_BLOCKS, -1)
        ends = one_hots[0].size, one_hots[0].size + len(self._levels)
        of_blocks, of_widths, _ = np.split(self._model.coef_, ends)
        weights = of_blocks.reshape(genotype.NUM_BLOCKS, -1)
        blocks = np.einsum("nbf,bf->bn", one_hots, weights)
        has_width = np.array([float(width == level) for level in self._levels])
        rest = self._model.intercept_ + _FREE * of_widths @ has_width
        return Sum(float(rest), blocks)
