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
    """

    def __init__(
        self, networks: Sequence[genotype.Genotype], scores: Sequence[float]
    ) -> None:
        self._model = linear_model.RidgeCV(_STRENGTHS)
        self._model.fit(features(networks), np.asarray(scores))

    def predict(self, networks: Sequence[genotype.Genotype]) -> np.ndarray:
        """Scores of networks, (n,)."""
        return self._model.predict(features(networks))

    def best(self, space: Sequence[genotype.Branch]) -> genotype.Genotype:
        """The network of the space that has the highest predicted score."""
        weights = np.split(self._model.coef_, genotype.NUM_BLOCKS)
        width = sum(map(len, _LEVELS))
        alone = [genotype.Genotype((branch,) * genotype.NUM_BLOCKS) for branch in space]
        effects = np.stack([features([g])[0][:width] for g in alone])  # (n, 8)
        return genotype.Genotype(
            tuple(space[int(np.argmax(effects @ block))] for block in weights)
        )
