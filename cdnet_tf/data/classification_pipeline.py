"""Assembles tf.data for classification: shuffled batches, augmented as published.

As in `pipeline`, a batch is a function of (seed, step) alone, so a resumed run sees the
same batches as an unbroken run. Images in memory are CIFAR-100's and are augmented a
batch at a time. Image files are ImageNet's; they have different sizes and are opened
one by one. Their crops differ in every epoch, so decoded images are not cached.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from cdnet_tf.data import (
    augment,
    classification,
    image_files,
    pipeline,
    preprocess,
)

# Side of the test crop as a share of an image's shorter side: 224 of 256.
_CENTRE = 0.875


def train_batches(
    dataset: classification.ClassificationDataset,
    *,
    batch_size: int,
    seed: int,
    epochs: int,
    first_epoch: int = 0,
    height: int,
    width: int,
) -> pipeline.Batches:
    """Makes batches of a training, (images, labels).

    Every epoch is shuffled anew, and leaves out images that fill no batch. CIFAR-100's
    images are augmented by `augment_cifar`. Of ImageNet's images a random window is
    resized, mirrored, and normalised by ImageNet's mean and deviation.

    Before the first epoch all image files, including the test images, are decoded once.
    This takes less than an epoch, and a run of weeks will not end at its last file.

    Args:
      dataset: of images in memory or of image files.
      batch_size: number of images, at most as many as there are to train on.
      seed: of the run, non-negative.
      epochs: at which the run ends.
      first_epoch: at which it begins; not 0 when resumed.
      height, width: of the network's input, pixels.

    Returns:
      Batches of images (batch_size, height, width, 3) float32 and labels (batch_size,)
      int32.

    Raises:
      ValueError: unreadable images, all named, or fewer than a batch of them.
    """
    stream = _Stream(dataset.train, batch_size, seed)
    begin, end = first_epoch * stream.steps, epochs * stream.steps
    steps = tf.data.Dataset.range(begin, end).map(
        functools.partial(_draw, stream=stream), num_parallel_calls=tf.data.AUTOTUNE
    )
    if stream.in_memory:
        batches = _map(steps, _cifar_batch, height, width)
    else:
        if not first_epoch:
            image_files.check_images([*dataset.train.images, *dataset.test.images])
        images = _map(steps.unbatch(), _random_window, height, width)
        batches = _map(images.batch(batch_size, drop_remainder=True), _imagenet_batch)
    batches = batches.prefetch(tf.data.AUTOTUNE)
    return pipeline.Batches(batches, stream.steps, dataset.num_classes)


def test_batches(
    dataset: classification.ClassificationDataset,
    batch_size: int,
    height: int,
    width: int,
) -> Iterator[tuple[tf.Tensor, np.ndarray]]:
    """Yields all test images in order, (images, labels); the last batch may be smaller.

    Of an image file the central square is used, whose side is 87.5 % of the image's
    shorter side. For a square input this equals the usual resize of the shorter side to
    height / 0.875 and central crop. Other inputs squeeze the square, as in training.

    Args:
      dataset: see `train_batches`.
      batch_size: number of images, at most.
      height, width: of the network's input, pixels.

    Yields:
      (up to batch_size, height, width, 3) float32, normalised as in training, and
      (up to batch_size,) int32.

    Raises:
      ValueError: unreadable images, all named.
    """
    images, labels = dataset.test.images, dataset.test.labels
    starts = range(0, len(labels), batch_size)
    if isinstance(images, np.ndarray):
        for start in starts:
            part = slice(start, start + batch_size)
            batch = _fitted(images[part], height, width)
            yield preprocess.normalise(batch, preprocess.CIFAR), labels[part]
        return
    square = functools.partial(_central_square, height=height, width=width)
    # Files come first, so that `zip` asks them for more at the end and they can raise.
    for batch, start in zip(image_files.decoded(images, square, batch_size), starts):
        yield preprocess.normalise(batch), labels[start : start + batch_size]


def normalisation(
    dataset: classification.ClassificationDataset,
) -> preprocess.Normalisation:
    """Returns the normalisation that a network trained on a data set expects."""
    in_memory = isinstance(dataset.train.images, np.ndarray)
    return preprocess.CIFAR if in_memory else preprocess.IMAGENET


def augment_cifar(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirrors, pads and crops, normalises, and cuts out a square.

    At the size 32x32 the padding is 4 and the square 16x16; at other sizes both grow
    with the shorter side.

    Args:
      images: (batch, height, width, 3) uint8, RGB.
      seed: (2,) integers.

    Returns:
      float32 of the same shape.
    """
    seeds = tf.random.experimental.stateless_split(seed, 2)
    side = min(images.shape[1:3])
    images = augment.flip_and_crop(images, seeds[0], side // 8)
    images = preprocess.normalise(images, preprocess.CIFAR)
    return augment.cutout(images, seeds[1], side // 2)


class _Stream:
    """An endless, addressable sequence of batches, shuffled anew in every epoch."""

    def __init__(self, samples: classification.Samples, batch_size: int, seed: int):
        self.steps = len(samples) // batch_size
        if not self.steps:
            raise ValueError(
                f"batch_size={batch_size}, but there are only {len(samples)} images to "
                f"train on; use {len(samples)} or fewer."
            )
        self.batch_size = batch_size
        self.seed = seed
        self.in_memory = isinstance(samples.images, np.ndarray)
        # File names are kept as bytes, because they need not be valid text.
        self.images = (
            samples.images
            if isinstance(samples.images, np.ndarray)
            else np.array([os.fsencode(path) for path in samples.images], object)
        )
        self._labels = samples.labels
        # Several steps are prepared at once, so two epochs are in use at their seam.
        self._epoch = functools.lru_cache(maxsize=2)(self._shuffled)

    def at(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the images, or names of files, and the labels of a step."""
        epoch, place = divmod(int(step), self.steps)
        indices = self._epoch(epoch)[place]
        return self.images[indices], self._labels[indices]

    def _shuffled(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(len(self.images))[: self.steps * self.batch_size]
        return order.reshape(self.steps, self.batch_size)


def _draw(step: tf.Tensor, stream: _Stream) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns a step's images or file names, its labels, and a seed for each image."""
    kind = tf.uint8 if stream.in_memory else tf.string
    images, labels = tf.numpy_function(
        stream.at, [step], [kind, tf.int32], stateful=False
    )
    images = tf.ensure_shape(images, [stream.batch_size, *stream.images.shape[1:]])
    labels = tf.ensure_shape(labels, [stream.batch_size])
    seed = tf.constant([stream.seed, 0], tf.int64)
    seed = tf.random.experimental.stateless_fold_in(seed, step)
    seeds = tf.random.experimental.stateless_split(seed, stream.batch_size)
    return images, labels, seeds


def _map(dataset: tf.data.Dataset, function, *options) -> tf.data.Dataset:
    return dataset.map(
        lambda *element: function(*element, *options),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def _cifar_batch(images, labels, seeds, height, width):
    return augment_cifar(_fitted(images, height, width), seeds[0]), labels


def _fitted(images: tf.Tensor, height: int, width: int) -> tf.Tensor:
    if images.shape[1:3] == (height, width):
        return images
    return preprocess.resize(images, height, width)


def _random_window(path, label, seed, height, width):
    image = preprocess.decode(tf.io.read_file(path))
    window = augment.crop_windows(tf.shape(image)[tf.newaxis, :2], seed)[0]
    return _cut(image, window, height, width), label, seed


def _imagenet_batch(images, labels, seeds):
    # Folding in 1 avoids the seed that the first window has used.
    seed = tf.random.experimental.stateless_fold_in(seeds[0], 1)
    images = augment.flip_and_crop(images, seed, pad=0)
    return preprocess.normalise(images), labels


def _central_square(jpeg, height, width):
    image = preprocess.decode(jpeg)
    size = tf.shape(image)[:2]
    shorter = tf.cast(tf.reduce_min(size), tf.float32)
    side = tf.maximum(tf.cast(tf.round(_CENTRE * shorter), tf.int32), 1)
    return _cut(image, tf.concat([(size - side) // 2, [side, side]], 0), height, width)


def _cut(image, window, height, width):
    """Resizes a window of an image, (top, left, height, width), to the input."""
    image = tf.image.crop_to_bounding_box(image, *tf.unstack(window))
    return preprocess.resize(image, height, width)
