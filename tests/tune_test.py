"""The real tuning program: two trials of a second's training, and the best repeated."""

from __future__ import annotations

import csv
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from cdnet_tf.data import datasets, holdout, pedestrians
from cdnet_tf.learn import study_log
from cdnet_tf.nn import genotype

_ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tune")
    pedestrians.write_pedestrians(
        folder / "data", train_identities=8, test_identities=4, height=64, width=32
    )
    found = genotype.Genotype((genotype.CS[0],) * 6)
    (folder / "shallow.json").write_text(found.to_json())
    return folder


def _run(program, *arguments):
    return subprocess.run(
        [sys.executable, "-m", f"cdnet_tf.{program}", *map(str, arguments)],
        cwd=_ROOT,
        capture_output=True,
        text=True,
    )


def _tune(folder, *more):
    sizes = ["--height=64", "--width=32", "--width_multiplier=0.25", "--batch_size=8"]
    return _run(
        "tune",
        *sizes,
        f"--data_dir={folder / 'data'}",
        f"--genotype={folder / 'shallow.json'}",
        "--epochs=1",
        "--trials=2",
        "--holdout_identities=3",
        "--range=p_x_k=2x4",
        *more,
    )


@pytest.fixture(scope="module")
def whole(folder):
    done = _tune(folder, f"--run_dir={folder / 'study'}")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _score(run):
    return json.loads((run / "evaluation.json").read_text())["scores"]["mean_ap"]


def test_best_cfg_repeats_the_best_trial(whole, folder):
    study = folder / "study"
    with open(study / "trials.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["COMPLETED"] * 2
    scores = [_score(study / "trials" / row["trial"] / "train") for row in rows]
    assert [float(row["mean_ap"]) for row in rows] == scores
    done = _run("train", f"--flagfile={study / 'best.cfg'}")
    assert done.returncode == 0, done.stderr
    assert _score(study / "best") == max(scores)
    assert f"{max(scores):.1%}" in whole.split("\n\n")[-2].splitlines()[1]
    assert len(list((study / "tensorboard").glob("trial_*/events*"))) == 2
    # Nobody was trained on and tested on, and no test image was looked at.
    record = json.loads((study / "study.json").read_text())
    data = datasets.read("market1501", str(folder / "data"))
    held = np.unique(holdout.hold_out(data, 3).query.identities)
    assert record["held_out"]["identities"] == held.tolist()
    evaluation = json.loads((study / "best" / "evaluation.json").read_text())
    counts = evaluation["provenance"]["dataset"]["counts"]
    assert counts["train"]["identities"] == 5
    assert counts["query"]["identities"] == counts["gallery"]["identities"] == 3


def test_unknown_flag_stops_the_study_before_its_first_trial(folder):
    done = _tune(folder, f"--run_dir={folder / 'typo'}", "--range=learn_rate=0:1")
    assert done.returncode == 1
    assert "does not take these flags" in done.stderr
    assert "learn_rate" in done.stderr
    assert not (folder / "typo" / "study.json").exists()


@pytest.mark.parametrize(
    "status, log, expected",
    [
        (
            1,
            "a\nFloatingPointError: loss is nan\n  more",
            "FloatingPointError: loss is",
        ),
        (1, "pkg.errors.OomError: GPU\nlast", "pkg.errors.OomError: GPU"),
        (2, "only words\n", "only words"),
        (3, "", "exit status 3"),
        (-9, "Error: x", "killed by SIGKILL, as when memory runs out"),
        (-15, "", "killed by SIGTERM"),
    ],
)
def test_reason(status, log, expected):
    assert study_log.reason(status, log).startswith(expected)


def test_table_ranks_and_gives_reasons():
    outcomes = [
        study_log.Outcome("0", "COMPLETED", 0.25, {"lr": "0.1"}),
        study_log.Outcome("1", "FAILED", None, {"lr": "9"}, "loss is nan"),
        study_log.Outcome("2", "COMPLETED", 0.5, {"lr": "0.2", "parts": "2"}),
    ]
    assert study_log.table(outcomes).splitlines() == [
        "trial     mAP   lr  parts",
        "    2   50.0%  0.2      2",
        "    0   25.0%  0.1      -",
        "    1  failed    9      -",
        "    loss is nan",
    ]
