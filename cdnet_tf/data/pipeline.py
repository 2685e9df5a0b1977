"""Assembles tf.data: from file lists to the batches of a step.

A batch is a function of (seed, step) alone, so a run resumed at `first_epoch` sees
what an unbroken run sees. NumPy draws the indices and picks images out of one cached
array inside `tf.numpy_function`: the array is never copied into the graph, whose size
TensorFlow limits to 2 GiB and which a distribution strategy rewrites.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from cdnet_tf.data import augment, datasets, preprocess, sampling

_FILL_BATCH = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Batches:
    """A dataset of the steps still to run, and what `fit` must know about it.

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
    *,
    identities_per_batch: int,
    images_per_id: int,
    seed: int,
    epochs: int,
    first_epoch: int = 0,
    height: int = 256,
    width: int = 128,
    pad: int = 10,
    cache_bytes: int | None = None,
    share: tuple[int, int] = (0, 1),
) -> Batches:
    """Batches of the search: ((w images, w labels), (alpha images, alpha labels)).

    D_train counts the epochs. D_val, which is smaller, goes through epochs of its own,
    counted from step 0 of the run, and is augmented alike. A batch holds whole
    identities, contiguous: replicas that share it evenly need `identities_per_batch`
    divisible by their number.

    Args:
      images: the train split; `sampling.search_split` divides it.
      identities_per_batch: P.
      images_per_id: K, also the number of images an identity gives to D_val.
      seed: of the run, non-negative.
      epochs: at which the run ends.
      first_epoch: at which it begins; not 0 when resumed.
      height, width: of the network's input, pixels.
      pad: see `augment.augment_batch`.
      cache_bytes: see `image_reader`.
      share: (i, n) for the i-th of n workers: P / n whole identities of each batch,
        the same images that one worker would see there.

    Returns:
      Batches of images (P * K / n, height, width, 3) float32 and labels (P * K / n,)
      int32.

    Raises:
      ValueError: unreadable images, fewer than P identities, or P / n is not whole.
    """
    labels, raw = datasets.to_labels(images.identities)
    parts = sampling.search_split(labels, images_per_id, seed)
    streams = [
        _Stream(part, labels, identities_per_batch, images_per_id, seed, number, share)
        for number, part in enumerate(parts)
    ]
    steps = streams[0].steps
    read = image_reader(images.paths, height, width, cache_bytes)
    batch = functools.partial(_batch, read=read, pad=pad)
    dataset = tf.data.Dataset.range(first_epoch * steps, epochs * steps).map(
        lambda step: tuple(batch(step, stream=stream) for stream in streams),
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
    pad: int = 10,
    cache_bytes: int | None = None,
    erasing: float = 0.5,
    share: tuple[int, int] = (0, 1),
) -> Batches:
    """Batches of the retraining, (images, labels).

    Args as of `search_batches`, and:
      erasing: probability of Random Erasing, 0..1.
    """
    labels, raw = datasets.to_labels(images.identities)
    everything = np.arange(len(labels))
    shape = identities_per_batch, images_per_id
    stream = _Stream(everything, labels, *shape, seed, share=share)
    read = image_reader(images.paths, height, width, cache_bytes)
    dataset = tf.data.Dataset.range(
        first_epoch * stream.steps, epochs * stream.steps
    ).map(
        functools.partial(_batch, stream=stream, read=read, pad=pad, erasing=erasing),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return Batches(dataset.prefetch(tf.data.AUTOTUNE), stream.steps, len(raw))


def share_of(batches: Batches, share: tuple[int, int]) -> Batches:
    """The i-th of n parts of each batch, for batches that can only be read whole.

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


def image_batches(
    paths: Sequence[str], height: int, width: int, batch_size: int = 64
) -> tf.data.Dataset:
    """Images in the order of `paths`, not augmented; the last batch may be smaller.

    Returns:
      A dataset of (up to batch_size, height, width, 3) uint8, RGB.

    Raises:
      ValueError: unreadable images, all named.
    """
    check_images(paths)
    dataset = tf.data.Dataset.from_tensor_slices(tf.constant(paths, tf.string))
    dataset = dataset.map(
        lambda path: preprocess.decode_and_resize(tf.io.read_file(path), height, width),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def eval_batches(
    paths: Sequence[str], height: int = 256, width: int = 128, batch_size: int = 64
) -> tf.data.Dataset:
    """`image_batches`, normalised to float32: what a float network takes."""
    return image_batches(paths, height, width, batch_size).map(preprocess.normalise)


def image_reader(
    paths: Sequence[str], height: int, width: int, cache_bytes: int | None = None
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function from (n,) indices to (n, height, width, 3) uint8 images.

    All images are decoded once and kept as one array if that fits in `cache_bytes`;
    otherwise they are all tried once, and decoded again whenever they are read.

    Args:
      paths: image files.
      height, width: pixels.
      cache_bytes: largest array to keep; by default a quarter of the memory that is
        available now, which leaves room for the network and for a second program.

    Raises:
      ValueError: unreadable images, all named.
    """
    if cache_bytes is None:
        cache_bytes = available_memory() // 4
    shape = height, width, 3
    if len(paths) * np.prod(shape) <= cache_bytes:
        cached = _decode_all(paths, height, width)

        def read(indices):
            images = tf.numpy_function(
                cached.__getitem__, [indices], tf.uint8, stateful=False
            )
            return tf.ensure_shape(images, [*indices.shape, *shape])

        return read
    check_images(paths)
    files = tf.constant(paths)
    return lambda indices: tf.map_fn(
        lambda path: preprocess.decode_and_resize(tf.io.read_file(path), height, width),
        tf.gather(files, indices),
        fn_output_signature=tf.TensorSpec(shape, tf.uint8),
    )


def check_images(paths: Sequence[str]) -> None:
    """Decodes every image once, with the decoder that training uses.

    Raises:
      ValueError: some are missing, truncated or no images; names them all (the first
        twenty, and how many more), so that one round of repair is enough.
    """
    for _ in _decoded(paths, lambda jpeg: tf.shape(tf.io.decode_jpeg(jpeg))):
        pass


def available_memory() -> int:
    """Returns the bytes of memory a new array may use, caches of the system included.

    Linux says so in /proc/meminfo; elsewhere all of the memory stands in for it, and
    1 GiB where even that is unknown. A container's own limit is not looked up: inside
    one, pass `cache_bytes`.
    """
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            fields = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2**30


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
    pad: int,
    erasing: float = 0.5,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Assembles and augments the batch of a step, counted from the run's start."""
    indices, labels = tf.numpy_function(
        stream.at, [step], [tf.int64, tf.int32], stateful=False
    )
    indices = tf.ensure_shape(indices, [stream.batch_size])
    labels = tf.ensure_shape(labels, [stream.batch_size])
    seed = tf.constant(stream.seed, tf.int64)
    seed = tf.random.experimental.stateless_fold_in(seed, step)
    images = augment.augment_batch(read(indices), seed, pad, erasing, stream.share)
    return images, labels


def _own_identities(identities_per_batch: int, share: tuple[int, int]) -> range:
    """Which of a batch's identities a share holds."""
    worker, workers = share
    size = identities_per_batch // workers
    if size * workers != identities_per_batch:
        raise ValueError(
            f"identities_per_batch={identities_per_batch} is not divisible by "
            f"{workers} workers; use {(size + 1) * workers}."
        )
    return range(worker * size, (worker + 1) * size)


def _decode_all(paths: Sequence[str], height: int, width: int) -> np.ndarray:
    images = np.empty((len(paths), height, width, 3), np.uint8)
    decode = functools.partial(preprocess.decode_and_resize, height=height, width=width)
    for indices, decoded in _decoded(paths, decode):
        images[indices] = decoded
    return images


def _decoded(paths: Sequence[str], decode: Callable[[tf.Tensor], tf.Tensor]):
    """Yields (indices, results) in batches; at the end raises if any file failed.

    `ignore_errors` lets the good files through with their numbers, and the numbers
    that never come are the bad files.
    """
    files = tf.data.Dataset.from_tensor_slices(tf.constant(paths, tf.string))
    dataset = (
        files.enumerate()
        .map(
            lambda index, path: (index, decode(tf.io.read_file(path))),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=False,
        )
        .ignore_errors()
    )
    failed = np.ones(len(paths), bool)
    for indices, results in dataset.batch(_FILL_BATCH).as_numpy_iterator():
        failed[indices] = False
        yield indices, results
    if failed.any():
        bad = [paths[i] for i in np.flatnonzero(failed)]
        raise ValueError(
            f"{len(bad)} of {len(paths)} images cannot be read; restore or remove "
            f"them: {datasets.named(bad)}."
        )
