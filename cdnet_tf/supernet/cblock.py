"""The CBlock as a function of named weights, for any number of channels.

`blocks.cblock` makes Keras layers of fixed widths; here the same arithmetic runs on
slices of a bank's rows. The argument `ops` decides what is kept for the gradient, and
by which statistics a batch normalisation normalises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf
from tensorflow import Tensor

from cdnet_tf.supernet import forward_backward

Ops = forward_backward.Forward | forward_backward.Backward | forward_backward.Inference


class _Pointwise:
    """Convolutions 1x1 between given widths, as matrix products.

    The weight gradient of a matrix product takes 0.6 of the time of a convolution's.
    The shapes to reshape to are computed once.
    """

    def __init__(self, ops: Ops, x: Tensor, widths: Sequence[Tensor]) -> None:
        self._ops = ops
        self._flat = [tf.stack([-1, width]) for width in widths]
        spatial = tf.shape(x)[:3]
        self._full = [tf.concat([spatial, [width]], 0) for width in widths]

    def __call__(self, x: Tensor, kernel: Tensor, source: int, target: int) -> Tensor:
        x = tf.reshape(x, self._flat[source])
        y = tf.matmul(x, tf.cast(kernel, x.dtype))
        return self._ops.keep(tf.reshape(y, self._full[target]))


_IN, _MID, _OUT = range(3)  # the three widths of a CBlock: c_in, m and c_out
# Names of the gate's weights, which the two streams share.
GATE = "gate/fc1/kernel", "gate/fc1/bias", "gate/fc2/kernel", "gate/fc2/bias"


def _stream(
    ops: Ops, conv1x1: _Pointwise, x: Tensor, lites: list[dict[str, Tensor]]
) -> Tensor:
    for lite in lites:
        x = tf.raw_ops.DepthwiseConv2dNative(
            input=conv1x1(x, lite["pointwise/kernel"], 0, 0),
            filter=tf.cast(lite["depthwise/depthwise_kernel"], x.dtype),
            strides=[1, 1, 1, 1],
            padding="SAME",
        )
        x = ops.keep(x)
        x = ops.batch_norm(x, lite["bn/gamma"], lite["bn/beta"], activate=True)
    return x


def _gated(ops: Ops, x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    def dense(x: Tensor, name: str) -> Tensor:
        kernel, bias = weights[f"{name}/kernel"], weights[f"{name}/bias"]
        return x @ tf.cast(kernel, x.dtype) + tf.cast(bias, x.dtype)

    pooled = ops.keep(tf.reduce_mean(x, [1, 2]))  # (b, m)
    hidden = tf.nn.relu(dense(pooled, "gate/fc1"))
    gate = ops.keep(tf.sigmoid(dense(hidden, "gate/fc2")))
    return x * gate[:, None, None]


def streams(
    ops: Ops,
    structure: tuple[int, int],
    x: Tensor,
    gate: Mapping[str, Tensor],
    lites: list[dict[str, Tensor]],
) -> Tensor:
    """Returns the gated sum of both streams of a CBlock.

    Args:
      ops: `Forward`, `Backward` or `Inference` of `forward_backward`.
      structure: Lites in the first and the second stream.
      x: squeezed features, (b, h, w, m).
      gate: the gate's weights by the names of `GATE`.
      lites: weights by the names of `packing.lite_shapes`.

    Returns:
      (b, h, w, m).
    """
    conv1x1 = _Pointwise(ops, x, [tf.shape(x)[3]])
    parts = lites[: structure[0]], lites[structure[0] :]
    first, second = (_gated(ops, _stream(ops, conv1x1, x, p), gate) for p in parts)
    return first + second


def cblock(
    ops: Ops,
    streams: Callable[[Tensor], Tensor],
    x: Tensor,
    c_out: Tensor,
    body: Mapping[str, Tensor],
) -> Tensor:
    """Computes `blocks.cblock` with given weights.

    Args:
      ops: `Forward`, `Backward` or `Inference` of `forward_backward`.
      streams: the function between the squeezing and the restoring convolution; `ops`
        must keep its result.
      x: features, (b, h, w, c_in).
      c_out: output channels, a scalar tensor.
      body: weights by the names of `packing.body_shapes`; the gate's are ignored.

    Returns:
      (b, h, w, c_out).
    """
    conv1x1 = _Pointwise(ops, x, (tf.shape(x)[3], c_out // 4, c_out))

    def conv_bn(
        x: Tensor, name: str, source: int, target: int, activate: bool
    ) -> Tensor:
        x = conv1x1(x, body[f"{name}/conv/kernel"], source, target)
        bn = body[f"{name}/bn/gamma"], body[f"{name}/bn/beta"]
        return ops.batch_norm(x, *bn, activate)

    h = streams(conv_bn(x, "squeeze", _IN, _MID, activate=True))
    h = conv_bn(h, "restore", _MID, _OUT, activate=False)
    if "shortcut/conv/kernel" in body:
        x = conv_bn(x, "shortcut", _IN, _OUT, activate=False)
    return ops.relu(h + x)
