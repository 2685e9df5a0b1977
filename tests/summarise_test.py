"""The table of a run: its lines, and that the scores are the network's own."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from cdnet_tf import shipped
from cdnet_tf.deploy import measurements
from cdnet_tf.pedestrians import writer
from tests import tiny

_ROOT = pathlib.Path(__file__).parent.parent
_SHIPPED = "market1501/cdnet_x0_25_int8"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set, a network with scores, and the report of an export."""
    folder = tmp_path_factory.mktemp("run")
    writer.write_pedestrians(
        folder / "data", train_identities=2, test_identities=2, height=64, width=32
    )
    tiny.network(shallow=True).save(folder / "model.keras")
    counts = {"query": {"images": 3, "identities": 2}, "gallery": {"images": 9}}
    record = {
        "scores": {"rank1": 0.625, "mean_ap": 0.5},
        "thresholds": {},
        "flip": False,
        "model": {"sha256": measurements.sha256(folder / "model.keras")},
        "provenance": {
            "flags": {"holdout_identities": None},
            "dataset": {"name": "pedestrians", "counts": counts},
        },
    }
    (folder / "evaluation.json").write_text(json.dumps(record))
    row = {"file": "cdnet_int8_float_io.tflite", "rank1": 0.25, "mean_ap": 0.125}
    row |= {"bytes": 500_000, "latency_ms": 1.5}
    on_chip = row | {"file": "cdnet_int8.tflite", "variant": "int8"}
    shutil.copy(shipped.locate(_SHIPPED), folder / on_chip["file"])
    (folder / "export_report.json").write_text(json.dumps({"files": [row, on_chip]}))
    return folder


def _run(folder, model="model.keras"):
    command = [sys.executable, "tools/summarise.py", f"--model={folder / model}"]
    command += [f"--data_dir={folder / 'data'}", f"--export_dir={folder}"]
    return subprocess.run(
        command,
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_has_a_line_for_the_network_and_for_each_file(folder):
    done = _run(folder)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if "%" in line}
    assert rows["model.keras"][:2] == ["62.5%", "50.0%"]
    file = "cdnet_int8_float_io.tflite"
    assert rows[file] == ["25.0%", "12.5%", "0.50", "1.50"]
    # As docs/export.md has it, from the compiler of the chip.
    assert rows["cdnet_int8.tflite"] == [*rows[file], "0.60"]
    assert f"{folder}/README.txt" in lines[-1]


def test_refuses_scores_of_another_network(folder):
    content = (folder / "model.keras").read_bytes()
    (folder / "changed.keras").write_bytes(content + b"\0")
    done = _run(folder, "changed.keras")
    assert done.returncode
    assert "evaluation.json measured another file" in done.stderr
