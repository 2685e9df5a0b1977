"""Runs one of several functions of tensors, chosen at run time, forward and backward.

Each function is traced once, forward and backward. A `StatelessCase` op runs the chosen
one. TensorFlow does not lower this op to switches, so the other functions cost nothing,
not even dead tensors. A `PartitionedCall` around each function gives it the kernels of
an ordinary function (oneDNN's on a CPU).
"""

from __future__ import annotations

import atexit
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow import Tensor

from cdnet_tf.supernet import forward_backward

_Kept = dict[tf.DType, list[Tensor]]
# A traced function; TensorFlow gives its class no public name.
_Traced = Any


class Forward(NamedTuple):
    """Result of a chosen function in training.

    Attributes:
      outputs: the features, then the statistics.
      kept: tensors that `Chosen.backward` needs.
    """

    outputs: list[Tensor]
    kept: list[Tensor]


class Chosen:
    """Functions of one signature, of which each call runs one.

    A function is `f(ops, features, *others)` and returns features; `ops` is a
    `Forward`, `Backward` or `Inference` of `forward_backward`.

    Args:
      functions: the functions to choose among.
      statistics: makes a function's further outputs in training from its `Forward`;
        the same number of tensors for every function.
      specs: of the features and the others. None may be an integer, because integers
        are in host memory, which a GPU cannot pass on to a function.
      learnt: how many of the others, counted from the first, may have gradients.
      moving: specs of the statistics that `inference` takes.
      inference: makes `ops` from a function's number, its inputs and the statistics.
    """

    def __init__(
        self,
        functions: Sequence[Callable[..., Tensor]],
        statistics: Callable[[forward_backward.Forward], list[Tensor]],
        specs: Sequence[tf.TensorSpec],
        learnt: int,
        moving: Sequence[tf.TensorSpec],
        inference: Callable[..., forward_backward.Inference],
    ) -> None:
        # TensorFlow's registry of gradients holds these functions for ever, and they
        # would print errors if they were deleted after TensorFlow's modules.
        atexit.register(vars(self).clear)
        self._functions, self._specs, self._learnt = functions, specs, learnt
        self._statistics = statistics
        self._moving, self._inference_ops = moving, inference
        traced = [self._trace_forward(function) for function in functions]
        kept = [each for _, each in traced]
        # All functions need one signature, so the kept tensors of each dtype are padded
        # to the largest count.
        self._widths = {
            t: max(len(each.get(t, ())) for each in kept)
            for t in dict.fromkeys(t for each in kept for t in each)
        }
        self._forward = [self._forward_branch(*each) for each in traced]
        self._types = [t.dtype for t in self._forward[0].outputs]
        self._backward = {
            learn_weights: [
                self._backward_branch(function, each, learn_weights)
                for function, each in zip(functions, kept)
            ]
            for learn_weights in (False, True)
        }

    @property
    def kept_types(self) -> list[tf.DType]:
        """The dtypes of `Forward.kept`."""
        return [t for t, width in self._widths.items() for _ in range(width)]

    def forward(self, index: Tensor, *inputs: Tensor) -> Forward:
        """Runs function `index`, a scalar int32, in training."""
        results = tf.raw_ops.StatelessCase(
            branch_index=index,
            input=inputs,
            Tout=self._types,
            branches=self._forward,
        )
        count = len(results) - len(self.kept_types)
        return Forward(results[:count], results[count:])

    def backward(
        self,
        index: Tensor,
        dy: Tensor,
        inputs: Sequence[Tensor],
        kept: Sequence[Tensor],
        learn_weights: bool,
    ) -> list[Tensor]:
        """Returns gradients of features and weights, or of the features alone."""
        sources = self._sources(inputs, learn_weights)
        gradients = tf.raw_ops.StatelessCase(
            branch_index=index,
            input=[dy, *inputs, *kept],
            Tout=[t.dtype for t in sources],
            branches=self._backward[learn_weights],
        )
        for gradient, tensor in zip(gradients, sources):
            gradient.set_shape(tensor.shape)
        return gradients

    def infer(self, index: Tensor, *inputs: Tensor) -> Tensor:
        """Runs function `index` with moving statistics, which are the last inputs."""
        (y,) = tf.raw_ops.StatelessCase(
            branch_index=index,
            input=inputs,
            Tout=[self._specs[0].dtype],
            branches=self._inference,
        )
        return y

    def _sources(
        self, inputs: Sequence[Tensor], learn_weights: bool
    ) -> Sequence[Tensor]:
        return inputs[: 1 + self._learnt if learn_weights else 1]

    @functools.cached_property
    def _inference(self) -> list[_Traced]:
        specs = [*self._specs, *self._moving]
        branches = []
        for number, function in enumerate(self._functions):

            def infer(
                *inputs: Tensor, number: int = number, function: Callable = function
            ) -> list[Tensor]:
                ops = self._inference_ops(number, *inputs)
                return [function(ops, *inputs[: len(self._specs)])]

            traced = _trace(infer, specs)
            branches.append(_branch(lambda *a, f=traced: _call(f, a), specs))
        return branches

    def _trace_forward(self, function: Callable) -> tuple[_Traced, _Kept]:
        """Traces a function; also returns the tensors that it keeps."""
        record = forward_backward.Forward()

        def forward(*inputs: Tensor) -> list[Tensor]:
            y = function(record, *inputs)
            return [y, *self._statistics(record), *_flat(record.kept)]

        return _trace(forward, self._specs), record.kept

    def _forward_branch(self, forward: _Traced, kept: _Kept) -> _Traced:
        def run(*inputs: Tensor) -> list[Tensor]:
            results = _call(forward, inputs)
            count = len(results) - len(_flat(kept))
            return [*results[:count], *self._pad(results[count:], kept)]

        return _branch(run, self._specs)

    def _backward_branch(
        self, function: Callable, kept: _Kept, learn_weights: bool
    ) -> _Traced:
        size = 1 + len(self._specs)  # arguments before the kept tensors

        def backward(dy: Tensor, *rest: Tensor) -> list[Tensor]:
            inputs, flat = rest[: size - 1], iter(rest[size - 1 :])
            groups = {t: [next(flat) for _ in each] for t, each in kept.items()}
            sources = self._sources(inputs, learn_weights)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(sources)
                ops = forward_backward.Backward(groups, learn_weights)
                y = function(ops, *inputs)
            zero = tf.UnconnectedGradients.ZERO
            return tape.gradient(y, sources, dy, unconnected_gradients=zero)

        kept_specs = [tf.TensorSpec(t.shape, t.dtype) for t in _flat(kept)]
        traced = _trace(backward, [self._specs[0], *self._specs, *kept_specs])

        def run(*arguments: Tensor) -> list[Tensor]:
            unpadded = self._unpad(arguments[size:], kept)
            return _call(traced, [*arguments[:size], *unpadded])

        padded = [tf.TensorSpec(None, t) for t in self.kept_types]
        return _branch(run, [self._specs[0], *self._specs, *padded])

    def _pad(self, flat: Iterable[Tensor], kept: _Kept) -> list[Tensor]:
        """Fills each dtype's tensors up to the common count."""
        flat = iter(flat)
        own = {t: [next(flat) for _ in each] for t, each in kept.items()}
        padded = []
        for dtype, width in self._widths.items():
            tensors = own.get(dtype, [])
            padded += tensors + [tf.zeros([0], dtype)] * (width - len(tensors))
        return padded

    def _unpad(self, padded: Sequence[Tensor], kept: _Kept) -> list[Tensor]:
        start, own = 0, {}
        for dtype, width in self._widths.items():
            own[dtype] = padded[start : start + len(kept.get(dtype, ()))]
            start += width
        return [tensor for dtype in kept for tensor in own[dtype]]


def _flat(kept: _Kept) -> list[Tensor]:
    return [tensor for tensors in kept.values() for tensor in tensors]


def _trace(function: Callable, specs: Sequence[tf.TensorSpec]) -> _Traced:
    named = [tf.TensorSpec(s.shape, s.dtype, f"x{i}") for i, s in enumerate(specs)]
    return tf.function(function, autograph=False).get_concrete_function(*named)


def _branch(function: Callable, specs: Sequence[tf.TensorSpec]) -> _Traced:
    # Case compares signatures by dtype only, so branches may take any shape.
    return _trace(function, [tf.TensorSpec(None, spec.dtype) for spec in specs])


def _call(function: _Traced, arguments: Sequence[Tensor]) -> list[Tensor]:
    """Calls a traced function so that the graph optimiser does not inline it."""
    return tf.raw_ops.PartitionedCall(
        args=list(arguments), Tout=[t.dtype for t in function.outputs], f=function
    )
