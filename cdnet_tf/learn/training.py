"""Trains a derived network with the triplet and softmax losses of its neck (Eq. 10)."""

from __future__ import annotations

import tensorflow as tf

from cdnet_tf.learn import losses


class ReidTraining(tf.keras.Model):
    """A network with training heads as a Keras model: `compile`, then `fit`.

    Batches are (images, labels) of P x K images, with whole identities on each replica.

    Args:
      network: a functional model whose outputs are a neck's dict, as `networks.build`
        makes it when given `num_classes`.
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
        # The means cover all replicas; by default Keras would add up those of workers.
        self.distribute_reduction_method = "first"
        self.built = True

    def compile(
        self, optimizer: tf.keras.optimizers.legacy.Optimizer, xla: bool = False
    ) -> None:
        """Sets the optimizer, and makes its slots so that a checkpoint can be restored.

        Args:
          optimizer: with or without loss scaling.
          xla: compile the step with XLA.
        """
        super().compile(optimizer=optimizer, jit_compile=xla)
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        inner._create_all_weights(self.network.trainable_variables)

    @property
    def metrics(self) -> list:
        return list(self.means.values())

    def call(self, images: tf.Tensor, training: bool = False):
        return self.network(images, training=training)

    def embedder(self) -> tf.keras.Model:
        """Returns the inference network, images -> embedding, sharing these weights.

        After a training in 16 bits it is a copy in float32, which any runtime takes.
        """
        embedding = self.network.output["embedding"]
        model = tf.keras.Model(self.network.input, embedding, name=self.network.name)
        if tf.keras.mixed_precision.global_policy().name == "float32":
            return model
        copy = tf.keras.models.clone_model(model, clone_function=_in_float32)
        copy.set_weights(model.get_weights())
        return copy

    def heads(self) -> tf.keras.Model:
        """Returns the training heads, triplet features -> logits, sharing the weights.

        Together with `embedder` they are the whole network except for Dropout.
        """
        outputs = self.network.output
        return tf.keras.Model(outputs["features"], outputs["logits"], name="heads")

    @tf.autograph.experimental.do_not_convert
    def train_step(self, data) -> dict[str, tf.Tensor]:
        images, labels = data
        variables = self.network.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            outputs = self.network(images, training=True)
            triplet, softmax = self.loss_function(labels, outputs)
            # Gradients are summed over replicas; each contributes its share of a mean.
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


def _in_float32(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
    return type(layer).from_config({**layer.get_config(), "dtype": "float32"})
