"""A rewritten network computes the same as the network, by other operations."""

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.data import preprocess
from cdnet_tf.deploy import quantize, rewrite, tflite, tflite_file
from cdnet_tf.nn import blocks, networks
from tests import tiny

layers = tf.keras.layers


def _randomised(network):
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            size = layer.gamma.shape
            values = [rng.uniform(0.5, 1.5, size) for _ in range(2)]
            values += [rng.normal(0, 0.1, size) for _ in range(2)]
            gamma, variance, beta, mean = values
            layer.set_weights([gamma, beta, mean, variance])
    return network


@pytest.mark.parametrize("name", ["cdnet", "osnet"])
def test_same_function_of_whole_networks(name):
    tf.keras.utils.set_random_seed(0)
    network = _randomised(networks.build_named(name, (32, 16, 3), 0.25))
    images = tf.random.stateless_normal((3, 32, 16, 3), (0, 0))
    expected = network(images).numpy()
    length = np.linalg.norm(expected, axis=1).mean()
    found = rewrite.rewrite(network)(images).numpy()
    assert np.abs(found - expected).max() < 1e-5 * length


@pytest.fixture(scope="module")
def network():
    return tiny.network()


def _names(model, kind):
    return [layer.name for layer in model.layers if type(layer) is kind]


@pytest.mark.parametrize("step", rewrite.STEPS)
def test_each_step_alone_changes_its_own_layers(network, step):
    rewritten = rewrite.rewrite(network, [step])
    images = preprocess.normalise(tiny.images(4))
    np.testing.assert_allclose(rewritten(images), network(images), rtol=1e-4, atol=1e-4)
    pools = _names(rewritten, layers.AveragePooling2D)
    assert pools == ([] if step == "pool" else ["downsample1/pool"])
    pairs = _names(rewritten, layers.Reshape)
    assert pairs == (["stem/pairs"] if step == "stem" else [])
    means = [
        name for name in _names(rewritten, layers.DepthwiseConv2D) if "/co" in name
    ]
    assert bool(means) == (step == "mean")
    convolutions = set(_names(rewritten, layers.Conv2D))
    shortcut = "stage1/block1/cblock1/shortcut/conv" in convolutions
    assert shortcut == (step != "shortcut")


def test_stem_of_pairs_by_hand():
    """If one pixel is 1, the result is the mirrored kernel at every other tap."""
    image = tf.keras.Input((16, 16, 3))
    network = tf.keras.Model(image, blocks.stem(image, 16))
    rewritten = rewrite.rewrite(network, ["stem"])
    convolved = [
        tf.keras.Model(each.input, each.get_layer("stem/conv").output)
        for each in (rewritten, network)
    ]
    pixel = np.zeros((1, 16, 16, 3), np.float32)
    pixel[0, 8, 6, 1] = 1
    kernel = network.get_layer("stem/conv").get_weights()[0]
    # Output (i, j) reads rows 2i-3.. and columns 2j-3..: pixel 8, 6 is tap 11-2i, 9-2j.
    expected = np.zeros((8, 8, 16))
    for i in range(3, 6):
        for j in range(2, 5):
            expected[i, j] = kernel[11 - 2 * i, 9 - 2 * j, 1]
    # Normalisation as it starts: mean 0, variance 1; the ReLU was folded in with it.
    expected /= np.sqrt(1 + blocks.BN_EPSILON)
    found = convolved[0](pixel)[0]
    np.testing.assert_allclose(found, np.maximum(expected, 0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        convolved[1](pixel)[0] / np.sqrt(1 + blocks.BN_EPSILON), expected, rtol=1e-5
    )


def test_columns_of_a_mean():
    """Every mean over more than one row and at most 64 gets a convolution before it."""
    image = tf.keras.Input((128, 4, 2))
    found = []
    for rows in (1, 2, 64, 128):
        cut = layers.Cropping2D(((0, 128 - rows), (0, 0)))(image)
        found.append(layers.GlobalAveragePooling2D(name=f"of{rows}")(cut))
    network = tf.keras.Model(image, layers.Concatenate()(found))
    rewritten = rewrite.rewrite(network, ["mean"])
    columns = [layer for layer in rewritten.layers if layer.weights]
    assert {each.name: each.output_shape for each in columns} == {
        f"of{rows}/columns": (None, 1, 4, 2) for rows in (2, 64)
    }
    images = np.random.default_rng(0).normal(size=(3, 128, 4, 2)).astype(np.float32)
    wanted = [images[:, :rows].mean((1, 2)) for rows in (1, 2, 64, 128)]
    wanted = np.concatenate(wanted, axis=1)
    np.testing.assert_allclose(rewritten(images), wanted, atol=1e-6)


def test_leaves_what_it_does_not_know():
    image = tf.keras.Input((8, 8, 3))
    x = layers.AveragePooling2D(3)(blocks.stem(image, 16, "cifar"))
    rewritten = rewrite.rewrite(tf.keras.Model(image, x))
    assert rewritten.get_layer("stem/conv").kernel_size == (3, 3)
    assert type(rewritten.layers[-1]) is layers.AveragePooling2D


def test_unknown_step(network):
    with pytest.raises(ValueError, match=r"\['fold'\] are unknown; use some of"):
        rewrite.rewrite(network, ["fold", "pool"])


def test_integer_file_keeps_the_operations_and_the_embedding(network):
    """Without `stem`, which adds a RESHAPE, there are no new operations."""
    rewritten = rewrite.rewrite(network, ["pool", "shortcut", "mean"])
    content = tflite.convert(rewritten, "int8", images=tiny.images(16, seed=1))
    tflite_file.check(content, "int8", "nhwc")
    counts = tflite_file.op_counts(content)
    assert "AVERAGE_POOL_2D" not in counts
    # Of the stripes, of the neck, and of the two blocks: the second has an identity.
    plain = tflite_file.op_counts(
        tflite.convert(network, "int8", images=tiny.images(16, seed=1))
    )
    assert counts["ADD"] == plain["ADD"] - 1
    assert counts["CONCATENATION"] == plain["CONCATENATION"] + 1


def test_trains_with_rounding(network):
    rewritten = rewrite.rewrite(network, ["pool", "stem"])
    images = preprocess.normalise(tiny.images(8)).numpy()
    model = quantize.trainable(rewritten, images)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images, training=True) ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    content = tflite.convert(model, "int8")
    counts = tflite_file.op_counts(content)
    assert set(counts) <= tflite_file.INTEGER_OPS | {"RESHAPE"}
