"""The part that all trainings of a supernet share: the step of its weights."""

from __future__ import annotations

import tensorflow as tf
from tensorflow import Tensor

from cdnet_tf.learn import losses
from cdnet_tf.supernet import supernet


class SupernetTraining(tf.keras.Model):
    """A supernet, as a Keras model, whose steps train the weights of chosen branches.

    A subclass chooses the branches in its `train_step`.

    Args:
      net: the supernet.
      loss: triplet and softmax loss.
      name: of the model.

    Attributes:
      counts: how often each branch ran, (6, n) int64.
      means: metrics of the losses and the accuracy over an epoch, by name.
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
        # The means cover all replicas; by default Keras would add up those of workers.
        self.distribute_reduction_method = "first"
        self.built = True

    @property
    def metrics(self) -> list:
        return list(self.means.values())

    def call(self, images: Tensor, training: bool = False) -> dict[str, Tensor]:
        return self.net(images, training=training)

    def count(self, chosen: Tensor) -> None:
        """Counts the branches that run, (6, k) int32."""
        ran = tf.one_hot(chosen, len(self.net.space), dtype=tf.int64)
        self.counts.assign_add(tf.reduce_sum(ran, 1))

    def update_weights(self, batch, chosen: Tensor) -> None:
        """Trains the weights of the chosen branches, (6, k), on (images, labels)."""
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
        """Number of replicas that share a batch."""
        return tf.distribute.get_strategy().num_replicas_in_sync

    def scaled(self, loss: Tensor, optimizer) -> Tensor:
        """Returns a replica's share of the loss, times the optimizer's loss scale."""
        # Gradients are summed over replicas, so each contributes its share of the mean.
        loss = loss / self.replicas()
        scale = getattr(optimizer, "get_scaled_loss", None)
        return scale(loss) if scale else loss

    def unscaled(self, gradients, optimizer):
        """Returns gradients without the optimizer's loss scale."""
        unscale = getattr(optimizer, "get_unscaled_gradients", None)
        return unscale(gradients) if unscale else gradients


def create_slots(optimizer, variables: list[tf.Variable]) -> None:
    """Makes an optimizer's slots now, so that a checkpoint can be restored to them."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    inner._create_all_weights(variables)


def _summed(gradients: list) -> list:
    """Sums gradients over the replicas, all of which have run the same branches.

    Their sparse gradients therefore have the same rows, so it is enough to sum the
    values: as many bytes as one replica has. TensorFlow's sum of sparse gradients would
    send the rows of each replica to every other one.
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
