"""From a file's bytes to the network's input: one way, in training and in serving."""

from __future__ import annotations

import tensorflow as tf

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def decode(jpeg: tf.Tensor) -> tf.Tensor:
    """Decodes a JPEG (or PNG), scalar string -> (h, w, 3) uint8, RGB."""
    # The faster transform, TensorFlow's default, departs from other decoders.
    return tf.io.decode_jpeg(jpeg, channels=3, dct_method="INTEGER_ACCURATE")


def resize(images: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Resizes one image or a batch of them.

    Bilinear with antialiasing, then rounded back to uint8: images larger than the
    network's input lose no detail to aliasing, and a cached image takes a quarter of
    the memory.

    Args:
      images: (h, w, 3) or (batch, h, w, 3), uint8 or float, 0..255.
      height, width: pixels.

    Returns:
      uint8 of that height and width.
    """
    images = tf.image.resize(images, [height, width], antialias=True)
    return tf.saturate_cast(tf.round(images), tf.uint8)


def decode_and_resize(jpeg: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """A file's bytes, a scalar string, -> (height, width, 3) uint8, RGB."""
    return resize(decode(jpeg), height, width)


def normalise(images: tf.Tensor) -> tf.Tensor:
    """Maps RGB from 0..255 to zero mean and unit deviation over ImageNet.

    Args:
      images: (..., 3) uint8, or float on the same 0..255 scale.

    Returns:
      float32 (..., 3), about -2.2..2.7.
    """
    scale = [1.0 / (255.0 * std) for std in IMAGENET_STD]
    shift = [-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD)]
    return tf.cast(images, tf.float32) * scale + shift
