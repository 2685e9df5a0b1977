"""A loaded network embeds whatever holds an image as evaluation embeds files."""

from __future__ import annotations

import json
import weakref

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cdnet_tf import shipped
from cdnet_tf.api import reid as api
from cdnet_tf.data import image_files, preprocess
from cdnet_tf.deploy import (
    embedders,
    identity,
    measurements,
    network_file,
    serving,
    tflite,
)
from cdnet_tf.pedestrians import writer

# The converter says so of networks whose ranges come from samples.
pytestmark = pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")

_SIZE = 64, 32
_ROW = {"distance": 1.0, "false_accept_rate": 0.0008, "true_accept_rate": 0.7}
_THRESHOLDS = {
    "rates": [0.01, 0.001],
    "at_rates": [{**_ROW, "distance": 1.2, "note": ""}, {**_ROW, "note": ""}],
}


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A folder of drawn people, larger than the network's images."""
    root = tmp_path_factory.mktemp("people") / "data"
    few = {"train_identities": 1, "cameras": 2, "distractors": 0, "junk": 0}
    writer.write_pedestrians(root, **few, test_identities=4, height=96, width=48)
    return root / "query"


@pytest.fixture(scope="module")
def paths(people):
    return sorted(map(str, people.iterdir()))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A "training" of a network in which places and colours matter."""
    run_dir = tmp_path_factory.mktemp("run")
    tf.keras.utils.set_random_seed(0)
    images = tf.keras.Input((*_SIZE, 3))
    x = tf.keras.layers.Conv2D(8, 8, 8, activation="relu")(images)
    x = tf.keras.layers.Dense(12)(tf.keras.layers.Flatten()(x))
    network = tf.keras.Model(images, x, name="small")
    path = run_dir / "model.keras"
    network_file.save(network, path, preprocess.IMAGENET)
    evaluation = {
        "model": {"sha256": measurements.sha256(path)},
        "flip": False,
        "thresholds": _THRESHOLDS,
    }
    (run_dir / "evaluation.json").write_text(json.dumps(evaluation))
    return run_dir


@pytest.fixture(scope="module")
def reid(run_dir):
    return api.load(run_dir)


def _evaluated(model, paths, size):
    """Unit embeddings as `cdnet_tf.evaluate` computes them."""
    batches = image_files.ImageBatches(paths, *size)
    rows = embedders.open_model(model).embed_all(batches)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _pixels(paths):
    return [np.asarray(Image.open(path)) for path in paths]


def test_embeds_as_evaluation_does_whatever_holds_the_images(
    reid, run_dir, people, paths
):
    expected = _evaluated(run_dir / "model.keras", paths, _SIZE)
    assert len(paths) > 6 and np.ptp(expected, axis=0).max() > 0.1
    arrays = _pixels(paths)
    for images in (
        people,
        paths,
        arrays,
        np.stack(arrays),
        map(Image.open, paths),
        [paths[0], Image.fromarray(arrays[1]), *arrays[2:]],
    ):
        found = reid(images, batch_size=3)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(reid(paths[2]), expected[2:3], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_a_shipped_network_embeds_as_evaluation_does(paths):
    name = "market1501/cdnet_x0_25_int8"
    reid = api.load(name)
    assert reid.network == identity.of_file(shipped.locate(name))
    found = reid(_pixels(paths))
    expected = _evaluated(name, paths, reid.input_shape[:2])
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.fixture(scope="module")
def exports(run_dir, paths, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    network = embedders.load_network(run_dir / "model.keras")
    record = {"sha256": measurements.sha256(run_dir / "model.keras")}
    serving.export(network, folder / "small" / "1", record=record)
    images = np.concatenate(list(image_files.ImageBatches(paths, *_SIZE)))
    for name, variant, layout in (
        ("float32.tflite", "float32", "nhwc"),
        ("int8_nchw.tflite", "int8", "nchw"),
    ):
        content = tflite.convert(network, variant, layout=layout, images=images)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    "name, least",
    [("small/1", 0.99999), ("float32.tflite", 0.99999), ("int8_nchw.tflite", 0.99)],
)
def test_every_export_is_loaded_and_agrees(reid, exports, paths, name, least):
    exported = api.load(exports / name)
    assert (exported.input_shape, exported.embedding_size) == ((*_SIZE, 3), 12)
    cosines = np.sum(exported(paths) * reid(paths), axis=1)
    assert cosines.min() > least
    # A SavedModel is the network it was made of; a TFLite file rounds.
    same = exported.network.checksum == reid.network.checksum
    assert same == (name == "small/1")


def test_a_network_says_what_it_is(reid, run_dir):
    checksum = measurements.sha256(run_dir / "model.keras")
    assert reid.network == (f"{run_dir.name}/model.keras", checksum)
    assert (reid.input_shape, reid.embedding_size) == ((64, 32, 3), 12)
    assert repr(reid) == (
        f"<Reid {run_dir.name}/model.keras: 64x32x3 -> 12, sha256 {checksum[:12]}>"
    )


def test_bad_images_are_all_named_or_skipped(reid, paths, tmp_path):
    (tmp_path / "text.jpg").write_text("not an image")
    picture = _pixels(paths)[3]
    images = ["gone.jpg", *paths[:3], str(tmp_path / "text.jpg"), picture]
    with pytest.raises(ValueError, match="^2 of 6 .*gone.jpg .*text.jpg") as raised:
        reid(images, batch_size=2, progress=False)
    assert "with embed_readable" in str(raised.value)
    found = reid.embed_readable(images, batch_size=2)
    np.testing.assert_allclose(found.embeddings, reid(paths[:4]), atol=1e-6)
    assert found.numbers.tolist() == [1, 2, 3, 5]
    assert found.names == (*paths[:3], "images[5]")
    assert list(found.bad) == [0, 4]
    assert found.bad[0] == "gone.jpg (No such file or directory)"
    with pytest.raises(ValueError, match=r"images\[1\] is float64"):
        reid.embed_readable([paths[0], np.zeros((8, 8, 3))])


def test_no_images_and_bad_images_alone_give_no_rows(reid):
    assert reid([]).shape == (0, 12)
    found = reid.embed_readable(["gone.jpg"])
    assert found.embeddings.shape == (0, 12)
    assert (found.numbers.tolist(), found.names, list(found.bad)) == ([], (), [0])
    with pytest.raises(ValueError, match="batch_size=0 holds no image"):
        reid([], batch_size=0)


def test_frames_of_a_video_are_let_go(reid):
    class Frame(np.ndarray):
        """An array that can be referred to without keeping it."""

    frames, alive = [], []

    def video():
        for _ in range(200):
            frame = np.zeros((8, 8, 3), np.uint8).view(Frame)
            frames.append(weakref.ref(frame))
            alive.append(sum(each() is not None for each in frames))
            yield frame

    assert reid(video(), batch_size=2).shape == (200, 12)
    assert max(alive) < 100  # a few batches of 2 for each of at most 8 threads


def test_after_a_bad_image_others_are_read_and_not_embedded(reid, paths, monkeypatch):
    embedded = []

    class Counting:
        height, width, dimensions = *_SIZE, 12

        def embed(self, images):
            embedded.append(len(images))
            return np.ones((len(images), 12), np.float32)

    monkeypatch.setattr(reid, "_embedder", Counting())
    monkeypatch.setattr("cdnet_tf.deploy.parallel.threads", lambda: 1)
    with pytest.raises(ValueError, match="2 of 8 images cannot be read"):
        reid([*paths[:2], "a.jpg", *paths[2:6], "b.jpg"], batch_size=2)
    assert embedded == [2]


def test_long_work_shows_a_bar_and_short_work_none(reid, paths, capfd, monkeypatch):
    monkeypatch.setattr("cdnet_tf.api.reid._SILENT_S", 0.0)
    reid(paths)
    assert f"{len(paths)}/{len(paths)}" in capfd.readouterr().err
    reid(paths, progress=False)
    monkeypatch.setattr("cdnet_tf.api.reid._SILENT_S", 1e6)
    reid(paths)
    assert capfd.readouterr().err == ""


def test_same_person_takes_images_and_embeddings(reid, paths):
    rows = reid(paths[:2])
    distance = np.linalg.norm(rows[0] - rows[1])
    for a, b in (
        (paths[0], paths[1]),
        (_pixels(paths)[0], Image.open(paths[1])),
        (rows[0], 7 * rows[1:2].astype(float)),
    ):
        verdict = reid.same_person(a, b)
        np.testing.assert_allclose(verdict.distance, distance, atol=1e-5)
        assert verdict.same == bool(verdict) == (distance < 1.0)
        assert (verdict.threshold, verdict.false_accept_rate) == (1.0, 0.0008)
    assert reid.same_person(paths[0], paths[0])
    assert reid.same_person(*paths[:2], false_accept_rate=0.01).threshold == 1.2
    assert reid.threshold(0.01).true_accept_rate == 0.7


def test_same_person_is_of_two_images_with_a_threshold(reid, exports, people, paths):
    with pytest.raises(ValueError, match="compares two images, and was given 8 on"):
        reid.same_person(people, paths[0])
    with pytest.raises(ValueError, match="an embedding of 12 numbers"):
        reid.same_person(paths[0], np.ones(5))
    with pytest.raises(ValueError, match="1 image embeddings hold NaN"):
        reid.same_person(paths[0], np.full(12, np.nan))
    lone = api.load(exports / "float32.tflite")
    with pytest.raises(ValueError, match="float32.tflite has no threshold"):
        lone.same_person(paths[0], paths[1])


@pytest.mark.parametrize(
    "model, error, message",
    [
        ("none/such", FileNotFoundError, "a training's run directory, the URL of a"),
        (".", ValueError, "is a directory without a saved_model.pb"),
    ],
)
def test_says_what_cannot_be_loaded(model, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        api.load(model)
