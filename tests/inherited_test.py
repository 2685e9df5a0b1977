"""Embeddings with inherited weights, against the same networks built on their own."""

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.nn import genotype
from cdnet_tf.supernet import inherited, supernet

_CHOICE = (2, 5, 0, 3, 1, 4)


def _images(count, seed):
    return np.random.default_rng(seed).normal(size=(count, 64, 32, 3)).astype("f")


@pytest.fixture(scope="module")
def net():
    net = supernet.Supernet(genotype.CS, 2, (64, 32, 3), 0.25, dropout=0.5, seed=3)
    for statistics in net.non_trainable_weights:
        if statistics is not net.alpha:  # of no use to any network, as in training
            statistics.assign(tf.fill(statistics.shape, 7.0))
    return net


@pytest.fixture(scope="module")
def embed(net):
    return inherited.InheritedEmbedder(net, _images(19, 0), _images(11, 1), 8)


def _alone(net, choice):
    """Builds the network alone, with the means of both batches' statistics."""
    net.alpha.assign(tf.one_hot(choice, len(net.space)))
    network = net.derive_network(neck="bl")
    norms = [
        layer
        for layer in network.layers
        if isinstance(layer, tf.keras.layers.BatchNormalization)
    ]
    stem = [each for each in norms if each.name.startswith("stem")]
    for those in (stem, [each for each in norms if each not in stem]):
        found = []
        for start in (0, 8):
            for each in those:
                each.momentum = 0.0  # a batch's statistics replace the old ones
            training = tf.keras.Model(network.input, network.output)
            for each in norms:
                each.trainable = each in those  # the others run in inference
            training(_images(19, 0)[start : start + 8], training=True)
            found.append(
                [w.numpy() for each in those for w in each.non_trainable_weights]
            )
        means = [np.mean(pair, axis=0) for pair in zip(*found)]
        weights = [w for each in those for w in each.non_trainable_weights]
        for weight, mean in zip(weights, means):
            weight.assign(mean)
    return network


def test_embeddings_are_those_of_the_network_built_alone(net, embed):
    expected = _alone(net, _CHOICE)(_images(11, 1)).numpy()
    found = embed(_CHOICE)
    assert found.shape == expected.shape and found.dtype == np.float32
    assert expected.std(axis=0).max() > 1e-2
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def test_one_network_leaves_nothing_behind_for_the_next(embed):
    first = embed(_CHOICE)
    other = embed((0,) * 6)
    assert np.abs(first - other).max() > 1e-2
    np.testing.assert_array_equal(embed(_CHOICE), first)


def test_too_few_images_to_calibrate_on(net):
    with pytest.raises(ValueError, match="5 images .* do not fill a batch of 8"):
        inherited.InheritedEmbedder(net, _images(5, 0), _images(3, 1), 8)
