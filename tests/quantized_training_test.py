"""A network is trained to embed like another; `quantize_test` covers rounding."""

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.deploy import quantized_training


def _network(kernel):
    images = tf.keras.Input((2, 2, 3))
    x = tf.keras.layers.Dense(4, use_bias=False)(tf.keras.layers.Flatten()(images))
    network = tf.keras.Model(images, x)
    network.set_weights([kernel])
    return network


def test_comes_closer_and_reports_every_epoch():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(12, 4)).astype(np.float32)
    network, student = _network(kernel), _network(2 * kernel)
    images = rng.normal(size=(5, 8, 2, 2, 3)).astype(np.float32)
    reports = []
    quantized_training.train(
        student,
        network,
        [tf.constant(images[i % 5]) for i in range(10)],
        steps_per_epoch=5,
        epochs=2,
        learning_rate=0.1,
        after_epoch=lambda *report: reports.append(report),
    )
    assert [epoch for epoch, _ in reports] == [1, 2]
    # At twice the length the error is as long as the embedding: 1, and falling.
    assert 1 > reports[0][1] > reports[1][1]
    np.testing.assert_array_equal(network.get_weights()[0], kernel)


def test_error_is_relative_to_the_length():
    kernel = np.ones((12, 4), np.float32)
    errors = []
    quantized_training.train(
        _network(1.5 * kernel),
        _network(kernel),
        [tf.ones((1, 2, 2, 3))],
        steps_per_epoch=1,
        epochs=1,
        learning_rate=0.0,
        after_epoch=lambda _, error: errors.append(error),
    )
    # (1.5 - 1)^2 of the squared length.
    assert errors == pytest.approx([0.25])
