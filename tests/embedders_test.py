"""Every kind of file yields the embeddings of the Keras network it was made from."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from tensorflow.keras import layers

from cdnet_tf.data import preprocess
from cdnet_tf.deploy import embedders, identity, lite
from tests import tiny

# The converter warns of every float network; here the ranges come from samples.
pytestmark = pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")

_HEIGHT, _WIDTH, _DIMENSIONS = 16, 8, 12
_MEAN = np.array([0.485, 0.456, 0.406]) * 255
_STD = np.array([0.229, 0.224, 0.225]) * 255

# Of the largest embedding value; integers have 8 bits, and one for rounding.
_FLOAT, _HALF, _INTEGER = 1e-5, 5e-3, 5e-2
_FILES = {
    "model.keras": ("keras", False, _FLOAT),
    "half.keras": ("keras", False, _HALF),
    "normalised": ("savedmodel", False, _FLOAT),
    "pixels": ("savedmodel", True, _FLOAT),
    "free": ("savedmodel", True, _FLOAT),
    "float32.tflite": ("tflite", False, _FLOAT),
    "batch1.tflite": ("tflite", False, _FLOAT),
    "batch4.tflite": ("tflite", False, _FLOAT),
    "nchw.tflite": ("tflite", False, _FLOAT),
    "float16.tflite": ("tflite", False, _HALF),
    "dynamic.tflite": ("tflite", False, _INTEGER),
    "int8.tflite": ("tflite", False, _INTEGER),
    "int8_nchw.tflite": ("tflite", False, _INTEGER),
    "uint8.tflite": ("tflite", True, _INTEGER),
}


def _network(dtype="float32"):
    """Builds a network in which left, right, top and colours matter."""
    tf.keras.utils.set_random_seed(0)
    images = tf.keras.Input((_HEIGHT, _WIDTH, 3))
    x = layers.Conv2D(8, 3, 2, activation="relu", dtype=dtype)(images)
    x = layers.Dense(_DIMENSIONS, dtype=dtype)(layers.Flatten(dtype=dtype)(x))
    return tf.keras.Model(images, x)


def _normalised(images):
    return ((images - _MEAN) / _STD).astype(np.float32)


@pytest.fixture(scope="module")
def images():
    # Blocks of one colour, not noise: networks see structure, and so do the ranges.
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (7, 4, 2, 3), np.uint8)
    return blocks.repeat(4, axis=1).repeat(4, axis=2)


@pytest.fixture(scope="module")
def expected(images):
    """Returns embeddings of the images, and of the mirrored images."""
    values = _normalised(images)
    return [_network().predict(v, verbose=0) for v in (values, values[:, :, ::-1])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, images):
    """Writes all the files of `_FILES` once."""
    folder = tmp_path_factory.mktemp("files")
    network = _network()
    network.save(folder / "model.keras")
    _network("mixed_float16").save(folder / "half.keras")
    _save_saved_models(folder, network)
    _save_tflite(folder, network, images)
    return folder


def _save_saved_models(folder, network):
    def embed_pixels(pixels):
        pixels = tf.image.resize(tf.cast(pixels, tf.float32), (_HEIGHT, _WIDTH))
        return {"embeddings": network((pixels - _MEAN) / _STD)}

    fixed = None, _HEIGHT, _WIDTH, 3
    for name, function, shape, dtype in (
        ("normalised", network, fixed, tf.float32),
        ("pixels", embed_pixels, fixed, tf.uint8),
        ("free", embed_pixels, (None, None, None, 3), tf.float32),
    ):
        module = tf.Module()
        module.network = network
        signature = tf.function(function).get_concrete_function(
            tf.TensorSpec(shape, dtype, name="images")
        )
        tf.saved_model.save(module, str(folder / name), signature)
    _record_size(folder / "free", _HEIGHT, _WIDTH)


def _record_size(folder, height, width):
    (folder / "assets.extra").mkdir(exist_ok=True)
    text = json.dumps({"height": height, "width": width})
    (folder / identity.RECORD).write_text(text)


def _save_tflite(folder, network, images):
    def channels_first(batch):
        image = tf.keras.Input((3, _HEIGHT, _WIDTH), batch)
        return tf.keras.Model(image, network(layers.Permute((2, 3, 1))(image)))

    def of_pixels():
        image = tf.keras.Input((_HEIGHT, _WIDTH, 3), 1)
        scaled = layers.Normalization(mean=_MEAN, variance=_STD**2)(image)
        return tf.keras.Model(image, network(scaled))

    def batch_of(batch):
        image = tf.keras.Input((_HEIGHT, _WIDTH, 3), batch)
        return tf.keras.Model(image, network(image))

    # Ranges must hold the mirrored images' embeddings, too.
    images = np.concatenate([images, images[:, :, ::-1]])
    values = _normalised(images)
    _convert(folder / "float32.tflite", network)
    _convert(folder / "batch1.tflite", batch_of(1))
    _convert(folder / "batch4.tflite", batch_of(4))
    _convert(folder / "nchw.tflite", channels_first(1))
    _convert(folder / "float16.tflite", network, half=True)
    _convert(folder / "dynamic.tflite", network, small=True)
    _convert(folder / "int8.tflite", batch_of(1), values, tf.int8)
    turned = values.transpose(0, 3, 1, 2)
    _convert(folder / "int8_nchw.tflite", channels_first(None), turned, tf.int8)
    pixels = images.astype(np.float32)
    _convert(folder / "uint8.tflite", of_pixels(), pixels, tf.uint8)


def _convert(path, network, samples=None, integer=None, half=False, small=False):
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    if half or small or integer:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if half:
        converter.target_spec.supported_types = [tf.float16]
    if integer:
        converter.representative_dataset = lambda: ([s[None]] for s in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = integer
        converter.inference_output_type = integer
    path.write_bytes(converter.convert())


def _difference(embeddings, expected):
    return np.abs(embeddings - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("name", _FILES)
def test_file_gives_the_networks_embeddings(folder, name, images, expected):
    kind, pixels, tolerance = _FILES[name]
    embedder = embedders.open_model(folder / name)
    assert (embedder.kind, embedder.pixels) == (kind, pixels)
    assert (embedder.height, embedder.width) == (_HEIGHT, _WIDTH)
    assert embedder.dimensions == _DIMENSIONS
    embeddings = embedder.embed(images)
    assert embeddings.dtype == np.float32
    plain, mirrored = expected
    assert _difference(embeddings, plain) < tolerance
    assert _difference(embedder.embed(images[:, :, ::-1]), mirrored) < tolerance
    # Embeddings of other or mirrored images would be far away.
    assert _difference(embeddings[::-1], plain) > 4 * _INTEGER
    assert _difference(mirrored, plain) > 4 * _INTEGER


@pytest.mark.parametrize("name", _FILES)
def test_batches_of_any_size_agree(folder, name, images):
    embedder = embedders.open_model(folder / name)
    whole = embedder.embed(images)
    parts = [embedder.embed(images[start : start + 3]) for start in (0, 3, 6)]
    # Integers are equal; a float sum may be computed in another order.
    assert _difference(np.concatenate(parts), whole) < min(_FILES[name][2], _HALF)
    assert embedder.embed(images[:0]).shape == (0, _DIMENSIONS)


@pytest.mark.parametrize("name", [name for name in _FILES if "tflite" in name])
def test_a_camera_embeds_as_a_server_does(folder, name, images):
    reid = lite.LiteReid(folder / name)
    assert reid.network == identity.of_file(folder / name)
    assert reid.input_shape == (_HEIGHT, _WIDTH, 3)
    wanted = embedders.open_model(folder / name).embed(images)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    found = reid([PIL.Image.fromarray(image) for image in images])
    # Kernels of two interpreters may round a sum of integers differently.
    assert _difference(found, wanted) < max(_FLOAT, _FILES[name][2])
    assert reid([]).shape == (0, _DIMENSIONS)


def test_a_camera_normalises_as_the_file_says():
    name = "market1501/cdnet_x0_25_int8"
    reid, draw = lite.LiteReid(name), np.random.default_rng(0)
    opened = embedders.open_model(name)
    # Wider and higher than the network's input, so that it is made smaller.
    pixels = draw.integers(0, 256, (6, 3, 3), np.uint8).repeat(45, 0).repeat(30, 1)
    resized = preprocess.resize(pixels, opened.height, opened.width).numpy()
    wanted = opened.embed(resized[np.newaxis])[0]
    found = reid([PIL.Image.fromarray(pixels)])[0]
    assert reid.embedding_size == opened.dimensions == len(found)
    assert found @ wanted / np.linalg.norm(wanted) > 0.99


@pytest.mark.parametrize("name", ["model.keras", "free", "batch4.tflite"])
def test_many_batches_at_once_come_back_in_order(folder, name, images, monkeypatch):
    monkeypatch.setattr(embedders.parallel, "threads", lambda: 3)
    embedder = embedders.open_model(folder / name)
    batches = [images[start : start + 2] for start in (0, 2, 4, 6)] * 3
    embeddings = embedder.embed_all(batches)
    expected = np.concatenate([embedder.embed(images)] * 3)
    assert _difference(embeddings, expected) < _FLOAT
    both = embedder.embed_all(batches, flip=True)
    mirrored = np.concatenate([embedder.embed(images[:, :, ::-1])] * 3)
    assert _difference(both, expected + mirrored) < _FLOAT
    assert embedder.embed_all([]).shape == (0, _DIMENSIONS)


def test_embeds_what_keras_embeds_to_a_ten_thousandth_of_the_norm():
    images, network = tiny.images(9), tiny.network()
    found = embedders.of_network(network, preprocess.IMAGENET).embed_all([images])
    expected = network.predict_on_batch(_normalised(images))
    error = np.linalg.norm(found - expected, axis=1)
    assert (error < 1e-4 * np.linalg.norm(expected, axis=1)).all()


def test_a_network_that_cannot_be_folded_is_embedded_as_it_is(images):
    given = tf.keras.Input((_HEIGHT, _WIDTH, 3))
    x = layers.Conv2D(4, 3)(given)
    # `fold` loses the axes of a plain function's call.
    network = tf.keras.Model(given, tf.reduce_mean(x * 2, axis=[1, 2]))
    found = embedders.of_network(network, preprocess.IMAGENET).embed(images)
    expected = network.predict_on_batch(_normalised(images))
    assert _difference(found, expected) < _FLOAT


def test_int8_steps_are_those_of_the_file(folder, images):
    # An embedding of an int8 file is (q - zero point) * scale, q a whole number.
    details = tf.lite.Interpreter(str(folder / "int8.tflite")).get_output_details()[0]
    scale, zero_point = details["quantization"]
    q = embedders.open_model(folder / "int8.tflite").embed(images) / scale + zero_point
    np.testing.assert_allclose(q, np.round(q), atol=1e-3)
    assert -128 <= q.min() < q.max() <= 127


def test_free_size_is_asked_recorded_or_usual(folder, tmp_path, images):
    assert embedders.open_model(folder / "free", input_size=(32, 16)).height == 32
    (tmp_path / "silent").mkdir()
    for file in ("saved_model.pb", "variables"):
        (tmp_path / "silent" / file).symlink_to(folder / "free" / file)
    embedder = embedders.open_model(tmp_path / "silent")
    assert (embedder.height, embedder.width) == (256, 128)
    _record_size(tmp_path / "silent", 64, 32)
    assert embedders.open_model(tmp_path / "silent").width == 32


def test_fixed_size_is_not_changed(folder):
    with pytest.raises(ValueError, match="takes images of 16x8, not 32x16"):
        embedders.open_model(folder / "model.keras", input_size=(32, 16))


def test_images_of_another_size_or_type_are_refused(folder, images):
    embedder = embedders.open_model(folder / "model.keras")
    with pytest.raises(ValueError, match=r"model.keras was given uint8 .*\(n, 16, 8,"):
        embedder.embed(images[:, :8])
    with pytest.raises(ValueError, match="given float32"):
        embedder.embed(_normalised(images))


def test_missing_unknown_and_broken_files_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="none.keras does not exist"):
        embedders.open_model(tmp_path / "none.keras")
    with pytest.raises(ValueError, match="is a directory without a saved_model.pb"):
        embedders.open_model(tmp_path)
    for name, message in (
        ("a.h5", "a.h5 is none of the kinds"),
        ("a.keras", r"a.keras cannot be read \(.*TensorFlow"),
        ("a.tflite", r"a.tflite cannot be read \(.*TensorFlow"),
    ):
        (tmp_path / name).write_bytes(b"not a network" * 9)
        with pytest.raises(ValueError, match=message):
            embedders.open_model(tmp_path / name)


@pytest.mark.parametrize(
    "shape, heads, message",
    [
        ((16, 8, 1), 1, r"input of shape \(None, 16, 8, 1\)"),
        ((16, 3), 1, r"input of shape \(None, 16, 3\)"),
        ((16, 8, 3), 2, "has 2 outputs, and an embedding network has one"),
    ],
)
def test_other_networks_are_refused(tmp_path, shape, heads, message):
    image = tf.keras.Input(shape)
    x = layers.Flatten()(image)
    outputs = [layers.Dense(3, name=f"head{i}")(x) for i in range(heads)]
    tf.keras.Model(image, outputs).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=message):
        embedders.open_model(tmp_path / "model.keras")


def test_feature_maps_are_no_embedding(tmp_path):
    image = tf.keras.Input((16, 8, 3))
    tf.keras.Model(image, layers.ReLU()(image)).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"output of shape \(None, 16, 8, 3\)"):
        embedders.open_model(tmp_path / "model.keras")


def test_saved_model_needs_its_signature(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path / "empty"))
    with pytest.raises(ValueError, match=r"no signature serving_default, only \[\]"):
        embedders.open_model(tmp_path / "empty")


def test_integers_need_a_scale(tmp_path):
    function = tf.function(lambda x: tf.cast(x[:, 0, 0], tf.int8))
    spec = tf.TensorSpec((1, 16, 8, 3), tf.float32)
    concrete = function.get_concrete_function(spec)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], function)
    (tmp_path / "cast.tflite").write_bytes(converter.convert())
    with pytest.raises(ValueError, match="cast.tflite has int8 values without a scale"):
        embedders.open_model(tmp_path / "cast.tflite")


def test_a_network_is_loaded_whole_or_refused_by_its_name(tmp_path):
    images = tf.keras.Input((8, 8, 3))
    tf.keras.Model(images, images).save(tmp_path / "images.keras")
    with pytest.raises(ValueError, match="images.keras gives an output of shape"):
        embedders.load_network(tmp_path / "images.keras")
    with pytest.raises(ValueError, match="is no .keras file"):
        embedders.load_network(tmp_path)
    with pytest.raises(FileNotFoundError, match="gone.keras does not exist; pass"):
        embedders.load_network(tmp_path / "gone.keras")
