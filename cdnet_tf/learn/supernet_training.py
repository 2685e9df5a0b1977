"""What all trainings of a supernet share: a step of its weights, and its records."""

from __future__ import annotations

import tensorflow as tf
from tensorflow import Tensor

from cdnet_tf.learn import losses
from cdnet_tf.supernet import supernet


class SupernetTraining(tf.keras.Model):
    """A supernet whose weights learn by the branches that a step has drawn.

    A subclass says how they are drawn, in its `train_step`.

    Args:
      net: the supernet.
      loss: triplet and softmax loss.
      name: of the model.

    Attributes:
      counts: how often each branch ran, (6, n) int64.
      means: of the losses and of the accuracy over the epoch, by name.
    """

    def __init__(
        self, net: supernet.Supernet, loss: losses.ReidLoss | None, name: str
    ) -> None:
        super().__init__(name=name)
        self.net = net
        self.loss_function = loss or losses.ReidLoss()
        self.counts = self.add_weight(
            "counts",
            net.alpha.shape,
            tf.int64,
            initializer="zeros",
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        self.means = {
            name: tf.keras.metrics.Mean(name)
            for name in ("loss", "triplet", "accuracy")
        }
        # A mean is over all replicas already; Keras would add up the workers' reports.
        self.distribute_reduction_method = "first"
        self.built = True

    @property
    def metrics(self) -> list:
        return list(self.means.values())

    def call(self, images: Tensor, training: bool = False) -> dict[str, Tensor]:
        return self.net(images, training=training)

    def count(self, chosen: Tensor) -> None:
        """Notes which branches run, (6, k) int32."""
        ran = tf.one_hot(chosen, len(self.net.space), dtype=tf.int64)
        self.counts.assign_add(tf.reduce_sum(ran, 1))

    def update_weights(self, batch, chosen: Tensor) -> None:
        """One step of the weights on (images, labels) by chosen branches, (6, k)."""
        images, labels = batch
        variables = self.net.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            outputs = self.net(images, chosen, training=True)
            triplet, softmax = self.loss_function(labels, outputs)
            scaled = self.scaled(triplet + softmax, self.optimizer)
        gradients = self.unscaled(tape.gradient(scaled, variables), self.optimizer)
        self.optimizer.apply_gradients(
            zip(_summed(gradients), variables), experimental_aggregate_gradients=False
        )
        self.means["loss"].update_state(triplet + softmax)
        self.means["triplet"].update_state(triplet)
        hit = tf.argmax(outputs["logits"][0], 1, tf.int32) == labels
        self.means["accuracy"].update_state(tf.cast(hit, tf.float32))

    def replicas(self) -> int:
        """How many replicas share a batch."""
        return tf.distribute.get_strategy().num_replicas_in_sync

    def scaled(self, loss: Tensor, optimizer) -> Tensor:
        """A replica's share of the loss, times the optimizer's loss scale."""
        # Gradients are summed over replicas, so each gives its share of the mean.
        loss = loss / self.replicas()
        scale = getattr(optimizer, "get_scaled_loss", None)
        return scale(loss) if scale else loss

    def unscaled(self, gradients, optimizer):
        """Gradients without the optimizer's loss scale."""
        unscale = getattr(optimizer, "get_unscaled_gradients", None)
        return unscale(gradients) if unscale else gradients


def create_slots(optimizer, variables: list[tf.Variable]) -> None:
    """Makes an optimizer's slots now, so that a checkpoint finds them at its start."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    inner._create_all_weights(variables)


def _summed(gradients: list) -> list:
    """Sums over the replicas, of which all have run the same branches.

    So their rows are the same, and only the values are sent, all in one: as many bytes
    as one replica has. TensorFlow's own sum of sparse gradients brings every replica's
    rows to every other.
    """
    replicas = tf.distribute.get_replica_context()
    if replicas.num_replicas_in_sync == 1:
        return gradients
    sparse = [isinstance(gradient, tf.IndexedSlices) for gradient in gradients]
    values = [g.values if is_sparse else g for g, is_sparse in zip(gradients, sparse)]
    values = replicas.all_reduce(tf.distribute.ReduceOp.SUM, values)
    return [
        tf.IndexedSlices(value, gradient.indices, gradient.dense_shape)
        if is_sparse
        else value
        for value, gradient, is_sparse in zip(values, gradients, sparse)
    ]
