"""Training of a derived network with its training heads."""

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.learn import optimizers, training
from cdnet_tf.nn import genotype, networks


@pytest.fixture(scope="module")
def model():
    tf.keras.utils.set_random_seed(0)
    shallow = genotype.Genotype((genotype.CS[0],) * 6)
    network = networks.build(shallow, (64, 32, 3), 0.25, num_classes=2, dropout=0.0)
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
    shallow = genotype.Genotype((genotype.CS[0],) * 6)
    plain = networks.build(shallow, (64, 32, 3), 0.25)
    assert len(embedder.trainable_weights) == len(plain.trainable_weights)


def test_heads_and_embedder_are_the_network(model, tmp_path):
    images, _ = _batch()
    outputs = model.network(images)
    model.heads().save(tmp_path / "heads.keras")
    heads = tf.keras.models.load_model(tmp_path / "heads.keras", compile=False)
    logits = heads(outputs["features"])
    for found, expected in zip(logits, outputs["logits"]):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    both = model.heads().count_params() + model.embedder().count_params()
    assert both == model.network.count_params()


def test_trained_in_16_bits_the_embedder_computes_in_32(tmp_path):
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        shallow = genotype.Genotype((genotype.CS[0],) * 6)
        network = networks.build(shallow, (64, 32, 3), 0.25, num_classes=2)
        embedder = training.ReidTraining(network).embedder()
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert {layer.compute_dtype for layer in embedder.layers} == {"float32"}
    images, _ = _batch()
    exact, rough = embedder(images), network(images)["embedding"]
    assert exact.dtype == tf.float32
    cosines = tf.keras.losses.cosine_similarity(exact, tf.cast(rough, tf.float32))
    assert np.all(-cosines > 0.999)
    embedder.save(tmp_path / "model.keras")
    again = tf.keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(again(images), exact)
