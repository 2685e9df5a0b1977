"""The CBlock as a function of packed weights, whose structure is chosen at run time.

A CBlock has six structures, one per pair of kernels, which differ only in the two
streams. The streams are traced once for each structure. What surrounds them is traced
twice, with and without a shortcut convolution. Height, width and channels are left
open, so that all blocks, branches, passes and replicas of the supernet share these
functions: the graph stays small, whatever the search space and k.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf
from tensorflow import Tensor

from cdnet_tf.nn import genotype
from cdnet_tf.supernet import cblock, chosen, forward_backward, packing

STRUCTURES = tuple(branch.lites for branch in genotype.CS)
IDENTITY = len(STRUCTURES)  # index of the structure that passes its input through
_ROWS = tf.TensorSpec([None, None])
_VECTOR = tf.TensorSpec([None])


class Forward(NamedTuple):
    """Result of a CBlock in training.

    Attributes:
      y: features, (b, h, w, c_out).
      body_statistics, lite_statistics: of the batch, packed as rows by
        `packing.statistics_shapes`; no rows for the identity.
      kept: tensors that `backward` needs.
    """

    y: Tensor
    body_statistics: Tensor
    lite_statistics: Tensor
    kept: list[Tensor]


class CBlockFunctions:
    """All structures of the CBlock as branches of one op.

    Packed weights arrive as rows: body (1, size), lites (number of Lites, size). With
    the structure `IDENTITY` both have no rows, and the input comes out unchanged.

    Args:
      shortcut: whether the CBlocks have a shortcut convolution (c_in != c_out).
      dtype: of the features; weights and statistics are float32.
    """

    def __init__(self, shortcut: bool, dtype: tf.DType) -> None:
        shapes = functools.partial(_body_shapes, shortcut)
        run = functools.partial(_cblock, shapes, _streams(dtype))
        # The last two arguments are numbers, passed as the lengths of vectors: the
        # output's channels and the structure. `chosen.Chosen` cannot take integers.
        features = tf.TensorSpec([None] * 4, dtype)
        self._functions = chosen.Chosen(
            [run, lambda ops, x, *_: tf.identity(x)],
            _statistics,
            [features, _ROWS, _ROWS, _VECTOR, _VECTOR],
            learnt=2,
            moving=[_ROWS, _ROWS],
            inference=functools.partial(_inference, shapes),
        )

    def forward(
        self, index: Tensor, x: Tensor, body: Tensor, lites: Tensor, channels: int
    ) -> Forward:
        """Runs structure `index`, a scalar int32, in training."""
        inputs = [x, body, lites, tf.zeros([channels]), tf.zeros([index])]
        (y, body_statistics, lite_statistics), kept = self._functions.forward(
            _is_identity(index), *inputs
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
        """Returns gradients of [x, body, lites], or of [x] without `learn_weights`."""
        inputs = [x, body, lites, tf.zeros(dy.shape[-1:]), tf.zeros([index])]
        return self._functions.backward(
            _is_identity(index), dy, inputs, kept, learn_weights
        )

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
        inputs = [x, body, lites, tf.zeros([channels]), tf.zeros([index])]
        y = self._functions.infer(
            _is_identity(index), *inputs, body_statistics, lite_statistics
        )
        y.set_shape([*x.shape[:3], channels])
        return y


@functools.cache
def cblock_functions(shortcut: bool, dtype: str) -> CBlockFunctions:
    """Returns the functions for one dtype of features, traced once in a process."""
    return CBlockFunctions(shortcut, tf.as_dtype(dtype))


def _body_shapes(shortcut: bool, x: Tensor, like: Tensor) -> packing.Shapes:
    return packing.body_shapes(tf.shape(x)[3], tf.shape(like)[0], shortcut)


def _cblock(
    shapes: Callable[[Tensor, Tensor], packing.Shapes],
    both_streams: chosen.Chosen,
    ops: cblock.Ops,
    x: Tensor,
    body: Tensor,
    lites: Tensor,
    like: Tensor,
    structure: Tensor,
) -> Tensor:
    (named,) = packing.unpack(body, shapes(x, like), 1)

    def streams(h: Tensor) -> Tensor:
        gate = [named[name] for name in cblock.GATE]
        return ops.choose(both_streams, tf.shape(structure)[0], h, *gate, lites)

    return cblock.cblock(ops, streams, x, tf.shape(like)[0], named)


def _inference(
    shapes: Callable[[Tensor, Tensor], packing.Shapes],
    number: int,
    x: Tensor,
    body: Tensor,
    lites: Tensor,
    like: Tensor,
    structure: Tensor,
    body_statistics: Tensor,
    lite_statistics: Tensor,
) -> forward_backward.Inference:
    pairs = _pairs(body_statistics, shapes(x, like), 1)
    return forward_backward.Inference(pairs, [lite_statistics])


@functools.cache
def _streams(dtype: tf.DType) -> chosen.Chosen:
    """Traces the two streams of each structure.

    Their inputs are the features, the four weights of the gate, and the Lites' rows.
    """

    def run(
        structure: tuple[int, int], ops: cblock.Ops, x: Tensor, *weights: Tensor
    ) -> Tensor:
        *gate, rows = weights
        lites = packing.unpack(rows, _lite_shapes(x), sum(structure))
        return cblock.streams(ops, structure, x, dict(zip(cblock.GATE, gate)), lites)

    def inference(
        number: int, x: Tensor, *others: Tensor
    ) -> forward_backward.Inference:
        rows = others[-1]
        pairs = _pairs(rows, _lite_shapes(x), sum(STRUCTURES[number]))
        return forward_backward.Inference(pairs)

    return chosen.Chosen(
        [functools.partial(run, structure) for structure in STRUCTURES],
        lambda record: [tf.stack([_pack([pair]) for pair in record.statistics])],
        [tf.TensorSpec([None] * 4, dtype), _ROWS, _VECTOR, _ROWS, _VECTOR, _ROWS],
        learnt=5,
        moving=[_ROWS],
        inference=inference,
    )


def _statistics(record: forward_backward.Forward) -> list[Tensor]:
    """Packs the statistics of a CBlock as rows: the body's, and those of the Lites."""
    if not record.statistics:  # the identity
        return [tf.zeros([0, 0]), tf.zeros([0, 0])]
    return [_pack(record.statistics)[None], *record.chosen_statistics]


def _is_identity(index: Tensor) -> Tensor:
    return tf.cast(tf.equal(index, IDENTITY), tf.int32)


def _lite_shapes(x: Tensor) -> packing.Shapes:
    return packing.lite_shapes(tf.shape(x)[3])


def _pack(statistics: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    return tf.concat([t for pair in statistics for t in pair], 0)


def _pairs(
    rows: Tensor, shapes: packing.Shapes, count: int
) -> list[tuple[Tensor, Tensor]]:
    """Unpacks rows into (mean, variance) pairs, in the order of packing."""
    named = packing.unpack(rows, packing.statistics_shapes(shapes), count)
    values = [value for row in named for value in row.values()]
    return list(zip(values[::2], values[1::2]))
