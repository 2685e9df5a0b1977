"""The contents of a folder's report and README.txt, and which files they describe."""

import json

import pytest

from cdnet_tf.deploy import export_report, measurements, readme, tflite_file

_SCORES = {"rank1": 0.5, "mean_ap": 0.25}
_REFERENCE = {**_SCORES, "bytes": 2_000_000, "macs": 3_000_000}


def _row(path, **more):
    """Makes a row that was measured on a file, or on an earlier version of it."""
    measured = {"sha256": measurements.sha256(path) if path.exists() else "0"}
    return {"file": path.name, "failure": None, "measured": measured, **more}


@pytest.fixture
def composed(monkeypatch):
    """Replaces the text of README.txt by its ingredients."""
    given = []
    monkeypatch.setattr(
        readme, "compose", lambda *arguments: given.append(arguments) or "text"
    )
    monkeypatch.setattr(tflite_file, "describe", lambda content: content.decode())
    return given


def _write(path, content):
    path.write_bytes(content)
    return path


def _names(folder, kind="files"):
    record = json.loads((folder / export_report.NAME).read_text())
    return [row["file"] for row in record[kind]]


def test_rows_of_earlier_exports_stay_while_they_describe_the_file(tmp_path, composed):
    a, b, c = (_write(tmp_path / f"{x}.tflite", x.encode()) for x in "abc")
    export_report.write(tmp_path, [_row(a), _row(b), _row(c)], {"seed": 1})
    b.write_bytes(b"another file of that name")
    c.unlink()
    d = _write(tmp_path / "d.tflite", b"d")
    gone = _row(tmp_path / "e.tflite", failure="loses")
    export_report.write(tmp_path, [_row(d), gone], {"seed": 2})
    assert _names(tmp_path) == ["a.tflite", "d.tflite"]
    assert _names(tmp_path, "failed") == ["e.tflite"]
    rows = json.loads((tmp_path / export_report.NAME).read_text())["files"]
    assert [row["export"]["seed"] for row in rows] == [1, 2]


def test_readme_gets_thresholds_of_the_very_file_alone(tmp_path, composed):
    a, b = (_write(tmp_path / f"{x}.tflite", x.encode()) for x in "ab")
    rows = [_row(a), _row(b)]
    b.write_bytes(b"another")
    assert export_report.write(tmp_path, rows, {}) == []
    files, measured, _ = composed[-1]
    assert files == {"a.tflite": "a", "b.tflite": "another"}
    assert list(measured) == ["a.tflite"]
    assert (tmp_path / export_report.README).read_text() == "text"


def test_files_for_chips_are_named_while_they_are_of_the_file_there(tmp_path, composed):
    a, chip, old = (
        _write(tmp_path / f"{x}.tflite", x.encode())
        for x in ("a", "a_ethos-u65-256_vela", "b_ethos-u65-256_vela")
    )
    sha256 = measurements.sha256(chip)
    report = {"file": chip.name, "accelerator": "ethos-u65-256", "sha256": sha256}
    failed = {"file": None, "accelerator": "ethos-u85-256", "sha256": None}
    rows = [_row(a, npu=[report, failed])]
    (problem,) = export_report.write(tmp_path, rows, {})
    assert problem.startswith(f"README.txt leaves out {old.name}: it was not compiled ")
    files, _, for_chips = composed[-1]
    assert list(files) == ["a.tflite"]
    assert for_chips == {chip.name: "a.tflite, for ethos-u65-256"}
    chip.write_bytes(b"another")
    assert len(export_report.write(tmp_path, rows, {})) == 2


def test_says_which_files_it_cannot_describe(tmp_path):
    _write(tmp_path / "a.tflite", bytes(64))
    (problem,) = export_report.write(tmp_path, [], {})
    assert problem.startswith("README.txt leaves out a.tflite: ")


def test_table_has_a_line_for_each_file_and_each_failure():
    measured = {**_SCORES, "cosine_mean": 0.99, "cosine_min": 0.9, "bytes": 1_000_000}
    measured |= {"macs": 3_000_000, "latency_ms": 2.5, "runtime": "TFLite", "cpu": "x"}
    good = {"file": "good.tflite", "failure": None, **measured}
    refused = {"file": "bad.tflite", "failure": "rescales"}
    lines = export_report.table([good, refused], _REFERENCE).splitlines()
    assert lines[1].split() == ["float", "Keras", "50.0%", "25.0%", "2.00", "3.0"]
    assert lines[2].split()[1:5] == ["50.0%", "25.0%", "0.99000", "0.90000"]
    assert lines[3] == "FAILED  bad.tflite: rescales"
    assert lines[4:] == ["ms: median of one image, TFLite, x."]
