"""The two halves of a conversion to integers: ranges from images, then the integers.

The first half makes a file of floats that holds the range of each tensor. Its ranges
and operations can be changed before the second half.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

# TensorFlow's public debugger calls this, but with fixed types of input and output.
from tensorflow.lite.python import convert as lite_convert

from cdnet_tf.deploy import quiet, ranges


def calibrated(
    converter: tf.lite.TFLiteConverter,
    images: np.ndarray,
    seconds: dict[str, float] | None = None,
) -> bytes:
    """Makes a file of floats that notes the least and greatest value of each tensor.

    Args:
      converter: of a float network.
      images: (n, ...) float32, exactly what the network takes, n at least 1.
      seconds: gets the time of the calibration as `calibrate`.

    Raises:
      ValueError: there are no images.
    """
    prepare(converter, images, seconds)
    converter._experimental_calibrate_only = True
    with quiet.held_back():
        return converter.convert()


def integers(
    calibrated: bytes,
    input_type: tf.DType,
    output_type: tf.DType,
    nodes: Sequence[str] = (),
) -> bytes:
    """Converts a file to 8-bit integers.

    Ranges that are too narrow are widened (`ranges.widened`).

    Args:
      calibrated: the file of floats.
      input_type, output_type: of the input and the output.
      nodes: names of tensors whose operations stay in float.
    """
    with quiet.held_back():
        return lite_convert.mlir_quantize(
            ranges.widened(calibrated),
            input_data_type=input_type,
            output_data_type=output_type,
            denylisted_nodes=list(nodes),
        )


def prepare(
    converter: tf.lite.TFLiteConverter,
    images: np.ndarray,
    seconds: dict[str, float] | None = None,
) -> None:
    """Sets a converter up for integers; the arguments are those of `calibrated`."""
    if not len(images):
        raise ValueError("No calibration images; pass at least one, better 100.")
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: singly(images, seconds)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]


def singly(
    images: np.ndarray, seconds: dict[str, float] | None = None
) -> Iterator[list[np.ndarray]]:
    """Yields single images, and notes the time until the calibrator has run all."""
    start = time.perf_counter()
    for image in images:
        yield [image[None]]
    if seconds is not None:
        seconds["calibrate"] = time.perf_counter() - start
