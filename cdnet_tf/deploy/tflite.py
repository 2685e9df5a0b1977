"""A Keras network as a TFLite file: variants, layouts, checks and a description.

A file says by itself what it takes: signature `serving_default` from `images` to
`embedding`, a description, and the JSON buffer `cdnet_tf` with normalisation, scale and
zero point. All of it is read back from the written bytes, so it cannot promise what the
converter did not do.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

# Flatbuffer classes of the TFLite schema; they come with TensorFlow and are not listed
# among its public names. They import `flatbuffers`, which TensorFlow requires.
from tensorflow.lite.python import schema_py_generated as schema

from cdnet_tf.data import preprocess
from cdnet_tf.deploy import quantize

VARIANTS = ("float32", "float16", "dynamic", "int8", "uint8", "int8_float_io")
INTEGER_VARIANTS = VARIANTS[3:]
LAYOUTS = ("nhwc", "nchw")
METADATA = "cdnet_tf"
# What a whole-integer network may consist of; a tracker's chip supports no more.
INTEGER_OPS = frozenset(
    "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D LOGISTIC MAX_POOL_2D "
    "MEAN MUL PAD STRIDED_SLICE".split()
)
_INTEGERS = ("INT8", "UINT8", "INT32")
_IO_TYPES = {
    "int8": (tf.int8, tf.int8),
    "uint8": (tf.uint8, tf.int8),
    "int8_float_io": (tf.float32, tf.float32),
}


class RefusedError(ValueError):
    """A converted file is not what its variant promises."""


def convert(
    network: tf.keras.Model,
    variant: str,
    *,
    layout: str = "nhwc",
    dynamic_batch: bool = False,
    images: np.ndarray | None = None,
    keep_float: Sequence[str] = (),
) -> bytes:
    """Converts a network, and describes the file in it; `check` judges what came out.

    Args:
      network: normalised (b, h, w, 3) -> (b, d). One that `quantize.trainable` gave
        brings its ranges with it.
      variant: one of `VARIANTS`. `uint8` takes pixels 0..255; its first operation, a
        depthwise 1x1 convolution, normalises them, so that the stem pads with the mean
        colour as in training.
      layout: of the input; `nchw` is transposed back in the graph.
      dynamic_batch: leave the batch size free, instead of 1.
      images: (n, h, w, 3) uint8 for calibration; for the integer variants of a network
        without ranges.
      keep_float: layers of the integer variants to leave in float; not of a network
        that brings its ranges.

    Raises:
      ValueError: an unknown variant or layout, no calibration images, or a name in
        `keep_float` that no layer has.
    """
    if variant not in VARIANTS or layout not in LAYOUTS:
        raise ValueError(
            f"variant={variant!r}, layout={layout!r}: use one of {', '.join(VARIANTS)} "
            f"and of {', '.join(LAYOUTS)}."
        )
    integer = variant in INTEGER_VARIANTS
    samples = None
    if integer and not quantize.has_ranges(network):
        samples = fed(images, variant, layout)
    made = converter(network, variant, layout=layout, dynamic_batch=dynamic_batch)
    if variant == "float16":
        made.target_spec.supported_types = [tf.float16]
    if variant != "float32":
        made.optimizations = [tf.lite.Optimize.DEFAULT]
    if integer:
        made.inference_input_type, made.inference_output_type = _IO_TYPES[variant]
    if samples is not None:
        quantize.post_training(made, samples)
    if samples is not None and keep_float:
        types = _IO_TYPES[variant]
        content = quantize.keep_float(made, samples, keep_float, *types)
    else:
        content = made.convert()
    return _described(content, network.name, variant, layout)


def converter(
    network: tf.keras.Model,
    variant: str,
    *,
    layout: str = "nhwc",
    dynamic_batch: bool = False,
) -> tf.lite.TFLiteConverter:
    """A converter of the float graph that a variant and a layout begin with."""
    batch = None if dynamic_batch else 1
    _, height, width, channels = network.input_shape
    shape = [batch, height, width, channels]
    if layout == "nchw":
        shape = [batch, channels, height, width]

    def embed(images):
        if layout == "nchw":
            images = tf.transpose(images, [0, 2, 3, 1])
        if variant == "uint8":
            images = _normalised(images, rounded=quantize.has_ranges(network))
        return {"embedding": network(images, training=False)}

    function = tf.function(embed).get_concrete_function(
        tf.TensorSpec(shape, name="images")
    )
    made = tf.lite.TFLiteConverter.from_concrete_functions([function], network)
    # Else the graph goes to disk as a SavedModel and back, most of a conversion's time.
    made.experimental_lower_to_saved_model = False
    return made


def fed(images: np.ndarray | None, variant: str, layout: str) -> np.ndarray:
    """Images as the float graph of a variant takes them.

    Args:
      images: (n, h, w, 3) uint8, RGB.
      variant, layout: as in `convert`.
    """
    if images is None or not len(images):
        raise ValueError(f"{variant} needs calibration images; pass some, better 100.")
    if variant == "uint8":
        # The ends of the range, so that a pixel and its integer are the same.
        values = images.astype(np.float32)
        values[0].flat[0], values[0].flat[1] = 0, 255
    else:
        values = preprocess.normalise(images).numpy()
    return values.transpose(0, 3, 1, 2) if layout == "nchw" else values


def check(
    content: bytes, variant: str, layout: str, keep_float: Sequence[str] = ()
) -> None:
    """Refuses a file that is not what its variant promises.

    In an integer variant every tensor is an integer, every operation is one of
    `INTEGER_OPS`, and values are requantised nowhere but at the input and the output
    themselves: QUANTIZE may read the input (pixels to int8, or a float input),
    DEQUANTIZE may write a float output. TRANSPOSE may stand first, for `nchw`. With
    `keep_float`, the named layers may run in float, between a DEQUANTIZE and a
    QUANTIZE, and no others.

    Raises:
      RefusedError: names the operation, and the tensor that it writes.
    """
    graph = _Graph(content)
    for op in graph.operators:
        name, result = graph.op_name(op), graph.tensor_name(op.outputs[0])
        what = f"{variant}: {name}, which writes {result!r}"
        if name == "CUSTOM" or name.startswith("FLEX"):
            raise RefusedError(f"{what}, is no built-in operation of TFLite.")
        if variant in INTEGER_VARIANTS and not graph.at_border(op, layout):
            _check_inside(graph, op, what, keep_float)


def _check_inside(graph: _Graph, op, what: str, keep_float: Sequence[str]) -> None:
    name = graph.op_name(op)
    types = {graph.type_name(i) for i in (*op.inputs, *op.outputs) if i >= 0}
    if keep_float and name in ("QUANTIZE", "DEQUANTIZE"):
        return
    if name not in INTEGER_OPS:
        raise RefusedError(
            f"{what}, is none of the operations of an integer network "
            f"({', '.join(sorted(INTEGER_OPS))}); change the layer it comes from."
        )
    floats = types - set(_INTEGERS)
    tensor = graph.tensor_name(op.outputs[0])
    if floats and not any(quantize.belongs(tensor, layer) for layer in keep_float):
        raise RefusedError(
            f"{what}, works on {', '.join(sorted(floats))}; the converter found no "
            "integer form of it. Change the layer, or name it in --selective."
        )


def describe(content: bytes) -> dict[str, Any]:
    """The description in a file that `convert` wrote.

    Raises:
      ValueError: the file holds none.
    """
    model = schema.Model.GetRootAsModel(content, 0)
    for i in range(model.MetadataLength()):
        entry = model.Metadata(i)
        if entry.Name() == METADATA.encode():
            return json.loads(model.Buffers(entry.Buffer()).DataAsNumpy().tobytes())
    raise ValueError(f"The file has no metadata {METADATA!r}; export it again.")


def op_counts(content: bytes) -> dict[str, int]:
    """How often each operation occurs, by TFLite's name."""
    graph = _Graph(content)
    counts = Counter(graph.op_name(op) for op in graph.operators)
    return dict(sorted(counts.items()))


def latency(content: bytes, runs: int = 30) -> float:
    """Median time of a run on one image, seconds, on one thread, after a warm-up."""
    interpreter = tf.lite.Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    times = []
    for _ in range(runs + 3):
        start = time.perf_counter()
        interpreter.invoke()
        times.append(time.perf_counter() - start)
    return statistics.median(times[3:])


def processor() -> str:
    """The CPU's name, as a latency must carry it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _normalised(pixels: tf.Tensor, rounded: bool) -> tf.Tensor:
    """`preprocess.normalise` as one depthwise 1x1 convolution.

    Args:
      pixels: (b, h, w, 3) float, 0..255.
      rounded: say that a pixel is an integer, for want of calibration.
    """
    if rounded:
        pixels = tf.quantization.fake_quant_with_min_max_args(pixels, 0, 255)
    std = np.array(preprocess.IMAGENET_STD, np.float32)
    kernel = (1 / (255 * std)).reshape(1, 1, 3, 1)
    shift = -np.array(preprocess.IMAGENET_MEAN, np.float32) / std
    return tf.nn.depthwise_conv2d(pixels, kernel, [1, 1, 1, 1], "VALID") + shift


class _Graph:
    """The one graph of a file, by names instead of numbers."""

    _OPS = {v: k for k, v in vars(schema.BuiltinOperator).items() if k[0] != "_"}
    _TYPES = {v: k for k, v in vars(schema.TensorType).items() if k[0] != "_"}

    def __init__(self, content: bytes) -> None:
        self.model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
        self.graph = self.model.subgraphs[0]
        self.operators = self.graph.operators

    def op_name(self, op) -> str:
        code = self.model.operatorCodes[op.opcodeIndex]
        # Codes above 126 stand in the second field alone.
        return self._OPS[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def type_name(self, tensor: int) -> str:
        return self._TYPES[self.graph.tensors[tensor].type]

    def tensor_name(self, tensor: int) -> str:
        return self.graph.tensors[tensor].name.decode()

    def at_border(self, op, layout: str) -> bool:
        """Whether an operation only brings the input in, or the output out."""
        name = self.op_name(op)
        if name == "QUANTIZE":
            return op.inputs[0] in self.graph.inputs
        if name == "DEQUANTIZE":
            return op.outputs[0] in self.graph.outputs
        if name == "TRANSPOSE" and layout == "nchw":
            first = self.operators[0]
            entry = set(self.graph.inputs)
            if self.op_name(first) == "QUANTIZE":
                entry |= set(first.outputs)
            return op.inputs[0] in entry
        return False


class _Builder(schema.flatbuffers.Builder):
    """Starts every vector at a multiple of 16 bytes, as the schema asks for weights.

    The Python writer does not know `force_align`, and kernels for ARM rely on it.
    """

    def StartVector(self, elemSize, numElems, alignment):  # noqa: N802, N803
        return super().StartVector(elemSize, numElems, max(alignment, 16))


def _described(content: bytes, name: str, variant: str, layout: str) -> bytes:
    """Adds names, signature, description and metadata to what the converter gave."""
    parsed = _Graph(content)
    model, graph = parsed.model, parsed.graph
    source, target = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    source.name, target.name = b"images", b"embedding"
    model.signatureDefs = [_signature(graph)]
    record = _record(parsed, source, target, name, variant, layout)
    model.description = (
        f"{name}: {record['input']['values']} in ({layout}, {record['input']['dtype']}"
        f"), embedding of {record['output']['dimensions']} out, not L2-normalised."
    ).encode()
    text = json.dumps(record, indent=1).encode()
    model.buffers.append(_buffer(text))
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA.encode(), len(model.buffers) - 1
    model.metadata = [*(model.metadata or ()), entry]
    builder = _Builder(len(content) + 65536)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _buffer(data: bytes):
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(data, np.uint8)
    return buffer


def _signature(graph):
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    maps = []
    for name, tensor in (
        (b"images", graph.inputs[0]),
        (b"embedding", graph.outputs[0]),
    ):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, int(tensor)
        maps.append([entry])
    signature.inputs, signature.outputs = maps
    return signature


def _record(parsed, source, target, name, variant, layout) -> dict[str, Any]:
    shape = list(
        map(
            int,
            source.shapeSignature
            if source.shapeSignature is not None
            else source.shape,
        )
    )
    channels_first = layout == "nchw"
    height, width = shape[2:] if channels_first else shape[1:3]
    dtype = {g: parsed._TYPES[t.type].lower() for g, t in zip("io", (source, target))}
    pixels = variant == "uint8"
    return {
        "network": name,
        "variant": variant,
        "input": {
            "name": "images",
            "shape": shape,
            "layout": layout,
            "height": height,
            "width": width,
            "dtype": dtype["i"],
            "colours": "RGB",
            "values": "pixels 0..255" if pixels else "normalised RGB",
            "mean": None if pixels else [255 * m for m in preprocess.IMAGENET_MEAN],
            "std": None if pixels else [255 * s for s in preprocess.IMAGENET_STD],
            **_rounding(source),
        },
        "output": {
            "name": "embedding",
            "dimensions": int(target.shape[-1]),
            "dtype": dtype["o"],
            "l2_normalised": False,
            **_rounding(target),
        },
        "distance": "Euclidean, or cosine, of L2-normalised embeddings",
    }


def _rounding(tensor) -> dict[str, Any]:
    """Scale and zero point: value = scale * (integer - zero_point); None of floats."""
    rounding = tensor.quantization
    if rounding is None or rounding.scale is None or tensor.type == 0:
        return {"scale": None, "zero_point": None}
    return {
        "scale": float(rounding.scale[0]),
        "zero_point": int(rounding.zeroPoint[0]),
    }
