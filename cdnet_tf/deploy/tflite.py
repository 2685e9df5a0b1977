"""Converts a Keras network to TFLite: six variants, two layouts, one image or more.

`tflite_file` checks and describes the written files.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cdnet_tf.data import preprocess
from cdnet_tf.deploy import quantize, quiet, tflite_file

VARIANTS = ("float32", "float16", "dynamic", *tflite_file.INTEGER_VARIANTS)
LAYOUTS = ("nhwc", "nchw")
_IO_TYPES = {
    "int8": (tf.int8, tf.int8),
    "uint8": (tf.uint8, tf.int8),
    "int8_float_io": (tf.float32, tf.float32),
}


def convert(
    network: tf.keras.Model,
    variant: str,
    *,
    layout: str = "nhwc",
    dynamic_batch: bool = False,
    images: np.ndarray | None = None,
    keep_float: Sequence[str] = (),
    seconds: dict[str, float] | None = None,
    normalisation: preprocess.Normalisation = preprocess.IMAGENET,
) -> bytes:
    """Converts a network to a TFLite file that contains its own description.

    Args:
      network: normalised (b, h, w, 3) -> (b, d). A network from `quantize.trainable`
        has ranges; those that are too narrow are widened in it.
      variant: one of `VARIANTS`. `uint8` takes pixels 0..255; its first operation, a
        depthwise 1x1 convolution, normalises them, so that the stem pads with the mean
        colour as in training.
      layout: of the input; `nchw` is transposed back in the graph.
      dynamic_batch: leave the batch size free, instead of 1.
      images: (n, h, w, 3) uint8 for calibration; needed by the integer variants of a
        network without ranges.
      keep_float: layers of the integer variants to leave in float; ignored for a
        network with ranges.
      normalisation: what the network expects, see `network_file`; noted in the file.
      seconds: gets the time of calibration, if there is one, as `calibrate`, and of all
        other steps as `convert`.

    Raises:
      ValueError: the variant or the layout is unknown, there are no calibration images,
        or no layer has a name in `keep_float`.
    """
    if variant not in VARIANTS or layout not in LAYOUTS:
        raise ValueError(
            f"variant={variant!r}, layout={layout!r}: use one of {', '.join(VARIANTS)} "
            f"and of {', '.join(LAYOUTS)}."
        )
    seconds = {} if seconds is None else seconds
    start = time.perf_counter()
    if quantize.has_ranges(network):
        quantize.widen(network)
    made = converter(
        network,
        variant,
        layout=layout,
        dynamic_batch=dynamic_batch,
        normalisation=normalisation,
    )
    if tflite_file.is_integer(variant) and not quantize.has_ranges(network):
        samples = fed(images, variant, layout, normalisation)
        types = _IO_TYPES[variant]
        content = quantize.post_training(made, samples, *types, keep_float, seconds)
    else:
        content = _converted(made, variant)
    content = tflite_file.described(
        content, network.name, variant, layout, normalisation
    )
    whole = time.perf_counter() - start
    seconds["convert"] = whole - seconds.get("calibrate", 0.0)
    return content


def _converted(made: tf.lite.TFLiteConverter, variant: str) -> bytes:
    """Converts without calibration, to floats, or to integers if there are ranges."""
    if variant == "float16":
        made.target_spec.supported_types = [tf.float16]
    if variant != "float32":
        made.optimizations = [tf.lite.Optimize.DEFAULT]
    if tflite_file.is_integer(variant):
        made.inference_input_type, made.inference_output_type = _IO_TYPES[variant]
    with quiet.held_back():
        return made.convert()


def converter(
    network: tf.keras.Model,
    variant: str,
    *,
    layout: str = "nhwc",
    dynamic_batch: bool = False,
    normalisation: preprocess.Normalisation = preprocess.IMAGENET,
) -> tf.lite.TFLiteConverter:
    """Returns a converter of the float graph for a variant and a layout."""
    batch = None if dynamic_batch else 1
    _, height, width, channels = network.input_shape
    shape = [batch, height, width, channels]
    if layout == "nchw":
        shape = [batch, channels, height, width]

    def embed(images):
        if layout == "nchw":
            images = tf.transpose(images, [0, 2, 3, 1])
        if variant == "uint8":
            rounded = quantize.has_ranges(network)
            images = _normalised(images, rounded, normalisation)
        return {tflite_file.OUTPUT: network(images, training=False)}

    function = tf.function(embed).get_concrete_function(
        tf.TensorSpec(shape, name=tflite_file.INPUT)
    )
    made = tf.lite.TFLiteConverter.from_concrete_functions([function], network)
    # Otherwise most of the time is spent on writing and reading a SavedModel.
    made.experimental_lower_to_saved_model = False
    return made


def fed(
    images: np.ndarray | None,
    variant: str,
    layout: str,
    normalisation: preprocess.Normalisation = preprocess.IMAGENET,
) -> np.ndarray:
    """Returns images as the float graph of a variant takes them.

    Args:
      images: (n, h, w, 3) uint8, RGB.
      variant, layout, normalisation: as in `convert`.
    """
    if images is None or not len(images):
        raise ValueError(f"{variant} needs calibration images; pass some, better 100.")
    if variant == "uint8":
        # With a range of exactly 0..255, a pixel and its integer are the same.
        values = images.astype(np.float32)
        values[0].flat[0], values[0].flat[1] = 0, 255
    else:
        values = preprocess.normalise(images, normalisation).numpy()
    return values.transpose(0, 3, 1, 2) if layout == "nchw" else values


def worst_layers(
    network: tf.keras.Model,
    images: np.ndarray,
    normalisation: preprocess.Normalisation,
    limit: int = 20,
) -> str:
    """Returns a table of the layers that int8 hurts most, by `quantize.worst_layers`.

    Args:
      network: with float weights.
      images: (n, height, width, 3) uint8, which give the ranges.
      normalisation: of the network's input.
      limit: layers listed, at most.
    """
    values = fed(images, "int8", "nhwc", normalisation)
    lines = ["error (of the output's step)  operation           layer"]
    for each in quantize.worst_layers(converter(network, "int8"), values)[:limit]:
        lines.append(f"{each.error:>28.2f}  {each.op:<18}  {each.layer}")
    return "\n".join(lines)


def latency(content: bytes, runs: int = 30) -> float:
    """Returns the median time of a run, seconds, on one thread, after a warm-up."""
    interpreter = tf.lite.Interpreter(model_content=content, num_threads=1)
    with quiet.held_back():
        interpreter.allocate_tensors()
    times = []
    for _ in range(runs + 3):
        start = time.perf_counter()
        interpreter.invoke()
        times.append(time.perf_counter() - start)
    return statistics.median(times[3:])


def processor() -> str:
    """Returns the CPU's name, which is reported with every latency."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _normalised(
    pixels: tf.Tensor, rounded: bool, normalisation: preprocess.Normalisation
) -> tf.Tensor:
    """Computes `preprocess.normalise` as one depthwise 1x1 convolution.

    Args:
      pixels: (b, h, w, 3) float, 0..255.
      rounded: mark pixels as integers, which calibration would find out otherwise.
      normalisation: what the network expects.
    """
    if rounded:
        pixels = tf.quantization.fake_quant_with_min_max_args(pixels, 0, 255)
    scale, shift = normalisation.scale_and_shift
    kernel = np.array(scale, np.float32).reshape(1, 1, 3, 1)
    return tf.nn.depthwise_conv2d(pixels, kernel, [1, 1, 1, 1], "VALID") + shift
