"""Quantisation-aware training towards the embeddings of the float network.

A model.keras has no heads, so the losses of the training cannot be computed. They are
not needed either, because the aim is the ranking of the float network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf


def train(
    student: tf.keras.Model,
    network: tf.keras.Model,
    batches: Iterable[tf.Tensor],
    *,
    steps_per_epoch: int,
    epochs: int,
    learning_rate: float,
    after_epoch: Callable[[int, float], None],
) -> None:
    """Trains a network that rounds like its int8 file to embed like the float network.

    The loss is the squared error over the squared norm, which is twice 1 - cosine if
    the norms agree. Unlike the cosine, it keeps the norm in the range of the output.

    Args:
      student: from `quantize.trainable`; it is trained in place.
      network: the float network; left unchanged.
      batches: normalised images, (b, h, w, 3) float32, of all epochs.
      steps_per_epoch: batches in an epoch.
      epochs: number of epochs, over which the learning rate falls to 0 as a cosine.
      learning_rate: of Adam, at the start.
      after_epoch: called with the epoch, from 1, and its mean loss.
    """
    rate = tf.keras.optimizers.schedules.CosineDecay(
        learning_rate, steps_per_epoch * epochs
    )
    optimizer = tf.keras.optimizers.Adam(rate)
    optimizer.build(student.trainable_variables)

    @tf.function
    def step(images):
        wanted = network(images, training=False)
        with tf.GradientTape() as tape:
            error = student(images, training=True) - wanted
            squares = tf.reduce_sum(error**2, 1) / tf.reduce_sum(wanted**2, 1)
            loss = tf.reduce_mean(squares)
        gradients = tape.gradient(loss, student.trainable_variables)
        optimizer.apply_gradients(zip(gradients, student.trainable_variables))
        return loss

    losses: list[float] = []
    for images in batches:
        losses.append(float(step(images)))
        epoch, rest = divmod(len(losses), steps_per_epoch)
        if not rest:
            after_epoch(epoch, float(np.mean(losses[-steps_per_epoch:])))
