"""The searchable MBlock, which runs only the chosen branches of a search space.

A branch is one candidate of a first `bank.Bank` of CBlocks and, if it repeats the
CBlock, one candidate of a second bank. Branch (3,5,2) is (3,5) followed by (3,5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from cdnet_tf.nn import genotype
from cdnet_tf.supernet import bank


@tf.custom_gradient
def straight_through_sum(weights: Tensor, *outputs: Tensor) -> tuple[Tensor, Callable]:
    """Adds up the chosen branches, with the gradient of Eqs. 5 to 8.

    Forward, every chosen branch has weight 1 exactly (h). Backward, the gradient flows
    to its probability p as if p were the weight (h_hat = stopgrad(h - p) + p).

    Args:
      weights: probabilities of the chosen branches, (k,).
      *outputs: k tensors of one shape.
    """

    def gradient(dy: Tensor) -> tuple[Tensor, ...]:
        weight_gradients = [
            tf.reduce_sum(tf.cast(dy, tf.float32) * tf.cast(output, tf.float32))
            for output in outputs
        ]
        return tf.stack(weight_gradients), *[dy] * len(outputs)

    return tf.add_n(outputs), gradient


@tf.keras.utils.register_keras_serializable(package="cdnet_tf")
class MBlock(tf.keras.layers.Layer):
    """One searched block: the sum of its k chosen branches (Fig. 3a, Eq. 5).

    Args:
      space: (k1, k2, r) of each branch, as `genotype.CS` or `genotype.CDS`.
      c_in, c_out: channels.
      seed: of the initial weights.
      shared: the weights that branches share, one of `sharing.SHARING`.
    """

    def __init__(
        self,
        space: Sequence[tuple[int, int, int]],
        c_in: int,
        c_out: int,
        seed: int = 0,
        shared: str = "branch",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.space = tuple(genotype.Branch(*branch) for branch in space)
        self.c_in, self.c_out, self.seed, self.shared = c_in, c_out, seed, shared
        options = {"shared": shared, "dtype": self.dtype_policy}
        lites = [branch.lites for branch in self.space]
        self.first = bank.Bank(lites, c_in, c_out, seed, **options)
        repeated = [branch for branch in self.space if branch.repeats == 2]
        # Candidate of each branch in the second bank; -1 if the CBlock is not repeated.
        self._second_row = [
            repeated.index(branch) if branch in repeated else -1
            for branch in self.space
        ]
        self.second = None
        if repeated:
            lites = [branch.lites for branch in repeated]
            self.second = bank.Bank(lites, c_out, c_out, seed + 1, **options)

    def call(
        self,
        x: Tensor,
        chosen: Tensor,
        probabilities: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        """Runs the chosen branches and no others.

        Args:
          x: (b, h, w, c_in).
          chosen: indices of k distinct branches, (k,) int32, k known statically.
          probabilities: softmax of alpha, (n,), in a step of alpha: gradients then flow
            to it and to x. Without it they flow to the weights and to x.
          training: normalise by the batch and move BN's statistics.

        Returns:
          (b, h, w, c_out).
        """
        learn_weights = probabilities is None
        outputs = []
        for branch in tf.unstack(chosen):
            y = self.first(x, branch, training, learn_weights)
            if self.second is not None:
                row = tf.gather(self._second_row, branch)
                y = self.second(y, row, training, learn_weights)
            outputs.append(y)
        if learn_weights:
            return tf.add_n(outputs)
        return straight_through_sum(tf.gather(probabilities, chosen), *outputs)

    def zero_init_residual(self) -> None:
        """Sets the scale of each CBlock's last BN to 0."""
        for rows in (self.first, self.second):
            if rows is not None:
                rows.zero_init_residual()

    def unpacked(self, branch: int) -> dict[str, np.ndarray]:
        """Returns the weights of one branch, named as in `blocks.cdblock`."""
        named = {}
        banks = [(self.first, branch)]
        if self.second is not None and self.space[branch].repeats == 2:
            banks.append((self.second, self._second_row[branch]))
        for i, (rows, row) in enumerate(banks, 1):
            for name, value in rows.unpacked(row).items():
                named[f"cblock{i}/{name}"] = value
        return named

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "space": self.space,
            "c_in": self.c_in,
            "c_out": self.c_out,
            "seed": self.seed,
            "shared": self.shared,
        }
