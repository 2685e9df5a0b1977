"""The folded network computes the same as the network, with fewer layers."""

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.data import preprocess
from cdnet_tf.deploy import folding
from tests import tiny

layers = tf.keras.layers


@pytest.fixture(scope="module")
def folded():
    return folding.fold(tiny.network())


def test_same_function_without_normalisations(folded):
    network = tiny.network()
    images = preprocess.normalise(tiny.images(4))
    np.testing.assert_allclose(
        folded(images), network(images, training=False), rtol=1e-4, atol=1e-5
    )
    kinds = {type(layer) for layer in folded.layers}
    assert layers.BatchNormalization not in kinds
    # The only ReLUs left follow the sum with a shortcut, one in each CBlock.
    relus = [layer.name for layer in folded.layers if isinstance(layer, layers.ReLU)]
    assert relus == ["stage1/block1/cblock1/relu", "stage2/block3/cblock1/relu"]


def test_calls_of_one_convolution_share_it_still(folded):
    fc1 = folded.get_layer("stage2/block3/cblock1/gate/fc1")
    assert len(fc1.inbound_nodes) == 2
    assert fc1.activation is tf.keras.activations.relu


def _model(*stack, shape=(6, 6, 3)):
    x = image = tf.keras.Input(shape)
    for layer in stack:
        x = layer(x)
    return tf.keras.Model(image, x)


def _randomised(model):
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in model.get_weights()])
    return model


def _check(model, expected):
    model = _randomised(model)
    folded = folding.fold(model)
    assert [type(layer) for layer in folded.layers[1:]] == expected
    x = np.random.default_rng(1).normal(0, 1, (2, *model.input_shape[1:]))
    np.testing.assert_allclose(
        folded(x), model(x, training=False), rtol=1e-4, atol=1e-5
    )


def test_depthwise_with_bias_and_relu():
    _check(
        _model(layers.DepthwiseConv2D(3), layers.BatchNormalization(), layers.ReLU()),
        [layers.DepthwiseConv2D],
    )


def test_keeps_what_does_not_follow_a_linear_convolution():
    norm, conv = layers.BatchNormalization, layers.Conv2D
    _check(
        _model(conv(4, 1, activation="relu"), norm(), layers.ReLU(max_value=1.0)),
        [conv, norm, layers.ReLU],
    )
    _check(_model(conv(4, 1), layers.ReLU(), norm()), [conv, norm])


def test_a_relu_behind_one_call_of_two_stays():
    image = tf.keras.Input((6, 6, 3))
    shared = layers.Conv2D(3, 1)
    once = layers.ReLU()(shared(image))
    model = tf.keras.Model(image, layers.Add()([once, shared(once)]))
    _check(model, [layers.Conv2D, layers.ReLU, layers.Add])


def test_keeps_a_normalisation_beside_another_reader():
    image = tf.keras.Input((6, 6, 3))
    x = layers.Conv2D(3, 1)(image)
    model = tf.keras.Model(image, layers.Add()([layers.BatchNormalization()(x), x]))
    _check(model, [layers.Conv2D, layers.BatchNormalization, layers.Add])


def test_folds_what_stays_the_same():
    network = _randomised(
        _model(layers.Conv2D(4, 1), layers.BatchNormalization(), layers.Flatten())
    )
    assert len(folding.fold_where_exact(network).layers) == len(network.layers) - 1


class _Scaled(layers.Layer):
    """A layer whose state is no weight, so that a copy computes something else."""

    factor = 1.0

    def call(self, x):
        return self.factor * x


@pytest.mark.parametrize("case", ["forgets", "nan", "16 bits", "function"])
def test_leaves_a_network_that_folding_changes(case):
    scaled = _Scaled()
    norm = layers.BatchNormalization()
    if case == "forgets":
        scaled.factor = 2.0
    dtype = "mixed_float16" if case == "16 bits" else "float32"
    network = _model(layers.Conv2D(8, 3, dtype=dtype), norm, scaled, layers.Flatten())
    network = _randomised(network)
    if case == "nan":
        network.set_weights([np.nan * each for each in network.get_weights()])
    if case == "function":
        network = tf.keras.Model(network.input, tf.reshape(network.output, (-1, 16)))
    assert folding.fold_where_exact(network) is network
