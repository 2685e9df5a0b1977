"""Folds batch normalisation and ReLU into the convolutions before them.

The result has half the layers, and computes like a quantised file: convolutions with a
bias and a ReLU, with the kernels that are quantised. So quantisation-aware training on
this graph trains exactly the numbers that are stored.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from tensorflow.keras import layers

CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D)

_FREE_SIDE = 64  # pixels
_TOLERANCE = 5e-5  # of an embedding's norm


def fold(network: tf.keras.Model) -> tf.keras.Model:
    """Returns a copy of a network for inference with fewer layers.

    A normalisation is folded if it is the only reader of a linear convolution that is
    called once. A ReLU is folded if every call of a convolution, folded or not, has a
    ReLU as its only reader. All other layers stay, and a convolution keeps its name.
    The results are the same up to float rounding.

    Args:
      network: a flat functional model of stock layers, with one output.
    """
    tails = _tails(network)
    absorbed = {id(node) for tail in tails.values() for node in tail}
    tensors = {id(t): tf.keras.Input(t.shape[1:], name=t.name) for t in network.inputs}
    inputs = list(tensors.values())
    copies: dict[str, layers.Layer] = {}
    for node in nodes(network):
        given = [tensors[id(tensor)] for tensor in node.keras_inputs]
        result = given[0] if len(given) == 1 else given
        if id(node) not in absorbed:
            name = node.layer.name
            if name not in copies:
                copies[name] = _copy(node.layer, tails.get(name, []))
            result = copies[name](result)
        tensors[id(node.outputs)] = result
    folded = tf.keras.Model(inputs, tensors[id(network.output)], name=network.name)
    for name, copy in copies.items():
        weights = _folded_weights(network.get_layer(name), tails.get(name, []))
        copy.set_weights(weights)
    return folded


def fold_where_exact(network: tf.keras.Model) -> tf.keras.Model:
    """Returns `fold(network)`, or the network itself if folding changes its results.

    The two are compared on two images of noise. They differ for layers that `fold` does
    not know, and in 16 bits, because folding changes the rounding.

    Args:
      network: of any layers, one image in and one embedding out.
    """
    batch, *sides = network.inputs[0].shape
    shape = (batch or 2, *(side or _FREE_SIDE for side in sides))
    noise = np.random.default_rng(0).normal(size=shape)
    noise = tf.cast(noise, network.inputs[0].dtype)
    try:
        folded = fold(network)
        found, expected = (
            tf.cast(model(noise, training=False), tf.float32).numpy()
            for model in (folded, network)
        )
        error = np.linalg.norm(found - expected, axis=1)
    except Exception:  # A user's layer may raise anything.
        return network
    # This is False for NaN, too.
    exact = (error <= _TOLERANCE * np.linalg.norm(expected, axis=1)).all()
    return folded if exact else network


def nodes(network: tf.keras.Model) -> list:
    """Returns all calls of all layers but the inputs, in an order that can be run."""
    depths = sorted(network._nodes_by_depth.items(), reverse=True)
    return [node for _, level in depths for node in level if node.keras_inputs]


def _tails(network: tf.keras.Model) -> dict[str, list]:
    """Returns the calls of normalisation and ReLUs to fold, by convolution's name."""
    calls: dict[str, list] = {}
    readers: dict[int, list] = {}
    for node in nodes(network):
        if _linear_convolution(node.layer):
            calls.setdefault(node.layer.name, []).append(node)
        for tensor in node.keras_inputs:
            readers.setdefault(id(tensor), []).append(node)
    for tensor in network.outputs:
        readers.setdefault(id(tensor), []).append(None)
    return {name: _tail(ends, readers) for name, ends in calls.items()}


def _tail(ends: list, readers: dict[int, list]) -> list:
    tail = []
    for kind in (layers.BatchNormalization, layers.ReLU):
        after = [readers[id(node.outputs)] for node in ends]
        alone = all(len(nodes) == 1 and _is(nodes[0], kind) for nodes in after)
        if alone and (kind is layers.ReLU or len(ends) == 1):
            ends = [nodes[0] for nodes in after]
            tail += ends
    return tail


def _linear_convolution(layer: layers.Layer) -> bool:
    linear = tf.keras.activations.linear
    return type(layer) in CONVOLUTIONS and layer.activation is linear


def _is(node, kind: type) -> bool:
    """Whether a call is of a kind; a ReLU with a ceiling, slope or threshold is not."""
    special = ("max_value", "negative_slope", "threshold")
    return (
        node is not None
        and type(node.layer) is kind
        and not any(getattr(node.layer, name, None) for name in special)
    )


def _copy(layer: layers.Layer, tail: list) -> layers.Layer:
    config = layer.get_config()
    kinds = {type(node.layer) for node in tail}
    if layers.BatchNormalization in kinds:
        config["use_bias"] = True
    if layers.ReLU in kinds:
        config["activation"] = "relu"
    return type(layer).from_config(config)


def _folded_weights(layer: layers.Layer, tail: list) -> list[np.ndarray]:
    weights = layer.get_weights()
    for norm in (node.layer for node in tail):
        if isinstance(norm, layers.BatchNormalization):
            scale, shift = _affine(norm)
            kernel, bias = (*weights, 0.0)[:2]
            # Depthwise kernels are (kh, kw, c, 1), the others (kh, kw, c_in, c_out).
            depthwise = isinstance(layer, layers.DepthwiseConv2D)
            by_channel = scale[:, None] if depthwise else scale
            weights = [kernel * by_channel, bias * scale + shift]
    return weights


def _affine(norm: layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """Returns (scale, shift), each (c,), that a normalisation applies at inference."""
    mean, variance = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    scale = 1 / np.sqrt(variance + norm.epsilon)
    if norm.scale:
        scale = scale * norm.gamma.numpy()
    shift = -mean * scale
    if norm.center:
        shift = shift + norm.beta.numpy()
    return scale, shift
