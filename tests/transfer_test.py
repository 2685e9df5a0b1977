"""Weights by name and shape, and what the report says about the others."""

import hashlib
import json

import h5py
import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf import shipped
from cdnet_tf.nn import transfer

layers = tf.keras.layers


def _network(middle=3, last="new"):
    inputs = tf.keras.Input((2,))
    x = layers.Dense(4, name="first")(inputs)
    x = layers.BatchNormalization(name="stage1/bn")(layers.ReLU()(x))
    x = layers.Dense(middle, name="middle")(x)
    return tf.keras.Model(inputs, layers.Dense(1, name=last)(x))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Returns (file, model) with a different middle and last layer."""
    model = _network(middle=5, last="old")
    random = np.random.default_rng(0)
    model.set_weights([random.normal(size=w.shape) for w in model.get_weights()])
    path = tmp_path_factory.mktemp("source") / "model.keras"
    model.save(path)
    return path, model


def _check(network, report, model):
    assert report.taken == ["first", "stage1/bn"]
    assert report.missing == ["new"]
    assert report.misshapen == ["middle"]
    assert report.unused == ["old"]
    for name in report.taken:
        theirs = model.get_layer(name).get_weights()
        for found, expected in zip(network.get_layer(name).get_weights(), theirs):
            np.testing.assert_array_equal(found, expected)


def test_starts_from_shipped_weights(source, tmp_path, monkeypatch):
    path, _ = source
    (tmp_path / "data").mkdir()
    (tmp_path / "data/net.keras").write_bytes(path.read_bytes())
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    record = {"files": {"net.keras": {"sha256": checksum}}}
    (tmp_path / "data/net.json").write_text(json.dumps(record))
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    assert transfer.locate("data/net") == tmp_path / "data/net.keras"
    with pytest.raises(FileNotFoundError, match="run, or .* weights are data/net"):
        transfer.locate("data/other")


@pytest.mark.parametrize("part", ["file", "run"])
def test_takes_what_agrees_and_reports_the_rest(source, part):
    path, model = source
    network = _network()
    before = network.get_layer("middle").get_weights()[0]
    report = transfer.take_weights(network, path if part == "file" else path.parent)
    _check(network, report, model)
    after = network.get_layer("middle").get_weights()[0]
    np.testing.assert_array_equal(after, before)
    assert "misshapen (1): middle" in str(report)
    assert "took the weights of 2 layers" in str(report)


def test_takes_weights_by_name_as_keras_applications_offers_them(source, tmp_path):
    _, model = source
    path = str(tmp_path / "weights.h5")
    model.save_weights(path)
    network = _network()
    _check(network, transfer.take_weights(network, path), model)


def test_no_layer_agrees(source):
    inputs = tf.keras.Input((2,))
    network = tf.keras.Model(inputs, layers.Dense(7, name="other")(inputs))
    with pytest.raises(
        ValueError, match=r"no layer .* \(it has first, .*network has other"
    ):
        transfer.take_weights(network, source[0])


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda p: None, FileNotFoundError, "does not exist"),
        (lambda p: p.mkdir(), FileNotFoundError, "holds none of model.keras"),
        (lambda p: p.write_text("no weights"), ValueError, "cannot be read"),
    ],
)
def test_unusable_sources(tmp_path, make, error, message):
    make(tmp_path / "x.keras")
    with pytest.raises(error, match=message):
        transfer.take_weights(_network(), tmp_path / "x.keras")


def test_h5_of_something_else(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["data"] = [1, 2]
    with pytest.raises(ValueError, match=r"x\.h5 cannot be read"):
        transfer.take_weights(_network(), tmp_path / "x.h5")
