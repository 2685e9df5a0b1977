"""Training of a derived network with its neck's triplet and softmax losses (Eq. 10)."""

from __future__ import annotations

import tensorflow as tf

from cdnet_tf.learn import losses


class ReidTraining(tf.keras.Model):
    """A network with training heads as a Keras model: `compile`, then `fit`.

    Batches are (images, labels), P x K, whole identities on each replica.

    Args:
      network: a functional model whose outputs are a neck's dict, see
        `networks.build` with `num_classes`.
      loss: triplet and softmax loss.
    """

    def __init__(
        self, network: tf.keras.Model, loss: losses.ReidLoss | None = None
    ) -> None:
        super().__init__(name="training")
        self.network = network
        self.loss_function = loss or losses.ReidLoss()
        names = ("loss", "triplet", "accuracy")
        self.means = {name: tf.keras.metrics.Mean(name) for name in names}
        self.built = True

    def compile(self, optimizer: tf.keras.optimizers.legacy.Optimizer) -> None:
        """Sets the optimizer; its slots are made here, for checkpoints to find."""
        super().compile(optimizer=optimizer)
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        inner._create_all_weights(self.network.trainable_variables)

    @property
    def metrics(self) -> list:
        return list(self.means.values())

    def call(self, images: tf.Tensor, training: bool = False):
        return self.network(images, training=training)

    def embedder(self) -> tf.keras.Model:
        """The inference network, images -> embedding, sharing these weights."""
        embedding = self.network.output["embedding"]
        return tf.keras.Model(self.network.input, embedding, name=self.network.name)

    @tf.autograph.experimental.do_not_convert
    def train_step(self, data) -> dict[str, tf.Tensor]:
        images, labels = data
        variables = self.network.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            outputs = self.network(images, training=True)
            triplet, softmax = self.loss_function(labels, outputs)
            # Gradients are summed over replicas: each gives its share of the mean.
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            loss = (triplet + softmax) / replicas
            if hasattr(self.optimizer, "get_scaled_loss"):
                loss = self.optimizer.get_scaled_loss(loss)
        gradients = tape.gradient(loss, variables)
        if hasattr(self.optimizer, "get_unscaled_gradients"):
            gradients = self.optimizer.get_unscaled_gradients(gradients)
        self.optimizer.apply_gradients(zip(gradients, variables))

        hit = tf.argmax(outputs["logits"][0], 1, tf.int32) == labels
        values = triplet + softmax, triplet, tf.reduce_mean(tf.cast(hit, tf.float32))
        for mean, value in zip(self.metrics, values):
            mean.update_state(value)
        return {name: mean.result() for name, mean in self.means.items()}
