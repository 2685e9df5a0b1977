"""The CBlock as a function of packed weights, chosen among its structures at run time.

A CBlock has six structures, one per pair of kernels, and with or without a shortcut
convolution. Each is traced once, forward and backward, with height, width and channels
left open, and shared by all blocks, slots, passes and replicas of the supernet: the
graph stays small, whatever the search space and k.

A chosen structure runs by a `StatelessCase` op. It is not lowered to switches, so the
others cost nothing, not even dead tensors; and it calls the structure through
`PartitionedCall`, which gives it the kernels of an ordinary function (oneDNN's on CPU).
"""

from __future__ import annotations

import atexit
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow import Tensor

from cdnet_tf.nn import genotype
from cdnet_tf.supernet import cblock, forward_backward, packing

STRUCTURES = tuple(branch.lites for branch in genotype.CS)
_Structure = tuple[int, int]
_Kept = dict[tf.DType, list[Tensor]]
# A traced function; TensorFlow gives its class no public name.
_Traced = Any
IDENTITY = len(STRUCTURES)  # index of the structure that passes its input through


def _trace(function: Callable, specs: Sequence[tf.TensorSpec]) -> _Traced:
    named = [tf.TensorSpec(s.shape, s.dtype, f"x{i}") for i, s in enumerate(specs)]
    return tf.function(function, autograph=False).get_concrete_function(*named)


def _call(function: _Traced, arguments: Sequence[Tensor]) -> list[Tensor]:
    """Calls a traced function in a way that the graph optimiser does not inline."""
    return tf.raw_ops.PartitionedCall(
        args=list(arguments), Tout=[t.dtype for t in function.outputs], f=function
    )


def _pack(statistics: list[tuple[Tensor, Tensor]]) -> Tensor:
    return tf.concat([t for pair in statistics for t in pair], 0)


def _flat(kept: _Kept) -> list[Tensor]:
    return [tensor for tensors in kept.values() for tensor in tensors]


class Forward(NamedTuple):
    """Result of a CBlock in training.

    Attributes:
      y: features, (b, h, w, c_out).
      body_statistics, lite_statistics: of the batch, packed as rows by
        `packing.statistics_shapes`; none for the identity.
      kept: what `backward` needs.
    """

    y: Tensor
    body_statistics: Tensor
    lite_statistics: Tensor
    kept: list[Tensor]


class CBlockFunctions:
    """All structures of the CBlock as branches of one op.

    Packed weights arrive as rows: body (1, size), lites (number of Lites, size). For
    the structure `IDENTITY` both have no row, and the input comes out unchanged.

    Args:
      shortcut: whether the CBlocks have a shortcut convolution (c_in != c_out).
      dtype: of the features; weights and statistics are float32.
    """

    def __init__(self, shortcut: bool, dtype: tf.DType) -> None:
        self._shortcut = shortcut
        self._dtype = dtype
        rows = tf.TensorSpec([None, None])
        # The last argument is a vector as long as the output is wide. (Not a number:
        # int32 inputs of a function live in host memory, which a GPU cannot pass on.)
        features = tf.TensorSpec([None] * 4, dtype)
        self._specs = [features, rows, rows, tf.TensorSpec([None])]
        traced = [self._trace_forward(structure) for structure in STRUCTURES]
        kept = [each for _, each in traced]
        # One signature for all: each dtype's kept tensors padded to the largest count.
        self._widths = {t: max(len(each[t]) for each in kept) for t in kept[0]}
        self._forward = [self._forward_branch(*each) for each in traced]
        self._forward.append(self._branch(self._identity, self._specs))
        self._backward = {
            learn_weights: self._backward_branches(kept, learn_weights)
            for learn_weights in (False, True)
        }

    def forward(
        self, index: Tensor, x: Tensor, body: Tensor, lites: Tensor, channels: int
    ) -> Forward:
        """Runs structure `index`, a scalar int32, in training."""
        kept_types = [t for t, width in self._widths.items() for _ in range(width)]
        y, body_statistics, lite_statistics, *kept = tf.raw_ops.StatelessCase(
            branch_index=index,
            input=[x, body, lites, tf.zeros([channels])],
            Tout=[self._dtype, tf.float32, tf.float32, *kept_types],
            branches=self._forward,
        )
        y.set_shape([*x.shape[:3], channels])
        return Forward(y, body_statistics, lite_statistics, kept)

    def backward(
        self,
        index: Tensor,
        dy: Tensor,
        x: Tensor,
        body: Tensor,
        lites: Tensor,
        kept: list[Tensor],
        learn_weights: bool,
    ) -> list[Tensor]:
        """Gradients with respect to [x, body, lites], or [x] without the weights."""
        inputs = [x, body, lites][: 3 if learn_weights else 1]
        gradients = tf.raw_ops.StatelessCase(
            branch_index=index,
            input=[dy, x, body, lites, tf.zeros(dy.shape[-1:]), *kept],
            Tout=[t.dtype for t in inputs],
            branches=self._backward[learn_weights],
        )
        for gradient, tensor in zip(gradients, inputs):
            gradient.set_shape(tensor.shape)
        return gradients

    @functools.cached_property
    def _inference(self) -> list[_Traced]:
        rows = tf.TensorSpec([None, None])
        specs = [*self._specs, rows, rows]
        branches = []
        for structure in STRUCTURES:

            def infer(
                x: Tensor,
                body: Tensor,
                lites: Tensor,
                like: Tensor,
                *statistics: Tensor,
                structure: _Structure = structure,
            ) -> list[Tensor]:
                ops = forward_backward.Inference(
                    self._moving(structure, x, like, *statistics)
                )
                weights = self._weights(structure, x, body, lites, like)
                return [cblock.cblock(ops, structure, x, *weights)]

            traced = _trace(infer, specs)
            branches.append(self._branch(lambda *a, f=traced: _call(f, a), specs))
        branches.append(self._branch(lambda x, *_: [tf.identity(x)], specs))
        return branches

    def infer(
        self,
        index: Tensor,
        x: Tensor,
        body: Tensor,
        lites: Tensor,
        channels: int,
        body_statistics: Tensor,
        lite_statistics: Tensor,
    ) -> Tensor:
        """Runs structure `index` with given moving statistics, packed as rows."""
        like = tf.zeros([channels])
        (y,) = tf.raw_ops.StatelessCase(
            branch_index=index,
            input=[x, body, lites, like, body_statistics, lite_statistics],
            Tout=[self._dtype],
            branches=self._inference,
        )
        y.set_shape([*x.shape[:3], channels])
        return y

    def _weights(
        self,
        structure: _Structure,
        x: Tensor,
        body: Tensor,
        lites: Tensor,
        like: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor], list[dict[str, Tensor]]]:
        """Arguments of `cblock` from those of a traced function."""
        c_in, c_out = tf.shape(x)[3], tf.shape(like)[0]
        (named,) = packing.unpack(
            body, packing.body_shapes(c_in, c_out, self._shortcut), 1
        )
        return (
            c_out,
            named,
            packing.unpack(lites, packing.lite_shapes(c_out // 4), sum(structure)),
        )

    def _moving(
        self,
        structure: _Structure,
        x: Tensor,
        like: Tensor,
        body_rows: Tensor,
        lite_rows: Tensor,
    ) -> list[tuple[Tensor, Tensor]]:
        """(mean, variance) pairs in the order in which `cblock` normalises."""
        c_in, c_out = tf.shape(x)[3], tf.shape(like)[0]

        def pairs(
            rows: Tensor, shapes: packing.Shapes, count: int
        ) -> list[tuple[Tensor, Tensor]]:
            named = packing.unpack(rows, packing.statistics_shapes(shapes), count)
            values = [value for row in named for value in row.values()]
            return list(zip(values[::2], values[1::2]))

        body = packing.body_shapes(c_in, c_out, self._shortcut)
        squeeze, *others = pairs(body_rows, body, 1)
        lites = pairs(lite_rows, packing.lite_shapes(c_out // 4), sum(structure))
        return [squeeze, *lites, *others]

    def _trace_forward(self, structure: _Structure) -> tuple[_Traced, _Kept]:
        """One structure traced, and what it keeps."""
        record = forward_backward.Forward()

        def forward(
            x: Tensor, body: Tensor, lites: Tensor, like: Tensor
        ) -> list[Tensor]:
            weights = self._weights(structure, x, body, lites, like)
            y = cblock.cblock(record, structure, x, *weights)
            first, last = 1, 1 + sum(structure)
            statistics = record.statistics
            body_row = _pack(statistics[:first] + statistics[last:])
            lite_rows = [_pack([pair]) for pair in statistics[first:last]]
            return [y, body_row[None], tf.stack(lite_rows), *_flat(record.kept)]

        return _trace(forward, self._specs), record.kept

    def _forward_branch(self, forward: _Traced, kept: _Kept) -> _Traced:
        def run(*arguments: Tensor) -> list[Tensor]:
            y, body, lites, *flat = _call(forward, arguments)
            return [y, body, lites, *self._pad(flat, kept)]

        return self._branch(run, self._specs)

    def _backward_branches(
        self, kept: list[_Kept], learn_weights: bool
    ) -> list[_Traced]:
        branches = [
            self._backward_branch(structure, each, learn_weights)
            for structure, each in zip(STRUCTURES, kept)
        ]

        def identity(
            dy: Tensor, x: Tensor, body: Tensor, lites: Tensor, *_: Tensor
        ) -> list[Tensor]:
            # It was given no row, so its weights' gradients have none either.
            return [tf.identity(dy), body, lites][: 3 if learn_weights else 1]

        return [*branches, self._branch(identity, self._padded_specs())]

    def _backward_branch(
        self, structure: _Structure, kept: _Kept, learn_weights: bool
    ) -> _Traced:
        counts = [len(tensors) for tensors in kept.values()]

        def backward(
            dy: Tensor,
            x: Tensor,
            body: Tensor,
            lites: Tensor,
            like: Tensor,
            *flat: Tensor,
        ) -> list[Tensor]:
            groups = dict(
                zip(kept, tf.nest.pack_sequence_as([[0] * n for n in counts], flat))
            )
            sources = [x, body, lites][: 3 if learn_weights else 1]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(sources)
                weights = self._weights(structure, x, body, lites, like)
                ops = forward_backward.Backward(groups)
                y = cblock.cblock(ops, structure, x, *weights)
            return tape.gradient(y, sources, dy)

        kept_specs = [tf.TensorSpec(t.shape, t.dtype) for t in _flat(kept)]
        traced = _trace(backward, [self._specs[0], *self._specs, *kept_specs])

        def run(*arguments: Tensor) -> list[Tensor]:
            return _call(traced, [*arguments[:5], *self._unpad(arguments[5:], counts)])

        return self._branch(run, self._padded_specs())

    def _branch(self, function: Callable, specs: Sequence[tf.TensorSpec]) -> _Traced:
        # Case compares signatures only by dtype, so branches take any shape.
        return _trace(function, [tf.TensorSpec(None, spec.dtype) for spec in specs])

    def _padded_specs(self) -> list[tf.TensorSpec]:
        kept = [
            tf.TensorSpec(None, t) for t, n in self._widths.items() for _ in range(n)
        ]
        return [self._specs[0], *self._specs, *kept]

    def _identity(
        self, x: Tensor, body: Tensor, lites: Tensor, like: Tensor
    ) -> list[Tensor]:
        nothing = tf.zeros([0, 0])
        return [tf.identity(x), nothing, nothing, *self._pad([], {})]

    def _pad(self, flat: Iterable[Tensor], kept: _Kept) -> list[Tensor]:
        """Fills each dtype's tensors up to the common count."""
        flat = iter(flat)
        padded = []
        for dtype, width in self._widths.items():
            own = [next(flat) for _ in kept.get(dtype, ())]
            padded += own + [tf.zeros([0], dtype)] * (width - len(own))
        return padded

    def _unpad(self, padded: Sequence[Tensor], counts: list[int]) -> list[Tensor]:
        flat: list[Tensor] = []
        start = 0
        for width, count in zip(self._widths.values(), counts):
            flat += padded[start : start + count]
            start += width
        return flat


@functools.cache
def cblock_functions(shortcut: bool, dtype: str) -> CBlockFunctions:
    """The functions for one dtype of features, traced once in a process."""
    functions = CBlockFunctions(shortcut, tf.as_dtype(dtype))
    # TensorFlow's functions do not outlive its modules quietly, and its registry of
    # gradients never lets go of these.
    atexit.register(vars(functions).clear)
    return functions
