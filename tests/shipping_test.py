"""A training and its export become shipped weights, or an error says why not."""

import copy
import json
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf import shipped
from cdnet_tf.data import preprocess
from cdnet_tf.deploy import embedders, measurements, network_file, shipping
from tests import tiny

_ROOT = pathlib.Path(__file__).parent.parent
_NAME = "market1501/tiny"
_LAYERS = [[3, 5, 1]] * 6
_SCORES = {
    **{"rank1": 0.75, "rank5": 0.8, "rank10": 0.9, "mean_ap": 0.5, "mean_inp": 0.125},
    **{"queries": 4, "skipped": 0, "cmc": [0.75, 0.8]},
}
_AT = {"false_accept_rate": 0.001, "true_accept_rate": 0.25, "note": ""}
_THRESHOLDS = {
    **{"genuine_pairs": 1234, "impostor_pairs": 5678, "rates": [0.01, 0.001]},
    "at_rates": [
        {**_AT, "distance": None, "note": "too few pairs"},
        {**_AT, "distance": 0.625},
    ],
    "equal_error": {**_AT, "distance": 0.875},
}
_PAIR = {"query_camera": 1, "gallery_camera": 2, "mean_ap": 0.25, "queries": 3}
_PAIRS = [
    {**_PAIR, "rank1": 0.5},
    {**_PAIR, "query_camera": 2, "gallery_camera": 1, "rank1": 0.375},
    {**_PAIR, "query_camera": 3, "rank1": None, "mean_ap": None},
]
_SPLIT = {"images": 1000, "identities": 10, "cameras": 2}
_COUNTS = dict.fromkeys(("train", "query", "gallery"), _SPLIT)


def _evaluation(model, folder):
    (folder / "found.json").write_text(json.dumps({"layers": _LAYERS}))
    flags = {"genotype": str(folder / "found.json"), "width_multiplier": 0.25}
    flags |= {"init_from": str(folder), "holdout_identities": None, "xla": False}
    return {
        **{"scores": _SCORES, "thresholds": _THRESHOLDS, "camera_pairs": _PAIRS},
        **{"flip": False, "parameters": 12345, "macs": 67890},
        "model": {"sha256": measurements.sha256(model)},
        "provenance": {
            "flags": flags,
            "dataset": {"name": "market1501", "counts": _COUNTS},
            "versions": {"tensorflow": "2.15.1", "python": "3.11"},
            "commit": "abc",
        },
    }


def _row(file, model):
    exported = {"calibration_images": 100, "qat_epochs": 0}
    return {
        **{"file": file.name, "variant": "int8", "bytes": 8, "macs": 67890, **_SCORES},
        **{"map_drop": 0.25, "cosine_mean": 0.999, "cosine_min": 0.99},
        "rewrite": ["pool"],
        "thresholds": _THRESHOLDS,
        "measured": {"sha256": measurements.sha256(file), "subset": None},
        "export": {
            **exported,
            "model_sha256": measurements.sha256(model),
            "provenance": {"commit": "def"},
        },
    }


@pytest.fixture(scope="module")
def _made(tmp_path_factory):
    """Makes (run, evaluation, row); the int8 file is not opened, so any bytes do."""
    run = tmp_path_factory.mktemp("made") / "run"
    (run / "tflite").mkdir(parents=True)
    network_file.save(tiny.network(shallow=True), run / "model.keras", preprocess.CIFAR)
    int8 = run / "tflite/cdnet_int8.tflite"
    int8.write_bytes(b"integers")
    evaluation = _evaluation(run / "model.keras", run.parent)
    return run, evaluation, _row(int8, run / "model.keras")


@pytest.fixture
def made(_made):
    """Copies `_made`, with records on disk, so that a test may change it."""
    run, evaluation, row = _made
    evaluation, row = copy.deepcopy(evaluation), copy.deepcopy(row)

    _write(run, evaluation, row)
    return run, evaluation, row


def _write(run, evaluation, row):
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    report = json.dumps({"files": [row, {"variant": "uint8", "file": "b"}]})
    (run / "tflite/export_report.json").write_text(report)


def _read(run, file=None):
    found = shipping.training(run)
    row = shipping.int8_row(run / "tflite", run / "model.keras", file)
    return found, shipping.measured_int8(row)


@pytest.fixture(scope="module")
def folder(_made, tmp_path_factory):
    """Ships this network with the program; returns the folder of shipped files."""
    run, *records = _made
    _write(run, *records)
    folder = tmp_path_factory.mktemp("shipped")
    done = _program(f"--run_dir={run}", f"--name={_NAME}", f"--output={folder}")
    assert done.returncode == 0, done.stderr
    assert f"{_NAME} is in {folder}, which now holds 0." in done.stdout
    return folder


def _program(*arguments):
    command = [sys.executable, "tools/ship_weights.py", *arguments]
    return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)


def test_shipped_network_is_the_trained_one_in_fewer_bytes(_made, folder):
    run, *_ = _made
    assert shipped.names(folder) == [_NAME, f"{_NAME}_int8"]
    path = shipped.locate(_NAME, folder)
    assert shipped.locate(f"{_NAME}_int8", folder).read_bytes() == b"integers"
    assert path.stat().st_size < 0.8 * (run / "model.keras").stat().st_size
    assert network_file.normalisation(path) == preprocess.CIFAR
    images = tiny.images(2)
    ours, theirs = (
        embedders.open_model(each).embed(images) for each in (run / "model.keras", path)
    )
    np.testing.assert_array_equal(ours, theirs)
    names = {file.name for file in (folder / "market1501").iterdir()}
    assert names == {"tiny.keras", "tiny_int8.tflite", "tiny.json", "tiny.md"}


def test_record_and_card_say_what_was_measured(_made, folder):
    run, *_ = _made
    record = shipped.record(folder / "market1501/tiny.json")
    assert (record["height"], record["width"]) == (tiny.HEIGHT, tiny.WIDTH)
    assert record["genotype"] == _LAYERS
    assert record["scores"]["rank1"] == 0.75 and "cmc" not in record["scores"]
    # No path of this machine: the genotype as it is written, a run by its name.
    assert record["provenance"]["flags"]["genotype"] == " ".join(["(3,5,1)"] * 6)
    assert str(run.parent) not in json.dumps(record)
    measured, origin = measurements.of_network(shipped.locate(_NAME, folder))
    assert measured["thresholds"] == _THRESHOLDS and "tiny.json" in origin
    card = (folder / "market1501/tiny.md").read_text()
    for said in (
        "# market1501/tiny",
        "academic research only",
        "1,000 images of 10 people in train; 1,000 images",
        "Commit abc; TensorFlow 2.15.1",
        '--genotype="(3,5,1) (3,5,1)',
        "| tiny.keras | 75.0% | 80.0% | 90.0% | 50.0% | 12.5% |",
        "loses 0.25 points of mAP",
        "| 1 |  | 50.0 / 25.0 |",
        "| tiny_int8.tflite | 1.00% | none | too few pairs |",
        "| tiny.keras | 0.10% | 0.6250 | 0.100% | 25.0% |",
        "rank-1 is 37.5% from camera 2 to 1",
        "75.0% of the pairs of one person are missed",
        "## Misuse",
        record["files"]["tiny.keras"]["sha256"],
    ):
        assert said in card.replace("\n  ", " "), said  # the lines of a list


@pytest.mark.parametrize(
    "change, error",
    [
        (lambda e, r: e.update(flip=True), "plain test images"),
        (lambda e, r: e.update(model={}), "was not measured on"),
        (lambda e, r: r.update(variant="uint8"), "has 0 int8 files"),
        (lambda e, r: r["measured"].update(sha256="0"), "export again"),
        (lambda e, r: r["measured"].update(subset="some"), "judged on some; .*--gate_"),
        (lambda e, r: r["export"].pop("model_sha256"), "was not exported from"),
    ],
)
def test_what_does_not_belong_together_is_refused(made, change, error):
    run, evaluation, row = made
    change(evaluation, row)
    _write(run, evaluation, row)
    with pytest.raises(ValueError, match=error):
        _read(run)


def test_unfinished_training_and_missing_export_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="evaluation.json .* finished training"):
        shipping.training(tmp_path)
    with pytest.raises(FileNotFoundError, match="export with python -m .*--variants="):
        shipping.int8_row(tmp_path, tmp_path / "model.keras")


@pytest.mark.parametrize("name", ["msmt17/tiny", "market1501", "market1501/a/b"])
def test_name_begins_with_the_data_set(made, tmp_path, name):
    run, *_ = made
    with pytest.raises(ValueError, match=f"name={name} should be market1501/"):
        shipping.ship(name, tmp_path, run, run / "none", *_read(run))


def test_failure_leaves_what_was_shipped_before(made, folder):
    run, evaluation, _ = made
    before = {file: file.read_bytes() for file in folder.glob("*/*")}
    del evaluation["thresholds"]["rates"]
    int8, measured = run / "tflite/cdnet_int8.tflite", _read(run)[1]
    with pytest.raises(KeyError):
        shipping.ship(_NAME, folder, run, int8, evaluation, measured)
    assert {file: file.read_bytes() for file in folder.glob("*/*")} == before


def test_says_how_the_int8_file_was_rewritten(made):
    _, _, row = made
    assert shipping.measured_int8(row)["export"]["rewrite"] == ["pool"]
    del row["rewrite"]  # A report of older exports, where all files had the same.
    row["export"]["rewrite"] = []
    assert shipping.measured_int8(row)["export"]["rewrite"] == []


def test_terms_of_the_data_set_must_be_known(made, tmp_path):
    run, evaluation, _ = made
    evaluation["provenance"]["dataset"]["name"] = "msmt17"
    int8, measured = run / "tflite/cdnet_int8.tflite", _read(run)[1]
    with pytest.raises(ValueError, match="dataset=msmt17 has no terms"):
        shipping.ship("msmt17/tiny", tmp_path, run, int8, evaluation, measured)


def test_program_refuses_a_run_that_has_not_ended(tmp_path):
    done = _program(f"--run_dir={tmp_path}", f"--name={_NAME}", f"--output={tmp_path}")
    assert done.returncode and "evaluation.json does not exist; name" in done.stderr
    assert not list(tmp_path.iterdir())


def test_optimizer_is_left_out(tmp_path):
    inputs = tf.keras.Input((4,))
    network = tf.keras.Model(inputs, tf.keras.layers.Dense(600)(inputs))
    network.compile("adam", "mse")
    network.fit(np.ones((2, 4)), np.ones((2, 600)), verbose=0)
    network.save(tmp_path / "a.keras")
    network_file.shrink(tmp_path / "a.keras", tmp_path / "b.keras")
    with zipfile.ZipFile(tmp_path / "b.keras") as archive:
        dates = {entry.date_time[0] for entry in archive.infolist()}
    assert dates == {1980}  # so that the same network makes the same bytes
    sizes = [(tmp_path / file).stat().st_size for file in ("a.keras", "b.keras")]
    # 3,000 weights and twice as many moments, of 4 bytes.
    assert sizes[1] < 15_000 < 36_000 < sizes[0]
    found = tf.keras.models.load_model(tmp_path / "b.keras", compile=False)
    for ours, theirs in zip(found.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    (tmp_path / "c.keras").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="c.keras cannot be read as a .keras file"):
        network_file.shrink(tmp_path / "c.keras", tmp_path / "d.keras")
