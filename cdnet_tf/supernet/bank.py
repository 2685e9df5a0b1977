"""A bank of candidate CBlocks: matrices whose rows are the weights of the candidates.

A step gathers the rows of the chosen candidate, and gradients, momentum and weight
decay change these rows only. If every candidate has its own rows, a step of candidate 2
leaves the rows of all others untouched. `sharing` says which rows a candidate has, and
`branches` runs them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from cdnet_tf.nn import blocks
from cdnet_tf.supernet import branches, packing, sharing

_LAST_SCALE = "restore/bn/gamma"


@tf.keras.utils.register_keras_serializable(package="cdnet_tf")
class Bank(tf.keras.layers.Layer):
    """The candidate CBlocks of one place in the network.

    Args:
      lites: (Lites in stream 1, in stream 2) of each candidate.
      c_in, c_out: channels; c_out divisible by 16.
      seed: of the initial weights.
      shared: the weights that candidates share, one of `sharing.SHARING`.
    """

    def __init__(
        self,
        lites: Sequence[tuple[int, int]],
        c_in: int,
        c_out: int,
        seed: int = 0,
        shared: str = "branch",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.lites = tuple((first, second) for first, second in lites)
        self.c_in, self.c_out, self.seed, self.shared = c_in, c_out, seed, shared
        self._rows_of = sharing.rows(self.lites, shared)
        self._structure = [branches.STRUCTURES.index(pair) for pair in self.lites]

        self._body_shapes = packing.body_shapes(c_in, c_out, c_in != c_out)
        self._lite_shapes = packing.lite_shapes(c_out // 4)
        random = np.random.default_rng(seed)
        rows, lite_rows = self._rows_of.counts
        self.body_rows = self._rows("body", rows, self._body_shapes, random)
        self.lite_rows = self._rows("lites", lite_rows, self._lite_shapes, random)
        self.body_statistics, self.lite_statistics = (
            self._rows(
                f"{name}_statistics",
                count,
                packing.statistics_shapes(shapes),
                random,
                # As in Keras' BatchNormalization, each replica moves its own copy, and
                # reading gives the mean of all copies.
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.MEAN,
            )
            for name, count, shapes in (
                ("body", rows, self._body_shapes),
                ("lites", lite_rows, self._lite_shapes),
            )
        )

    def _rows(
        self,
        name: str,
        count: int,
        shapes: packing.Shapes,
        random: np.random.Generator,
        **options: Any,
    ) -> tf.Variable:
        initial = np.stack([packing.initial_row(shapes, random) for _ in range(count)])
        return self.add_weight(
            name,
            initial.shape,
            tf.float32,
            initializer=lambda shape, dtype=None: tf.constant(initial),
            # BN's statistics and weights stay float32; kernels are cast where used.
            experimental_autocast=False,
            **options,
        )

    def call(
        self, x: Tensor, row: Tensor, training: bool, learn_weights: bool
    ) -> Tensor:
        """Runs one candidate.

        Args:
          x: (b, h, w, c_in).
          row: scalar int32, the candidate; -1 passes x through.
          training: normalise by the batch and move the statistics.
          learn_weights: whether gradients flow to x and the weights, or to x alone.

        Returns:
          (b, h, w, c_out).
        """
        functions = branches.cblock_functions(
            self.c_in != self.c_out, self.compute_dtype
        )
        present = tf.cast(row >= 0, tf.int32)
        index = tf.where(
            row >= 0, tf.gather(self._structure, row * present), branches.IDENTITY
        )
        where = self._where(row * present, present)
        body, lites = map(tf.gather, (self.body_rows, self.lite_rows), where)
        if not learn_weights:
            body, lites = tf.stop_gradient(body), tf.stop_gradient(lites)
        if not training:
            moving = map(tf.gather, (self.body_statistics, self.lite_statistics), where)
            return functions.infer(index, x, body, lites, self.c_out, *moving)
        y, *statistics = _run(
            functions, index, x, body, lites, self.c_out, learn_weights
        )
        for variable, rows, batch in zip(
            (self.body_statistics, self.lite_statistics), where, statistics
        ):
            self._move(variable, rows, batch)
        return y

    def _where(self, row: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Returns a candidate's rows of the body and of Lites; none if not present."""
        counts = np.array([len(own) for own in self._rows_of.lites], np.int32)
        padded = np.zeros((len(counts), counts.max()), np.int32)
        for each, own in zip(padded, self._rows_of.lites):
            each[: len(own)] = own
        body = tf.gather(np.array(self._rows_of.body, np.int32), row)
        count = tf.gather(counts, row) * present
        return tf.range(body, body + present), tf.gather(padded, row)[:count]

    def _move(self, variable: tf.Variable, rows: Tensor, batch: Tensor) -> None:
        """Moves the exponential averages of the rows that ran."""
        batch = tf.reshape(batch, [-1, variable.shape[1]])
        change = (1 - blocks.BN_MOMENTUM) * (batch - tf.gather(variable, rows))
        variable.assign_add(tf.scatter_nd(rows[:, None], change, variable.shape))

    def zero_init_residual(self) -> None:
        """Sets the scale of each candidate's last BN to 0."""
        sizes = {name: math.prod(shape) for name, shape in self._body_shapes.items()}
        names = list(sizes)
        start = sum(sizes[name] for name in names[: names.index(_LAST_SCALE)])
        rows = self.body_rows.numpy()
        rows[:, start : start + sizes[_LAST_SCALE]] = 0
        self.body_rows.assign(rows)

    def unpacked(self, row: int) -> dict[str, np.ndarray]:
        """Returns weights and statistics of one candidate, named as in `blocks.cblock`.

        They have the shapes of `packing`; the caller reshapes them to the layers'.
        """
        first, second = self.lites[row]
        names = [f"lite{2 * first + 1}_{i + 1}" for i in range(first)]
        names += [f"lite{2 * second + 1}_{i + 1}" for i in range(second)]
        body_row, lite_rows = self._rows_of.body[row], self._rows_of.lites[row]
        named = {}
        for variables, moving in (
            ((self.body_rows, self.lite_rows), False),
            ((self.body_statistics, self.lite_statistics), True),
        ):
            body, lites = (variable.numpy() for variable in variables)
            parts = [("", body[body_row], self._body_shapes)]
            parts += [
                (f"{name}/", lites[i], self._lite_shapes)
                for i, name in zip(lite_rows, names)
            ]
            for prefix, values, shapes in parts:
                shapes = packing.statistics_shapes(shapes) if moving else shapes
                splits = np.cumsum([math.prod(shape) for shape in shapes.values()])
                for name, value in zip(shapes, np.split(values, splits[:-1])):
                    named[prefix + name] = value
        return named

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "lites": self.lites,
            "c_in": self.c_in,
            "c_out": self.c_out,
            "seed": self.seed,
            "shared": self.shared,
        }


def _run(
    functions: branches.CBlockFunctions,
    index: Tensor,
    x: Tensor,
    body: Tensor,
    lites: Tensor,
    channels: int,
    learn_weights: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Runs the chosen CBlock with a custom gradient: (y, body and Lite statistics)."""

    def forward(
        x: Tensor, body: Tensor, lites: Tensor
    ) -> tuple[tuple[Tensor, ...], Callable]:
        result = functions.forward(index, x, body, lites, channels)

        def gradient(dy: Tensor, *_: Tensor) -> list[Tensor]:
            arguments = index, dy, x, body, lites, result.kept
            return functions.backward(*arguments, learn_weights)

        return result[:3], gradient

    if learn_weights:
        return tf.custom_gradient(forward)(x, body, lites)
    return tf.custom_gradient(lambda x: forward(x, body, lites))(x)
