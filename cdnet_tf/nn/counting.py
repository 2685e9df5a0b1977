"""Parameters and multiply-accumulates of a functional Keras model.

The rules are those of the authors' code, so that figures can be compared with it. A
multiply-accumulate is one product of a convolution or Dense kernel, or one addition of
its bias. BN, ReLU, pooling and the product with a gate count as nothing.
"""

from __future__ import annotations

import math

import tensorflow as tf
from tensorflow.keras import layers


def parameters(model: tf.keras.Model) -> int:
    """Counts trainable parameters, without BN's moving statistics."""
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def macs(model: tf.keras.Model) -> int:
    """Counts multiply-accumulates for one image.

    A layer called twice (the gate shared by two streams) counts twice.

    Args:
      model: a functional model of stock layers with a fully known input shape.

    Raises:
      TypeError: a layer has weights, but its cost is not known here.
    """
    return sum(layer_macs(layer) for layer in model.layers)


def layer_macs(layer: layers.Layer) -> int:
    """Counts multiply-accumulates of all calls of one layer, for one image."""
    # Exact types are compared, because subclasses have other costs.
    if type(layer) is layers.DepthwiseConv2D:
        kernel = layer.depthwise_kernel
    elif type(layer) in (layers.Conv2D, layers.Dense):
        kernel = layer.kernel
    elif layer.weights and not isinstance(layer, layers.BatchNormalization):
        raise TypeError(
            f"Layer {layer.name} ({type(layer).__name__}) has weights but no known "
            "cost; add it to counting.layer_macs."
        )
    else:
        return 0
    # Every weight is used once at each output position: (b, h, w, c) or (b, c).
    calls = (math.prod(node.output_shapes[1:-1]) for node in layer.inbound_nodes)
    bias = math.prod(layer.bias.shape) if layer.use_bias else 0
    return (math.prod(kernel.shape) + bias) * sum(calls)
