"""The real evaluation program, on generated pedestrians and a tiny network."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.keras import layers

from cdnet_tf.data import datasets
from cdnet_tf.pedestrians import writer
from cdnet_tf.retrieval import ranking, report
from tests import tiny

_ROOT = pathlib.Path(__file__).parent.parent
_HEIGHT, _WIDTH = 64, 32

# Other programs have flags of the same names, so this one gets a process; one for all
# cases, since TensorFlow's start takes longer than they do.
_EACH = """
import contextlib, io, json, pathlib, sys
from absl import app, flags
from absl.testing import flagsaver
from cdnet_tf import evaluate, shipped
shipped.FOLDER = pathlib.Path("weights").resolve()
results = {}
for name, arguments in json.load(sys.stdin).items():
    output = io.StringIO()
    with flagsaver.flagsaver(), contextlib.redirect_stdout(output):
        flags.FLAGS(["evaluate", *arguments])
        try:
            status = evaluate.main(["evaluate"])
        except (OSError, ValueError, app.UsageError, SystemExit) as error:
            status = f"{type(error).__name__}: {error}"
    results[name] = [status, output.getvalue()]
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def network():
    tf.keras.utils.set_random_seed(0)
    images = tf.keras.Input((_HEIGHT, _WIDTH, 3))
    x = layers.Conv2D(8, 5, 4, activation="relu")(images)
    x = layers.Dense(24)(layers.Flatten()(x))
    return tf.keras.Model(images, x)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, network):
    """Writes a sound and a faulty data set, and files of the network."""
    folder = tmp_path_factory.mktemp("evaluate")
    writer.write_pedestrians(
        folder / "data",
        train_identities=2,
        test_identities=4,
        distractors=5,
        junk=3,
        height=_HEIGHT,
        width=_WIDTH,
    )
    shutil.copytree(folder / "data", folder / "sick")
    gallery = folder / "sick" / "bounding_box_test"
    for file in gallery.glob("0003_*"):
        file.unlink()
    next(gallery.glob("0004_*")).write_bytes(b"no image")
    _as_folders(folder / "data", folder / "own")
    (folder / "run").mkdir()
    network.save(folder / "run" / "model.keras")
    tf.saved_model.save(network, str(folder / "run" / "saved"))
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    (folder / "run" / "small.tflite").write_bytes(converter.convert())
    weights = folder / "weights/market1501"
    weights.mkdir(parents=True)
    shutil.copy(folder / "run/model.keras", weights / "tiny.keras")
    checksum = hashlib.sha256((weights / "tiny.keras").read_bytes()).hexdigest()
    record = {"files": {"tiny.keras": {"sha256": checksum}}}
    (weights / "tiny.json").write_text(json.dumps(record))
    sick = tf.keras.models.clone_model(network)
    sick.set_weights([weight * np.nan for weight in network.get_weights()])
    sick.save(folder / "run" / "nan.keras")
    return folder


def _as_folders(source, target):
    """Writes the test images in PERSON/CAMERA/ folders; some as PNG."""
    splits = {"query": "query", "bounding_box_test": "gallery"}
    files = (file for split in splits for file in sorted((source / split).iterdir()))
    for number, file in enumerate(files):
        person, camera = file.name.split("_")[:2]
        place = target / splits[file.parent.name] / person / camera[:2]
        place.mkdir(parents=True, exist_ok=True)
        if number % 5:
            shutil.copy(file, place / f"{number}.JPG")
        else:
            Image.open(file).save(place / f"{number}.png")


@pytest.fixture(scope="module")
def runs(folder):
    """Case -> (exit status or error, console output)."""
    data = f"--data_dir={folder / 'data'}"
    model, nan, none, tflite, saved = (
        f"--model={folder / 'run' / name}"
        for name in "model.keras nan.keras none.keras small.tflite saved".split()
    )
    other = folder / "other"
    cases = {
        "plain": [data, model, "--rerank", "--ranked_lists=12", "--batch_size=7"],
        "flip": [data, model, "--flip", f"--output_dir={folder / 'flip'}"],
        "tflite": [data, tflite, "--ranked_lists=0"],
        "saved": [data, saved, "--ranked_lists=0"],
        "size": [data, model, "--height=64", "--width=32", f"--output_dir={other}"],
        "other size": [data, model, "--height=128", "--width=64"],
        "half a size": [data, model, "--height=64"],
        "own": [
            *("--dataset=folders", f"--data_dir={folder / 'own'}", "--ranked_lists=1"),
            *(model, f"--output_dir={folder / 'of_own'}"),
        ],
        "no data": [f"--data_dir={folder / 'none'}", model],
        "nan": [data, nan],
        "missing": [data, none],
        "shipped": [data, "--model=market1501/tiny", "--ranked_lists=0"],
        "nothing": [data],
        "no folder": [data, model, f"--output_dir={folder / 'run' / 'model.keras'}"],
        "sound data": [data, "--check_data"],
        "sick data": [f"--data_dir={folder / 'sick'}", "--check_data"],
    }
    process = subprocess.run(
        [sys.executable, "-c", _EACH],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(_ROOT)},
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.fixture(scope="module")
def data(folder):
    return datasets.read("market1501", str(folder / "data"))


@pytest.fixture(scope="module")
def embeddings(network, data):
    """Returns (query, gallery) embeddings, and those of the mirrored images."""

    def embed(images, mirrored):
        batches = tiny.normalised(images.paths, _HEIGHT, _WIDTH)
        values = np.concatenate(list(batches))
        return network.predict(values[:, :, ::-1] if mirrored else values, verbose=0)

    splits = data.query, data.gallery
    return [[embed(images, mirrored) for images in splits] for mirrored in (0, 1)]


def _assert_close(found, expected, where="report"):
    """Compares nested records; a last bit may change numbers a little."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            _assert_close(found[key], value, f"{where}.{key}")
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), where
        for i, (a, b) in enumerate(zip(found, expected)):
            _assert_close(a, b, f"{where}[{i}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-4), where
    else:
        assert found == expected, where


def _expected(data, query, gallery, **options):
    found = report.report(query, data.query, gallery, data.gallery, **options)
    return json.loads(json.dumps(found))


def test_record_is_the_report_of_the_networks_own_embeddings(
    folder, runs, data, embeddings
):
    status, output = runs["plain"]
    assert status == 0
    record = json.loads((folder / "run/evaluation/evaluation.json").read_text())
    _assert_close(record, _expected(data, *embeddings[0], rerank=True))
    scores = ranking.evaluate(
        embeddings[0][0], data.query, embeddings[0][1], data.gallery
    )
    assert record["scores"]["mean_ap"] == pytest.approx(scores.mean_ap, abs=1e-4)
    assert f"{100 * scores.mean_ap:.1f}" in output
    assert not record["flip"]


def test_record_says_what_was_evaluated(folder, runs):
    record = json.loads((folder / "run/evaluation/evaluation.json").read_text())
    file = folder / "run" / "model.keras"
    assert record["model"] == {
        "path": str(file),
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "kind": "keras",
        "runtime": f"TensorFlow {tf.__version__}",
        "height": _HEIGHT,
        "width": _WIDTH,
        "dimensions": 24,
        "takes_pixels": False,
    }
    counts = record["provenance"]["dataset"]["counts"]
    # 4 people, 6 cameras, one query and one gallery image each; 5 distractors.
    assert (counts["query"]["images"], counts["gallery"]["images"]) == (24, 29)


def test_pictures_lie_beside_the_record(folder, runs):
    files = {file.name for file in (folder / "run" / "evaluation").iterdir()}
    sheets = {"ranked_lists_1.png", "ranked_lists_2.png"}
    assert files == {"evaluation.json", "cmc.png", *sheets}
    sizes = [
        Image.open(folder / "run" / "evaluation" / name).size for name in sorted(sheets)
    ]
    # Eleven columns; ten queries on the first sheet, two on the second.
    assert sizes[0][0] == sizes[1][0] > 11 * 64
    assert sizes[0][1] > 10 * 128 > 5 * 128 > sizes[1][1] > 2 * 128


def test_flip_adds_the_mirrored_images_embedding(folder, runs, data, embeddings):
    assert runs["flip"][0] == 0
    record = json.loads((folder / "flip" / "evaluation.json").read_text())
    both = [plain + mirrored for plain, mirrored in zip(*embeddings)]
    _assert_close(record, _expected(data, *both))
    plain = _expected(data, *embeddings[0])["scores"]["mean_ap"]
    assert abs(record["scores"]["mean_ap"] - plain) > 1e-3
    assert record["flip"]


@pytest.mark.parametrize(
    "case, kind, name",
    [("tflite", "tflite", "small"), ("saved", "savedmodel", "saved")],
)
def test_exports_give_the_same_numbers(folder, runs, case, kind, name):
    assert runs[case][0] == 0
    keras = json.loads((folder / "run/evaluation/evaluation.json").read_text())
    place = folder / "run" / f"evaluation_{name}"
    record = json.loads((place / "evaluation.json").read_text())
    _assert_close(record["scores"], keras["scores"])
    assert record["model"]["kind"] == kind
    assert record["model"]["sha256"] != keras["model"]["sha256"]
    assert not list(place.glob("ranked_lists*"))


def test_own_folders_without_train_give_the_same_numbers(folder, runs):
    assert runs["own"][0] == 0, runs["own"]
    market = json.loads((folder / "run/evaluation/evaluation.json").read_text())
    record = json.loads((folder / "of_own" / "evaluation.json").read_text())
    for name in ("scores", "thresholds", "camera_pairs"):
        _assert_close(record[name], market[name])
    assert "Cameras: 1 c1, 2 c2, 3 c3, 4 c4, 5 c5, 6 c6." in runs["own"][1]
    assert record["provenance"]["dataset"]["camera_names"]["6"] == "c6"
    assert record["provenance"]["dataset"]["counts"]["train"]["images"] == 0


def test_shipped_weights_are_evaluated_outside_of_the_package(folder, runs):
    status, output = runs["shipped"]
    assert status == 0, status
    files = {file.name for file in (folder / "weights/market1501").iterdir()}
    assert files == {"tiny.keras", "tiny.json"}
    place = "runs/market1501_tiny"
    record = json.loads((folder / place / "evaluation/evaluation.json").read_text())
    keras = json.loads((folder / "run/evaluation/evaluation.json").read_text())
    _assert_close(record["scores"], keras["scores"])
    assert f"--model=market1501/tiny --output_dir={place}/tflite" in output


def test_flags_may_repeat_the_models_size(runs):
    assert runs["size"][0] == 0


@pytest.mark.parametrize(
    "case, message",
    [
        ("other size", "ValueError: .*takes images of 64x32, not 128x64"),
        ("half a size", "UsageError: Only one of --height and --width is given"),
        ("nan", r"ValueError: 24 of 24 query embeddings hold NaN.*query/0003_c1"),
        ("no data", "SystemExit: data_dir=.*none does not exist"),
        ("missing", "UsageError: .*none.keras does not exist; .* are market1501/tiny"),
        ("nothing", "UsageError: Name a --model"),
        ("no folder", "OSError: output_dir=.*model.keras cannot be used"),
    ],
)
def test_faults_are_named(runs, case, message):
    assert re.search(message, runs[case][0]), runs[case][0]


def test_data_are_examined_without_a_model(runs):
    assert runs["sound data"][0] == 0
    status, output = runs["sick data"]
    assert status == 1
    assert "0004_" in output  # the image that cannot be read
