"""Augmentation as functions of (images, seed), a whole batch at a time.

The functions have no state, so that a resumed run sees the same images as an unbroken
run. They take a batch, because index arithmetic on one tensor is many times faster on a
CPU than a loop over images. Each image draws its own numbers from the seed.
"""

from __future__ import annotations

import math

import tensorflow as tf

from cdnet_tf.data import preprocess

_ATTEMPTS = 10


def augment_batch(
    images: tf.Tensor,
    seed: tf.Tensor,
    pad: int | None = None,
    erasing: float = 0.5,
    share: tuple[int, int] = (0, 1),
    normalisation: preprocess.Normalisation = preprocess.IMAGENET,
) -> tf.Tensor:
    """Flips, pads, crops, normalises and erases images: the recipe of training.

    Args:
      images: (batch, height, width, 3) uint8 or float, RGB, 0..255.
      seed: (2,) integers.
      pad: black pixels added on each side before the crop. Default: `crop_padding`.
      erasing: probability of Random Erasing, 0..1.
      share: (i, n) if the images are the i-th of n equal parts of a batch. The results
        are the same as in the whole batch.
      normalisation: what the network expects.

    Returns:
      float32 of the same shape, normalised as by `preprocess.normalise`.
    """
    seeds = tf.random.experimental.stateless_split(seed, 2)
    pad = crop_padding(images.shape[1]) if pad is None else pad
    images = flip_and_crop(images, seeds[0], pad, share=share)
    images = preprocess.normalise(images, normalisation)
    return random_erase(images, seeds[1], erasing, share=share)


def crop_padding(height: int) -> int:
    """Returns the recipe's 10 pixels at height 256, in proportion at other heights.

    A fixed 10 would be 31 % of the width of a 64x32 image; these are 6 %.
    """
    return round(10 * height / 256)


def flip_and_crop(
    images: tf.Tensor,
    seed: tf.Tensor,
    pad: int,
    flip_probability: float = 0.5,
    share: tuple[int, int] = (0, 1),
) -> tf.Tensor:
    """Shifts each image by up to `pad` pixels, fills with black, and mirrors half.

    One gather does both, because mirroring only reads the columns backwards.

    Args:
      images: (batch, height, width, channels), any type.
      seed: (2,) integers.
      pad: largest shift in each direction, pixels.
      flip_probability: 0..1.
      share: see `augment_batch`.

    Returns:
      A tensor of the shape and type of `images`.
    """
    batch, height, width, channels = tf.unstack(tf.shape(images))
    seeds = tf.random.experimental.stateless_split(seed, 3)
    top = _uniform([batch, 1], seeds[0], 0, 2 * pad + 1, tf.int32, share)
    left = _uniform([batch, 1], seeds[1], 0, 2 * pad + 1, tf.int32, share)
    flip = _uniform([batch, 1], seeds[2], share=share) < flip_probability
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
    share: tuple[int, int] = (0, 1),
) -> tf.Tensor:
    """Fills one rectangle of some images with 0, the mean of normalised images.

    Args:
      images: (batch, height, width, channels) float, normalised.
      seed: (2,) integers.
      probability: that an image loses a rectangle, 0..1.
      area: smallest and largest share of the image's area.
      aspect: smallest and largest height / width of the rectangle.
      share: see `augment_batch`.

    Returns:
      A tensor of the shape and type of `images`.
    """
    batch, height, width, _ = tf.unstack(tf.shape(images))
    seeds = tf.random.experimental.stateless_split(seed, 3)
    rows, columns = _rectangles(batch, height, width, seeds[0], area, aspect, share)
    corner = _uniform([batch, 2], seeds[1], share=share)
    erased = _uniform([batch, 1], seeds[2], share=share) < probability
    # (batch, height) and (batch, width)
    in_rows = _span(corner[:, :1], rows, height) & erased
    in_columns = _span(corner[:, 1:], columns, width)
    return _blank(images, in_rows, in_columns)


def cutout(images: tf.Tensor, seed: tf.Tensor, size: int = 16) -> tf.Tensor:
    """Fills one square of every image with 0, the mean of normalised images (Cutout).

    As published, the square's centre may be any pixel, so that only a part of the
    square may lie in the image.

    Args:
      images: (batch, height, width, channels) float, normalised.
      seed: (2,) integers.
      size: side of the square, pixels; 16 at 32x32.

    Returns:
      A tensor of the shape and type of `images`.
    """
    batch, height, width, _ = tf.unstack(tf.shape(images))
    seeds = tf.random.experimental.stateless_split(seed, 2)
    # (batch, 1)
    top = _uniform([batch, 1], seeds[0], 0, height, tf.int32) - size // 2
    left = _uniform([batch, 1], seeds[1], 0, width, tf.int32) - size // 2
    return _blank(images, _places(top, size, height), _places(left, size, width))


def crop_windows(
    sizes: tf.Tensor,
    seed: tf.Tensor,
    area: tuple[float, float] = (0.08, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> tf.Tensor:
    """Draws the windows of random resized crops.

    Area and the logarithm of the aspect are uniform. As published, a window that does
    not fit is drawn again; after ten draws, the largest window in the middle is taken.

    Args:
      sizes: (batch, 2) int32, height and width of each image, pixels.
      seed: (2,) integers.
      area: smallest and largest share of the image's area.
      aspect: smallest and largest height / width of the window.

    Returns:
      (batch, 4) int32: top, left, height and width, at least 1 pixel each way.
    """
    batch = tf.shape(sizes)[0]
    seeds = tf.random.experimental.stateless_split(seed, 3)
    # (batch, 1)
    height, width = sizes[:, :1], sizes[:, 1:]
    # (batch, attempts)
    shape = [batch, _ATTEMPTS]
    pixels = _uniform(shape, seeds[0], *area) * tf.cast(height * width, tf.float32)
    ratios = tf.exp(_uniform(shape, seeds[1], *map(math.log, aspect)))
    rows, columns = _sides(pixels, ratios)
    fits = (rows <= height) & (columns <= width)
    # (batch, 1)
    fits, rows, columns = _first_that_fits(fits, rows, columns)
    most_rows, most_columns = _largest(height, width, aspect)
    rows = tf.maximum(tf.where(fits, rows, most_rows), 1)
    columns = tf.maximum(tf.where(fits, columns, most_columns), 1)
    corner = tf.where(fits, _uniform([batch, 2], seeds[2]), 0.5)
    top = _start(corner[:, :1], rows, height)
    left = _start(corner[:, 1:], columns, width)
    return tf.concat([top, left, rows, columns], axis=1)


def _rectangles(
    batch: tf.Tensor,
    height: tf.Tensor,
    width: tf.Tensor,
    seed: tf.Tensor,
    area: tuple[float, float],
    aspect: tuple[float, float],
    share: tuple[int, int],
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws (batch, 1) heights and widths that fit inside the image.

    As published, a rectangle that does not fit is drawn again. Here ten are drawn at
    once, and the first that fits is taken; at 256x128 one in thirteen does not fit. If
    none fits, height and width are 0 and nothing is erased.
    """
    # (batch, attempts)
    shape = [batch, _ATTEMPTS]
    seeds = tf.random.experimental.stateless_split(seed, 2)
    pixels = _uniform(shape, seeds[0], *area, share=share)
    pixels *= tf.cast(height * width, tf.float32)
    ratios = _uniform(shape, seeds[1], *aspect, share=share)
    rows, columns = _sides(pixels, ratios)
    fits = (rows < height) & (columns < width)
    fits, rows, columns = _first_that_fits(fits, rows, columns)
    return tf.where(fits, rows, 0), tf.where(fits, columns, 0)


def _sides(pixels: tf.Tensor, ratios: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the rounded sides of rectangles, from area and height / width."""
    rows = tf.cast(tf.round(tf.sqrt(pixels * ratios)), tf.int32)
    columns = tf.cast(tf.round(tf.sqrt(pixels / ratios)), tf.int32)
    return rows, columns


def _first_that_fits(fits: tf.Tensor, *drawn: tf.Tensor) -> list[tf.Tensor]:
    """Takes each row's first attempt that fits, or else the first: (batch, 1) each."""
    first = tf.argmax(fits, axis=1, output_type=tf.int32)[:, tf.newaxis]
    return [tf.gather(x, first, batch_dims=1) for x in (fits, *drawn)]


def _largest(
    height: tf.Tensor, width: tf.Tensor, aspect: tuple[float, float]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the sides of the largest window in the image whose aspect is in range."""
    tall, wide = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    ratio = tf.clip_by_value(tall / wide, *aspect)
    rows = tf.minimum(height, tf.cast(tf.round(wide * ratio), tf.int32))
    columns = tf.minimum(width, tf.cast(tf.round(tall / ratio), tf.int32))
    return rows, columns


def _span(draw: tf.Tensor, length: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Marks `length` of `size` places, from one of the size - length + 1 starts.

    Args:
      draw: (batch, 1) in 0..1, which selects the start.
      length: (batch, 1), at most `size`.
      size: scalar.

    Returns:
      (batch, size) bool.
    """
    return _places(_start(draw, length, size), length, size)


def _start(draw: tf.Tensor, length: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Turns a draw from 0..1 into one of the size - length + 1 starts."""
    starts = tf.cast(size - length + 1, tf.float32)
    # The minimum is needed because the product may round up to the number of starts.
    return tf.minimum(tf.cast(draw * starts, tf.int32), size - length)


def _places(
    start: tf.Tensor, length: tf.Tensor | int, size: tf.Tensor | int
) -> tf.Tensor:
    """Marks `length` places from `start` (batch, 1) on; (batch, size) bool."""
    places = tf.range(size)
    return (places >= start) & (places < start + length)


def _blank(images: tf.Tensor, in_rows: tf.Tensor, in_columns: tf.Tensor) -> tf.Tensor:
    """Sets pixels to 0 where a marked row crosses a marked column.

    Args:
      images: (batch, height, width, channels) float.
      in_rows, in_columns: (batch, height) and (batch, width) bool.
    """
    # (batch, height, width, 1)
    inside = (in_rows[:, :, tf.newaxis] & in_columns[:, tf.newaxis, :])[..., tf.newaxis]
    return images * tf.cast(~inside, images.dtype)


def _uniform(shape, seed, low=0, high=1, dtype=tf.float32, share=(0, 1)):
    # The numbers of the whole batch are drawn, and the rows of this share are taken.
    part, parts = share
    size, *rest = shape
    # Philox is named because the default algorithm depends on the device.
    drawn = tf.random.stateless_uniform(
        [size * parts, *rest], seed, minval=low, maxval=high, dtype=dtype, alg="philox"
    )
    return drawn if parts == 1 else drawn[part * size : (part + 1) * size]
