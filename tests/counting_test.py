"""Counts compared with those of the authors' code, and of one block by hand."""

import functools

import pytest
import tensorflow as tf

from cdnet_tf.nn import blocks, counting, networks

layers = tf.keras.layers


@functools.cache
def _network(name):
    return networks.build_named(name)


@pytest.mark.parametrize(
    "name, parameters, macs",
    [
        ("cdnet", 1_796_600, 955_065_456),
        ("cnet", 1_436_240, 821_423_520),
        ("cdnet_v35", 1_608_344, 886_334_576),
        ("cdnet_std", 1_750_976, 954_974_208),
    ],
)
def test_networks(name, parameters, macs):
    assert counting.parameters(_network(name)) == parameters
    assert counting.macs(_network(name)) == macs


# Heads: Dense 512 (from 512 and from 256), BN, classifier:
# 512*512+512 + 1024 + 512*751+751 = 648,943 and 256*512+512 + 1024 + 385,263 = 517,871.
@pytest.mark.parametrize("name, without", [("cdnet", 1_796_600), ("cnet", 1_436_240)])
def test_heads_for_751_identities(name, without):
    network = networks.build_named(name, num_classes=751)
    total = {"cdnet": 2_963_414, "cnet": 2_603_054}[name]
    assert counting.parameters(network) == total == without + 648_943 + 517_871


# The figures of OSNet's authors, without the classifier.
def test_osnet_with_its_own_head():
    network = networks.build_named("osnet", neck="fc")
    assert counting.parameters(network) == 2_169_508
    assert counting.macs(network) == 978_878_352


def test_cifar_variant():
    network = networks.build_named(
        "cdnet", input_shape=(32, 32, 3), num_classes=100, stem="cifar"
    )
    assert counting.parameters(network) == 2_287_808


@pytest.mark.parametrize(
    "part, macs",
    [
        ("stem", 77_070_336),  # 128 * 64 * 7*7*3 * 64
        ("stage1", 314_978_784),
        ("downsample1", 134_217_728),  # 64 * 32 * 256 * 256
        ("stage2", 239_890_128),
        ("downsample2", 75_497_472),  # 32 * 16 * 384 * 384
        ("stage3", 107_119_552),
        ("neck", 6_291_456),  # 16 * 8 * 384 * 128
    ],
)
def test_cdnet_by_part(part, macs):
    of_part = [x for x in _network("cdnet").layers if x.name.split("/")[0] == part]
    assert sum(map(counting.layer_macs, of_part)) == macs


def test_one_cblock_by_hand():
    x = tf.keras.Input((8, 4, 16))
    model = tf.keras.Model(x, blocks.cblock(x, 32, (3, 5), "b"))
    # Width m = 32/4 = 8. Squeeze 16*8 = 128, three Lites of 8*8 + 9*8 = 136, restore
    # 8*32 = 256, shortcut 16*32 = 512: 1,304 kernel weights, each used at 8*4 places.
    # Gate: 8*2+2 + 2*8+8 = 42, once for each of two streams.
    assert counting.macs(model) == 1304 * 32 + 42 * 2
    # BN's gamma and beta of squeeze (8), three Lites (8), restore and shortcut (32).
    assert counting.parameters(model) == 1304 + 42 + 2 * (8 + 3 * 8 + 2 * 32)


def test_gate_shared_by_two_streams_counts_twice():
    streams = [tf.keras.Input((4, 4, 8)) for _ in range(2)]
    shared = tf.keras.Model(streams, blocks.fusion_gate(streams, "g"))
    assert counting.macs(shared) == 2 * (8 * 2 + 2 + 2 * 8 + 8)
    assert counting.parameters(shared) == 8 * 2 + 2 + 2 * 8 + 8


def _of(layer, shape):
    x = tf.keras.Input(shape)
    return tf.keras.Model(x, layer(x))


@pytest.mark.parametrize(
    "layer, shape, macs",
    [
        (layers.Conv2D(6, 3, 2, "same"), (8, 4, 4), 4 * 2 * (9 * 4 * 6 + 6)),
        (layers.Conv2D(6, 3, use_bias=False), (8, 4, 4), 6 * 2 * (9 * 4 * 6)),
        (layers.Conv2D(6, 1, groups=2, use_bias=False), (8, 4, 4), 32 * (2 * 6)),
        (layers.DepthwiseConv2D(3, padding="same"), (8, 4, 4), 32 * (9 * 4 + 4)),
        (layers.Dense(6), (4,), 4 * 6 + 6),
        (layers.Dense(6), (5, 4), 5 * (4 * 6 + 6)),
        (layers.BatchNormalization(), (8, 4, 4), 0),
        (layers.AveragePooling2D(), (8, 4, 4), 0),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_layers_by_hand(layer, shape, macs):
    assert counting.macs(_of(layer, shape)) == macs


@pytest.mark.parametrize(
    "layer, shape",
    [
        (layers.PReLU(name="x"), (8, 4, 4)),
        (layers.Conv1D(4, 3, name="x"), (8, 4)),
        (layers.Conv2DTranspose(4, 3, 2, name="x"), (8, 4, 4)),
        (tf.keras.Sequential([layers.Dense(3)], name="x"), (4,)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_unknown_layer_with_weights(layer, shape):
    with pytest.raises(TypeError, match=rf"Layer x \({type(layer).__name__}\) has"):
        counting.macs(_of(layer, shape))


def test_moving_statistics_are_no_parameters():
    assert counting.parameters(_of(layers.BatchNormalization(), (4, 4, 3))) == 6
