"""README.txt beside exported TFLite files: what each takes, and programs that run it.

A test extracts the Python program and runs it. A test compiles the C++ program against
a list of the C API's declarations, because the real header does not come with the
Python package. The Kotlin program was only read. The text says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_HEAD = """Person re-identification, TensorFlow Lite.

An image of one person goes in, cut out of the frame and resized to the input's size
(bilinear, antialiased), RGB. An embedding comes out. It is NOT L2-normalised: divide it
by its norm first. The smaller the Euclidean distance of two such vectors, the more
likely they show the same person.

Inputs of type float32 and int8 take normalised colours, channel by channel
    (pixel - mean) / std, with the mean and std of the file, of red, green and blue,
and an int8 input takes round(value / scale) + zero_point, clipped to -128..127. A uint8
input takes pixels as they are, 0..255. An int8 output means
    value = (integer - zero_point) * scale
nhwc is (batch, height, width, 3), nchw is (batch, 3, height, width); -1 is any batch.
The same facts stand in each file, as JSON, in its metadata buffer `cdnet_tf`.
"""

_SAME_PERSON = """\
Two images show the same person if the distance of their embeddings, each divided by its
norm, is below a threshold. The threshold depends on how many false accepts (two people
who are taken for one) you can tolerate. The thresholds below were measured on the
embeddings of each file, without mirrored images, over all pairs of a query and a
gallery image from different cameras. Your cameras may need other thresholds: measure
them.
"""

_CHIPS = """\
Arm's Vela compiled each of these files for one chip; they run on no other processor.
Each has the input, output and thresholds of the file that it was made from. None of
them was run on its chip.
"""

_PYTHON = """
import json
import sys
import numpy as np
import tensorflow as tf
from PIL import Image
def embed(model, image):
    net = tf.lite.Interpreter(model)  # or ai_edge_litert.interpreter.Interpreter
    (i,), (o,) = net.get_input_details(), net.get_output_details()
    net.resize_tensor_input(i["index"], [1, *i["shape"][1:]])
    net.allocate_tensors()
    nchw = i["shape"][1] == 3
    size = i["shape"][2:] if nchw else i["shape"][1:3]
    x = np.float32(Image.open(image).convert("RGB").resize(size[::-1], Image.BILINEAR))
    if i["dtype"] != np.uint8:
        file = open(model, "rb").read().decode("latin-1")  # Holds JSON, among others.
        said = json.JSONDecoder().raw_decode(file, file.index('{\\n "network"'))[0]
        x = (x - said["input"]["mean"]) / said["input"]["std"]
    if i["dtype"] == np.int8:
        scale, zero = i["quantization"]
        x = np.clip(np.round(x / scale) + zero, -128, 127)
    x = x.transpose(2, 0, 1) if nchw else x
    net.set_tensor(i["index"], x[None].astype(i["dtype"]))
    net.invoke()
    y = net.get_tensor(o["index"])[0] - np.float32(o["quantization"][1])
    return y / np.linalg.norm(y)  # The scale of y cancels here.
print(np.linalg.norm(embed(*sys.argv[1:3]) - embed(sys.argv[1], sys.argv[3])))
"""

_CPP = """
#include <cmath>
#include <cstdint>
#include <vector>
#include "tensorflow/lite/c/c_api.h"
// A nhwc file with a uint8 input; pixels: RGB, height * width * 3 bytes.
std::vector<float> Embed(TfLiteInterpreter* net, const std::vector<uint8_t>& pixels) {
  TfLiteTensor* input = TfLiteInterpreterGetInputTensor(net, 0);
  if (TfLiteTensorCopyFromBuffer(input, pixels.data(), pixels.size()) != kTfLiteOk ||
      TfLiteInterpreterInvoke(net) != kTfLiteOk) return {};
  const TfLiteTensor* output = TfLiteInterpreterGetOutputTensor(net, 0);
  std::vector<int8_t> raw(TfLiteTensorByteSize(output));
  TfLiteTensorCopyToBuffer(output, raw.data(), raw.size());
  std::vector<float> y(raw.begin(), raw.end());
  float norm = 0;  // The scale of y cancels below.
  for (float& v : y) v -= TfLiteTensorQuantizationParams(output).zero_point;
  for (float v : y) norm += v * v;
  for (float& v : y) v /= std::sqrt(norm);
  return y;
}
// net: TfLiteInterpreterCreate(TfLiteModelCreateFromFile(path),
// TfLiteInterpreterOptionsCreate()), then TfLiteInterpreterAllocateTensors(net), once.
"""

_KOTLIN = """
import java.nio.ByteBuffer
import kotlin.math.sqrt
import org.tensorflow.lite.Interpreter
// A nhwc file with a uint8 input; pixels: RGB, height * width * 3 bytes.
fun embed(net: Interpreter, pixels: ByteArray): FloatArray {
    val input = ByteBuffer.allocateDirect(pixels.size)
    input.put(pixels).rewind()
    val raw = ByteBuffer.allocateDirect(net.getOutputTensor(0).numBytes())
    net.run(input, raw)
    val zero = net.getOutputTensor(0).quantizationParams().zeroPoint
    val y = FloatArray(raw.capacity()) { (raw.get(it) - zero).toFloat() }
    val norm = sqrt(y.sumOf { (it * it).toDouble() }).toFloat()
    return FloatArray(y.size) { y[it] / norm }
}
"""

# The title of each program says how it was checked.
PROGRAMS = {
    "Python: python THIS.py FILE.tflite first.jpg second.jpg": _PYTHON,
    "C++, for a file with a uint8 input (syntax checked; never linked or run)": _CPP,
    "Kotlin, for a file with a uint8 input (never compiled)": _KOTLIN,
}


def compose(
    files: Mapping[str, Mapping[str, Any]],
    measured: Mapping[str, Mapping[str, Any]],
    for_chips: Mapping[str, str] | None = None,
) -> str:
    """Returns the text of README.txt.

    Args:
      files: descriptions from `tflite_file.describe`, by file name.
      measured: `thresholds` and `measured` of files that were measured, by file name,
        as `gate.Gate.judge` returns them.
      for_chips: source and chip of each file that is compiled for one, by file name.
    """
    parts = [_HEAD, "Files\n", *map(_row, files, files.values())]
    if for_chips:
        parts += ["", "Camera chips\n", _CHIPS]
        parts += [f"  {name}\n    from {what}" for name, what in for_chips.items()]
    parts += ["", "Same person\n", _SAME_PERSON]
    parts += [_same_person(name, measured.get(name)) for name in files]
    for title, program in PROGRAMS.items():
        parts += ["", title, "-" * len(title), program.strip()]
    return "\n".join(parts) + "\n"


def _same_person(name: str, row: Mapping[str, Any] | None) -> str:
    """Lists the thresholds of one file, and the images that they were measured on."""
    if row is None:
        return (
            f"  {name}\n    No threshold was measured on this file: python -m "
            f"cdnet_tf.evaluate --model={name} measures one."
        )
    found, measured = row["thresholds"], row["measured"]
    part = measured["subset"] or "everything"
    lines = [
        f"  {name}",
        f"    sha256 {measured['sha256']}",
        f"    measured on {measured['dataset']}, {part}:",
        f"    {measured['query_images']:,} query and {measured['gallery_images']:,} "
        f"gallery images, {measured['distractors']:,} distractors among them;",
        f"    {found['genuine_pairs']:,} pairs of one person and "
        f"{found['impostor_pairs']:,} of two",
    ]
    for rate, each in zip(found["rates"], found["at_rates"]):
        if each["distance"] is None:
            lines.append(f"    at {rate:.2%} false accepts: none; {each['note']}")
            continue
        lines.append(
            f"    distance < {each['distance']:.4f} at {rate:.2%} false accepts "
            f"(measured {each['false_accept_rate']:.3%}): "
            f"{each['true_accept_rate']:.1%} true ones"
        )
    return "\n".join(lines)


def _row(name: str, record: Mapping[str, Any]) -> str:
    into, out = record["input"], record["output"]
    shape = "x".join(map(str, into["shape"]))
    return (
        f"  {name}\n    in:  {into['dtype']} {into['layout']} {shape}, "
        f"{into['values']}{_rounding(into)}{_colours(into)}\n    out: {out['dtype']} "
        f"1x{out['dimensions']}, not L2-normalised{_rounding(out)}"
    )


def _colours(into: Mapping[str, Any]) -> str:
    if into["mean"] is None:
        return ""
    mean, std = (" ".join(f"{v:g}" for v in into[name]) for name in ("mean", "std"))
    return f"\n         mean {mean}, std {std}"


def _rounding(end: Mapping[str, Any]) -> str:
    if end["scale"] is None:
        return ""
    return f", scale {end['scale']:.8g}, zero_point {end['zero_point']}"
