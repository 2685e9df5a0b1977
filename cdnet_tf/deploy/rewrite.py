"""Rewrites the inference graph so that it runs faster and computes the same.

There are four rewrites, each exact up to float rounding; docs/inference.md has the
measurements:

- `pool`: average pooling 2x2 becomes a depthwise convolution with weights of 1/4.
  XNNPACK, the kernels that every TFLite runtime uses on a CPU, has no 8-bit average
  pooling, and the substitute is slow.
- `stem`: two neighbouring pixels of three channels become one pixel of six. 8-bit
  kernels take eight channels at a time, so five eighths of the work on three channels
  is wasted.
- `shortcut`: where a CBlock changes the width, its restoring convolution and its
  shortcut convolution become one convolution over both inputs, without an addition.
- `mean`: a depthwise convolution averages each column before a mean over the whole map.
  It helps an Ethos-U, which computes at least four pixels at a time and so wastes most
  of its work on a mean, whose result is one pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from tensorflow.keras import layers

from cdnet_tf.deploy import folding

STEPS = ("pool", "stem", "shortcut", "mean")
_TALLEST = 64  # rows of a kernel, the most that an Ethos-U takes

# Layer's name -> the sequence of layers that replaces it, each with its weights.
_Plan = dict[str, list[tuple[layers.Layer, list[np.ndarray]]]]


def rewrite(network: tf.keras.Model, steps: Sequence[str] = STEPS) -> tf.keras.Model:
    """Returns a rewritten copy of a network for inference.

    Normalisations are folded first (`folding.fold`). Networks of other blocks than
    those of `nn/blocks.py` may lack the layers of a step; the step then does nothing.

    Args:
      network: a flat functional model of stock layers with one output, images ->
        embedding; left unchanged.
      steps: some of `STEPS`. `stem` adds a RESHAPE to the file, which moves no data but
        must be known to an accelerator. With a free batch size it adds more operations,
        so leave it out there. Leave out `shortcut` before `quantize.trainable`: the
        joined inputs need one range, but training would move their ranges apart, and
        the file would get a QUANTIZE inside.

    Raises:
      ValueError: a step is unknown.
    """
    unknown = sorted(set(steps) - set(STEPS))
    if unknown:
        raise ValueError(f"steps={unknown} are unknown; use some of {STEPS}.")
    folded = folding.fold(network)
    makers = {"pool": _pools, "stem": _stem, "shortcut": _shortcuts, "mean": _means}
    plan: _Plan = {}
    for step in steps:
        plan |= makers[step](folded)
    return _rebuilt(folded, plan)


def _pools(network: tf.keras.Model) -> _Plan:
    """Turns 2x2 average poolings into depthwise convolutions, which can be trained."""
    plan: _Plan = {}
    for layer in network.layers:
        if type(layer) is layers.AveragePooling2D:
            config = layer.get_config()
            if config["pool_size"] != (2, 2) or config["padding"] != "valid":
                continue
            pool = layers.DepthwiseConv2D(
                2, layer.strides, use_bias=False, name=layer.name
            )
            channels = layer.input_shape[-1]
            plan[layer.name] = [(pool, [np.full((2, 2, channels, 1), 0.25)])]
    return plan


def _stem(network: tf.keras.Model) -> _Plan:
    """Turns the stem's 7x7 convolution of stride 2 into 7x4 over pairs of columns.

    Output column j reads columns 2j-3 to 2j+3, which are pairs j-2 to j+1 without the
    first column; the kernel gets a column of zeros there.
    """
    layer = _layers(network).get("stem/conv")
    if layer is None or layer.kernel_size != (7, 7) or layer.strides != (2, 2):
        return {}
    pad = network.get_layer("stem/pad")
    _, height, width, channels = pad.input_shape
    pairs = (height, width // 2, 2 * channels)
    config = layer.get_config() | {"kernel_size": (7, 4), "strides": (2, 1)}
    kernel, *bias = layer.get_weights()
    kernel = np.pad(kernel, ((0, 0), (1, 0), (0, 0), (0, 0)))
    kernel = kernel.reshape(7, 4, 2 * channels, -1)
    return {
        pad.name: [
            (layers.Reshape(pairs, name="stem/pairs"), []),
            (layers.ZeroPadding2D(((3, 3), (2, 1)), name=pad.name), []),
        ],
        layer.name: [(layers.Conv2D.from_config(config), [kernel, *bias])],
    }


def _shortcuts(network: tf.keras.Model) -> _Plan:
    """Turns conv(h) + conv'(x) into one convolution of h and x, concatenated."""
    plan: _Plan = {}
    there = _layers(network)
    for name, shortcut in there.items():
        block, found, _ = name.rpartition("/shortcut/conv")
        if not found:
            continue
        restore = there[f"{block}/restore/conv"]
        kernels, biases = zip(*(each.get_weights() for each in (restore, shortcut)))
        joined = layers.Concatenate(name=f"{block}/joined")
        conv = layers.Conv2D.from_config(restore.get_config())
        # Both convolutions are dropped; the joint one takes the place of their sum.
        plan[restore.name] = plan[shortcut.name] = []
        plan[f"{block}/add"] = [
            (joined, []),
            (conv, [np.concatenate(kernels, axis=2), sum(biases)]),
        ]
    return plan


def _means(network: tf.keras.Model) -> _Plan:
    """Averages each column by a convolution, (b, h, w, c) -> (b, 1, w, c), at first."""
    plan: _Plan = {}
    for layer in network.layers:
        if type(layer) is layers.GlobalAveragePooling2D:
            _, height, _, channels = layer.input_shape
            if height is not None and 1 < height <= _TALLEST:
                columns = layers.DepthwiseConv2D(
                    (height, 1), use_bias=False, name=f"{layer.name}/columns"
                )
                weights = [np.full((height, 1, channels, 1), 1 / height)]
                plan[layer.name] = [(columns, weights), *_same(layer)]
    return plan


def _layers(network: tf.keras.Model) -> dict[str, layers.Layer]:
    return {layer.name: layer for layer in network.layers}


def _rebuilt(network: tf.keras.Model, plan: _Plan) -> tf.keras.Model:
    """Copies a network, with some layers replaced by none, one or several."""
    image = tf.keras.Input(network.input_shape[1:], name=network.input.name)
    tensors = {id(network.input): image}
    rows: _Plan = {}
    for node in folding.nodes(network):
        given = [tensors[id(tensor)] for tensor in node.keras_inputs]
        result = given[0] if len(given) == 1 else given
        if node.layer.name not in rows:
            rows[node.layer.name] = plan.get(node.layer.name, _same(node.layer))
        for layer, _ in rows[node.layer.name]:
            result = layer(result)
        tensors[id(node.outputs)] = result
    copy = tf.keras.Model(image, tensors[id(network.output)], name=network.name)
    for layer, weights in (pair for row in rows.values() for pair in row):
        layer.set_weights(weights)
    return copy


def _same(layer: layers.Layer) -> list[tuple[layers.Layer, list[np.ndarray]]]:
    return [(type(layer).from_config(layer.get_config()), layer.get_weights())]
