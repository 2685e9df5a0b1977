"""Turns a file's bytes into the network's input, alike in training and in serving."""

from __future__ import annotations

import tensorflow as tf

from cdnet_tf.data.normalisation import CIFAR as CIFAR
from cdnet_tf.data.normalisation import IMAGENET, Normalisation


def decode(jpeg: tf.Tensor) -> tf.Tensor:
    """Decodes a JPEG (or PNG), scalar string -> (h, w, 3) uint8, RGB."""
    # TensorFlow's default transform is faster but differs from other decoders.
    return tf.io.decode_jpeg(jpeg, channels=3, dct_method="INTEGER_ACCURATE")


def resize(images: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Resizes one image or a batch of them.

    Resizing is bilinear; antialiasing keeps images clean that are larger than the
    network's input. Values are rounded back to uint8, which takes a quarter of the
    memory of floats in a cache.

    Args:
      images: (h, w, 3) or (batch, h, w, 3), uint8 or float, 0..255.
      height, width: pixels.

    Returns:
      uint8 of that height and width.
    """
    images = tf.image.resize(images, [height, width], antialias=True)
    return tf.saturate_cast(tf.round(images), tf.uint8)


def decode_and_resize(jpeg: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Turns a file's bytes, a scalar string, into (height, width, 3) uint8, RGB."""
    return resize(decode(jpeg), height, width)


def normalise(images: tf.Tensor, normalisation: Normalisation = IMAGENET) -> tf.Tensor:
    """Maps RGB from 0..255 to zero mean and unit deviation over a data set.

    Args:
      images: (..., 3) uint8, or float on the same 0..255 scale.
      normalisation: what the network expects, see `network_file`.

    Returns:
      float32 (..., 3), about -2.2..2.7.
    """
    scale, shift = normalisation.scale_and_shift
    return tf.cast(images, tf.float32) * scale + shift
