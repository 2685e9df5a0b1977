"""A profile counts the ops that ran, and nothing twice."""

import tensorflow as tf

from cdnet_tf.learn import profiling


def test_counts_the_ops_of_a_step():
    @tf.function
    def inner(x):
        return tf.matmul(x, x)

    @tf.function
    def step(x):
        return inner(inner(x)) + tf.cast(x > 0, x.dtype)

    x = tf.random.normal([256, 256])
    step(x)
    found = profiling.by_op(lambda number: step(x), steps=3)
    (product,) = [op for op in found if profiling.is_product(op)]
    assert found[product].calls == 2 and found[product].milliseconds > 0
    assert found["Greater"].calls == 1
    assert not [op for op in found if "Call" in op]
    assert list(found) == sorted(found, key=lambda op: -found[op].milliseconds)
