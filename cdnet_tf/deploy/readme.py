"""README.txt beside exported TFLite files: what each takes, and programs that run it.

A test extracts the Python program and runs it. The C++ program declares what it uses of
LiteRT's C API, because the Python package ai-edge-litert has the library and not its
headers. A test compiles it, and tools/compat.py links and runs it.
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

CPP = """
// g++ -std=c++17 THIS.cc -L DIR -l:libLiteRt.so -Wl,-rpath,DIR -o embed
// ./embed FILE.tflite PIXELS
// DIR is the folder of the Python package ai-edge-litert. PIXELS holds one image or
// more, RGB, height * width * 3 bytes each; a line for each is printed, its embedding.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>
// What is used of LiteRT's C API (litert/c/*.h). A call that fails returns no 0.
extern "C" {
struct Shape { int32_t type; uint32_t rank; int32_t sides[8]; uint32_t strides[8]; };
struct Rounding { float scale; int64_t zero_point; };
int LiteRtCreateEnvironment(int, const void*, void** environment);
int LiteRtCreateModelFromFile(void* environment, const char*, void** model);
int LiteRtCreateOptions(void** options);
int LiteRtSetOptionsHardwareAccelerators(void* options, int accelerators);
int LiteRtCreateCompiledModel(void* environment, void* model, void* options, void**);
int LiteRtGetModelSubgraph(void* model, size_t, void** graph);
int LiteRtGetSubgraphInput(void* graph, size_t, void** tensor);
int LiteRtGetSubgraphOutput(void* graph, size_t, void** tensor);
int LiteRtGetRankedTensorType(void* tensor, Shape*);
int LiteRtGetPerTensorQuantization(void* tensor, Rounding*);
int LiteRtGetCompiledModelInputBufferRequirements(void*, size_t, size_t, void** needs);
int LiteRtGetCompiledModelOutputBufferRequirements(void*, size_t, size_t, void** needs);
int LiteRtCreateManagedTensorBufferFromRequirements(void*, const Shape*, void*, void**);
int LiteRtGetTensorBufferPackedSize(void* buffer, size_t* bytes);
int LiteRtLockTensorBuffer(void* buffer, void** memory, int mode);
int LiteRtUnlockTensorBuffer(void* buffer);
int LiteRtRunCompiledModel(void*, size_t, size_t, void** from, size_t, void** into);
}
void Must(int status) {
  if (status) std::fprintf(stderr, "LiteRT's status: %d\\n", status), std::exit(1);
}
int main(int argc, char** argv) {
  if (argc != 3) return 2;
  void *env, *model, *options, *net, *graph, *tensors[2], *needs[2], *buffers[2], *raw;
  Must(LiteRtCreateEnvironment(0, nullptr, &env));
  Must(LiteRtCreateModelFromFile(env, argv[1], &model));
  Must(LiteRtCreateOptions(&options));
  Must(LiteRtSetOptionsHardwareAccelerators(options, 1));  // the CPU
  Must(LiteRtCreateCompiledModel(env, model, options, &net));
  Must(LiteRtGetModelSubgraph(model, 0, &graph));
  Must(LiteRtGetSubgraphInput(graph, 0, &tensors[0]));
  Must(LiteRtGetSubgraphOutput(graph, 0, &tensors[1]));
  Must(LiteRtGetCompiledModelInputBufferRequirements(net, 0, 0, &needs[0]));
  Must(LiteRtGetCompiledModelOutputBufferRequirements(net, 0, 0, &needs[1]));
  size_t bytes[2];
  for (int i = 0; i < 2; ++i) {
    Shape shape;
    Must(LiteRtGetRankedTensorType(tensors[i], &shape));
    Must(LiteRtCreateManagedTensorBufferFromRequirements(env, &shape, needs[i],
                                                         &buffers[i]));
    Must(LiteRtGetTensorBufferPackedSize(buffers[i], &bytes[i]));
  }
  Rounding rounding;
  Must(LiteRtGetPerTensorQuantization(tensors[1], &rounding));
  std::ifstream file(argv[2], std::ios::binary);
  std::vector<char> pixels{std::istreambuf_iterator<char>(file), {}};
  for (size_t at = 0; at + bytes[0] <= pixels.size(); at += bytes[0]) {
    Must(LiteRtLockTensorBuffer(buffers[0], &raw, 1));  // to write
    std::memcpy(raw, &pixels[at], bytes[0]);
    Must(LiteRtUnlockTensorBuffer(buffers[0]));
    Must(LiteRtRunCompiledModel(net, 0, 1, &buffers[0], 1, &buffers[1]));
    std::vector<float> y(bytes[1]);
    Must(LiteRtLockTensorBuffer(buffers[1], &raw, 0));  // to read
    float norm = 0;
    for (size_t i = 0; i < y.size(); ++i) {
      y[i] = static_cast<int8_t*>(raw)[i] - rounding.zero_point;  // the scale cancels
      norm += y[i] * y[i];
    }
    Must(LiteRtUnlockTensorBuffer(buffers[1]));
    for (float v : y) std::printf("%.8g ", v / std::sqrt(norm));
    std::printf("\\n");
  }
}
"""

PROGRAMS = {
    "Python: python THIS.py FILE.tflite first.jpg second.jpg": _PYTHON,
    "C++, for a nhwc file with a uint8 input; LiteRT's C API": CPP,
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
