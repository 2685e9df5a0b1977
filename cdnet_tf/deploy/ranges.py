"""Widens ranges of values that are too narrow for the steps of 8-bit integers.

A convolution sums products of two integers. The unit of such a sum is (step of the
input) x (step of the weights), and the sum is rescaled to the step of the output.
XNNPACK, the kernels of today's runtimes, refuses a file in which that factor is 256 or
more. This happens if a ReLU never fires on the calibration images, as in a dead gate:
the output's range is then empty, and its step as small as a float can be.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

# Flatbuffer classes of the TFLite schema, which TensorFlow does not list as public.
from tensorflow.lite.python import schema_py_generated as schema

# From this factor on, XNNPACK creates no convolution and no matrix product: "failed to
# create ...: requantization scale ... is greater or equal to 256.0".
FACTOR_LIMIT = 256.0
# Operations that sum products: data, weights -> output.
PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
# Operations whose output takes over the step of the input.
_SAME_STEP = (
    "AVERAGE_POOL_2D",
    "MAX_POOL_2D",
    "PAD",
    "RESHAPE",
    "STRIDED_SLICE",
    "TRANSPOSE",
)
_WEIGHT_STEPS = 127  # steps of a weight, on each side of 0
_PROBE_BATCH = 32
_OPS = {v: k for k, v in vars(schema.BuiltinOperator).items() if k[0] != "_"}


def enough(
    low: float, high: float, source: float, weight: float
) -> tuple[float, float]:
    """Widens the range of a convolution's output to at least 255 units of its sums.

    This loses nothing: sums are multiples of the unit, so a finer step would leave
    integers unused. The new range contains the old one, and 0 is still an integer.

    Args:
      low, high: least and greatest output, low <= 0 <= high.
      source: width of the input's range.
      weight: the largest weight, positive.

    Returns:
      (low, high). Only `high` grows if nothing is negative, as after a ReLU.
    """
    # 255 steps of source / 255 times weight / 127.
    missing = max(0.0, source * weight / _WEIGHT_STEPS - (high - low))
    below = missing / 2 if low < 0 else 0.0
    return low - below, high + missing - below


def widened(calibrated: bytes) -> bytes:
    """Returns a calibrated float file with every convolution's range wide `enough`.

    The network computes the same; only the rounding of its outputs changes.

    Args:
      calibrated: a TFLite file of floats that notes each tensor's least and greatest
        value.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(calibrated, 0))
    names = [op_name(code) for code in model.operatorCodes]
    tensors = model.subgraphs[0].tensors
    found = {i: _range(tensor) for i, tensor in enumerate(tensors)}
    # In the order of running, because a widened output is the next operation's input.
    for op in model.subgraphs[0].operators:
        source, result = found[op.inputs[0]], op.outputs[0]
        if names[op.opcodeIndex] in _SAME_STEP:
            found[result] = source
        elif names[op.opcodeIndex] in PRODUCTS:
            kernel = model.buffers[tensors[op.inputs[1]].buffer].data.view(np.float32)
            width, largest = source[1] - source[0], float(np.abs(kernel).max())
            low, high = found[result] = enough(*found[result], width, largest)
            rounding = tensors[result].quantization
            rounding.min, rounding.max = [low], [high]
    builder = schema.flatbuffers.Builder(len(calibrated))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def op_name(code: schema.OperatorCodeT) -> str:
    """Returns TFLite's name of a file's operator code."""
    # The older field cannot hold codes above 126.
    return _OPS[max(code.builtinCode, code.deprecatedBuiltinCode)]


def outputs(content: bytes) -> Iterator[str]:
    """Yields the names of the tensors that a file's operations write."""
    graph = schema.Model.GetRootAsModel(content, 0).Subgraphs(0)
    for i in range(graph.OperatorsLength()):
        yield graph.Tensors(graph.Operators(i).Outputs(0)).Name().decode()


def _range(tensor) -> tuple[float, float]:
    """Returns a tensor's calibrated range, with 0 in it; (0, 0) for constants."""
    if tensor.quantization is None or tensor.quantization.min is None:
        return 0.0, 0.0
    low, high = tensor.quantization.min[0], tensor.quantization.max[0]
    return min(0.0, float(low)), max(0.0, float(high))


def observed(
    network: tf.keras.Model, images: np.ndarray
) -> dict[str, tuple[float, float]]:
    """Returns each layer's least and greatest output over all its calls, by name.

    Args:
      network: a flat functional model.
      images: (n, h, w, 3) float32, as the network takes them.
    """
    results = {
        layer.name: [layer.get_output_at(i) for i in range(len(layer.inbound_nodes))]
        for layer in network.layers
    }
    probe = tf.keras.Model(network.input, results)

    @tf.function
    def extremes(batch):
        values = probe(batch, training=False)
        return {
            name: (
                tf.reduce_min([tf.reduce_min(x) for x in each]),
                tf.reduce_max([tf.reduce_max(x) for x in each]),
            )
            for name, each in values.items()
        }

    found: dict[str, tuple[float, float]] = {}
    for start in range(0, len(images), _PROBE_BATCH):
        for name, (low, high) in extremes(images[start : start + _PROBE_BATCH]).items():
            # A range includes 0, which must be exact for padding and ReLU.
            before = found.get(name, (0.0, 0.0))
            found[name] = min(before[0], float(low)), max(before[1], float(high))
    return found
