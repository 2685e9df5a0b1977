"""Embeds images by networks of the space that inherit the supernet's weights.

The moving statistics of a supernet fit no single network, because every network that
used a branch has moved them. So they are measured anew for each network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from cdnet_tf.nn import blocks
from cdnet_tf.supernet import supernet


class InheritedEmbedder:
    """Embeds images by any network of a supernet, with the supernet's weights.

    The choice of branches is a tensor, so a new network needs no new graph. The stem is
    the same for all networks, so its outputs are computed once.

    Args:
      net: with trained weights, on one device. Its moving statistics are overwritten.
      calibration: normalised images to take statistics from, (c, h, w, 3) float32: a
        few hundred training images, not augmented. The last images are left out if they
        do not fill a batch.
      images: normalised images to embed, (n, h, w, 3) float32.
      batch_size: number of images that run at once, of both.

    Raises:
      ValueError: the calibration images do not fill one batch.
    """

    def __init__(
        self,
        net: supernet.Supernet,
        calibration: np.ndarray,
        images: np.ndarray,
        batch_size: int = 64,
    ) -> None:
        whole = len(calibration) // batch_size * batch_size
        if not whole:
            raise ValueError(
                f"{len(calibration)} images to calibrate on do not fill a batch of "
                f"{batch_size}; use a smaller batch_size, or more images."
            )
        self._net = net
        parts = [calibration[:whole], images]
        batches = [_batches(part, batch_size) for part in parts]
        stem = _Statistics(net.stem.non_trainable_weights, net.stem)
        stem.take(batches[0])
        self._calibration, self._images = (
            [self._stem(batch) for batch in part] for part in batches
        )
        fitted = [*net.blocks, *net.downsamples]
        variables = [v for part in fitted for v in part.non_trainable_weights]
        self._statistics = _Statistics(variables, net.body)

    def __call__(self, choice: Sequence[int]) -> np.ndarray:
        """Embeds the images by one network.

        Args:
          choice: the branch of each block, as its index in the space.

        Returns:
          (n, d) float32, not normalised.
        """
        chosen = tf.constant(choice, tf.int32)[:, None]
        self._statistics.take(self._calibration, chosen)
        return np.concatenate([self._embed(x, chosen) for x in self._images])

    @tf.function(autograph=False, reduce_retracing=True)
    def _stem(self, images: Tensor) -> Tensor:
        return self._net.stem(images, training=False)

    @tf.function(autograph=False, reduce_retracing=True)
    def _embed(self, x: Tensor, chosen: Tensor) -> Tensor:
        x = self._net.body(x, chosen, training=False)
        return tf.cast(self._net.neck(x, training=False)["embedding"], tf.float32)


class _Statistics:
    """Moving statistics of batch normalisations, which are set to means over batches.

    Args:
      variables: the statistics.
      run: the layer or model that moves them when called with `training=True`.
    """

    def __init__(self, variables: Sequence[tf.Variable], run: Callable) -> None:
        self._variables = list(variables)
        self._sums = [tf.Variable(tf.zeros_like(each)) for each in variables]
        self._run = run

    def take(self, batches: Sequence[Tensor], *arguments: Tensor) -> None:
        """Sets the statistics to their means over the batches."""
        for total in self._sums:
            total.assign(tf.zeros_like(total))
        for batch in batches:
            self._add(batch, *arguments)
        for each, total in zip(self._variables, self._sums):
            each.assign(total / len(batches))

    @tf.function(autograph=False)
    def _add(self, batch: Tensor, *arguments: Tensor) -> None:
        for each in self._variables:
            each.assign(tf.zeros_like(each))
        self._run(batch, *arguments, training=True)
        for total, each in zip(self._sums, self._variables):
            # From 0, one step moves a statistic to (1 - momentum) times the batch's.
            total.assign_add(each / (1 - blocks.BN_MOMENTUM))


def _batches(images: np.ndarray, batch_size: int) -> list[Tensor]:
    starts = range(0, len(images), batch_size)
    return [tf.constant(images[start : start + batch_size]) for start in starts]
