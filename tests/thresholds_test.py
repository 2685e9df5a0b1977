"""A threshold is found wherever it was written, and only if it is the file's own."""

import hashlib
import json

import pytest

from cdnet_tf import shipped
from cdnet_tf.api import thresholds
from cdnet_tf.deploy import export_report, identity, measurements
from cdnet_tf.retrieval import verification

_CONTENT = b"the network"
_SHA256 = hashlib.sha256(_CONTENT).hexdigest()
_FEW = {"distance": None, "false_accept_rate": None, "true_accept_rate": None}
_ROW = {"distance": 0.5, "false_accept_rate": 0.0099, "true_accept_rate": 0.9}
_FOUND = {
    "genuine_pairs": 10,
    "impostor_pairs": 100,
    "rates": [0.01, 0.001],
    "at_rates": [{**_ROW, "note": ""}, {**_FEW, "note": "100 pairs cannot tell."}],
    "equal_error": {**_ROW, "note": ""},
}
_EVALUATION = {"model": {"sha256": _SHA256}, "flip": False, "thresholds": _FOUND}
_MEASURED = {"measured": {"sha256": _SHA256, "flip": False}, "thresholds": _FOUND}


def _write(path, record):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


def _file(folder, name):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(_CONTENT)
    return folder / name


@pytest.mark.parametrize(
    "name, place, record",
    [
        ("model.keras", "evaluation.json", _EVALUATION),
        ("model.keras", "evaluation/evaluation.json", _EVALUATION),
        ("int8.tflite", "evaluation_int8/evaluation.json", _EVALUATION),
        ("half.keras", "half.json", _EVALUATION),
        ("half_int8.tflite", "half.json", {"int8": _MEASURED}),
        (
            "int8.tflite",
            export_report.NAME,
            {"files": [{"file": "b.tflite"}, {"file": "int8.tflite", **_MEASURED}]},
        ),
    ],
)
def test_finds_what_was_measured_on_a_file(tmp_path, name, place, record):
    path = _file(tmp_path, name)
    _write(tmp_path / place, record)
    assert thresholds.of_file(path) == _FOUND


def test_an_older_evaluation_does_not_hide_a_newer_one(tmp_path):
    path = _file(tmp_path, "model.keras")
    flipped = {**_EVALUATION, "flip": True}
    _write(tmp_path / "evaluation" / "evaluation.json", flipped)
    _write(tmp_path / "evaluation.json", _EVALUATION)
    assert thresholds.of_file(path) == _FOUND


def test_a_saved_model_has_those_of_its_network_or_its_own(tmp_path):
    folder = tmp_path / "cdnet" / "1"
    _write(folder / identity.RECORD, {"sha256": _SHA256, **_MEASURED})
    assert thresholds.of_file(folder) == _FOUND
    _write(folder / identity.RECORD, {"sha256": _SHA256})
    with pytest.raises(ValueError, match="1 has no threshold"):
        thresholds.of_file(folder)
    own = {**_EVALUATION, "model": {"sha256": measurements.sha256(folder)}}
    _write(folder.parent / "evaluation_1" / "evaluation.json", own)
    assert thresholds.of_file(folder) == _FOUND


def test_shipped_files_carry_their_own():
    for name in shipped.names():
        path = shipped.locate(name)
        record = json.loads(
            (path.parent / f"{path.stem.removesuffix('_int8')}.json").read_text()
        )
        own = record["int8"] if name.endswith("_int8") else record
        assert thresholds.of_file(path) == own["thresholds"]


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"model": {"sha256": "0" * 64}}, "was measured on another file"),
        ({"model": {}}, "was measured on another file"),
        ({"flip": True}, "added the mirrored images"),
    ],
)
def test_takes_no_others_and_says_how_to_measure(tmp_path, change, reason):
    path = _file(tmp_path, "model.keras")
    _write(tmp_path / "evaluation.json", {**_EVALUATION, **change})
    message = f"{path} has no threshold .*evaluation.json {reason}.*--model={path}"
    with pytest.raises(ValueError, match=message):
        thresholds.of_file(path)


def test_a_file_alone_has_none(tmp_path):
    path = _file(tmp_path, "model.tflite")
    with pytest.raises(ValueError, match="no measurement stands with it. Measure it"):
        thresholds.of_file(path)
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(ValueError, match="evaluation.json is no record of this"):
        thresholds.of_file(path)


def test_a_rate_has_the_threshold_measured_for_it():
    assert thresholds.at(_FOUND, 0.01) == verification.Threshold(0.5, 0.0099, 0.9)
    with pytest.raises(ValueError, match="0.001 has no threshold: 100 pairs cannot"):
        thresholds.at(_FOUND, 0.001)
    with pytest.raises(ValueError, match="0.05 was not measured; choose one of 0.01, "):
        thresholds.at(_FOUND, 0.05)


def test_a_verdict_is_true_below_the_threshold():
    threshold = thresholds.at(_FOUND, 0.01)
    same = thresholds.judge(0.4, threshold)
    assert same and same == thresholds.Verdict(True, 0.4, 0.5, 0.0099, 0.9)
    assert not thresholds.judge(0.5, threshold)
