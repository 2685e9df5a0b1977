"""Batch normalisation and ReLU folded into the convolutions before them.

What is left is what a quantised file computes: convolutions with a bias and a ReLU,
whose kernels have the size in which they are quantised. Quantisation-aware training on
this graph trains the very numbers that are stored; and the graph has half the layers.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from tensorflow.keras import layers

_CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D)


def fold(network: tf.keras.Model) -> tf.keras.Model:
    """Returns the inference function of a network with fewer layers; weights copied.

    A normalisation is folded where it alone reads a linear convolution, a ReLU where it
    alone reads a convolution, folded or not. All other layers stay, under their names;
    a convolution keeps its own name. The function is the same up to float rounding.

    Args:
      network: a flat functional model of stock layers.
    """
    absorbed = _absorbed(network)
    followers = {layer for tail in absorbed.values() for layer in tail}
    tensors = {id(t): tf.keras.Input(t.shape[1:], name=t.name) for t in network.inputs}
    inputs = list(tensors.values())
    copies: dict[str, layers.Layer] = {}
    for node in _nodes(network):
        given = [tensors[id(t)] for t in node.keras_inputs]
        call = given[0] if len(given) == 1 else given
        if node.layer in followers:
            result = call
        else:
            name = node.layer.name
            if name not in copies:
                copies[name] = _copy(node.layer, absorbed.get(name, []))
            result = copies[name](call)
        tensors[id(node.outputs)] = result
    outputs = [tensors[id(t)] for t in network.outputs]
    folded = tf.keras.Model(inputs, outputs[0], name=network.name)
    for layer in network.layers:
        if layer.name in copies and layer.weights:
            copies[layer.name].set_weights(
                _folded_weights(layer, absorbed.get(layer.name, []))
            )
    return folded


def _nodes(network: tf.keras.Model) -> list:
    """Every call of every layer but the inputs, in an order in which it can run."""
    by_depth = network._nodes_by_depth
    nodes = [
        node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]
    ]
    return [node for node in nodes if node.keras_inputs]


def _absorbed(network: tf.keras.Model) -> dict[str, list[layers.Layer]]:
    """Convolution's name -> the normalisation and the ReLU that go into it."""
    readers: dict[int, list] = {}
    calls: dict[str, int] = {}
    for node in _nodes(network):
        calls[node.layer.name] = calls.get(node.layer.name, 0) + 1
        for tensor in node.keras_inputs:
            readers.setdefault(id(tensor), []).append(node)
    kept = {id(tensor) for tensor in network.outputs}
    absorbed = {}
    for node in _nodes(network):
        if _linear_convolution(node.layer) and calls[node.layer.name] == 1:
            tail, tensor = [], node.outputs
            for kind in (layers.BatchNormalization, layers.ReLU):
                after = readers.get(id(tensor), [])
                if len(after) == 1 and id(tensor) not in kept:
                    if _is(after[0].layer, kind):
                        tail.append(after[0].layer)
                        tensor = after[0].outputs
            absorbed[node.layer.name] = tail
    return absorbed


def _linear_convolution(layer: layers.Layer) -> bool:
    linear = tf.keras.activations.linear
    return type(layer) in _CONVOLUTIONS and layer.activation is linear


def _is(layer: layers.Layer, kind: type) -> bool:
    """A ReLU with a ceiling, a slope or a threshold is not the plain one."""
    special = ("max_value", "negative_slope", "threshold")
    return type(layer) is kind and not any(getattr(layer, x, None) for x in special)


def _copy(layer: layers.Layer, tail: list[layers.Layer]) -> layers.Layer:
    config = layer.get_config()
    if any(type(after) is layers.BatchNormalization for after in tail):
        config["use_bias"] = True
    if any(type(after) is layers.ReLU for after in tail):
        config["activation"] = "relu"
    return type(layer).from_config(config)


def _folded_weights(layer: layers.Layer, tail: list[layers.Layer]) -> list[np.ndarray]:
    weights = layer.get_weights()
    for norm in tail:
        if type(norm) is layers.BatchNormalization:
            scale, shift = _affine(norm)
            kernel, *bias = weights
            depthwise = type(layer) is layers.DepthwiseConv2D
            # Depthwise kernels are (kh, kw, c, 1), the others (kh, kw, c_in, c_out).
            by_channel = scale.reshape(kernel.shape[2:]) if depthwise else scale
            weights = [kernel * by_channel, (bias[0] if bias else 0.0) * scale + shift]
    return weights


def _affine(norm: layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """(scale, shift), each (c,), of what a normalisation does at inference."""
    mean, variance = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    scale = 1 / np.sqrt(variance + norm.epsilon)
    if norm.scale:
        scale = scale * norm.gamma.numpy()
    shift = -mean * scale
    if norm.center:
        shift = shift + norm.beta.numpy()
    return scale, shift
