"""Augmentation as functions of (images, seed), a whole batch at a time.

Stateless, because a resumed run must see the images an unbroken run sees. By the
batch, because index arithmetic on one tensor is many times faster on a CPU than a
loop over images. Every image still draws its own numbers from the one seed.
"""

from __future__ import annotations

import tensorflow as tf

from cdnet_tf.data import preprocess

_ERASE_ATTEMPTS = 10


def augment_batch(
    images: tf.Tensor, seed: tf.Tensor, pad: int = 10, erasing: float = 0.5
) -> tf.Tensor:
    """Flips, pads and crops, normalises and erases: the recipe of training images.

    Args:
      images: (batch, height, width, 3) uint8 or float, RGB, 0..255.
      seed: (2,) integers.
      pad: black pixels added on each side before the crop; 10 at 256x128.
      erasing: probability of Random Erasing, 0..1.

    Returns:
      float32 of the same shape, normalised as by `preprocess.normalise`.
    """
    seeds = tf.random.experimental.stateless_split(seed, 2)
    images = flip_and_crop(images, seeds[0], pad)
    return random_erase(preprocess.normalise(images), seeds[1], erasing)


def flip_and_crop(
    images: tf.Tensor, seed: tf.Tensor, pad: int = 10, flip_probability: float = 0.5
) -> tf.Tensor:
    """Shifts each image by up to `pad` pixels, black moving in, and mirrors half.

    One gather does both: mirroring is a crop whose columns are read backwards.

    Args:
      images: (batch, height, width, channels), any type.
      seed: (2,) integers.
      pad: largest shift in each direction, pixels.
      flip_probability: 0..1.

    Returns:
      A tensor of the shape and type of `images`.
    """
    batch, height, width, channels = tf.unstack(tf.shape(images))
    seeds = tf.random.experimental.stateless_split(seed, 3)
    top = _uniform([batch, 1], seeds[0], 0, 2 * pad + 1, tf.int32)
    left = _uniform([batch, 1], seeds[1], 0, 2 * pad + 1, tf.int32)
    flip = _uniform([batch, 1], seeds[2]) < flip_probability
    # (batch, height) and (batch, width), within the padded image
    rows = top + tf.range(height)
    columns = left + tf.range(width)
    columns = tf.where(flip, columns[:, ::-1], columns)
    padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    # (batch, height), then (batch, height, width): pixel numbers in the whole batch
    rows += tf.range(batch)[:, tf.newaxis] * (height + 2 * pad)
    pixels = rows[:, :, tf.newaxis] * (width + 2 * pad) + columns[:, tf.newaxis, :]
    cropped = tf.gather(tf.reshape(padded, [-1, channels]), pixels)
    return tf.ensure_shape(cropped, images.shape)


def random_erase(
    images: tf.Tensor,
    seed: tf.Tensor,
    probability: float = 0.5,
    area: tuple[float, float] = (0.02, 0.4),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
) -> tf.Tensor:
    """Fills one rectangle of some images with 0, the mean of normalised images.

    Args:
      images: (batch, height, width, channels) float, normalised.
      seed: (2,) integers.
      probability: that an image loses a rectangle, 0..1.
      area: smallest and largest share of the image's area.
      aspect: smallest and largest height / width of the rectangle.

    Returns:
      A tensor of the shape and type of `images`.
    """
    batch, height, width, _ = tf.unstack(tf.shape(images))
    seeds = tf.random.experimental.stateless_split(seed, 3)
    rows, columns = _rectangles(batch, height, width, seeds[0], area, aspect)
    corner = _uniform([batch, 2], seeds[1])
    erased = _uniform([batch, 1], seeds[2]) < probability
    # (batch, height) and (batch, width)
    in_rows = _span(corner[:, :1], rows, height) & erased
    in_columns = _span(corner[:, 1:], columns, width)
    # (batch, height, width, 1)
    inside = (in_rows[:, :, tf.newaxis] & in_columns[:, tf.newaxis, :])[..., tf.newaxis]
    return images * tf.cast(~inside, images.dtype)


def _rectangles(
    batch: tf.Tensor,
    height: tf.Tensor,
    width: tf.Tensor,
    seed: tf.Tensor,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws (batch, 1) heights and widths that fit inside the image.

    As published, a rectangle that does not fit is drawn again. All attempts are drawn
    at once and the first that fits is taken; at 256x128 one in thirteen does not. Where
    none of ten fits, height and width are 0 and nothing is erased.
    """
    # (batch, attempts)
    shape = [batch, _ERASE_ATTEMPTS]
    seeds = tf.random.experimental.stateless_split(seed, 2)
    pixels = _uniform(shape, seeds[0], *area) * tf.cast(height * width, tf.float32)
    ratios = _uniform(shape, seeds[1], *aspect)
    rows = tf.cast(tf.round(tf.sqrt(pixels * ratios)), tf.int32)
    columns = tf.cast(tf.round(tf.sqrt(pixels / ratios)), tf.int32)
    fits = (rows < height) & (columns < width)
    first = tf.argmax(fits, axis=1, output_type=tf.int32)[:, tf.newaxis]
    fits, rows, columns = (
        tf.gather(x, first, batch_dims=1) for x in (fits, rows, columns)
    )
    return tf.where(fits, rows, 0), tf.where(fits, columns, 0)


def _span(draw: tf.Tensor, length: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Marks `length` of `size` places, from one of the size - length + 1 starts.

    Args:
      draw: (batch, 1) in 0..1, which start.
      length: (batch, 1), at most `size`.
      size: scalar.

    Returns:
      (batch, size) bool.
    """
    starts = tf.cast(size - length + 1, tf.float32)
    # The product may round up to the number of starts, hence the minimum.
    start = tf.minimum(tf.cast(draw * starts, tf.int32), size - length)
    places = tf.range(size)
    return (places >= start) & (places < start + length)


def _uniform(shape, seed, low=0, high=1, dtype=tf.float32):
    # The default algorithm depends on the device; this one does not.
    return tf.random.stateless_uniform(
        shape, seed, minval=low, maxval=high, dtype=dtype, alg="philox"
    )
