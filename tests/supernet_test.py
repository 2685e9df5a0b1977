"""The supernet: alpha, seeds, counts, and the network derived from it."""

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.learn import losses, optimizers
from cdnet_tf.nn import genotype, networks
from cdnet_tf.supernet import supernet

_LABELS = tf.constant([0, 0, 0, 0, 1, 1, 1, 1])


def _supernet(space=genotype.CDS, **options):
    return supernet.Supernet(space, 2, (64, 32, 3), 0.25, **options)


def _images(seed=0):
    images = np.random.default_rng(seed).normal(size=(8, 64, 32, 3))
    return tf.constant(images, tf.float32)


@pytest.fixture(scope="module")
def trained():
    """Trains a supernet for two steps of its best branches."""
    net, loss = _supernet(), losses.ReidLoss()
    optimizer = optimizers.CoupledSGD(0.05)
    best = [0, 7, 3, 11, 6, 2]
    net.alpha.assign(tf.one_hot(best, 12))
    for seed in (1, 2):
        with tf.GradientTape() as tape:
            outputs = net(_images(seed), net.top_k(2), training=True)
            total = tf.add_n(loss(_LABELS, outputs))
        weights = net.trainable_variables
        gradients = tape.gradient(total, weights)
        optimizer.apply_gradients(zip(gradients, weights))
    return net


def test_derive_is_argmax(trained):
    rows = [(3, 5, 1), (3, 7, 2), (5, 7, 1), (7, 9, 2), (3, 5, 2), (3, 9, 1)]
    assert trained.derive().layers == tuple(rows)


@pytest.mark.parametrize("neck", ["bl", "fbl"])
def test_derived_network_computes_what_the_supernet_does(trained, neck):
    network = trained.derive_network(neck=neck)
    images = _images()
    expected = trained(images)["embedding"].numpy()  # of its best branches
    found = network(images).numpy()[:, : expected.shape[1]]
    assert expected.std(axis=0).max() > 1e-3  # tells images apart
    atol = 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=atol)


def test_derived_network_takes_the_heads_along(trained):
    network = trained.derive_network(neck="bl", num_classes=2)
    images = _images()
    expected = trained(images)["logits"][0]
    found = network(images)["logits"][0]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_alpha_is_small_noise_and_no_weight(trained):
    net = _supernet(seed=3)
    alpha = net.alpha.numpy()
    assert alpha.shape == (6, 12)
    assert len(np.unique(alpha)) == 72
    assert 5e-4 < alpha.std() < 2e-3
    weights = trained.trainable_variables
    assert not any(weight is trained.alpha for weight in weights)
    assert any(weight is trained.alpha for weight in trained.variables)


def test_seed_gives_weights_and_alpha():
    first, again, other = (_supernet(genotype.CS, seed=s) for s in (3, 3, 4))
    for one, two in zip(first.blocks, again.blocks):
        for a, b in zip(one.variables, two.variables):
            np.testing.assert_array_equal(a, b, err_msg=a.name)
    np.testing.assert_array_equal(first.alpha, again.alpha)
    for a, c in zip(first.blocks, other.blocks):
        assert (a.first.body_rows.numpy() != c.first.body_rows.numpy()).any()
    assert (first.alpha.numpy() != other.alpha.numpy()).all()


def test_no_two_banks_start_from_the_same_draws():
    firsts = {
        # The first draw of each: an entry of the squeeze, of deviation (2 / c_in)^0.5.
        round(float(bank.body_rows[0, 0]) * (bank.c_in / 2) ** 0.5, 4)
        for block in _supernet().blocks
        for bank in (block.first, block.second)
    }
    assert len(firsts) == 12


@pytest.mark.parametrize("k", [1, 3, 12])
def test_top_k_takes_exactly_k_of_equals(k):
    net = _supernet()
    net.alpha.assign(tf.zeros_like(net.alpha))
    chosen = net.top_k(k).numpy()
    assert chosen.shape == (6, k)
    assert all(len(set(row)) == k for row in chosen)
    net.alpha.assign(tf.tile([tf.range(12.0)], [6, 1]))
    np.testing.assert_array_equal(net.top_k(k), [range(11, 11 - k, -1)] * 6)


def _cblock(c_in, c_out, lites):
    """Counts parameters: conv, BN (two per channel), Lites, gate."""
    m = c_out // 4
    body = c_in * m + 2 * m + m * c_out + 2 * c_out
    shortcut = (c_in != c_out) * (c_in * c_out + 2 * c_out)
    gate = m * (m // 4) + m // 4 + (m // 4) * m + m
    return body + shortcut + gate + lites * (m * m + 9 * m + 2 * m)


# The authors' 7.8 M and 19.5 M hold 0.9 M more: a convolution of 512 x 512 with BN
# before the head, and the head for 751 identities.
@pytest.mark.parametrize("name, count", [("cs", 6_899_360), ("cds", 18_614_624)])
def test_weights_at_full_width(name, count):
    expected = 7 * 7 * 3 * 64 + 2 * 64  # stem
    expected += 256 * 256 + 2 * 256 + 384 * 384 + 2 * 384  # DownSamples
    for widths in networks.block_channels(networks.CHANNELS):
        for branch in genotype.SPACES[name]:
            lites = sum(branch.lites)
            expected += _cblock(*widths, lites)
            expected += (branch.repeats - 1) * _cblock(widths[1], widths[1], lites)
    net = supernet.Supernet(genotype.SPACES[name], 751)
    # All branches, without alpha and the neck.
    parts = [net.stem, *net.blocks, *net.downsamples]
    weights = [weight for part in parts for weight in part.trainable_weights]
    assert sum(int(np.prod(weight.shape)) for weight in weights) == expected == count
    authors = count + 512 * 512 + 2 * 512 + 648_943  # head: see counting_test
    assert round(authors / 1e6, 1) == {"cs": 7.8, "cds": 19.5}[name]


def test_input_must_divide():
    with pytest.raises(ValueError, match="60x32 is not divisible by 16"):
        supernet.Supernet(genotype.CS, 2, (60, 32, 3))


def test_zero_init_residual_is_that_of_the_derived_network():
    net = _supernet()
    net.zero_init_residual()
    network = net.derive_network(neck="bl")
    scales = {
        weight.name: weight.numpy()
        for weight in network.weights
        if weight.name.endswith("gamma:0")
    }
    for name, scale in scales.items():
        assert (scale == (0 if "/restore/" in name else 1)).all(), name
    assert sum("/restore/" in name for name in scales) >= 6
