"""Ranges of values, from which 8-bit integers take their steps; none is too narrow.

A convolution sums products of two integers. One sum is worth (step of the input) x
(step of the weights), and is rescaled to the step of the output. XNNPACK, the kernels
of today's runtimes, refuses a file in which that factor is 256 or more. It happens
where a ReLU never fires on the calibration images, a dead gate for one: the output's
range is then empty, and its step as small as a float can be.
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
# Operations whose output has its input's step, whatever its own range.
_SAME_STEP = (
    "AVERAGE_POOL_2D",
    "MAX_POOL_2D",
    "PAD",
    "RESHAPE",
    "STRIDED_SLICE",
    "TRANSPOSE",
)
_WEIGHT_STEPS = 127  # of a weight, on each side of 0
_PROBE_BATCH = 32
_OPS = {v: k for k, v in vars(schema.BuiltinOperator).items() if k[0] != "_"}


def enough(
    low: float, high: float, source: float, weight: float
) -> tuple[float, float]:
    """Widens the range of a convolution's output to 255 steps of its sums.

    Nothing is lost: sums are whole, so a finer step would leave integers unused. Values
    that stood in the range still do, and 0 is still an integer.

    Args:
      low, high: least and greatest output, low <= 0 <= high.
      source: width of the input's range.
      weight: the largest weight, positive.

    Returns:
      (low, high); upwards alone where nothing is negative, as after a ReLU.
    """
    # 255 steps of source / 255 times weight / 127.
    missing = max(0.0, source * weight / _WEIGHT_STEPS - (high - low))
    below = missing / 2 if low < 0 else 0.0
    return low - below, high + missing - below


def widened(calibrated: bytes) -> bytes:
    """A calibrated float file in which every convolution's range is wide `enough`.

    The network stays what it is; only where its outputs are rounded changes.

    Args:
      calibrated: a TFLite file of floats, least and greatest value at each tensor.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(calibrated, 0))
    names = [op_name(code) for code in model.operatorCodes]
    tensors = model.subgraphs[0].tensors
    found = {i: _range(tensor) for i, tensor in enumerate(tensors)}
    # In the order in which they run: a widened output is the next one's input.
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
    # Codes above 126 stand in the second field alone.
    return _OPS[max(code.builtinCode, code.deprecatedBuiltinCode)]


def outputs(content: bytes) -> Iterator[str]:
    """Names of the tensors that a file's operations write."""
    graph = schema.Model.GetRootAsModel(content, 0).Subgraphs(0)
    for i in range(graph.OperatorsLength()):
        yield graph.Tensors(graph.Operators(i).Outputs(0)).Name().decode()


def _range(tensor) -> tuple[float, float]:
    """What calibration saw, and 0; nothing of constants."""
    if tensor.quantization is None or tensor.quantization.min is None:
        return 0.0, 0.0
    low, high = tensor.quantization.min[0], tensor.quantization.max[0]
    return min(0.0, float(low)), max(0.0, float(high))


def observed(
    network: tf.keras.Model, images: np.ndarray
) -> dict[str, tuple[float, float]]:
    """Layer's name -> least and greatest value of its output, over all its calls.

    Args:
      network: a flat functional model.
      images: (n, h, w, 3) float32, as it takes them.
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
            # A range holds 0, which padding and ReLU need to be exact.
            before = found.get(name, (0.0, 0.0))
            found[name] = min(before[0], float(low)), max(before[1], float(high))
    return found
