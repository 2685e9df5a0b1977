"""CoupledSGD against PyTorch's update written out in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.learn import optimizers

_LR, _MOMENTUM, _L2 = 0.1, 0.9, 0.05


def _optimizer(**options):
    return optimizers.CoupledSGD(_LR, _MOMENTUM, _L2, **options)


def _torch_step(w, v, g):
    v = _MOMENTUM * v + (g + _L2 * w)
    return w - _LR * v, v


def test_dense_steps():
    random = np.random.default_rng(0)
    w, v = random.normal(size=(3, 2)), np.zeros((3, 2))
    variable, optimizer = tf.Variable(w, dtype=tf.float32), _optimizer()
    for _ in range(5):
        g = random.normal(size=w.shape)
        optimizer.apply_gradients([(tf.constant(g, tf.float32), variable)])
        w, v = _torch_step(w, v, g)
        np.testing.assert_allclose(variable, w, rtol=1e-5)
    # Keras folds the rate into the momentum: it holds -lr * v.
    slot = optimizer.get_slot(variable, "momentum")
    np.testing.assert_allclose(slot, -_LR * v, rtol=1e-5)


def test_sparse_steps_move_their_rows_only():
    random = np.random.default_rng(0)
    w, v = random.normal(size=(5, 2)), np.zeros((5, 2))
    variable, optimizer = tf.Variable(w, dtype=tf.float32), _optimizer()
    for rows in ([0, 3], [3, 1], [1, 0]):
        g = random.normal(size=(2, 2))
        before = variable.numpy()
        gradient = tf.IndexedSlices(tf.constant(g, tf.float32), rows, (5, 2))
        optimizer.apply_gradients([(gradient, variable)])
        w[rows], v[rows] = _torch_step(w[rows], v[rows], g)
        np.testing.assert_allclose(variable, w, rtol=1e-5)
        moved = (variable.numpy() != before).any(axis=1)
        np.testing.assert_array_equal(np.flatnonzero(moved), sorted(rows))
    slot = optimizer.get_slot(variable, "momentum").numpy()
    np.testing.assert_allclose(slot, -_LR * v, rtol=1e-5, atol=1e-9)
    assert (slot[[2, 4]] == 0).all()


def test_a_gather_gives_a_sparse_step():
    variable = tf.Variable([[1.0], [2.0], [4.0]])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(3 * tf.gather(variable, [2]))
    _optimizer().apply_gradients([(tape.gradient(loss, variable), variable)])
    # 4 - 0.1 * (3 + 0.05 * 4); the others feel no L2.
    np.testing.assert_allclose(variable, [[1], [2], [3.68]], rtol=1e-6)


def test_schedule_is_read_at_each_step():
    schedule = tf.keras.optimizers.schedules.PiecewiseConstantDecay([0], [1.0, 0.5])
    optimizer = optimizers.CoupledSGD(schedule, momentum=0.0, l2=0.0)
    variable = tf.Variable([0.0])
    for expected in (-1.0, -1.5, -2.0):
        optimizer.apply_gradients([(tf.constant([1.0]), variable)])
        assert float(variable[0]) == expected


def test_config_round_trip():
    optimizer = _optimizer(name="w")
    again = optimizers.CoupledSGD.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    assert (again.l2, again.get_config()["momentum"]) == (_L2, _MOMENTUM)
    serialized = tf.keras.optimizers.serialize(optimizer)
    assert tf.keras.optimizers.deserialize(serialized).l2 == _L2


@pytest.mark.parametrize(
    "policy, scaled",
    [("float32", False), ("mixed_bfloat16", False), ("mixed_float16", True)],
)
def test_loss_scaling_is_for_float16(policy, scaled):
    optimizer = _optimizer()
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        wrapped = optimizers.for_policy(optimizer)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert (wrapped is optimizer) != scaled
    assert hasattr(wrapped, "get_scaled_loss") == scaled
    assert getattr(wrapped, "inner_optimizer", optimizer) is optimizer


def test_late_adam_is_adam_counted_from_its_start():
    plain, late = tf.Variable([1.0, -2.0]), tf.Variable([1.0, -2.0])
    adam = tf.keras.optimizers.legacy.Adam(0.1, 0.5)
    late_adam = optimizers.LateAdam(0.1, 0.5, start=300)
    for _ in range(300):
        late_adam.apply_gradients([(tf.zeros(2), late)])
    np.testing.assert_array_equal(late, [1.0, -2.0])
    for gradient in ([0.3, -4.0], [1.0, 0.5], [-2.0, 0.1]):
        adam.apply_gradients([(tf.constant(gradient), plain)])
        late_adam.apply_gradients([(tf.constant(gradient), late)])
        np.testing.assert_allclose(late, plain, rtol=1e-5)
    again = optimizers.LateAdam.from_config(late_adam.get_config())
    assert again.start == 300
