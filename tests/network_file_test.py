"""A network's file says how its images are normalised, and Keras still reads it."""

import zipfile

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.data import preprocess
from cdnet_tf.deploy import embedders, network_file

_MEAN, _STD = np.array([129.3, 124.1, 112.4]), np.array([68.2, 65.4, 70.4])


@pytest.fixture(scope="module")
def network():
    images = tf.keras.Input((4, 2, 3))
    outputs = tf.keras.layers.Dense(5)(tf.keras.layers.Flatten()(images))
    return tf.keras.Model(images, outputs)


@pytest.fixture
def path(network, tmp_path):
    network_file.save(network, tmp_path / "model.keras", preprocess.CIFAR)
    return tmp_path / "model.keras"


def test_keras_reads_the_network_and_we_the_normalisation(network, path):
    assert network_file.normalisation(path) == preprocess.CIFAR
    loaded = tf.keras.models.load_model(path, compile=False)
    tf.nest.map_structure(
        np.testing.assert_array_equal, loaded.get_weights(), network.get_weights()
    )
    assert [file.name for file in path.parent.iterdir()] == ["model.keras"]


def test_an_embedder_normalises_as_the_file_says(network, path):
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 2, 3), np.uint8)
    found = embedders.open_model(path).embed(images)
    expected = network.predict((images - _MEAN) / _STD, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_file_that_says_nothing_expects_imagenets(network, tmp_path):
    network.save(tmp_path / "model.keras")
    found = network_file.normalisation(tmp_path / "model.keras")
    assert found == preprocess.IMAGENET


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        '{"mean": [0, 0, 0]}',
        '{"mean": [0, 0], "std": [1, 1]}',
        '{"mean": [0, 0, 0], "std": [1, 0, 1]}',
        '{"mean": "abc", "std": [1, 1, 1]}',
    ],
)
def test_nonsense_is_named(network, tmp_path, text):
    path = tmp_path / "model.keras"
    network.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("preprocessing.json", text)
    with pytest.raises(ValueError, match="model.keras: preprocessing.json in .* save"):
        network_file.normalisation(path)
