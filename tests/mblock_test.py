"""The MBlock against Keras blocks of the same weights, and the rows it leaves alone."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.learn import optimizers
from cdnet_tf.nn import blocks, genotype
from cdnet_tf.supernet import branches, mblock

CDS = genotype.CDS
_WIDTHS = [(16, 32), (32, 32)]  # with and without a shortcut convolution


def _block(c_in, c_out, space=CDS, seed=0, **options):
    """Builds an MBlock with no weight or statistic that is just 0 or 1."""
    block = mblock.MBlock(space, c_in, c_out, seed, **options)
    random = np.random.default_rng(seed)
    for variable in block.variables:
        variable.assign_add(random.uniform(0.05, 0.3, variable.shape))
    return block


def _features(c_in, shape=(4, 6, 5), seed=1):
    return tf.constant(np.random.default_rng(seed).normal(size=(*shape, c_in)), "float")


def _plain(block, branch, features):
    """Builds a branch of stock Keras layers with the MBlock's weights."""
    x = tf.keras.Input(features.shape[1:])
    y = blocks.cdblock(x, block.c_out, block.space[branch], "b")
    model = tf.keras.Model(x, y)
    values = block.unpacked(branch)
    assert {_short(w) for w in model.weights} == set(values)
    for weight in model.weights:
        weight.assign(values[_short(weight)].reshape(weight.shape))
    return model


def _short(weight):
    return weight.name[len("b/") : -len(":0")]


def _differentiate(function, x, variables):
    """Returns the output, and the gradients of its product with fixed noise."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
        noise = tf.random.stateless_normal(y.shape, (3, 4))
        loss = tf.reduce_sum(tf.cast(y, tf.float32) * noise)
    return y, *tape.gradient(loss, [x, variables])


def _assert_close(found, expected, name="", tolerance=1e-4):
    found, expected = (np.asarray(t, np.float32).ravel() for t in (found, expected))
    scale = np.abs(expected).max()
    assert scale > 0, name
    error = np.abs(found - expected).max() / scale
    assert error < tolerance, f"{name}: relative error {error}"


@pytest.mark.parametrize("branch", range(12), ids=lambda i: str(CDS[i]))
@pytest.mark.parametrize("c_in, c_out", _WIDTHS)
def test_branch_equals_plain_keras_block(c_in, c_out, branch):
    block, x = _block(c_in, c_out), _features(c_in)
    plain = _plain(block, branch, x)
    chosen = tf.constant([branch])
    _assert_close(block(x, chosen), plain(x), "inference")

    weights = plain.trainable_weights
    expected = _differentiate(functools.partial(plain, training=True), x, weights)
    found = _differentiate(
        functools.partial(block, chosen=chosen, training=True),
        x,
        block.trainable_weights,
    )
    _assert_close(found[0], expected[0], "output")
    _assert_close(found[1], expected[1], "input's gradient")

    # Keras's update of the moving statistics, the variance unbiased as PyTorch's.
    statistics = block.unpacked(branch)
    for weight in plain.non_trainable_weights:
        _assert_close(statistics[_short(weight)], weight, weight.name)

    # Gradients take the weights' places, so that `unpacked` gives them names.
    for weight, gradient in zip(block.trainable_weights, found[2]):
        weight.assign(tf.convert_to_tensor(gradient))
    gradients = block.unpacked(branch)
    assert len(weights) > 20
    for weight, gradient in zip(weights, expected[2]):
        _assert_close(gradients[_short(weight)], gradient, weight.name)


def test_two_branches_add_up():
    block, x = _block(16, 32), _features(16)
    both = block(x, tf.constant([1, 8]))
    _assert_close(both, _plain(block, 1, x)(x) + _plain(block, 8, x)(x))


def test_sizes_may_change_from_call_to_call():
    block = _block(16, 32)
    sizes = [(1, 7, 3), (5, 2, 9), (3, 1, 1)]

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 16])])
    def run(x):
        return block(x, tf.constant([10]), training=False)

    for size in sizes:
        x = _features(16, size)
        y = run(x)
        assert y.shape == (*size, 32)
        _assert_close(y, _plain(block, 10, x)(x))


def test_output_shape_is_known_in_a_graph():
    block = _block(16, 32)

    @tf.function(input_signature=[tf.TensorSpec([None, 6, 4, 16])])
    def run(x):
        y = block(x, tf.constant([0, 7]), training=True)
        assert y.shape.as_list() == [None, 6, 4, 32]
        return y

    assert run(_features(16, (2, 6, 4))).shape == (2, 6, 4, 32)


# Branch 1 is (3,7,1), branch 7 is (3,7,2), branch 9 (5,7,2). The six pairs of kernels
# hold 1+2, 1+3, 1+4, 2+3, 2+4, 3+4 Lites, that is 3, 4, 5, 5, 6, 7, 30 in all.
_ROWS = {
    # branch: rows of (first body, first Lites, second body, second Lites)
    1: ([1], range(3, 7), [], []),
    7: ([7], range(33, 37), [1], range(3, 7)),
    9: ([9], range(42, 47), [3], range(12, 17)),
}


def _state(block, optimizer):
    """Returns weights, momentum and moving statistics: three lists of four arrays."""
    weights = block.trainable_variables
    momentum = [optimizer.get_slot(weight, "momentum") for weight in weights]
    return [
        [variable.numpy() for variable in variables]
        for variables in (weights, momentum, block.non_trainable_variables)
    ]


def test_only_chosen_branches_move():
    block, x = _block(16, 32), _features(16)
    optimizer = optimizers.CoupledSGD(0.1, momentum=0.9, l2=0.01)
    weights = block.trainable_variables
    optimizer._create_all_weights(weights)
    # Branch 1 has momentum after the first step, and still rests in the second.
    for chosen in ([1, 7], [7, 9], [9, 7]):
        before = _state(block, optimizer)
        run = functools.partial(block, chosen=tf.constant(chosen), training=True)
        *_, gradients = _differentiate(run, x, weights)
        optimizer.apply_gradients(zip(gradients, weights))
        after = _state(block, optimizer)
        for olds, news in zip(before, after):
            for part, (old, new) in enumerate(zip(olds, news)):
                rows = sorted(row for b in chosen for row in _ROWS[b][part])
                moved = (old != new).any(axis=1)
                np.testing.assert_array_equal(np.flatnonzero(moved), rows)
                assert (old != new)[rows].mean() > 0.9


def test_unchosen_branches_are_not_computed():
    block, x = _block(16, 32), _features(16)
    for part, variables in enumerate(
        zip(block.trainable_variables, block.non_trainable_variables)
    ):
        rows = [*_ROWS[1][part], *_ROWS[7][part]]
        for variable in variables:
            values = np.full(variable.shape, np.nan)
            values[rows] = variable.numpy()[rows]
            variable.assign(values)
    chosen = tf.constant([7, 1])
    probabilities = tf.fill([12], 1 / 12)
    assert np.isfinite(block(x, chosen)).all()
    for p in (None, probabilities):
        run = functools.partial(block, chosen=chosen, probabilities=p, training=True)
        y, dx, gradients = _differentiate(run, x, block.trainable_variables)
        assert np.isfinite(y).all() and np.isfinite(dx).all()
        for gradient in gradients if p is None else ():
            assert np.isfinite(gradient.values).all()


def test_alpha_step_reaches_input_and_probabilities_only():
    block, x = _block(16, 32), _features(16)
    chosen = tf.constant([7, 1])
    probabilities = tf.Variable(tf.nn.softmax(tf.range(12.0)))
    weight_step = functools.partial(block, chosen=chosen, training=True)
    alpha_step = functools.partial(weight_step, probabilities=probabilities)
    y, dx, _ = _differentiate(weight_step, x, block.trainable_variables)
    variables = [probabilities, *block.trainable_variables]
    alpha_y, alpha_dx, gradients = _differentiate(alpha_step, x, variables)
    np.testing.assert_array_equal(alpha_y, y)
    _assert_close(alpha_dx, dx)
    assert gradients[1:] == [None] * 4
    found = tf.convert_to_tensor(gradients[0]).numpy()
    np.testing.assert_array_equal(np.flatnonzero(found), [1, 7])


def test_straight_through_gradient_is_equation_8():
    block, x = _block(16, 32), _features(16)
    alpha = tf.Variable(np.random.default_rng(0).normal(size=12), dtype=tf.float32)
    chosen = [4, 9, 0]
    target = _features(32, seed=5)

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(alpha)
        y = block(x, tf.constant(chosen), tf.nn.softmax(alpha), training=True)
        loss = tf.reduce_sum((y - target) ** 2)
    found = tape.gradient(loss, alpha)

    # By hand: F = sum over chosen k of f_k(x), whatever p; L = |F - target|^2.
    parts = {k: _plain(block, k, x)(x, training=True).numpy() for k in chosen}
    total = sum(parts.values())
    _assert_close(y, total, "every chosen branch counts exactly 1")
    d_total = 2 * (total - target.numpy())
    p = np.exp(alpha.numpy()) / np.exp(alpha.numpy()).sum()
    expected = np.zeros(12)
    for j in range(12):
        for k, part in parts.items():
            expected[j] += (d_total * part).sum() * p[k] * ((k == j) - p[j])
    _assert_close(found, expected)


def test_straight_through_sum_by_hand():
    weights = tf.Variable([0.5, 0.25])
    outputs = [tf.constant([1.0, 2.0]), tf.constant([3.0, -4.0])]
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        y = mblock.straight_through_sum(weights, *outputs)
        loss = tf.reduce_sum(y * [1.0, 10.0])
    d_weights, d_outputs = tape.gradient(loss, [weights, outputs])
    np.testing.assert_array_equal(y, [4, -2])  # not weighted
    np.testing.assert_array_equal(d_weights, [1 + 20, 3 - 40])
    np.testing.assert_array_equal(d_outputs, [[1, 10], [1, 10]])


@pytest.mark.parametrize("alpha_step", [False, True])
def test_float16_is_near_float32(alpha_step):
    block = _block(32, 32, genotype.CS)
    half = _block(32, 32, genotype.CS, dtype="mixed_float16")
    x = _features(32, (8, 8, 8))
    p = tf.fill([6], 1 / 6) if alpha_step else None

    def run(block):
        step = functools.partial(block, chosen=[2], probabilities=p, training=True)
        return _differentiate(step, x, block.trainable_variables)

    expected, found = run(block), run(half)
    assert found[0].dtype == tf.float16
    # 8 bits of mantissa through ten layers; a wrong term would cost tens of percent.
    _assert_close(found[0], expected[0], "output", 0.1)
    gradients = [(found[1], expected[1])]
    gradients += (
        []
        if alpha_step
        else [(a.values, b.values) for a, b in zip(found[2], expected[2])]
    )
    for a, b in gradients:
        a, b = (np.asarray(t, np.float32) for t in (a, b))
        assert a.dtype == np.float32
        assert np.linalg.norm(a - b) < 0.1 * np.linalg.norm(b)


@pytest.mark.parametrize("layer", ["bank", "mblock"])
def test_config_round_trip(layer):
    block = mblock.MBlock(CDS, 16, 32, seed=3, name="m")
    layer = block if layer == "mblock" else block.second
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    for a, b in zip(layer.weights, again.weights):
        np.testing.assert_array_equal(a, b)


def test_cs_has_no_second_cblock():
    block = mblock.MBlock(genotype.CS, 16, 32)
    assert block.second is None
    assert len(block.weights) == 4
    assert branches.IDENTITY == 6
