"""Describes a written TFLite file, and checks that it keeps its variant's promises.

A file says by itself what it takes. It has a signature `serving_default` from `images`
to `embedding`, a description, and a JSON buffer `cdnet_tf` with normalisation, scale
and zero point. All this is taken from the written bytes, so that it cannot promise
anything that the converter did not do.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

# Flatbuffer classes of the TFLite schema, which TensorFlow does not list as public.
# They import `flatbuffers`, which TensorFlow requires.
from tensorflow.lite.python import schema_py_generated as schema

from cdnet_tf.data import preprocess
from cdnet_tf.deploy import quantize, ranges

METADATA = "cdnet_tf"
# Names of the input and the output in the signature.
INPUT, OUTPUT = "images", "embedding"
# Variants that compute in integers throughout.
INTEGER_VARIANTS = ("int8", "uint8", "int8_float_io")
# Operations of a whole-integer network; accelerators support little more.
INTEGER_OPS = frozenset(
    "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D LOGISTIC MAX_POOL_2D "
    "MEAN MUL PAD STRIDED_SLICE".split()
)
_INTEGERS = ("INT8", "UINT8", "INT32")


class RefusedError(ValueError):
    """A converted file does not keep what its variant promises."""


def is_integer(variant: str) -> bool:
    """Whether a variant computes in integers throughout."""
    return variant in INTEGER_VARIANTS


def described(
    content: bytes,
    name: str,
    variant: str,
    layout: str,
    normalisation: preprocess.Normalisation = preprocess.IMAGENET,
) -> bytes:
    """Adds names, signature, description and metadata to a converted file.

    Args:
      content: bytes from the converter.
      name: of the network.
      variant, layout, normalisation: arguments of the conversion, see `tflite.convert`.
    """
    parsed = _Graph(content)
    model, graph = parsed.model, parsed.graph
    source, target = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    source.name, target.name = INPUT.encode(), OUTPUT.encode()
    model.signatureDefs = [_signature(graph)]
    record = _record(parsed, source, target, name, variant, layout, normalisation)
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


def check(
    content: bytes, variant: str, layout: str, keep_float: Sequence[str] = ()
) -> None:
    """Refuses a file that does not keep what its variant promises.

    In an integer variant every tensor is an integer, and every operation is one of
    `INTEGER_OPS`. Values are requantised only at the input and the output: QUANTIZE may
    read the input (pixels to int8, or a float input), and DEQUANTIZE may write a float
    output. TRANSPOSE may come first, for `nchw`. The layers of `keep_float`, and no
    others, may run in float between a DEQUANTIZE and a QUANTIZE. No sum of products may
    be rescaled by `ranges.FACTOR_LIMIT` or more, which today's kernels refuse.

    Raises:
      RefusedError: the file breaks a promise; the operation and the tensor that it
        writes are named.
    """
    graph = _Graph(content)
    for op in graph.operators:
        name, result = graph.op_name(op), graph.tensor_name(op.outputs[0])
        what = f"{variant}: {name}, which writes {result!r}"
        if name == "CUSTOM" or name.startswith("FLEX"):
            raise RefusedError(f"{what}, is no built-in operation of TFLite.")
        if is_integer(variant) and not graph.at_border(op, layout):
            _check_inside(graph, op, what, keep_float)
        factor = graph.factor(op)
        if factor >= ranges.FACTOR_LIMIT:
            raise RefusedError(
                f"{what}, rescales by {factor:.3g}, and XNNPACK takes less than "
                f"{ranges.FACTOR_LIMIT:g}: its output's range is (nearly) empty. "
                "Convert it with tflite.convert, which widens such ranges, and "
                "calibrate on images on which the layer does something."
            )


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
    """Returns the description in a file that `tflite.convert` wrote.

    Raises:
      ValueError: the file has no description.
    """
    model = schema.Model.GetRootAsModel(content, 0)
    for i in range(model.MetadataLength()):
        entry = model.Metadata(i)
        if entry.Name() == METADATA.encode():
            return json.loads(model.Buffers(entry.Buffer()).DataAsNumpy().tobytes())
    raise ValueError(f"The file has no metadata {METADATA!r}; export it again.")


def normalisation(content: bytes) -> preprocess.Normalisation | None:
    """Returns a file's normalisation; None if it takes pixels or does not say."""
    try:
        record = describe(content)["input"]
    except ValueError:
        return None
    if record["mean"] is None:
        return None
    of_1 = (tuple(value / 255 for value in record[name]) for name in ("mean", "std"))
    return preprocess.Normalisation(*of_1)


def op_counts(content: bytes) -> dict[str, int]:
    """Counts how often each operation occurs, by TFLite's name."""
    graph = _Graph(content)
    counts = Counter(graph.op_name(op) for op in graph.operators)
    return dict(sorted(counts.items()))


def writers(content: bytes) -> dict[str, str]:
    """Returns tensor -> the operation that writes it, both by TFLite's names."""
    graph = _Graph(content)
    return {
        graph.tensor_name(tensor): graph.op_name(op)
        for op in graph.operators
        for tensor in op.outputs
    }


def _buffer(data: bytes):
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(data, np.uint8)
    return buffer


def _signature(graph):
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    maps = []
    for name, tensor in ((INPUT, graph.inputs[0]), (OUTPUT, graph.outputs[0])):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), int(tensor)
        maps.append([entry])
    signature.inputs, signature.outputs = maps
    return signature


def _record(
    parsed, source, target, name, variant, layout, normalisation
) -> dict[str, Any]:
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
            "name": INPUT,
            "shape": shape,
            "layout": layout,
            "height": height,
            "width": width,
            "dtype": dtype["i"],
            "colours": "RGB",
            "values": "pixels 0..255" if pixels else "normalised RGB",
            "mean": None if pixels else [255 * mean for mean in normalisation.mean],
            "std": None if pixels else [255 * std for std in normalisation.std],
            **_rounding(source),
        },
        "output": {
            "name": OUTPUT,
            "dimensions": int(target.shape[-1]),
            "dtype": dtype["o"],
            "l2_normalised": False,
            **_rounding(target),
        },
        "distance": "Euclidean, or cosine, of L2-normalised embeddings",
    }


def _rounding(tensor) -> dict[str, Any]:
    """Returns scale and zero point: value = scale * (integer - zero_point), or None."""
    rounding = tensor.quantization
    if rounding is None or rounding.scale is None or tensor.type == 0:
        return {"scale": None, "zero_point": None}
    return {
        "scale": float(rounding.scale[0]),
        "zero_point": int(rounding.zeroPoint[0]),
    }


class _Graph:
    """The only graph of a file, with names instead of numbers."""

    _TYPES = {v: k for k, v in vars(schema.TensorType).items() if k[0] != "_"}

    def __init__(self, content: bytes) -> None:
        self.model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
        self.graph = self.model.subgraphs[0]
        self.operators = self.graph.operators

    def op_name(self, op) -> str:
        return ranges.op_name(self.model.operatorCodes[op.opcodeIndex])

    def type_name(self, tensor: int) -> str:
        return self._TYPES[self.graph.tensors[tensor].type]

    def tensor_name(self, tensor: int) -> str:
        return self.graph.tensors[tensor].name.decode()

    def factor(self, op) -> float:
        """Returns the largest factor by which an operation rescales sums of products.

        It is 0 for operations without such sums, and for floats.
        """
        if self.op_name(op) not in ranges.PRODUCTS:
            return 0.0
        ends = (*op.inputs[:2], op.outputs[0])
        rounding = [self.graph.tensors[i].quantization for i in ends]
        if any(each is None or each.scale is None for each in rounding):
            return 0.0
        source, weights, result = (each.scale for each in rounding)
        return float(source[0] * max(weights) / result[0])

    def at_border(self, op, layout: str) -> bool:
        """Whether an operation only converts the input or the output."""
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
    """Starts every vector at a multiple of 16 bytes, as the schema demands for weights.

    Python's writer ignores the schema's `force_align`, on which ARM kernels rely.
    """

    def StartVector(self, elemSize, numElems, alignment):  # noqa: N802, N803
        return super().StartVector(elemSize, numElems, max(alignment, 16))
