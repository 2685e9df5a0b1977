"""A function chosen at run time against the same function under TensorFlow's tape."""

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.supernet import chosen, forward_backward

_FEATURES = tf.TensorSpec([None] * 4)
_VECTOR = tf.TensorSpec([None])
_X = tf.reshape(tf.range(12.0), [1, 2, 2, 3]) - 4
_WEIGHTS = tf.constant([1.0, -2.0, 3.0]), tf.constant([0.5, 0.5, -1.0])
_DY = tf.cast(tf.range(12) % 5, tf.float32) + tf.zeros([12])


def _affine(ops, x, scale, shift):
    return ops.relu(ops.keep(x * scale) + shift)


def _normal(ops, x, scale, shift):
    return ops.batch_norm(ops.keep(x * x), scale, shift, activate=True)


def _same(ops, x, *_):
    return tf.identity(x)


def _statistics(record):
    return [tf.concat([mean for mean, _ in record.statistics] or [tf.zeros([0])], 0)]


def _inference(number, x, scale, shift, moving):
    return forward_backward.Inference([(moving, tf.ones([3]))])


@pytest.fixture(scope="module")
def functions():
    return chosen.Chosen(
        [_affine, _normal, _same],
        _statistics,
        [_FEATURES, _VECTOR, _VECTOR],
        learnt=2,
        moving=[_VECTOR],
        inference=_inference,
    )


@pytest.mark.parametrize("index, function", enumerate([_affine, _normal, _same]))
def test_halves_equal_the_function_under_a_tape(functions, index, function):
    inputs, dy = (_X, *_WEIGHTS), tf.reshape(_DY, _X.shape)
    record = forward_backward.Forward()
    y = function(record, *inputs)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        again = function(forward_backward.Backward(record.kept), *inputs)
    expected = tape.gradient(again, inputs, dy, unconnected_gradients="zero")

    (found, means), kept = functions.forward(tf.constant(index), *inputs)
    np.testing.assert_array_equal(found, y)
    # The mean of the squares is the statistic of `_normal`; the others have none.
    squares = np.square(_X).reshape(-1, 3).mean(0) if function is _normal else []
    np.testing.assert_allclose(means, squares, rtol=1e-6)
    assert [t.dtype for t in kept] == functions.kept_types
    for learn_weights in (True, False):
        gradients = functions.backward(
            tf.constant(index), dy, inputs, kept, learn_weights
        )
        assert len(gradients) == (3 if learn_weights else 1)
        for a, b in zip(gradients, expected):
            np.testing.assert_array_equal(a, b)


def test_inference_takes_the_given_statistics(functions):
    moving = tf.constant([1.0, 2.0, 3.0])
    y = functions.infer(tf.constant(1), _X, *_WEIGHTS, moving)
    scale, shift = (w.numpy() for w in _WEIGHTS)
    expected = np.maximum(
        (np.square(_X) - moving) / (1 + 1e-5) ** 0.5 * scale + shift, 0
    )
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_one_choice_within_another(functions):
    """As with the streams in a CBlock, gradients pass through both choices."""

    def around(ops, x, scale, shift, number):
        y = ops.choose(functions, tf.shape(number)[0], ops.keep(x * 2), scale, shift)
        return ops.keep(y * y)

    outer = chosen.Chosen(
        [around],
        lambda record: record.chosen_statistics,
        [_FEATURES, _VECTOR, _VECTOR, _VECTOR],
        learnt=2,
        moving=[_VECTOR],
        inference=lambda *inputs: forward_backward.Inference([], inputs[-1:]),
    )
    # A vector as long as the number of the function.
    inputs, zero = (_X, *_WEIGHTS, tf.zeros([0])), tf.constant(0)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        expected = tf.nn.relu(2 * _X * _WEIGHTS[0] + _WEIGHTS[1]) ** 2
    (y, _), kept = outer.forward(zero, *inputs)
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    np.testing.assert_allclose(outer.infer(zero, *inputs, tf.ones([3])), y)
    dy = tf.reshape(_DY, _X.shape)
    wanted = tape.gradient(expected, inputs[:3], dy)
    for learn_weights, count in ((True, 3), (False, 1)):
        found = outer.backward(zero, dy, inputs, kept, learn_weights)
        assert len(found) == count
        for a, b in zip(found, wanted):
            np.testing.assert_allclose(a, b, rtol=1e-5)
