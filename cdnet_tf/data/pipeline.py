"""Assembles tf.data pipelines: from file lists to the batches of a step.

A batch is a function of (seed, step) alone, so a run resumed at `first_epoch` sees the
same batches as an unbroken run. NumPy draws the indices and takes images from a cached
array inside `tf.numpy_function`. The array is never copied into the graph, whose size
TensorFlow limits to 2 GiB and which a distribution strategy rewrites.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from cdnet_tf.data import augment, datasets, image_files, preprocess, sampling

# AutoGraph would spend a second on translating functions that do not need it, because
# no Python in them depends on a tensor's value.
_as_written = tf.autograph.experimental.do_not_convert


@dataclasses.dataclass(frozen=True, eq=False)
class Batches:
    """The batches of the steps still to run, and what `fit` must know about them.

    Attributes:
      dataset: `steps_per_epoch * (epochs - first_epoch)` elements of static shape.
      steps_per_epoch: the same in every epoch.
      num_classes: C; labels are 0..C-1.
    """

    dataset: tf.data.Dataset
    steps_per_epoch: int
    num_classes: int


def search_batches(
    images: datasets.Images,
    unseen: datasets.Images | None = None,
    *,
    identities_per_batch: int,
    images_per_id: int,
    seed: int,
    epochs: int,
    first_epoch: int = 0,
    height: int = 256,
    width: int = 128,
    pad: int | None = None,
    cache_bytes: int | None = None,
    erasing: float = 0.5,
    share: tuple[int, int] = (0, 1),
) -> Batches:
    """Makes batches of a search: ((w images, w labels), (alpha images, alpha labels)).

    An epoch is a pass over D_train. D_val is smaller and is shuffled anew whenever it
    has been used up. Both are augmented alike, as in DARTS, including Random Erasing:
    the paper uses it in all experiments (section 4.2), and alpha thus sees images like
    those of the retraining. The images of an identity are neighbours in a batch, so
    replicas get whole identities if their number divides `identities_per_batch`.

    Args:
      images: the train split; `sampling.search_split` divides it.
      unseen: images of other people, which are used as D_val; D_train is then the whole
        train split. The labels of these people are C and more.
      identities_per_batch: P.
      images_per_id: K, also the number of images an identity gives to D_val.
      seed: of the run, non-negative.
      epochs: at which the run ends.
      first_epoch: at which it begins; not 0 when resumed.
      height, width: of the network's input, pixels.
      pad: see `augment.augment_batch`.
      cache_bytes: see `image_files.image_reader`.
      erasing: probability of Random Erasing, 0..1.
      share: (i, n) for the i-th of n workers. It gets P / n whole identities of the
        batch that a single worker would get.

    Returns:
      Batches of images (P * K / n, height, width, 3) float32 and labels (P * K / n,)
      int32.

    Raises:
      ValueError: unreadable images, fewer than P identities, or P / n is not whole.
    """
    labels, raw = datasets.to_labels(images.identities)
    if unseen is None:
        parts = sampling.search_split(labels, images_per_id, seed)
    else:
        everything = np.arange(len(images) + len(unseen))
        parts = everything[: len(images)], everything[len(images) :]
        others, _ = datasets.to_labels(unseen.identities)
        labels = np.concatenate([labels, len(raw) + others])
        images = images.joined(unseen)
    streams = [
        _Stream(part, labels, identities_per_batch, images_per_id, seed, number, share)
        for number, part in enumerate(parts)
    ]
    steps = streams[0].steps
    read = image_files.image_reader(images.paths, height, width, cache_bytes)
    batch = functools.partial(_batch, read=read, pad=pad, erasing=erasing)
    dataset = tf.data.Dataset.range(first_epoch * steps, epochs * steps).map(
        _as_written(lambda step: tuple(batch(step, stream=s) for s in streams)),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return Batches(dataset.prefetch(tf.data.AUTOTUNE), steps, len(raw))


def train_batches(
    images: datasets.Images,
    *,
    identities_per_batch: int,
    images_per_id: int,
    seed: int,
    epochs: int,
    first_epoch: int = 0,
    height: int = 256,
    width: int = 128,
    pad: int | None = None,
    cache_bytes: int | None = None,
    erasing: float = 0.5,
    share: tuple[int, int] = (0, 1),
    normalisation: preprocess.Normalisation = preprocess.IMAGENET,
) -> Batches:
    """Makes batches of a retraining, (images, labels).

    Args:
      normalisation: what the network expects. The others are those of `search_batches`.
    """
    labels, raw = datasets.to_labels(images.identities)
    everything = np.arange(len(labels))
    shape = identities_per_batch, images_per_id
    stream = _Stream(everything, labels, *shape, seed, share=share)
    read = image_files.image_reader(images.paths, height, width, cache_bytes)
    batch = functools.partial(
        _batch,
        stream=stream,
        read=read,
        pad=pad,
        erasing=erasing,
        normalisation=normalisation,
    )
    dataset = tf.data.Dataset.range(
        first_epoch * stream.steps, epochs * stream.steps
    ).map(_as_written(batch), num_parallel_calls=tf.data.AUTOTUNE)
    return Batches(dataset.prefetch(tf.data.AUTOTUNE), stream.steps, len(raw))


def share_of(batches: Batches, share: tuple[int, int]) -> Batches:
    """Takes the i-th of n parts of each batch, for batches that are only read whole.

    Raises:
      ValueError: a batch does not divide.
    """
    worker, workers = share
    if workers == 1:
        return batches
    size = batches.dataset.element_spec[1].shape[0]
    if size % workers:
        raise ValueError(
            f"A batch of {size} is not divisible by {workers} workers; use "
            f"{size // workers * workers + workers}."
        )
    part = slice(worker * size // workers, (worker + 1) * size // workers)
    dataset = batches.dataset.map(lambda *batch: tuple(x[part] for x in batch))
    return dataclasses.replace(batches, dataset=dataset)


class _Stream:
    """An endless, addressable sequence of P x K batches over some of the images."""

    def __init__(
        self,
        part: np.ndarray,
        labels: np.ndarray,
        identities_per_batch: int,
        images_per_id: int,
        seed: int,
        number: int = 0,
        share: tuple[int, int] = (0, 1),
    ):
        shape = identities_per_batch, images_per_id
        own = _own_identities(identities_per_batch, share)
        self.steps = sampling.steps_per_epoch(labels[part], *shape)
        self.batch_size = len(own) * images_per_id
        self.seed = seed, number
        self.share = share
        self._own = slice(own.start * images_per_id, own.stop * images_per_id)
        self._part = part
        self._labels = labels
        draw = functools.partial(
            sampling.pk_epoch, labels[part], *shape, seed, stream=number
        )
        # Several steps are prepared at once, so two epochs are in use at their seam.
        self._epoch = functools.lru_cache(maxsize=2)(draw)

    def at(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns indices (batch,) int64 into all images, and labels (batch,) int32."""
        epoch, place = divmod(int(step), self.steps)
        indices = self._part[self._epoch(epoch)[place, self._own]]
        return indices, self._labels[indices]


def _batch(
    step: tf.Tensor,
    stream: _Stream,
    read: Callable[[tf.Tensor], tf.Tensor],
    pad: int | None,
    erasing: float,
    normalisation: preprocess.Normalisation = preprocess.IMAGENET,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Assembles and augments the batch of a step, counted from the run's start."""
    indices, labels = tf.numpy_function(
        stream.at, [step], [tf.int64, tf.int32], stateful=False
    )
    indices = tf.ensure_shape(indices, [stream.batch_size])
    labels = tf.ensure_shape(labels, [stream.batch_size])
    seed = tf.constant(stream.seed, tf.int64)
    seed = tf.random.experimental.stateless_fold_in(seed, step)
    images = augment.augment_batch(
        read(indices), seed, pad, erasing, stream.share, normalisation
    )
    return images, labels


def _own_identities(identities_per_batch: int, share: tuple[int, int]) -> range:
    """Returns the numbers of the identities of a batch that belong to a share."""
    worker, workers = share
    size = identities_per_batch // workers
    if size * workers != identities_per_batch:
        raise ValueError(
            f"identities_per_batch={identities_per_batch} is not divisible by "
            f"{workers} workers; use {(size + 1) * workers}."
        )
    return range(worker * size, (worker + 1) * size)
