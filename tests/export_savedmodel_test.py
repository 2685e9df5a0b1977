"""The export program, on a network of one layer."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.deploy import measurements

ROOT = pathlib.Path(__file__).parent.parent


def _export(model, output_dir):
    command = [sys.executable, "tools/export_savedmodel.py"]
    command += [f"--model={model}", f"--output_dir={output_dir}"]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("run")
    images = tf.keras.Input((16, 16, 3))
    rows = tf.keras.layers.GlobalAveragePooling2D()(images)
    tf.keras.Model(images, rows, name="colour").save(run_dir / "model.keras")
    counts = {"query": {"images": 3, "identities": 2}, "gallery": {"images": 9}}
    dataset = {"name": "market1501", "counts": counts}
    evaluation = {
        "scores": {"rank1": 0.25},
        "thresholds": [0.5],
        "flip": False,
        "model": {"sha256": measurements.sha256(run_dir / "model.keras")},
        "provenance": {"flags": {"holdout_identities": 0}, "dataset": dataset},
    }
    (run_dir / "evaluation.json").write_text(json.dumps(evaluation))
    return run_dir


@pytest.fixture(scope="module")
def exported(run_dir, tmp_path_factory):
    """Exports a version; returns (its folder, console output)."""
    folder = tmp_path_factory.mktemp("serving") / "colours" / "1"
    process = _export(run_dir / "model.keras", folder)
    assert process.returncode == 0, process.stderr
    return folder, process.stdout + process.stderr


def test_version_and_configuration_stand_where_a_server_looks(exported):
    folder, output = exported
    assert (folder / "saved_model.pb").exists()
    config = (folder.parents[1] / "models.config").read_text()
    assert 'name: "colours"' in config
    assert 'key: "stable"' in config
    rows, end = output.strip().split("\n\n")
    assert end.startswith("docs/serving.md says how")
    rows = dict(line.split(maxsplit=1) for line in rows.splitlines())
    assert rows["version"].startswith(str(folder))
    assert rows["signatures"] == "serving_default, from_float, from_jpeg"
    assert list(rows) == ["version", "signatures", "thresholds", "configuration"]
    assert rows["thresholds"].startswith("from ")


def test_version_answers(exported):
    grey = np.full((1, 9, 9, 3), 200, np.uint8)
    signature = tf.saved_model.load(str(exported[0])).signatures["serving_default"]
    answer = signature(images=tf.constant(grey))["embeddings"]
    mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    expected = (200 / 255 - mean) / std
    np.testing.assert_allclose(
        answer[0], expected / np.linalg.norm(expected), atol=1e-5
    )


def test_record_holds_what_was_measured_on_the_network(exported, run_dir):
    record = json.loads((exported[0] / "assets.extra" / "model.json").read_text())
    sizes = {"height": 16, "width": 16, "dimensions": 3}
    checksum = measurements.sha256(run_dir / "model.keras")
    conditions = measurements.conditions(checksum, "market1501", 3, 9)
    measured = {"scores": {"rank1": 0.25}, "thresholds": [0.5], "measured": conditions}
    identity = {"network": "colour", "sha256": checksum}
    assert record == {**identity, **sizes, **measured}


def test_a_version_is_exported_once(exported, run_dir):
    folder, _ = exported
    before = (folder / "saved_model.pb").stat()
    process = _export(run_dir / "model.keras", folder)
    assert process.returncode == 1
    assert "never written twice. Use " + str(folder.with_name("2")) in process.stderr
    assert (folder / "saved_model.pb").stat() == before
    assert [path.name for path in folder.parent.iterdir()] == ["1"]
