"""Blocks against NumPy: padding, depth, gate, names."""

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.nn import blocks, genotype

_BN = 1 / np.sqrt(1 + blocks.BN_EPSILON)  # a fresh BN at inference: mean 0, variance 1


def _model(block, shape, *args, **options):
    x = tf.keras.Input(shape)
    return tf.keras.Model(x, block(x, *args, **options))


def _images(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("f")


def _windows(x, size, stride, value=0.0):
    """Returns windows, padded on both sides alike: (b, h', w', size, size, c)."""
    pad = size // 2
    edges = (0, 0), (pad, pad), (pad, pad), (0, 0)
    x = np.pad(x, edges, constant_values=value)
    view = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))
    return np.moveaxis(view[:, ::stride, ::stride], 3, -1)


def _conv(x, kernel, stride=1):
    windows = _windows(x, kernel.shape[0], stride)
    return np.einsum("bhwijc,ijcd->bhwd", windows, kernel)


def _kernel(model, name):
    return model.get_layer(name).get_weights()[0]


@pytest.mark.parametrize("size", [(16, 12), (9, 7)])
def test_reid_stem_pads_as_pytorch(size):
    model = _model(blocks.stem, (*size, 3), 5)
    x = _images((2, *size, 3))
    y = np.maximum(_conv(x, _kernel(model, "stem/conv"), stride=2) * _BN, 0)
    y = _windows(y, 3, 2, value=-np.inf).max(axis=(3, 4))
    assert _kernel(model, "stem/conv").shape == (7, 7, 3, 5)
    np.testing.assert_allclose(model(x), y, atol=1e-4)


def test_cifar_stem():
    model = _model(blocks.stem, (8, 6, 3), 5, variant="cifar")
    x = _images((2, 8, 6, 3))
    y = np.maximum(_conv(x, _kernel(model, "stem/conv")) * _BN, 0)
    assert y.shape == (2, 8, 6, 5)
    np.testing.assert_allclose(model(x), y, atol=1e-4)


def test_unknown_stem():
    with pytest.raises(ValueError, match="'imagenet' is unknown; use reid or cifar"):
        blocks.stem(tf.keras.Input((8, 8, 3)), 4, "imagenet")


def test_downsample():
    model = _model(blocks.downsample, (8, 6, 4), "d")
    x = _images((2, 8, 6, 4))
    y = np.maximum(x @ _kernel(model, "d/conv")[0, 0] * _BN, 0)
    y = y.reshape(2, 4, 2, 3, 2, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(model(x), y, atol=1e-5)


def test_lite3x3_is_linear_then_depthwise():
    model = _model(blocks.lite3x3, (5, 4, 6), "l")
    x = _images((2, 5, 4, 6))
    y = x @ _kernel(model, "l/pointwise")[0, 0]  # neither BN nor ReLU after it
    depthwise = _kernel(model, "l/depthwise")[..., 0]
    y = np.einsum("bhwijc,ijc->bhwc", _windows(y, 3, 1), depthwise)
    np.testing.assert_allclose(model(x), np.maximum(y * _BN, 0), atol=1e-5)
    assert [w.shape.rank for w in model.weights] == [4, 4, 1, 1, 1, 1]


@pytest.mark.parametrize("kernel, depth", [(3, 1), (5, 2), (7, 3), (9, 4)])
def test_lite_k_sees_k_by_k(kernel, depth):
    model = _model(blocks.lite_k, (13, 13, 4), kernel, "s")
    convs = tf.keras.layers.DepthwiseConv2D
    names = [layer.name for layer in model.layers if isinstance(layer, convs)]
    expected = [f"s/lite{kernel}_{i}/depthwise" for i in range(1, depth + 1)]
    assert names == expected
    for weight in model.trainable_weights:
        weight.assign(np.abs(weight) + 0.1)
    impulse = np.zeros((1, 13, 13, 4), "f")
    impulse[0, 6, 6] = 1
    # With beta 0, only the impulse is seen.
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.beta.assign(tf.zeros_like(layer.beta))
    seen = model(impulse).numpy()[0].sum(axis=-1) > 0
    inside = np.abs(np.arange(13) - 6) <= kernel // 2
    np.testing.assert_array_equal(seen, np.outer(inside, inside))


def test_fusion_gate():
    shape = (3, 2, 8)
    inputs = [tf.keras.Input(shape) for _ in range(2)]
    model = tf.keras.Model(inputs, blocks.fusion_gate(inputs, "g"))
    assert len(model.weights) == 4  # one gate for both streams
    for weight in model.weights:
        weight.assign(_images(weight.shape, seed=len(weight.shape)))
    fc1, bias1, fc2, bias2 = (w.numpy() for w in model.weights)
    assert fc1.shape == (1, 1, 8, 2)
    assert fc2.shape == (1, 1, 2, 8)
    streams, expected = [_images((2, *shape), seed) for seed in (5, 6)], 0
    for s in streams:
        hidden = np.maximum(s.mean(axis=(1, 2)) @ fc1[0, 0] + bias1, 0)
        gate = 1 / (1 + np.exp(-(hidden @ fc2[0, 0] + bias2)))
        expected = expected + gate[:, None, None] * s
    np.testing.assert_allclose(model(streams), expected, atol=1e-5)


def test_cblock_names():
    model = _model(blocks.cblock, (4, 4, 16), 32, (3, 5), "stage1/block2/cblock1")
    names = {w.name for w in model.trainable_weights}
    conv_bn = ["conv/kernel", "bn/gamma", "bn/beta"]
    parts = ["squeeze", "restore", "shortcut"]
    expected = [f"{part}/{name}" for part in parts for name in conv_bn]
    lite = ["pointwise/kernel", "depthwise/depthwise_kernel", "bn/gamma", "bn/beta"]
    streams = ["lite3_1", "lite5_1", "lite5_2"]
    expected += [f"{stream}/{name}" for stream in streams for name in lite]
    expected += [f"gate/fc{i}/{w}" for i in (1, 2) for w in ("kernel", "bias")]
    assert names == {f"stage1/block2/cblock1/{name}:0" for name in expected}


def test_cblock_adds_the_shortcut_before_relu():
    model = _model(blocks.cblock, (4, 4, 16), 16, (3, 5), "b")
    x = _images((2, 4, 4, 16))
    model.get_layer("b/restore/bn").gamma.assign(tf.zeros([16]))
    np.testing.assert_allclose(model(x), np.maximum(x, 0))
    model.get_layer("b/restore/bn").beta.assign(tf.fill([16], -0.5))  # no ReLU on it
    np.testing.assert_allclose(model(x), np.maximum(x - 0.5, 0), atol=1e-6)


def test_shortcut_convolution_is_linear():
    model = _model(blocks.cblock, (4, 4, 16), 32, (3, 5), "b")
    x = _images((2, 4, 4, 16))
    model.get_layer("b/restore/bn").gamma.assign(tf.zeros([32]))
    model.get_layer("b/restore/bn").beta.assign(tf.fill([32], 1.0))
    y = x @ _kernel(model, "b/shortcut/conv")[0, 0] * _BN
    np.testing.assert_allclose(model(x), np.maximum(y + 1, 0), atol=1e-5)


@pytest.mark.parametrize("branch", [(3, 5, 1), (7, 9, 2)])
@pytest.mark.parametrize("channels", [16, 32])
def test_cdblock_repeats(branch, channels):
    branch = genotype.Branch(*branch)
    model = _model(blocks.cdblock, (5, 3, 16), channels, branch, "b")
    names = [layer.name for layer in model.layers]
    repeats = [i for i in (1, 2, 3) if f"b/cblock{i}/add" in names]
    assert repeats == list(range(1, branch.repeats + 1))
    shortcuts = [name for name in names if name.endswith("shortcut/conv")]
    assert shortcuts == ["b/cblock1/shortcut/conv"] * (channels != 16)


def test_single_stream_has_all_lites_and_no_gate():
    branch = genotype.Branch(5, 9)  # 2 + 4 Lites
    model = _model(blocks.cdblock, (5, 3, 16), 16, branch, "b", single_stream=True)
    names = [layer.name for layer in model.layers]
    depthwise = [name for name in names if name.endswith("depthwise")]
    assert depthwise == [f"b/cblock1/lite13_{i}/depthwise" for i in range(1, 7)]
    assert not [name for name in names if "gate" in name]


def test_batch_norm_is_pytorchs():
    model = _model(blocks.batch_norm, (2, 2, 3), "bn")
    x = 3 + 2 * _images((4, 2, 2, 3))
    values = x.reshape(-1, 3)
    expected = (x - values.mean(0)) / np.sqrt(values.var(0) + 1e-5)
    np.testing.assert_allclose(model(x, training=True), expected, atol=1e-4)
    layer = model.get_layer("bn")
    mean, variance = values.mean(0), values.var(0, ddof=1)
    np.testing.assert_allclose(layer.moving_mean, 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * variance, rtol=1e-4)


def test_kernels_start_he_normal_on_fan_in():
    model = _model(blocks.cblock, (4, 4, 64), 1024, (3, 5), "b")
    fan_ins = {"squeeze/conv": 64, "restore/conv": 256, "lite3_1/pointwise": 256}
    fan_ins |= {"gate/fc1": 256, "lite5_1/depthwise": 9}
    for name, fan_in in fan_ins.items():
        deviation = _kernel(model, f"b/{name}").std()
        assert deviation == pytest.approx((2 / fan_in) ** 0.5, rel=0.08), name
