"""Trains a supernet one drawn branch of each block at a time, without alpha."""

from __future__ import annotations

import tensorflow as tf
from tensorflow import Tensor

from cdnet_tf.learn import losses, supernet_training
from cdnet_tf.supernet import supernet

DRAWS = ("fair", "uniform")


def draw(kind: str, blocks: int, branches: int, step: Tensor, seed: int) -> Tensor:
    """Draws the branch of each block, (blocks, 1) int32, from the seed and the step.

    Args:
      kind: `uniform` draws each block's branch at random, independently of all others
        (Guo et al., "Single Path One-Shot"). `fair` runs every branch of every block
        exactly once in a round of `branches` steps, in an order that is drawn for each
        block and round (Chu et al., "FairNAS", here with an update after each step).
      blocks: of the network.
      branches: n, of each block.
      step: scalar int64, counted from 0.
      seed: of the run.
    """
    if kind == "uniform":
        seeds = tf.stack([tf.constant(seed, tf.int64), step])
        return tf.random.stateless_uniform(
            (blocks, 1), seeds, maxval=branches, dtype=tf.int32
        )
    seeds = tf.stack([tf.constant(seed, tf.int64), step // branches])
    order = tf.argsort(tf.random.stateless_uniform((blocks, branches), seeds), axis=1)
    return tf.gather(order, [tf.cast(step % branches, tf.int32)], axis=1)


class SinglePathTraining(supernet_training.SupernetTraining):
    """A supernet, as a Keras model, of which each step trains one drawn network.

    A step costs as much as a step of that network alone, because there is no second
    pass for alpha. Batches are (images, labels).

    Args:
      net: the supernet.
      kind: how branches are drawn, one of `DRAWS`.
      loss: triplet and softmax loss.
      seed: of the draws, the same on every replica.

    Raises:
      ValueError: the kind is unknown.
    """

    def __init__(
        self,
        net: supernet.Supernet,
        kind: str = "fair",
        loss: losses.ReidLoss | None = None,
        seed: int = 0,
    ) -> None:
        if kind not in DRAWS:
            raise ValueError(f"draw={kind!r} is unknown; use one of {DRAWS}.")
        super().__init__(net, loss, "single_path")
        self.kind = kind
        self.seed = seed

    def compile(self, optimizer) -> None:
        """Sets the optimizer of the weights (a legacy Keras optimizer)."""
        super().compile(optimizer=optimizer)
        supernet_training.create_slots(optimizer, self.net.trainable_variables)

    @tf.autograph.experimental.do_not_convert
    def train_step(self, data) -> dict[str, Tensor]:
        """Draws a network and trains it for one step."""
        step = tf.cast(tf.identity(self.optimizer.iterations), tf.int64)
        shape = len(self.net.blocks), len(self.net.space)
        chosen = draw(self.kind, *shape, step, self.seed)
        self.count(chosen)
        self.update_weights(data, chosen)
        return {name: mean.result() for name, mean in self.means.items()}
