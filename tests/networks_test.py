"""Whole networks: widths, names, and errors; `conformance_test` has more."""

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.nn import genotype, networks

_SMALL = {"input_shape": (64, 32, 3), "width_multiplier": 0.25}
_SHALLOW = genotype.Genotype(((3, 5, 1),) * 6)


@pytest.mark.parametrize(
    "multiplier, channels",
    [
        (1.0, (64, 256, 384, 512)),
        (0.25, (16, 64, 96, 128)),
        (0.3, (16, 80, 112, 160)),  # 19.2, 76.8, 115.2 and 153.6 to the next 16
        (0.01, (16, 16, 16, 16)),
    ],
)
def test_scaled_channels(multiplier, channels):
    assert networks.scaled_channels(multiplier) == channels


@pytest.mark.parametrize("multiplier", [0, -1.0])
def test_multiplier_must_be_positive(multiplier):
    with pytest.raises(ValueError, match=f"width_multiplier={multiplier} must be pos"):
        networks.scaled_channels(multiplier)


def test_block_channels():
    expected = [(64, 256), (256, 256), (256, 384), (384, 384), (384, 512), (512, 512)]
    assert networks.block_channels(networks.CHANNELS) == expected


@pytest.mark.parametrize("name", networks.PUBLISHED)
def test_parts_have_the_papers_shapes(name):
    model = networks.build_named(name)
    shapes = {
        "stem/pool": (64, 32, 64),
        "downsample1/pool": (32, 16, 256),
        "downsample2/pool": (16, 8, 384),
    }
    widths = [256, 256, 384, 384, 512, 512]
    for i, width in enumerate(widths):
        repeats = max(
            layer.name.split("/")[2]
            for layer in model.layers
            if layer.name.startswith(f"stage{i // 2 + 1}/block{i + 1}/")
        )
        assert repeats == f"cblock{_layers(name)[i].repeats}"
        scale = 2 ** (i // 2)
        shape = (64 // scale, 32 // scale, width)
        shapes[f"stage{i // 2 + 1}/block{i + 1}/{repeats}/relu"] = shape
    for layer, shape in shapes.items():
        assert model.get_layer(layer).output_shape == (None, *shape), layer
    gates = [layer for layer in model.layers if "/gate/" in layer.name]
    assert bool(gates) == (name != "cdnet_std")
    assert model.name == name
    assert model.input_shape == (None, 256, 128, 3)
    assert model.output_shape == (None, 768)


def _layers(name):
    return genotype.load("cdnet" if name == "cdnet_std" else name).layers


def test_neck_stands_on_both_feature_maps():
    model = networks.build(_SHALLOW, **_SMALL)
    squeeze = model.get_layer("neck/squeeze")
    assert squeeze.input.node.layer.name == "downsample2/pool"
    pool = model.get_layer("neck/global/pool")
    assert pool.input.node.layer.name == "stage3/block6/cblock1/relu"


def test_heads_do_not_change_the_embedding():
    training = networks.build(_SHALLOW, num_classes=7, **_SMALL)
    inference = networks.build(_SHALLOW, **_SMALL)
    values = {weight.name: weight for weight in training.weights}
    for weight in inference.weights:
        weight.assign(values[weight.name])
    images = np.random.default_rng(0).normal(size=(2, 64, 32, 3)).astype("f")
    np.testing.assert_allclose(
        inference(images), training(images)["embedding"], rtol=1e-4, atol=1e-6
    )


def test_cifar_stem_keeps_the_size():
    model = networks.build(_SHALLOW, (32, 32, 3), 0.25, stem="cifar")
    relu = model.get_layer("stage3/block6/cblock1/relu")
    assert relu.output_shape == (None, 8, 8, 128)


@pytest.mark.parametrize(
    "shape, stem, message",
    [
        ((250, 128, 3), "reid", "250x128 is not divisible by 16; use e.g. 240x128"),
        ((256, 10, 3), "reid", "256x10 is not divisible by 16; use e.g. 256x16"),
        ((30, 32, 3), "cifar", "30x32 is not divisible by 4; use e.g. 28x32"),
    ],
)
def test_input_that_does_not_divide(shape, stem, message):
    with pytest.raises(ValueError, match=message):
        networks.build_named("cnet", input_shape=shape, stem=stem)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"neck": "gem"}, "neck 'gem' is unknown; use one of fbl, bl, bn, fc"),
        ({"stem": "imagenet"}, "stem variant 'imagenet' is unknown"),
        ({"parts": 5}, r"parts=5 is not in 1\.\.4"),
    ],
)
def test_unknown_options(options, message):
    with pytest.raises(ValueError, match=message):
        networks.build(_SHALLOW, **{**_SMALL, **options})


def test_unknown_name():
    with pytest.raises(ValueError, match="'resnet' is unknown; use one of cnet, cdnet"):
        networks.build_named("resnet")


# Table 5: 0 to 4 stripes; three of them overlap, as 16 rows do not divide by 3.
@pytest.mark.parametrize("parts", range(5))
def test_embedding_of_table_5(parts):
    model = networks.build(_SHALLOW, parts=parts)
    assert model.output_shape == (None, 512 + 128 * parts)


def test_osnet_has_cdnets_body_with_four_streams():
    model = networks.build_named("osnet", **_SMALL)
    names = {layer.name for layer in model.layers}
    for block, stage in zip(range(1, 7), (1, 1, 2, 2, 3, 3)):
        for kernel in (3, 5, 7, 9):
            lite = f"stage{stage}/block{block}/cblock1/lite{kernel}_{kernel // 2}"
            assert f"{lite}/depthwise" in names
    assert model.get_layer("neck/global/pool").input.node.layer.name == "last/relu"
    assert model.get_layer("neck/squeeze").input.node.layer.name == "downsample2/pool"


def test_mobilenet_v2_is_kerass():
    model = networks.build_named("mobilenet_v2", neck="bl", input_shape=(64, 32, 3))
    theirs = tf.keras.applications.MobileNetV2(
        (64, 32, 3), include_top=False, weights=None
    )
    # About 2.2 million: the paper's Table 3 says 2.14 for its variant.
    assert model.count_params() == theirs.count_params() == 2_257_984
    assert model.output_shape == (None, 1280)
    assert model.get_layer("block_12_add").output_shape == (None, 4, 2, 96)


def test_mobilenet_v2_has_no_cifar_stem():
    with pytest.raises(ValueError, match="mobilenet_v2 has a stem of its own"):
        networks.build_named("mobilenet_v2", stem="cifar", **_SMALL)


@pytest.mark.parametrize("name", ["cdnet", "mobilenet_v2"])
def test_zero_init_residual_passes_a_blocks_input_through(name):
    model = networks.build_named(name, input_shape=(32, 32, 3), width_multiplier=0.25)
    networks.zero_init_residual(model)
    adds = [layer for layer in model.layers if layer.name.endswith(("/add", "_add"))]
    adds = [layer for layer in adds if "/gate/" not in layer.name]
    outputs = [(add.input, add.output) for add in adds]
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("f")
    found = tf.keras.Model(model.input, outputs)(images)
    assert len(adds) > 5
    for branches, total in found:
        residual = [branch for branch in branches if not np.any(branch)]
        assert len(residual) == 1 and np.any(total)
