"""README.txt beside exported TFLite files: what each takes, and programs that run it.

The Python program is extracted and run by a test. The C++ program is compiled by a test
against a list of the C API's declarations, for the real header does not come with the
Python package; the Kotlin program has been read only. The text says so.
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
    (pixel - mean) / std, mean = 123.675 116.28 103.53, std = 58.395 57.12 57.375
and an int8 input takes round(value / scale) + zero_point, clipped to -128..127. A uint8
input takes pixels as they are, 0..255. An int8 output means
    value = (integer - zero_point) * scale
nhwc is (batch, height, width, 3), nchw is (batch, 3, height, width); -1 is any batch.
The same facts stand in each file, as JSON, in its metadata buffer `cdnet_tf`.
"""

_PYTHON = """
import sys
import numpy as np
import tensorflow as tf  # or: from ai_edge_litert.interpreter import Interpreter
from PIL import Image
def embed(model, image):
    net = tf.lite.Interpreter(model)
    into, out = net.get_input_details()[0], net.get_output_details()[0]
    net.resize_tensor_input(into["index"], [1, *into["shape"][1:]])
    net.allocate_tensors()
    nchw = into["shape"][1] == 3
    height, width = into["shape"][2:] if nchw else into["shape"][1:3]
    pixels = Image.open(image).convert("RGB").resize((width, height), Image.BILINEAR)
    x = np.asarray(pixels, np.float32)
    if into["dtype"] != np.uint8:
        x = (x - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    if into["dtype"] == np.int8:
        scale, zero = into["quantization"]
        x = np.clip(np.round(x / scale) + zero, -128, 127)
    x = x.transpose(2, 0, 1) if nchw else x
    net.set_tensor(into["index"], x[None].astype(into["dtype"]))
    net.invoke()
    y = net.get_tensor(out["index"])[0].astype(np.float32)
    if out["dtype"] == np.int8:
        scale, zero = out["quantization"]
        y = (y - zero) * scale
    return y / np.linalg.norm(y)
model, first, second = sys.argv[1:]
print(np.linalg.norm(embed(model, first) - embed(model, second)))
"""

_CPP = """
#include <cmath>
#include <cstdint>
#include <vector>
#include "tensorflow/lite/c/c_api.h"
// pixels: RGB, height * width * 3 bytes, for a nhwc file with a uint8 input.
std::vector<float> Embed(TfLiteInterpreter* net, const std::vector<uint8_t>& pixels) {
  TfLiteTensor* input = TfLiteInterpreterGetInputTensor(net, 0);
  if (TfLiteTensorCopyFromBuffer(input, pixels.data(), pixels.size()) != kTfLiteOk ||
      TfLiteInterpreterInvoke(net) != kTfLiteOk) return {};
  const TfLiteTensor* output = TfLiteInterpreterGetOutputTensor(net, 0);
  std::vector<int8_t> raw(TfLiteTensorByteSize(output));
  TfLiteTensorCopyToBuffer(output, raw.data(), raw.size());
  const TfLiteQuantizationParams q = TfLiteTensorQuantizationParams(output);
  std::vector<float> y;
  float norm = 0;
  for (int8_t v : raw) {
    y.push_back((v - q.zero_point) * q.scale);
    norm += y.back() * y.back();
  }
  for (float& v : y) v /= std::sqrt(norm);
  return y;
}
int main(int, char** argv) {
  TfLiteModel* model = TfLiteModelCreateFromFile(argv[1]);
  TfLiteInterpreterOptions* options = TfLiteInterpreterOptionsCreate();
  TfLiteInterpreter* net = TfLiteInterpreterCreate(model, options);
  TfLiteInterpreterAllocateTensors(net);
  const auto* input = TfLiteInterpreterGetInputTensor(net, 0);
  return Embed(net, std::vector<uint8_t>(TfLiteTensorByteSize(input))).empty();
}
"""

_KOTLIN = """
import java.nio.ByteBuffer
import kotlin.math.sqrt
import org.tensorflow.lite.Interpreter
// pixels: RGB, height * width * 3 bytes, for a nhwc file with a uint8 input.
fun embed(net: Interpreter, pixels: ByteArray): FloatArray {
    val input = ByteBuffer.allocateDirect(pixels.size)
    input.put(pixels).rewind()
    val output = net.getOutputTensor(0)
    val raw = ByteBuffer.allocateDirect(output.numBytes())
    net.run(input, raw)
    val q = output.quantizationParams()
    val y = FloatArray(output.numBytes()) { (raw.get(it) - q.zeroPoint) * q.scale }
    val norm = sqrt(y.sumOf { (it * it).toDouble() }).toFloat()
    return FloatArray(y.size) { y[it] / norm }
}
"""

# What each program was checked with is part of what it says.
PROGRAMS = {
    "Python: python THIS.py FILE.tflite first.jpg second.jpg": _PYTHON,
    "C++, for a file with a uint8 input (syntax checked; never linked or run)": _CPP,
    "Kotlin, for a file with a uint8 input (never compiled)": _KOTLIN,
}


def readme(files: Mapping[str, Mapping[str, Any]], thresholds: str) -> str:
    """The text of README.txt.

    Args:
      files: what `tflite_file.describe` says, by file name.
      thresholds: lines on the distance under which two images show one person.
    """
    parts = [_HEAD, "Files\n", *map(_row, files, files.values())]
    parts += ["", "Same person\n", thresholds]
    for title, program in PROGRAMS.items():
        parts += ["", title, "-" * len(title), program.strip()]
    return "\n".join(parts) + "\n"


def thresholds(evaluation: Mapping[str, Any] | None) -> str:
    """Lines on thresholds, from an evaluation of the float network, or for want of one.

    Args:
      evaluation: `evaluation.json` of `cdnet_tf.evaluate`.
    """
    found = (evaluation or {}).get("thresholds")
    if not found:
        return (
            "No threshold is known: python -m cdnet_tf.evaluate --model=FILE measures "
            "one."
        )
    lines = ["Measured with the float network, on its data set's query and gallery:"]
    for rate, row in zip(found["rates"], found["at_rates"]):
        if row["distance"] is not None:
            lines.append(
                f"  distance < {row['distance']:.4f}: {rate:.2%} false accepts, "
                f"{row['true_accept_rate']:.1%} true ones"
            )
    return "\n".join(lines)


def _row(name: str, record: Mapping[str, Any]) -> str:
    into, out = record["input"], record["output"]
    shape = "x".join(map(str, into["shape"]))
    return (
        f"  {name}\n    in:  {into['dtype']} {into['layout']} {shape}, "
        f"{into['values']}{_rounding(into)}\n    out: {out['dtype']} "
        f"1x{out['dimensions']}, not L2-normalised{_rounding(out)}"
    )


def _rounding(end: Mapping[str, Any]) -> str:
    if end["scale"] is None:
        return ""
    return f", scale {end['scale']:.8g}, zero_point {end['zero_point']}"
