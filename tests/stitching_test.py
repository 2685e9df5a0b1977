"""Files that are made of others' blocks, against the network that they stand for."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.keras import layers

from cdnet_tf.deploy import calibration, ranges, stitching, tflite, tflite_file


def _network(seed, depths):
    """Builds six blocks of convolutions and a shortcut, and a path around the last."""
    tf.keras.utils.set_random_seed(seed)
    images = tf.keras.Input((8, 8, 3), name="images")
    x = layers.Conv2D(4, 1, name="stem/conv")(images)
    for block, depth in enumerate(depths, 1):
        before, name = x, f"stage{(block + 1) // 2}/block{block}"
        for i in range(depth):
            x = layers.Conv2D(4, 1, activation="relu", name=f"{name}/lite{i}")(x)
        x = layers.Add(name=f"{name}/add")([x, before])
        if block == 4:
            around = layers.GlobalAveragePooling2D(name="neck/local")(x)
    x = layers.GlobalAveragePooling2D(name="neck/global")(x)
    x = layers.Concatenate(name="neck/join")([x, around])
    return tf.keras.Model(images, x, name="cdnet")


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def networks():
    return _network(0, [1] * 6), _network(1, [2] * 6)


@pytest.fixture(scope="module")
def contents(networks, pictures):
    return [
        calibration.calibrated(tflite.converter(network, "int8"), pictures)
        for network in networks
    ]


@pytest.fixture(scope="module")
def donors(contents):
    return [stitching.Donor(content) for content in contents]


def _run(content, picture):
    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (source,), (target,) = (
        interpreter.get_input_details(),
        interpreter.get_output_details(),
    )
    interpreter.set_tensor(source["index"], picture[np.newaxis])
    interpreter.invoke()
    return interpreter.get_tensor(target["index"])


def test_computes_what_the_blocks_compute_one_after_another(networks, donors, pictures):
    chosen = [0, 1, 1, 0, 0, 1]
    mixed = _network(2, [1 + each for each in chosen])
    for layer in mixed.layers:
        if layer.weights:
            _, _, block = layer.name.partition("/block")
            donor = chosen[int(block[0]) - 1] if block else 0
            layer.set_weights(networks[donor].get_layer(layer.name).get_weights())
    content = stitching.stitched([donors[each] for each in chosen])
    wanted = mixed(pictures[:1]).numpy()
    np.testing.assert_allclose(_run(content, pictures[0]), wanted, atol=1e-5)


def test_a_file_of_one_donor_is_the_donor(donors, contents):
    content = stitching.stitched([donors[1]] * 6)
    assert list(ranges.outputs(content)) == list(ranges.outputs(contents[1]))
    integers = [
        calibration.integers(each, tf.int8, tf.int8) for each in (content, contents[1])
    ]
    black = np.zeros((8, 8, 3), np.int8)
    np.testing.assert_array_equal(*(_run(each, black) for each in integers))


def test_becomes_integers_without_rounding_between_blocks(donors):
    content = stitching.stitched([donors[i % 2] for i in range(6)])
    integers = calibration.integers(content, tf.int8, tf.int8)
    described = tflite_file.described(integers, "cdnet", "int8", "nhwc")
    tflite_file.check(described, "int8", "nhwc")
    # The stem and three times 1 and 2.
    assert tflite_file.op_counts(described)["CONV_2D"] == 1 + 3 * 1 + 3 * 2
