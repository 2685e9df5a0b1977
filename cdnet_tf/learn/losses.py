"""Triplet and softmax losses of the two embedding spaces (Eqs. 9 and 10)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import tensorflow as tf
from tensorflow import Tensor

with warnings.catch_warnings():
    # docs/dependencies.md says why TensorFlow Addons is used although it has ended.
    warnings.filterwarnings("ignore", r"\s*TensorFlow Addons \(TFA\) has ended")
    import tensorflow_addons as tfa


class ReidLoss:
    """Sum over a neck's heads of batch-hard triplet loss and softmax loss.

    Triplets are mined among the images of one replica, so a batch must split into whole
    identities.

    Args:
      margin: of the triplet loss, in units of the Euclidean (not squared) distance.
        None leaves the triplet loss out, as for classification.
      label_smoothing: of the softmax loss, 0 to 1.
    """

    def __init__(
        self, margin: float | None = 0.3, label_smoothing: float = 0.0
    ) -> None:
        self.margin = margin
        self._triplet = tfa.losses.TripletHardLoss(
            margin or 0.0,
            distance_metric="L2",
            reduction=tf.keras.losses.Reduction.NONE,
        )
        self._softmax = tf.keras.losses.CategoricalCrossentropy(
            from_logits=True,
            label_smoothing=label_smoothing,
            reduction=tf.keras.losses.Reduction.NONE,
        )

    def triplet(self, labels: Tensor, features: Tensor) -> Tensor:
        """Returns the mean of max(0, d(hardest positive) - d(hardest negative) + m).

        Args:
          labels: (b,) int32, at least two identities.
          features: (b, d), not normalised.
        """
        return self._triplet(labels, tf.cast(features, tf.float32))

    def softmax(self, labels: Tensor, logits: Tensor) -> Tensor:
        """Returns the mean cross-entropy.

        Args:
          labels: (b,) int32. An image whose label is not one of the C classes 0..C-1
            adds nothing.
          logits: (b, C).
        """
        targets = tf.one_hot(labels, logits.shape[-1])
        losses = self._softmax(targets, tf.cast(logits, tf.float32))
        # TensorFlow's gradient assumes that the targets of an image sum to 1.
        known = tf.cast(labels < logits.shape[-1], losses.dtype)
        return tf.reduce_mean(losses * known)

    def __call__(
        self, labels: Tensor, outputs: Mapping[str, Sequence[Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Returns (triplet, softmax) summed over the heads of a neck's `outputs`."""
        softmax = tf.add_n([self.softmax(labels, z) for z in outputs["logits"]])
        if self.margin is None:
            return tf.zeros_like(softmax), softmax
        triplet = [self.triplet(labels, f) for f in outputs["features"]]
        return tf.add_n(triplet), softmax
