"""Necks: stripes, embedding, and where each loss takes its feature."""

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.nn import necks

_FMAP2, _FMAP3 = (12, 3, 8), (12, 3, 16)


def _model(neck, shapes, *args, **options):
    inputs = [tf.keras.Input(shape) for shape in shapes]
    return tf.keras.Model(inputs, neck(*inputs, *args, **options)._asdict())


def _maps(*shapes, seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(size=(4, *shape)).astype("f") for shape in shapes]


def _fbl(num_classes=5, **options):
    shapes = _FMAP2, _FMAP3
    return _model(necks.fbl_neck, shapes, num_classes, channels=4, **options)


@pytest.mark.parametrize("parts", [1, 2, 3, 4])
def test_stripes_from_top_to_bottom(parts):
    model = _model(necks.f_neck, [_FMAP2], parts, 4, 5)
    kernel = model.get_layer("neck/squeeze").kernel
    kernel.assign(tf.fill(kernel.shape, 1 / 8))  # the mean of the channels
    stripes = np.repeat(np.arange(parts), 12 // parts)  # rows of stripe i hold i
    fmap = np.tile(stripes[None, :, None, None], (2, 1, *_FMAP2[1:])).astype("f")
    expected = np.repeat(np.arange(parts), 4)[None].repeat(2, 0)
    np.testing.assert_allclose(model(fmap)["embedding"], expected, atol=1e-6)


def test_stripes_are_averaged():
    model = _model(necks.f_neck, [_FMAP2], 2, 4, None)
    (fmap,) = _maps(_FMAP2)
    y = fmap @ model.get_layer("neck/squeeze").kernel[0, 0].numpy()
    halves = [y[:, :6].mean(axis=(1, 2)), y[:, 6:].mean(axis=(1, 2))]
    found = model(fmap)["embedding"]
    np.testing.assert_allclose(found, np.concatenate(halves, 1), atol=1e-5)


def test_stripes_that_share_a_row():
    model = _model(necks.f_neck, [(16, 3, 8)], 3, 4, None)
    (fmap,) = _maps((16, 3, 8))
    y = fmap @ model.get_layer("neck/squeeze").kernel[0, 0].numpy()
    # 16 / 3 = 5.3 and 32 / 3 = 10.7
    thirds = [y[:, i:j].mean(axis=(1, 2)) for i, j in ((0, 6), (5, 11), (10, 16))]
    found = model(fmap)["embedding"]
    np.testing.assert_allclose(found, np.concatenate(thirds, 1), atol=1e-5)


@pytest.mark.parametrize("parts", [13, -1])
def test_impossible_parts(parts):
    with pytest.raises(ValueError, match=rf"parts={parts} is not in 1\.\.12"):
        _fbl(parts=parts)


def test_embedding_is_global_then_local():
    model, maps = _fbl(), _maps(_FMAP2, _FMAP3)
    outputs = model(maps)
    assert outputs["embedding"].shape == (4, 16 + 2 * 4)
    expected = maps[1].mean(axis=(1, 2))
    np.testing.assert_allclose(outputs["embedding"][:, :16], expected, atol=1e-5)
    # At inference the features of both triplet losses are its two parts.
    found = np.concatenate(outputs["features"], 1)
    np.testing.assert_array_equal(found, outputs["embedding"])
    assert [z.shape for z in outputs["logits"]] == [(4, 5), (4, 5)]


def test_each_head_has_a_bridge_of_its_own():
    model = _fbl()
    for half, width in (("global", 16), ("local", 8)):
        shapes = [
            model.get_layer(f"neck/{half}/{name}").kernel.shape
            for name in ("fc", "classifier")
        ]
        assert shapes == [(width, 512), (512, 5)]


def test_logits_follow_the_bridge():
    model = _model(necks.bl_neck, [_FMAP3], 5)
    for weight in model.weights:
        random = np.random.default_rng(len(weight.name))
        weight.assign(random.uniform(0.1, 0.5, weight.shape))
    (fmap,) = _maps(_FMAP3)
    fc, bn, classifier = (
        [w.numpy() for w in model.get_layer(f"neck/global/{name}").weights]
        for name in ("fc", "bn", "classifier")
    )
    x = fmap.mean(axis=(1, 2)) @ fc[0] + fc[1]
    gamma, beta, mean, variance = bn
    x = np.maximum((x - mean) / np.sqrt(variance + 1e-5) * gamma + beta, 0)
    found = model(fmap)["logits"][0]
    np.testing.assert_allclose(found, x @ classifier[0] + classifier[1], rtol=1e-4)


def test_no_parts_is_the_bl_neck():
    model = _fbl(parts=0)
    maps = _maps(_FMAP2, _FMAP3)
    outputs = model(maps)
    assert outputs["embedding"].shape == (4, 16)
    assert len(outputs["features"]) == len(outputs["logits"]) == 1
    assert not [layer for layer in model.layers if "local" in layer.name]


@pytest.mark.parametrize("parts", [0, 2])
def test_dropout_touches_the_training_features_only(parts):
    model, maps = _fbl(parts=parts, dropout=0.5), _maps(_FMAP2, _FMAP3)
    inference, training = model(maps), model(maps, training=True)
    np.testing.assert_array_equal(training["embedding"], inference["embedding"])
    for kept, whole in zip(training["features"], inference["features"]):
        kept, whole = kept.numpy(), whole.numpy()
        assert 0 < (kept == 0).mean() < 1
        np.testing.assert_allclose(kept, np.where(kept == 0, 0, 2 * whole), rtol=1e-5)


def test_without_classes_there_are_no_heads():
    model = _fbl(num_classes=None)
    outputs = model(_maps(_FMAP2, _FMAP3))
    assert outputs["features"] == outputs["logits"] == []
    # What is left at inference: the FNeck's squeeze.
    assert [w.name for w in model.weights] == ["neck/squeeze/kernel:0"]


def test_bn_neck_as_published():
    model = _model(necks.bn_neck, [_FMAP3], 5)
    (fmap,) = _maps(_FMAP3)
    bn, classifier = (model.get_layer(f"neck/{n}") for n in ("bn", "classifier"))
    for weight in bn.weights:
        weight.assign(np.random.default_rng(0).uniform(0.5, 2, weight.shape))
    gamma, beta, mean, variance = (w.numpy() for w in bn.weights)
    pooled = fmap.mean(axis=(1, 2))
    normalised = (pooled - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    outputs = model(fmap)
    np.testing.assert_allclose(outputs["features"][0], pooled, atol=1e-5)
    np.testing.assert_allclose(outputs["embedding"], normalised, atol=1e-4)
    logits = normalised @ classifier.kernel.numpy() + classifier.bias.numpy()
    np.testing.assert_allclose(outputs["logits"][0], logits, atol=1e-5)
    names = [layer.name for layer in model.layers]
    assert not [name for name in names if name.endswith(("fc", "dropout"))]


def test_bn_neck_without_classes_keeps_its_bn():
    model = _model(necks.bn_neck, [_FMAP3], None)
    assert len(model.weights) == 4
    assert model(_maps(_FMAP3))["logits"] == []


def test_dense_layers_start_small():
    model = _model(necks.bl_neck, [_FMAP3], 5)
    fc = model.get_layer("neck/global/fc")
    assert fc.kernel.numpy().std() == pytest.approx(1e-3, rel=0.1)
    assert not fc.bias.numpy().any()


def test_classifier_stays_float32_under_mixed_precision():
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        outputs = _fbl()(_maps(_FMAP2, _FMAP3))
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert [f.dtype for f in outputs["features"]] == [tf.bfloat16] * 2
    assert [z.dtype for z in outputs["logits"]] == [tf.float32] * 2


def test_fc_neck_puts_both_losses_after_the_activation():
    model = _model(necks.fc_neck, [_FMAP3], 5)
    (fmap,) = _maps(_FMAP3)
    outputs = model(fmap)
    pooled = fmap.mean(axis=(1, 2))
    # BN is the identity at first, but for its epsilon.
    dense = pooled @ model.get_layer("neck/fc").kernel.numpy() / np.sqrt(1 + 1e-5)
    expected = np.maximum(dense, 0)
    np.testing.assert_allclose(outputs["embedding"], expected, atol=1e-6)
    np.testing.assert_array_equal(outputs["features"][0], outputs["embedding"])
    kernel = model.get_layer("neck/classifier").kernel.numpy()
    np.testing.assert_allclose(outputs["logits"][0], expected @ kernel, atol=1e-6)
