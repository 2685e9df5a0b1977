"""Decodes image files into arrays, and names every file that cannot be read.

Files are checked by the decoding that uses them, so nothing is decoded twice. After a
bad file, the others are still checked, so that one round of repair is enough.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from cdnet_tf.data import datasets, preprocess

_DECODED_AT_A_TIME = 64


class ImageBatches:
    """Images in the order of `paths`, not augmented, which can be iterated repeatedly.

    An iteration yields (up to batch_size, height, width, 3) uint8 arrays, RGB. With a
    cache, the first complete iteration keeps the images, and later ones decode nothing.

        gallery = ImageBatches(paths, 256, 128, cache_bytes=None)
        for embed in embedders:
            np.concatenate([embed(images) for images in gallery])

    Args:
      paths: image files.
      height, width: pixels.
      batch_size: number of images in a batch; the last batch may be smaller.
      cache_bytes: largest array to keep; images that need more are decoded in every
        iteration. None stands for a quarter of the memory that is available.
    """

    def __init__(
        self,
        paths: Sequence[str],
        height: int,
        width: int,
        batch_size: int = 64,
        cache_bytes: int | None = 0,
    ):
        self._paths = tuple(paths)
        self._shape = len(self._paths), height, width, 3
        self._batch_size = batch_size
        self._keeps = _fits(self._shape, cache_bytes)
        self._kept: np.ndarray | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields the batches.

        Raises:
          ValueError: unreadable images, all named, when the first of them is reached.
        """
        if self._kept is not None:
            for start in range(0, len(self._kept), self._batch_size):
                yield self._kept[start : start + self._batch_size]
            return
        kept, done = np.empty(self._shape if self._keeps else 0, np.uint8), 0
        _, height, width, _ = self._shape
        decode = functools.partial(
            preprocess.decode_and_resize, height=height, width=width
        )
        for images in decoded(self._paths, decode, self._batch_size):
            if self._keeps:
                kept[done : done + len(images)] = images
            done += len(images)
            yield images
        if self._keeps:
            self._kept = kept


def decoded(
    paths: Sequence[str],
    decode: Callable[[tf.Tensor], tf.Tensor],
    batch_size: int = _DECODED_AT_A_TIME,
) -> Iterator[np.ndarray]:
    """Yields batches of the tensors that `decode` makes of files, in their order.

    Args:
      paths: image files.
      decode: makes a tensor of a file's bytes, a scalar string; all of one shape.
      batch_size: number of files in a batch, at most.

    Raises:
      ValueError: unreadable images, all named, when the first of them is reached.
    """
    done = 0
    for indices, results in _decoded(paths, decode, batch_size, in_order=True):
        # A gap in the indices is a bad file, which `_decoded` names at its end.
        if np.array_equal(indices, np.arange(done, done + len(indices))):
            yield results
            done += len(indices)


def image_reader(
    paths: Sequence[str], height: int, width: int, cache_bytes: int | None = None
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function from (n,) indices to (n, height, width, 3) uint8 images.

    All images are decoded once and kept as one array if that fits in `cache_bytes`.
    Otherwise all are checked once, and decoded again whenever they are read.

    Args:
      paths: image files.
      height, width: pixels.
      cache_bytes: largest array to keep; by default a quarter of the memory that is
        available now, which leaves room for the network and for a second program.

    Raises:
      ValueError: unreadable images, all named.
    """
    shape = height, width, 3
    decode = functools.partial(preprocess.decode_and_resize, height=height, width=width)
    if _fits((len(paths), *shape), cache_bytes):
        cached = np.empty((len(paths), *shape), np.uint8)
        for numbers, images in _decoded(paths, decode):
            cached[numbers] = images

        def read(indices):
            images = tf.numpy_function(
                cached.__getitem__, [indices], tf.uint8, stateful=False
            )
            return tf.ensure_shape(images, [*indices.shape, *shape])

        return read
    check_images(paths)
    files = tf.constant(paths)
    return lambda indices: tf.map_fn(
        lambda path: decode(tf.io.read_file(path)),
        tf.gather(files, indices),
        fn_output_signature=tf.TensorSpec(shape, tf.uint8),
    )


def check_images(paths: Sequence[str]) -> None:
    """Decodes every image once, for a program that will use them much later.

    Raises:
      ValueError: files are missing, truncated or no images; the first twenty are named
        and the others counted.
    """
    for _ in _decoded(paths, lambda jpeg: tf.shape(tf.io.decode_jpeg(jpeg))):
        pass


def in_one_cache(
    groups: Sequence[Sequence[str]],
    height: int,
    width: int,
    megabytes: int | None = None,
) -> list[ImageBatches]:
    """Makes batches of several groups of images that share one cache.

    Each group gets memory in proportion to its size, so all groups fit or none does.

    Args:
      groups: paths of the image files.
      height, width: pixels.
      megabytes: size of the cache; None stands for a quarter of the available memory.
    """
    room = available_memory() // 4 if megabytes is None else megabytes * 2**20
    images = sum(map(len, groups))
    return [
        ImageBatches(paths, height, width, cache_bytes=room * len(paths) // images)
        for paths in groups
    ]


def drawn(
    paths: Sequence[str], count: int, height: int, width: int, seed: int
) -> np.ndarray:
    """Draws images without replacement, and decodes them.

    Args:
      paths: image files.
      count: how many to draw; if there are fewer, all are taken.
      height, width: pixels.
      seed: of the draw.

    Returns:
      (n, height, width, 3) uint8, RGB, in the order of `paths`.

    Raises:
      ValueError: unreadable images, all named.
    """
    rng = np.random.default_rng(seed)
    chosen = sorted(rng.choice(len(paths), min(count, len(paths)), replace=False))
    chosen = [paths[i] for i in chosen]
    return np.concatenate(list(ImageBatches(chosen, height, width)))


def available_memory() -> int:
    """Returns the bytes of memory that a new array may use.

    Linux tells it in /proc/meminfo, and counts its own caches as free. On other systems
    this is the whole memory, or 1 GiB if that is unknown. The limit of a container is
    not looked up; pass `cache_bytes` inside of one.
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


def _fits(shape: tuple[int, ...], cache_bytes: int | None) -> bool:
    """Whether a uint8 array of that shape may be kept."""
    if cache_bytes is None:
        cache_bytes = available_memory() // 4
    return int(np.prod(shape, dtype=np.int64)) <= cache_bytes


def _decoded(
    paths: Sequence[str],
    decode: Callable[[tf.Tensor], tf.Tensor],
    batch_size: int = _DECODED_AT_A_TIME,
    in_order: bool = False,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (indices, results) in batches; at the end raises if any file failed.

    `ignore_errors` lets the good files pass with their indices. The indices that never
    arrive are those of bad files.
    """
    files = tf.data.Dataset.from_tensor_slices(tf.constant(paths, tf.string))
    dataset = (
        files.enumerate()
        .map(
            lambda index, path: (index, decode(tf.io.read_file(path))),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=in_order,
        )
        .ignore_errors()
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )
    failed = np.ones(len(paths), bool)
    for indices, results in dataset.as_numpy_iterator():
        failed[indices] = False
        yield indices, results
    if failed.any():
        bad = [paths[i] for i in np.flatnonzero(failed)]
        raise ValueError(
            f"{len(bad)} of {len(paths)} images cannot be read; restore or remove "
            f"them: {datasets.named(bad)}."
        )
