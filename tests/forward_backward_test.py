"""The two halves of a function against TensorFlow's own gradient."""

import numpy as np
import tensorflow as tf

from cdnet_tf.nn import blocks
from cdnet_tf.supernet import forward_backward


def _function(ops, x, kernel, gamma, beta):
    y = ops.keep(tf.matmul(x, kernel))
    y = ops.batch_norm(y, gamma, beta, activate=True)
    y = ops.keep(tf.tanh(y))
    y = ops.batch_norm(y * y, gamma, beta, activate=False)
    return ops.relu(x + y)


def _arguments():
    random = np.random.default_rng(0)
    shapes = (4, 3, 2, 5), (5, 5), (5,), (5,)
    return [tf.constant(random.normal(size=s), tf.float32) for s in shapes]


class _Plain:
    """Computes like `forward_backward.Forward`, with TensorFlow's gradients."""

    def keep(self, tensor):
        return tensor

    def relu(self, x):
        return tf.nn.relu(x)

    def batch_norm(self, x, gamma, beta, activate):
        mean, variance = tf.nn.moments(x, [0, 1, 2])
        epsilon = blocks.BN_EPSILON
        y = tf.nn.batch_normalization(x, mean, variance, beta, gamma, epsilon)
        return tf.nn.relu(y) if activate else y


def test_halves_equal_the_whole():
    arguments = _arguments()
    dy = tf.random.stateless_normal(arguments[0].shape, (1, 2))
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        expected = _function(_Plain(), *arguments)
    expected_gradients = tape.gradient(expected, arguments, dy)

    record = forward_backward.Forward()
    found = _function(record, *arguments)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        again = _function(forward_backward.Backward(record.kept), *arguments)
    np.testing.assert_array_equal(again, found)
    for a, b in zip(tape.gradient(again, arguments, dy), expected_gradients):
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max())
    # The record can be replayed several times.
    np.testing.assert_array_equal(
        _function(forward_backward.Backward(record.kept), *arguments), found
    )


def test_backward_half_computes_with_what_was_kept():
    x = tf.constant([2.0, 3.0])
    kept = {tf.float32: [tf.constant([7.0, 11.0])]}
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = forward_backward.Backward(kept).keep(5 * x) ** 2
    np.testing.assert_array_equal(y, [49, 121])
    # d(u^2) = 2 u du with u as kept and du = 5.
    np.testing.assert_array_equal(tape.gradient(y, x), [2 * 7 * 5, 2 * 11 * 5])


def test_kept_by_dtype_in_order():
    record = forward_backward.Forward()
    values = [tf.constant(v, t) for v, t in ((1, "float32"), (2, "float16"))]
    values += [tf.constant(3, "float32")]
    for value in values:
        assert record.keep(value) is value
    assert list(record.kept) == [tf.float32, tf.float16]
    assert [float(t) for t in record.kept[tf.float32]] == [1, 3]


def test_statistics_are_the_batchs():
    x, kernel, gamma, beta = _arguments()
    record = forward_backward.Forward()
    _function(record, x, kernel, gamma, beta)
    values = x.numpy().reshape(-1, 5) @ kernel.numpy()
    assert len(record.statistics) == 2
    mean, variance = record.statistics[0]
    np.testing.assert_allclose(mean, values.mean(0), atol=1e-5)
    # Unbiased, like the variance that Keras and PyTorch average over steps.
    np.testing.assert_allclose(variance, values.var(0, ddof=1), rtol=1e-4)


def test_inference_uses_the_given_statistics():
    x, _, gamma, beta = _arguments()
    random = np.random.default_rng(1)
    statistics = [
        tuple(tf.constant(random.uniform(1, 2, 5), tf.float32) for _ in range(2))
        for _ in range(2)
    ]
    ops = forward_backward.Inference(statistics)
    for (mean, variance), activate in zip(statistics, (True, False)):
        scale = gamma.numpy() / np.sqrt(variance.numpy() + 1e-5)
        expected = (x.numpy() - mean.numpy()) * scale + beta.numpy()
        expected = np.maximum(expected, 0) if activate else expected
        found = ops.batch_norm(x, gamma, beta, activate)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert ops.keep(x) is x
    np.testing.assert_array_equal(ops.relu(x), np.maximum(x, 0))
