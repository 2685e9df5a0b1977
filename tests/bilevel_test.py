"""The bilevel step against Algorithm 1 written out, exploration, replicas."""

import contextlib
import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.learn import bilevel, losses, optimizers
from cdnet_tf.nn import blocks, genotype
from cdnet_tf.supernet import supernet

_LR, _L2, _ALPHA_L2 = 0.05, 0.01, 0.1
_LABELS = tf.constant([0] * 4 + [1] * 4)


def _search(k=2, alpha_optimizer=None, loss_scale=None, seed=0, **exploring):
    net = supernet.Supernet(genotype.CS, 2, (64, 32, 3), 0.25, dropout=0.0, seed=seed)
    # `set_random_seed` would make TensorFlow forget all that it has compiled.
    random = np.random.default_rng(seed)
    for part in (net.stem, *net.downsamples, net.neck):
        for kernel in (w for w in part.weights if w.shape.rank > 1):
            deviation = (2 / np.prod(kernel.shape[:-1])) ** 0.5
            kernel.assign(random.normal(0, deviation, kernel.shape))
    exploration = bilevel.Exploration(**exploring) if exploring else None
    search = bilevel.BilevelSearch(net, k, exploration, alpha_l2=_ALPHA_L2)
    # Adam's update hides the gradient; plain SGD shows it.
    both = [
        optimizers.CoupledSGD(_LR, 0.9, _L2),
        alpha_optimizer or tf.keras.optimizers.legacy.SGD(1.0),
    ]
    if loss_scale:
        wrapper = tf.keras.mixed_precision.LossScaleOptimizer
        both = [wrapper(optimizer, initial_scale=loss_scale) for optimizer in both]
    search.compile(*both)
    return search


def _adam():
    return tf.keras.optimizers.legacy.Adam(3e-4, 0.5, 0.999)


def _batch(seed):
    images = np.random.default_rng(seed).normal(size=(8, 64, 32, 3))
    return tf.constant(images, tf.float32), _LABELS


_DATA = _batch(1), _batch(2)
_POLICIES = ("float32", "mixed_float16", "mixed_float16")


def _values(variables):
    return [variable.numpy() for variable in variables]


def _unfused(net, images, chosen, alpha):
    """Computes Eqs. 3 to 7 as printed, on Keras blocks with the supernet's weights."""
    p = tf.nn.softmax(alpha)
    x = net.stem(images, training=True)
    for i, block in enumerate(net.blocks):
        h = np.isin(np.arange(len(net.space)), chosen[i]).astype("f")
        h_hat = tf.stop_gradient(h - p[i]) + p[i]
        outputs = []
        for j in chosen[i]:
            entry = tf.keras.Input(x.shape[1:])
            y = blocks.cdblock(entry, block.c_out, net.space[j], "b")
            model, values = tf.keras.Model(entry, y), block.unpacked(j)
            for weight in model.weights:
                value = values[weight.name[len("b/") : -len(":0")]]
                weight.assign(value.reshape(weight.shape))
            outputs.append(h_hat[j] * model(x, training=True))
        x = tf.add_n(outputs)
        if i in (1, 3):
            x = net.downsamples[i // 2](x, training=True)
    return net.neck(x, training=True)


def test_step_is_algorithm_1():
    search = _search(k=3)
    net, loss = search.net, losses.ReidLoss()
    (images, labels), (val_images, val_labels) = _DATA
    alpha = net.alpha.numpy()
    chosen = np.argsort(-alpha)[:, :3]
    plain = [*net.stem.trainable_variables, *net.neck.trainable_variables]
    with tf.GradientTape() as tape:
        outputs = _unfused(net, images, chosen, tf.constant(alpha))
        triplet, softmax = loss(labels, outputs)
        total = triplet + softmax
    gradients = tape.gradient(total, plain)
    before = _values(plain)

    logs = search.train_step(_DATA)

    assert float(logs["loss"]) == pytest.approx(float(total), rel=1e-4)
    assert float(logs["triplet"]) == pytest.approx(float(triplet), rel=1e-4)
    hits = np.argmax(outputs["logits"][0], 1) == labels.numpy()
    assert float(logs["accuracy"]) == pytest.approx(hits.mean())
    # The gradient of a bias before BN is 0, and what is computed of it is rounding.
    rounding = 1e-6 * _LR * max(np.abs(gradient).max() for gradient in gradients)
    for variable, old, gradient in zip(plain, before, gradients):
        expected = -_LR * (gradient.numpy() + _L2 * old)
        atol = 2e-3 * np.abs(expected).max() + rounding
        np.testing.assert_allclose(variable.numpy() - old, expected, atol=atol)

    # Then alpha, on the other batch and with the weights just updated.
    new_alpha = tf.constant(alpha)
    with tf.GradientTape() as tape:
        tape.watch(new_alpha)
        outputs = _unfused(net, val_images, chosen, new_alpha)
        total = tf.add_n(loss(val_labels, outputs))
    expected = tape.gradient(total, new_alpha).numpy() + _ALPHA_L2 * alpha
    assert float(logs["alpha_loss"]) == pytest.approx(float(total), rel=1e-4)
    found = alpha - net.alpha.numpy()
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    for mean, row in zip(search.gradient_norms, expected):
        norm = np.linalg.norm(row)
        assert float(mean.result()) == pytest.approx(norm, rel=5e-3)


@pytest.mark.parametrize("k", [1, 2])
def test_bn_cancels_the_scale_of_blocks_2_and_4(k):
    # They feed a convolution and BN: the gradients of their chosen branches sum to 0.
    search = _search(k=k)
    search.alpha_l2 = 0.0
    chosen = search.choose()
    _, gradient = search._alpha_gradient(*_DATA[1], chosen)
    own = np.take_along_axis(gradient.numpy(), chosen.numpy(), axis=1)  # (6, k)
    largest = np.abs(gradient).max()
    cancelled = np.abs(own.sum(1)) < 1e-3 * largest
    assert cancelled.tolist() == [False, True, False, True, False, False]
    others = np.abs(gradient).sum(1) - np.abs(own).sum(1)
    assert (others[[1, 3]] < 1e-3 * largest).all()
    if k == 2:
        assert (np.abs(own[[1, 3]]) > 0.1 * largest).all()


def test_first_alpha_step_is_adams():
    by_sgd, by_adam = _search(), _search(alpha_optimizer=_adam())
    start = by_sgd.net.alpha.numpy()
    for search in (by_sgd, by_adam):
        search.train_step(_DATA)
    gradient = start - by_sgd.net.alpha.numpy()
    # Both means are unbiased: lr * g / |g|, but for Keras's place of epsilon.
    epsilon = 1e-7 / (1 - 0.999) ** 0.5
    expected = -3e-4 * gradient / (np.abs(gradient) + epsilon)
    found = by_adam.net.alpha.numpy() - start
    np.testing.assert_allclose(found, expected, atol=3e-6)
    assert (np.sign(found) == -np.sign(gradient)).all()


def test_counts_and_what_moves():
    search = _search(k=2, alpha_optimizer=_adam(), kind="gumbel", total_steps=9)
    net = search.net
    start = _values(net.variables)
    expected = np.zeros((6, 6), int)
    for _ in range(3):
        chosen = search.choose().numpy()
        for row, branches in zip(expected, chosen):
            row[branches] += 1
        logs = search.train_step(_DATA)
    np.testing.assert_array_equal(search.counts, expected)
    np.testing.assert_array_equal(search.counts.numpy().sum(1), 3 * 2)
    assert all(np.isfinite(value) for value in logs.values())
    for variable, old in zip(net.variables, start):
        assert (variable.numpy() != old).any(), variable.name
    # The row of a branch that never ran is unchanged.
    rows = _values(block.first.body_rows for block in net.blocks)
    fresh = _search().net.blocks
    for ran, new, block in zip(expected, rows, fresh):
        same = (new == block.first.body_rows.numpy()).all(axis=1)
        np.testing.assert_array_equal(same, ran == 0)
    assert (expected == 0).any()


@contextlib.contextmanager
def _policy(name):
    tf.keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")


def _moves(policy, loss_scale):
    """Returns how far one step moves each of the weights, by name."""
    with _policy(policy):
        search = _search(loss_scale=loss_scale)
        variables = search.net.trainable_variables
        start = _values(variables)
        logs = search.train_step(_DATA)
    assert np.isfinite(logs["loss"])
    return [(v.name, v.numpy() - old) for v, old in zip(variables, start)]


def _ratio(found, expected):
    return np.linalg.norm(found) / np.linalg.norm(expected)


def test_float16_scales_and_unscales_the_loss_of_the_weights():
    runs = [_moves(*run) for run in zip(_POLICIES, (None, 64.0, 1.0))]
    for (name, in_32_bits), (_, scaled), (_, unscaled) in zip(*runs):
        if name != "neck/global/fc/bias:0":  # before BN: rounding errors
            assert 0.5 < _ratio(scaled, in_32_bits) < 2, name
            # A power of two does not change how 16 bits round.
            assert _ratio(scaled, unscaled) == pytest.approx(1, abs=0.05), name


def test_float16_scales_and_unscales_the_loss_of_alpha():
    # Its gradients nearly cancel. In 16 bits their size says little beside that in 32,
    # and only what is computed from the same weights is the same.
    gradients = []
    for loss_scale in (1.0, 64.0):
        with _policy("mixed_float16"):
            search = _search(loss_scale=loss_scale)
            chosen = search.net.top_k(2)
            gradients.append(search._alpha_gradient(*_DATA[1], chosen)[1].numpy())
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=0.05, atol=1e-3)
    assert np.linalg.norm(gradients[0]) > 0.1


def test_all_branches_may_run():
    search = _search(k=6)
    assert np.isfinite(search.train_step(_DATA)["loss"])
    np.testing.assert_array_equal(search.counts, np.ones((6, 6)))


@pytest.mark.parametrize("k", [0, 7])
def test_top_k_out_of_range(k):
    net = _search().net
    with pytest.raises(ValueError, match=f"top_k={k} .* use 1 to 6"):
        bilevel.BilevelSearch(net, k)


# Exploration


def _scores(p, step, **options):
    log_p = tf.math.log(tf.constant(p, tf.float32))
    return bilevel.Exploration(**options).scores(log_p, tf.constant(step, tf.int64))


def test_unknown_exploration():
    with pytest.raises(ValueError, match="exploration='greedy' is unknown.*gumbel"):
        bilevel.Exploration("greedy")


def test_without_exploration_alpha_ranks():
    search = _search(k=3)
    expected = np.argsort(-search.net.alpha.numpy())[:, :3]
    np.testing.assert_array_equal(search.choose(), expected)


@pytest.mark.parametrize("kind", ["gumbel", "uniform_warmup"])
def test_draws_depend_on_seed_and_step(kind):
    options = {"kind": kind, "total_steps": 10, "warmup_steps": 10}
    first, again, later = (_scores([[0.5] * 2] * 6, s, **options) for s in (3, 3, 4))
    other = _scores([[0.5] * 2] * 6, 3, seed=1, **options)
    np.testing.assert_array_equal(first, again)
    assert (first != later).numpy().all()
    assert (first != other).numpy().all()


@pytest.mark.parametrize("kind, expected", [("gumbel", 0), ("uniform_warmup", 1)])
def test_frequencies(kind, expected):
    p = [0.6, 0.3, 0.1]
    options = {"total_steps": 10, "warmup_steps": 10}
    # At temperature 1 the largest log p + Gumbel noise is a sample of p; a uniform
    # draw takes no notice of p.
    scores = _scores([p] * 20_000, 0, kind=kind, **options)
    found = np.bincount(np.argmax(scores, 1), minlength=3) / 20_000
    np.testing.assert_allclose(found, [p, [1 / 3] * 3][expected], atol=0.015)


def test_gumbel_noise_falls_linearly_to_nothing():
    p = [[0.7, 0.2, 0.1]] * 6
    log_p = np.log(np.float32(p))

    def noise(step, temperature):
        options = {"kind": "gumbel", "total_steps": 8}
        return _scores(p, step, temperature=temperature, **options) - log_p

    np.testing.assert_allclose(noise(2, 3.0), 3 * noise(2, 1.0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(noise(8, 3.0), 0, atol=1e-6)
    np.testing.assert_allclose(noise(2, 1e-9), 0, atol=1e-6)
    # A quarter, then three quarters of the run: noise of another draw, but a third of
    # the spread.
    wide = [[1.0] * 20_000]
    spread = [
        np.std(_scores(wide, step, kind="gumbel", total_steps=8)) for step in (2, 6)
    ]
    np.testing.assert_allclose(spread, np.array([0.75, 0.25]) * 1.2825, rtol=0.03)


def test_uniform_warmup_freezes_alpha_to_the_bit():
    search = _search(
        alpha_optimizer=_adam(), kind="uniform_warmup", warmup_steps=2, seed=5
    )
    net = search.net
    start = net.alpha.numpy()
    for _ in range(2):
        kernel = net.stem.trainable_variables[0].numpy()
        drawn = search.choose().numpy()
        assert all(len(set(row)) == 2 for row in drawn)
        assert (np.sort(drawn) != np.sort(net.top_k(2))).any()
        logs = search.train_step(_DATA)
        np.testing.assert_array_equal(net.alpha, start)
        assert (net.stem.trainable_variables[0].numpy() != kernel).any()
    assert np.isfinite(logs["loss"])
    np.testing.assert_array_equal(search.choose(), net.top_k(2))
    search.train_step(_DATA)
    assert (net.alpha.numpy() != start).all()


def test_first_step_after_a_long_warmup_is_no_leap():
    adam = optimizers.LateAdam(3e-4, beta_1=0.5, start=1000)
    search = _search(alpha_optimizer=adam, kind="uniform_warmup", warmup_steps=1000)
    assert search.exploration.first_alpha_step == 1000
    search.alpha_optimizer.iterations.assign(1000)
    start = search.net.alpha.numpy()
    search.train_step(_DATA)
    # As without a warm-up, Adam's first step has the length of the learning rate.
    assert np.abs(search.net.alpha.numpy() - start).max() < 1.01 * 3e-4


# In a graph


@dataclasses.dataclass
class _Run:
    alphas: list
    histories: list
    iterations: list


@pytest.fixture(scope="module")
def run():
    """Runs two epochs of `fit`, twice from the same state with one compiled graph."""
    search = _search(alpha_optimizer=_adam(), kind="gumbel", total_steps=4)
    batches = [(_batch(seed), _batch(seed + 10)) for seed in (1, 2)]
    dataset = tf.data.Dataset.from_generator(
        lambda: iter(batches), output_signature=tf.nest.map_structure(_spec, _DATA)
    )
    state = [
        *search.net.variables,
        *search.optimizer.variables(),
        *search.alpha_optimizer.variables(),
    ]
    start = _values(state)
    alphas, histories, iterations = [], [], []
    for _ in range(2):
        for variable, value in zip(state, start):
            variable.assign(value)
        history = search.fit(dataset, epochs=2, verbose=0).history
        alphas.append(search.net.alpha.numpy())
        histories.append(history)
        iterations.append(int(search.alpha_optimizer.iterations))
    return _Run(alphas, histories, iterations)


def _spec(tensor):
    return tf.TensorSpec(tensor.shape, tensor.dtype)


def test_fit_repeats_to_the_bit(run):
    np.testing.assert_array_equal(run.alphas[0], run.alphas[1])
    assert run.histories[0] == run.histories[1]
    assert run.iterations == [4, 4]


def test_fit_computes_what_the_eager_step_does(run):
    search = _search(alpha_optimizer=_adam(), kind="gumbel", total_steps=4)
    for seed in (1, 2):
        logs = search.train_step((_batch(seed), _batch(seed + 10)))
    for name, value in logs.items():
        # Adam's first steps do not see a gradient's size, so alpha stays close.
        expected = pytest.approx(float(value), rel=2e-2, abs=1e-4)
        assert run.histories[0][name][0] == expected, name
    assert set(logs) == set(run.histories[0])


# Two replicas

_REPLICAS = """
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
from tests import bilevel_test

def build():
    return bilevel_test._search(kind="gumbel", total_steps=4)

# Each replica normalises by its own half of the batch, so that the halves are alike.
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    two = build()
one = build()
steps = (lambda: strategy.run(two.train_step, (bilevel_test._DATA,)),
         lambda: one.train_step(bilevel_test._DATA))
steps = [tf.function(step, autograph=False) for step in steps]
for _ in range(2):
    for step in steps:
        step()
    for a, b in zip(one.metrics, two.metrics):
        np.testing.assert_allclose(b.result(), a.result(), rtol=1e-4, err_msg=a.name)
np.testing.assert_array_equal(one.counts, two.counts)
mirrored = two.net.alpha.values
assert len(mirrored) == 2
np.testing.assert_array_equal(*mirrored)
assert len(one.net.variables) == len(two.net.variables) > 40
for a, b in zip(one.net.variables, two.net.variables):
    # The bias before the neck's BN has a gradient of rounding errors alone.
    scale = 1 if a.name == "neck/global/fc/bias:0" else np.abs(a).max()
    np.testing.assert_allclose(b.numpy(), a.numpy(), atol=1e-4 * scale)
print("replicas agree")
"""


def test_two_replicas_equal_one():
    result = subprocess.run(
        [sys.executable, "-c", _REPLICAS], capture_output=True, text=True, check=False
    )
    assert "replicas agree" in result.stdout, result.stderr[-3000:]
