"""Training of a derived network with its training heads."""

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.learn import optimizers, training
from cdnet_tf.nn import genotype, networks


@pytest.fixture(scope="module")
def model():
    tf.keras.utils.set_random_seed(0)
    found = genotype.Genotype((genotype.CS[0],) * 6)
    network = networks.build(found, (64, 32, 3), 0.25, num_classes=2, dropout=0.0)
    model = training.ReidTraining(network)
    model.compile(optimizers.CoupledSGD(0.01, 0.9))
    return model


def _batch():
    images = tf.random.stateless_normal((8, 64, 32, 3), (0, 0))
    return images, tf.repeat(tf.range(2), 4)


def test_logged_loss_is_the_sum_over_both_necks(model):
    images, labels = _batch()
    outputs = model.network(images, training=True)
    triplet, softmax = model.loss_function(labels, outputs)
    assert len(outputs["features"]) == len(outputs["logits"]) == 2
    logs = model.train_step((images, labels))
    np.testing.assert_allclose(logs["loss"], triplet + softmax, rtol=1e-4)
    np.testing.assert_allclose(logs["triplet"], triplet, rtol=1e-4)
    model.reset_metrics()


def test_a_few_steps_learn_a_batch_by_heart(model):
    images, labels = _batch()
    data = tf.data.Dataset.from_tensors((images, labels)).repeat(20)
    losses = [model.fit(data, epochs=1, verbose=0).history["loss"][0] for _ in range(2)]
    assert losses[1] < 0.8 * losses[0]


def test_embedder_is_flat_and_shares_the_weights(model):
    embedder = model.embedder()
    assert not any(isinstance(layer, tf.keras.Model) for layer in embedder.layers)
    images, _ = _batch()
    expected = model.network(images)["embedding"]
    np.testing.assert_array_equal(embedder(images), expected)
    # No head is left behind: the same network as one built without classes.
    found = genotype.Genotype((genotype.CS[0],) * 6)
    plain = networks.build(found, (64, 32, 3), 0.25)
    assert len(embedder.trainable_weights) == len(plain.trainable_weights)
