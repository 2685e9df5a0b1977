"""Quantises networks to integers: after training, layer by layer, or by training.

Post-training quantisation takes each tensor's range from calibration images. If that
costs too much accuracy, `worst_layers` names the layers at fault, `keep_float` leaves
them in float, and `trainable` returns a network that rounds while it is trained. Only
this module uses tensorflow-model-optimization.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
from tensorflow.keras import layers

from cdnet_tf.deploy import calibration, folding, quiet, ranges

_tfmot = tfmot.quantization.keras


class LayerError(NamedTuple):
    """The error that quantisation causes in the output of one operation.

    Attributes:
      layer: the Keras layer of the operation, a name for `keep_float`.
      op: TFLite's name of the operation.
      error: root of the mean squared error over the output's quantisation step. 0.29
        (1 / sqrt(12)) is rounding alone; more comes from the weights or from clipping.
      tensor: TFLite's name of the output.
    """

    layer: str
    op: str
    error: float
    tensor: str


def post_training(
    converter: tf.lite.TFLiteConverter,
    images: np.ndarray,
    input_type: tf.DType,
    output_type: tf.DType,
    keep_float: Sequence[str] = (),
    seconds: dict[str, float] | None = None,
) -> bytes:
    """Converts to 8-bit integers, with ranges from calibration images.

    Ranges that are too narrow are widened (`ranges.widened`).

    Args:
      converter: of a float network.
      images: (n, ...) float32, exactly what the network takes, n at least 1; from the
        training split, never images that it will be judged on.
      input_type, output_type: of the file's input and output.
      keep_float: Keras layers to leave in float, by name; a beginning of names up to a
        `/` stands for several layers.
      seconds: gets the time of the calibration as `calibrate`.

    Raises:
      ValueError: there are no images, or a name in `keep_float` fits no operation.
    """
    content = calibration.calibrated(converter, images, seconds)
    nodes = _nodes(content, keep_float)
    return calibration.integers(content, input_type, output_type, nodes)


def worst_layers(
    converter: tf.lite.TFLiteConverter, images: np.ndarray
) -> list[LayerError]:
    """Returns every operation's quantisation error, worst first.

    Each operation is run on float inputs, so that its error does not include those of
    the operations before it.

    Args:
      converter: of a float network.
      images: as in `post_training`.
    """
    calibration.prepare(converter, images)
    with quiet.held_back():
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter, debug_dataset=lambda: calibration.singly(images)
        )
        debugger.calibrated_model = ranges.widened(debugger.calibrated_model)
        debugger.options = debugger.options  # Quantises again.
        debugger.run()
    return _errors(debugger)


def _nodes(calibrated: bytes, layer_names: Sequence[str]) -> list[str]:
    """Returns the operations of some layers, by the names of the tensors they write."""
    nodes = set()
    for layer in layer_names:
        of_layer = {name for name in ranges.outputs(calibrated) if belongs(name, layer)}
        if not of_layer:
            raise ValueError(
                f"selective={layer!r} is neither the name of a quantised layer nor the "
                "folder of some, such as stem or stage1/block1/cblock1/gate; "
                "--debug_layers lists them."
            )
        nodes |= of_layer
    return sorted(nodes)


def _errors(debugger) -> list[LayerError]:
    table = io.StringIO()
    debugger.layer_statistics_dump(table)
    table.seek(0)
    found = []
    for row in csv.DictReader(table):
        error = float(row["mean_squared_error"]) ** 0.5 / float(row["scale"])
        tensor = row["tensor_name"]
        found.append(LayerError(_paths(tensor)[0], row["op_name"], error, tensor))
    return sorted(found, key=lambda each: -each.error)


def belongs(tensor: str, layer: str) -> bool:
    """Whether an operation, by its output tensor's name, is part of a Keras layer."""
    return any(f"{path}/".startswith(f"{layer}/") for path in _paths(tensor))


def _paths(tensor: str) -> list[str]:
    """Returns the names of the Keras layers in an operation, the last layer first.

    TFLite joins the names of fused layers by semicolons: network/layer/op;... Constants
    that several layers share add names of other blocks, so only names in the block of
    the first one count.
    """
    paths = ["/".join(name.split("/")[1:-1]) or name for name in tensor.split(";")]
    block = paths[0].rpartition("/")[0]
    return [path for path in paths if path.rpartition("/")[0] == block]


class _KernelRounding(tfmot.quantization.keras.quantizers.Quantizer):
    """Rounds a kernel in training, with one symmetric range per output channel.

    At inference it does not round, because the converter rounds constant kernels in the
    same way, and would leave a RESHAPE in the file for a rounded depthwise kernel.
    """

    def build(self, tensor_shape, name, layer):
        return {}

    def __call__(self, inputs, training, weights, **kwargs):
        if not training:
            return inputs
        # Depthwise kernels are (kh, kw, c, 1), the others (kh, kw, c_in, c_out).
        depthwise = inputs.shape[3] == 1
        rows = tf.transpose(inputs, [0, 1, 3, 2]) if depthwise else inputs
        largest = tf.reduce_max(tf.abs(rows), axis=[0, 1, 2])
        rows = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            rows, -largest, largest, narrow_range=True
        )
        return tf.transpose(rows, [0, 1, 3, 2]) if depthwise else rows

    def get_config(self):
        return {}


def _moving() -> tfmot.quantization.keras.quantizers.Quantizer:
    return _tfmot.quantizers.MovingAverageQuantizer(
        num_bits=8, per_axis=False, symmetric=False, narrow_range=False
    )


class _Nothing(tfmot.quantization.keras.QuantizeConfig):
    """Rounds nothing, for layers whose output has the scale of their input."""

    def get_weights_and_quantizers(self, layer):
        return []

    def get_activations_and_quantizers(self, layer):
        return []

    def set_quantize_weights(self, layer, quantize_weights):
        pass

    def set_quantize_activations(self, layer, quantize_activations):
        pass

    def get_output_quantizers(self, layer):
        return []

    def get_config(self):
        return {}


class _Output(_Nothing):
    """Rounds the output of a layer that has no weights to round."""

    def get_output_quantizers(self, layer):
        return [_moving()]


class _Convolution(_Output):
    """Rounds kernel and output; the ReLU is part of the layer."""

    def get_weights_and_quantizers(self, layer):
        return [(getattr(layer, _kernel_name(layer)), _KernelRounding())]

    def set_quantize_weights(self, layer, quantize_weights):
        setattr(layer, _kernel_name(layer), quantize_weights[0])


def _kernel_name(layer: layers.Layer) -> str:
    return "depthwise_" * isinstance(layer, layers.DepthwiseConv2D) + "kernel"


_CONFIGS = {
    layers.Conv2D: _Convolution,
    layers.DepthwiseConv2D: _Convolution,
    layers.BatchNormalization: _Output,
    layers.Multiply: _Output,
    layers.AveragePooling2D: _Nothing,
}
_SCOPE = {
    each.__name__: each for each in (_Nothing, _Output, _Convolution, _KernelRounding)
}


def trainable(network: tf.keras.Model, images: np.ndarray) -> tf.keras.Model:
    """Returns a copy of a network that rounds like its int8 file, and can be trained.

    Normalisations are folded first (`folding.fold`), so that the weights of the file
    are trained. Ranges of activations start at the least and greatest value for the
    calibration images; the library's own start, -6 to 6, would have to be corrected by
    the training. Ranges of weights follow the weights.

    Args:
      network: images -> embedding; left unchanged.
      images: (n, h, w, 3) float32 from the training split, as the network takes them.

    Returns:
      A model of the same input and output, ready for `tflite.convert`. Calls with
      `training=True` move the ranges.
    """
    folded = folding.fold(network)
    annotated = tf.keras.models.clone_model(folded, clone_function=_annotate)
    annotated.set_weights(folded.get_weights())
    with _tfmot.quantize_scope(_SCOPE):
        model = _tfmot.quantize_apply(annotated)
    observed = ranges.observed(folded, images)
    for layer in model.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        # The layer that rounds the input wraps no layer.
        inner = getattr(layer, "layer", None)
        name = inner.name if inner else folded.layers[0].name
        _set_range(layer, *observed[name])
        if isinstance(inner, layers.BatchNormalization):
            inner.trainable = False
    widen(model)
    return model


def widen(model: tf.keras.Model) -> None:
    """Widens ranges of a `trainable` network, in place, that are not wide `enough`.

    Ranges follow the batches in training, so the range of a layer that stops firing
    shrinks to nothing. Values in the old range stay the same up to rounding.
    """
    for layer in model.layers:
        inner = getattr(layer, "layer", None)
        if isinstance(inner, folding.CONVOLUTIONS):
            sources = [_range(node.inbound_layers) for node in layer.inbound_nodes]
            width = max(high - low for low, high in sources)
            # The layer's attribute now is a tensor of the last trace, not the variable.
            (kernel,) = _ends(layer, "kernel:0")
            largest = float(tf.reduce_max(tf.abs(kernel)))
            _set_range(layer, *ranges.enough(*_range(layer), width, largest))


def has_ranges(network: tf.keras.Model) -> bool:
    """Whether a network came from `trainable`, and needs no calibration."""
    return any(isinstance(layer, _tfmot.QuantizeWrapperV2) for layer in network.layers)


def _annotate(layer: layers.Layer) -> layers.Layer:
    copy = type(layer).from_config(layer.get_config())
    if isinstance(layer, layers.InputLayer):
        return copy
    config = _CONFIGS.get(type(layer))
    return _tfmot.quantize_annotate_layer(copy, config and config())


def _set_range(layer: layers.Layer, low: float, high: float) -> None:
    """Sets the range of a layer's output to low..high, if the output is rounded."""
    for end, value in (("_min:0", low), ("_max:0", high)):
        for variable in _ends(layer, end):
            variable.assign(value)


def _range(layer: layers.Layer) -> tuple[float, float]:
    """Returns the range of a layer's output, for pooling and padding the input's."""
    while not _ends(layer, "_min:0"):
        layer = layer.inbound_nodes[0].inbound_layers
    low, high = (float(_ends(layer, end)[0]) for end in ("_min:0", "_max:0"))
    return min(0.0, low), max(0.0, high)


def _ends(layer: layers.Layer, name: str) -> list[tf.Variable]:
    return [variable for variable in layer.weights if variable.name.endswith(name)]
