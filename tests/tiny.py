"""A network and images for several tests, small enough to convert in a second."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from cdnet_tf.data import image_files, preprocess
from cdnet_tf.nn import blocks, necks, networks

HEIGHT, WIDTH = 64, 32


@functools.cache
def network(shallow: bool = False, seed: int = 0) -> tf.keras.Model:
    """Builds a network with every kind of block once, and statistics as if trained.

    The same network is returned each time, so do not change its weights.

    Args:
      shallow: use one CBlock, with a shortcut convolution, instead of two.
      seed: of weights and statistics.
    """
    tf.keras.utils.set_random_seed(seed)
    pixels = tf.keras.Input((HEIGHT, WIDTH, 3), name="images")
    x = blocks.stem(pixels, 16)
    if not shallow:
        x = blocks.cblock(x, 32, (3, 5), "stage1/block1/cblock1")
    fmap2 = blocks.downsample(x, "downsample1")
    fmap3 = blocks.cblock(fmap2, 32, (3, 5), "stage2/block3/cblock1")
    neck = necks.fbl_neck(fmap2, fmap3, None, channels=16)
    tiny = tf.keras.Model(pixels, neck.embedding, name="cdnet")
    pictures = preprocess.normalise(images(32, seed=7))
    networks.imitate_training(tiny, pictures, seed)
    return tiny


def images(count: int, seed: int = 0) -> np.ndarray:
    """Draws blots of colour, (count, 64, 32, 3) uint8; noise would average out."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 8, 4, 3), np.uint8)
    return coarse.repeat(HEIGHT // 8, axis=1).repeat(WIDTH // 4, axis=2)


def normalised(
    paths: Sequence[str], height: int, width: int, batch_size: int = 64
) -> Iterator[tf.Tensor]:
    """Yields image files in batches, as a float network takes them."""
    for batch in image_files.ImageBatches(paths, height, width, batch_size):
        yield preprocess.normalise(batch)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns cosines of the angles between rows, (n, d) and (n, d) -> (n,)."""
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
