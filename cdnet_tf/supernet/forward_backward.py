"""One function, split into a forward half and a backward half.

A `Case` op runs the branch that is chosen at run time. Its automatic gradient would
carry the intermediate results of all the other branches. So the forward half returns
what the backward half needs, and the backward half is traced separately.

The network is written only once, because the backward half runs the same Python again
under a gradient tape. In `y = ops.relu(x)`, the forward half computes y and keeps it;
the backward half returns the kept y and attaches the gradient of the ReLU to it. What
computes x is dead code then, and TensorFlow drops it: only the gradient remains.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from cdnet_tf.nn import blocks

_EMPTY = np.zeros(0, np.float32)


class Choice(Protocol):
    """Several functions, one of which runs; `chosen.Chosen` has these methods."""

    @property
    def kept_types(self) -> list[tf.DType]: ...

    def forward(
        self, index: Tensor, *inputs: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]: ...

    def backward(
        self,
        index: Tensor,
        dy: Tensor,
        inputs: Sequence[Tensor],
        kept: Sequence[Tensor],
        learn_weights: bool,
    ) -> list[Tensor]: ...

    def infer(self, index: Tensor, *inputs: Tensor) -> Tensor: ...


class Forward:
    """Forward half: keeps the tensors that the backward half will ask for, in order.

    Attributes:
      kept: tensors by dtype. With one list per dtype it is easy to pad the outputs of
        functions that keep different numbers of tensors to one signature.
      statistics: (mean, variance) of each batch normalisation, in order.
      chosen_statistics: the outputs of the function in `choose` after the features.
    """

    def __init__(self) -> None:
        self.kept: dict[tf.DType, list[Tensor]] = {}
        self.statistics: list[tuple[Tensor, Tensor]] = []
        self.chosen_statistics: list[Tensor] = []

    def choose(self, functions: Choice, index: Tensor, *inputs: Tensor) -> Tensor:
        """Runs one of several functions, each with its own halves; keeps its result."""
        (y, *self.chosen_statistics), kept = functions.forward(index, *inputs)
        for tensor in kept:
            self.keep(tensor)
        return self.keep(y)

    def keep(self, tensor: Tensor) -> Tensor:
        self.kept.setdefault(tensor.dtype, []).append(tensor)
        return tensor

    def relu(self, x: Tensor) -> Tensor:
        return self.keep(tf.nn.relu(x))

    def batch_norm(
        self, x: Tensor, gamma: Tensor, beta: Tensor, activate: bool
    ) -> Tensor:
        """Normalises by the batch's statistics; `activate` adds a ReLU."""
        y, mean, variance, *reserve = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=gamma,
            offset=beta,
            mean=_EMPTY,
            variance=_EMPTY,
            epsilon=blocks.BN_EPSILON,
            is_training=True,
        )
        self.statistics.append((mean, variance))
        for tensor in reserve:
            self.keep(tensor)
        return self.relu(y) if activate else y


class Backward:
    """Backward half: returns the kept tensors with the gradients attached to them.

    Args:
      kept: `Forward.kept` of the forward half.
      learn_weights: whether `choose` gives gradients of all inputs or of the first.
    """

    def __init__(
        self, kept: dict[tf.DType, list[Tensor]], learn_weights: bool = True
    ) -> None:
        self._kept = {dtype: list(tensors) for dtype, tensors in kept.items()}
        self._learn_weights = learn_weights

    def choose(self, functions: Choice, index: Tensor, *inputs: Tensor) -> Tensor:
        """Returns the kept result with the gradient of the chosen function."""
        kept = [self._next(dtype) for dtype in functions.kept_types]
        y = self._next(inputs[0].dtype)
        sources = inputs if self._learn_weights else inputs[:1]
        # TensorFlow never frees a gradient, and it must not keep the functions alive.
        functions = weakref.proxy(functions)

        def gradient(dy: Tensor) -> list[Tensor]:
            return functions.backward(index, dy, inputs, kept, self._learn_weights)

        return self._attach(gradient, y, *sources)

    def _next(self, dtype: tf.DType) -> Tensor:
        return self._kept[dtype].pop(0)

    def _attach(self, gradient: Callable, value: Tensor, *inputs: Tensor) -> Tensor:
        """Returns `value`, with `gradient` as its gradient of the inputs."""
        attached = tf.custom_gradient(lambda *_: (tf.identity(value), gradient))
        return attached(*inputs)

    def keep(self, tensor: Tensor) -> Tensor:
        return self._attach(lambda dy: dy, self._next(tensor.dtype), tensor)

    def relu(self, x: Tensor) -> Tensor:
        y = self._next(x.dtype)

        def gradient(dy: Tensor) -> Tensor:
            return tf.raw_ops.ReluGrad(gradients=dy, features=y)

        return self._attach(gradient, y, x)

    def batch_norm(
        self, x: Tensor, gamma: Tensor, beta: Tensor, activate: bool
    ) -> Tensor:
        reserve = [self._next(tf.float32) for _ in range(3)]

        def gradient(dy: Tensor) -> list[Tensor]:
            return tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=dy,
                x=x,
                scale=gamma,
                reserve_space_1=reserve[0],
                reserve_space_2=reserve[1],
                reserve_space_3=reserve[2],
                epsilon=blocks.BN_EPSILON,
                is_training=True,
            )[:3]

        # No op reads the value before the ReLU, so any tensor of its shape will do.
        y = self._attach(gradient, x, x, gamma, beta)
        return self.relu(y) if activate else y


class Inference:
    """Stands for both halves: normalises by given statistics and keeps nothing.

    Args:
      statistics: (moving mean, moving variance) of each batch normalisation.
      chosen_statistics: the statistics for the functions of `choose`.
    """

    def __init__(
        self,
        statistics: list[tuple[Tensor, Tensor]],
        chosen_statistics: Sequence[Tensor] = (),
    ) -> None:
        self._statistics = list(statistics)
        self._chosen_statistics = chosen_statistics

    def choose(self, functions: Choice, index: Tensor, *inputs: Tensor) -> Tensor:
        return functions.infer(index, *inputs, *self._chosen_statistics)

    def keep(self, tensor: Tensor) -> Tensor:
        return tensor

    def relu(self, x: Tensor) -> Tensor:
        return tf.nn.relu(x)

    def batch_norm(
        self, x: Tensor, gamma: Tensor, beta: Tensor, activate: bool
    ) -> Tensor:
        mean, variance = self._statistics.pop(0)
        y = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=gamma,
            offset=beta,
            mean=mean,
            variance=variance,
            epsilon=blocks.BN_EPSILON,
            is_training=False,
        )[0]
        return self.relu(y) if activate else y
