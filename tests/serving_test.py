"""A served network answers like the training pipeline and the network."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import prediction_log_pb2

from cdnet_tf.data import image_files, preprocess
from cdnet_tf.deploy import embedders, identity, serving
from cdnet_tf.nn import genotype, networks
from tests import tiny

_SIZE = (64, 32)
# The network's own size, twice that, a size that divides nothing, and a smaller one.
_FILE_SIZES = [(64, 32), (128, 64), (97, 41), (40, 21)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Writes JPEGs with some structure, one of each size; returns their paths."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    paths = []
    for height, width in _FILE_SIZES:
        coarse = Image.fromarray(rng.integers(0, 256, (8, 4, 3), np.uint8))
        paths.append(str(folder / f"{height}x{width}.jpg"))
        coarse.resize((width, height), Image.BICUBIC).save(paths[-1], quality=90)
    return paths


def _bytes(paths):
    return [pathlib.Path(path).read_bytes() for path in paths]


@pytest.fixture(scope="module")
def network():
    shallow = genotype.Genotype(((3, 5, 1),) * 6)
    network = networks.build(shallow, (*_SIZE, 3), width_multiplier=0.25)
    rng = np.random.default_rng(0)
    for weight in network.weights:
        if "moving_variance" in weight.name:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif "moving_mean" in weight.name:
            weight.assign(rng.normal(0, 0.1, weight.shape))
    return network


@pytest.fixture(scope="module")
def directory(network, tmp_path_factory):
    directory = tmp_path_factory.mktemp("served") / "1"
    record = {"scores": {"rank1": 0.5}}
    serving.export(network, directory, warmup_batches=(1, 3), record=record)
    return directory


@pytest.fixture(scope="module")
def served(directory):
    return tf.saved_model.load(str(directory))


@pytest.fixture(scope="module")
def pixels_directory(tmp_path_factory):
    """Exports a "network" whose embedding is its input."""
    images = tf.keras.Input((*_SIZE, 3))
    network = tf.keras.Model(images, tf.keras.layers.Flatten()(images))
    directory = tmp_path_factory.mktemp("pixels") / "1"
    serving.export(network, directory)
    return directory


@pytest.fixture(scope="module")
def pixels(pixels_directory):
    return tf.saved_model.load(str(pixels_directory))


def _ask(served, signature, value):
    (argument,) = served.signatures[signature].structured_input_signature[1]
    answer = served.signatures[signature](**{argument: tf.constant(value)})
    assert list(answer) == ["embeddings"]
    return answer["embeddings"].numpy()


def _unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _batch(paths):
    return np.concatenate(list(tiny.normalised(paths, *_SIZE)))


def _assert_same_pixels(unit, paths):
    """Asserts equality within 1e-5 of pixels, before the embedding is scaled down."""
    expected = _batch(paths).reshape(len(paths), -1)
    norms = np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(unit * norms, expected, atol=1e-5)


def test_files_are_preprocessed_as_for_training(pixels, files):
    _assert_same_pixels(_ask(pixels, "from_jpeg", _bytes(files)), files)


@pytest.mark.parametrize(
    "signature, dtype", [("serving_default", np.uint8), ("from_float", np.float32)]
)
def test_images_of_any_size_are_preprocessed_as_for_training(
    pixels, files, signature, dtype
):
    for path in files:
        decoded = np.asarray(Image.open(path), dtype)
        _assert_same_pixels(_ask(pixels, signature, decoded[np.newaxis]), [path])


def test_another_normalisation_is_in_the_graph(files, tmp_path):
    images = tf.keras.Input((*_SIZE, 3))
    network = tf.keras.Model(images, tf.keras.layers.Flatten()(images))
    serving.export(network, tmp_path / "1", normalisation=preprocess.CIFAR)
    served = tf.saved_model.load(str(tmp_path / "1"))
    (pixels,) = image_files.ImageBatches(files, *_SIZE)
    expected = (pixels - [129.3, 124.1, 112.4]) / [68.2, 65.4, 70.4]
    expected = _unit(expected.reshape(len(files), -1))
    found = _ask(served, "from_jpeg", _bytes(files))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_files_may_be_png(pixels, files, tmp_path):
    png = tmp_path / "0.png"
    Image.open(files[0]).save(png)
    _assert_same_pixels(_ask(pixels, "from_jpeg", _bytes([png])), [str(png)])


def test_embeddings_are_the_networks_on_the_unit_sphere(served, network, files):
    embeddings = _ask(served, "from_jpeg", _bytes(files))
    expected = _unit(network(_batch(files)).numpy())
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    # The four would agree as well if the network ignored its input.
    assert np.ptp(expected, axis=0).max() > 1e-3


@pytest.mark.parametrize(
    "bad, named",
    [
        ({1: b""}, r"1 of 4 .*batch: \[1\]"),
        ({0: b"GIF", 3: None}, r"2 of 4 .*batch: \[0 3\]"),
        (dict.fromkeys(range(4), b"\xff\xd8\xff"), r"4 of 4 .*batch: \[0 1 2 3\]"),
    ],
)
def test_files_that_cannot_be_decoded_are_named(served, files, bad, named):
    request = _bytes(files)
    for i, data in bad.items():
        request[i] = request[i][: len(request[i]) // 2] if data is None else data
    with pytest.raises(tf.errors.InvalidArgumentError, match=named):
        _ask(served, "from_jpeg", request)
    # The server lives on.
    assert len(_ask(served, "from_jpeg", _bytes(files))) == 4


def test_an_empty_batch_is_said_to_be_empty(served):
    with pytest.raises(tf.errors.InvalidArgumentError, match="the batch is empty"):
        _ask(served, "serving_default", np.zeros((0, *_SIZE, 3), np.uint8))


def test_warmup_replays(directory, served):
    records = tf.data.TFRecordDataset(str(directory / serving.WARMUP))
    asked = []
    for record in records.as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        request = log.predict_log.request
        ((argument, value),) = request.inputs.items()
        signature = served.signatures[request.model_spec.signature_name]
        answer = signature(**{argument: tf.constant(tf.make_ndarray(value))})
        rows = answer["embeddings"].numpy()
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        asked.append((request.model_spec.name, signature.name, len(rows)))
        assert request.model_spec.name == "cdnet"
    sizes = [rows for _, _, rows in asked]
    assert sizes == [1, 1, 1, 3, 3, 3]
    assert {name for _, name, _ in asked} == {
        served.signatures[name].name for name in serving.SIGNATURES
    }


def test_record_tells_a_runner_the_size(directory, served, network, files):
    record = json.loads((directory / identity.RECORD).read_text())
    described = served.signatures[serving.DESCRIBE](about=tf.constant(["", "?"]))
    assert [json.loads(text) for text in described["record"].numpy()] == [record] * 2
    width = network.output_shape[1]
    sizes = {"height": 64, "width": 32, "dimensions": width}
    assert record == {"network": "cdnet", **sizes, "scores": {"rank1": 0.5}}
    embedder = embedders.open_model(directory)
    assert (embedder.height, embedder.width, embedder.dimensions) == (64, 32, width)
    images = np.concatenate(list(image_files.ImageBatches(files, *_SIZE)))
    expected = _unit(network(_batch(files)).numpy())
    np.testing.assert_allclose(embedder.embed(images), expected, atol=1e-5)


def test_saved_model_cli_shows_and_runs_it(pixels_directory, files, tmp_path):
    """The command loads the file into a session, as a server does."""
    np.save(tmp_path / "jpeg.npy", np.array(_bytes(files)))
    cli = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli"]
    show = [*cli, "show", f"--dir={pixels_directory}", "--all"]
    run = [*cli, "run", f"--dir={pixels_directory}", "--tag_set=serve"]
    run += ["--signature_def=from_jpeg", f"--inputs=jpeg={tmp_path}/jpeg.npy"]
    run += [f"--outdir={tmp_path}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for command in (show, run)]
    (shown, _), (_, errors) = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    for name, spec in serving.SIGNATURES.items():
        assert f"signature_def['{name}']" in shown
        assert f"inputs['{spec.name}'] tensor_info" in shown
    _assert_same_pixels(np.load(tmp_path / "embeddings.npy"), files)


@pytest.mark.parametrize("shape, heads", [((64, 32, 3), 7), ((64, 32, 1), None)])
def test_only_an_embedding_network_is_served(tmp_path, shape, heads):
    images = tf.keras.Input(shape)
    rows = tf.keras.layers.Flatten()(images)
    outputs = {"embedding": rows, "logits": rows} if heads else rows
    network = tf.keras.Model(images, outputs, name="odd")
    with pytest.raises(ValueError, match="network odd maps .* without training heads"):
        serving.export(network, tmp_path / "1")
    assert not (tmp_path / "1").exists()
