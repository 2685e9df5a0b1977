"""Predicts a network's score from the kernels and repeats of its blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn import linear_model

from cdnet_tf.nn import genotype

# What a network may have in a block, as one-hots: k1, k2, r.
_LEVELS = tuple(sorted(set(column)) for column in zip(*genotype.CDS))
_STRENGTHS = np.logspace(-3, 3, 13)


def features(networks: Sequence[genotype.Genotype]) -> np.ndarray:
    """One-hots of k1, k2 and r of each block, (n, 6 * 8)."""
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
    """A ridge regression whose strength is chosen by leaving one network out.

    It is a sum over the blocks, without what two of them may do together.

    Args:
      networks: at least 2.
      scores: of the networks, (n,).
      known: of the networks, (n,), something else that may tell their score, such as a
        supernet's. It is brought to the variance that all one-hots have together, so
        that the ridge does not shrink it more than them.
    """

    def __init__(
        self,
        networks: Sequence[genotype.Genotype],
        scores: Sequence[float],
        known: Sequence[float] | None = None,
    ) -> None:
        self._model = linear_model.RidgeCV(_STRENGTHS)
        self._scale = 0.0, 1.0
        rows = features(networks)
        if known is not None:
            factor = np.sqrt(rows.var(0).sum()) / (np.std(known) or 1.0)
            self._scale = float(np.mean(known)), float(factor)
        self._model.fit(self._rows(networks, known), np.asarray(scores))

    def predict(
        self,
        networks: Sequence[genotype.Genotype],
        known: Sequence[float] | None = None,
    ) -> np.ndarray:
        """Scores of networks, (n,); `known` as in the fit."""
        return self._model.predict(self._rows(networks, known))

    def _rows(self, networks, known) -> np.ndarray:
        if known is None:
            return features(networks)
        mean, factor = self._scale
        column = (np.asarray(known) - mean) * factor
        return np.column_stack([features(networks), column])

    def best(self, space: Sequence[genotype.Branch]) -> genotype.Genotype:
        """The network of the space that has the highest predicted score."""
        weights = np.split(self._model.coef_, genotype.NUM_BLOCKS)
        width = sum(map(len, _LEVELS))
        alone = [genotype.Genotype((branch,) * genotype.NUM_BLOCKS) for branch in space]
        effects = np.stack([features([g])[0][:width] for g in alone])  # (n, 8)
        return genotype.Genotype(
            tuple(space[int(np.argmax(effects @ block))] for block in weights)
        )
