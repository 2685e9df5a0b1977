"""The real tuning program on small trainings and a search, and the best repeated."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import types

import numpy as np
import pytest

from cdnet_tf import tune
from cdnet_tf.data import datasets, holdout
from cdnet_tf.learn import study_log
from cdnet_tf.nn import genotype
from cdnet_tf.pedestrians import writer

_ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tune")
    writer.write_pedestrians(
        folder / "data", train_identities=8, test_identities=4, height=64, width=32
    )
    shallow = genotype.Genotype((genotype.CS[0],) * 6)
    (folder / "shallow.json").write_text(shallow.to_json())
    return folder


_SIZE = {"height": 64, "width": 32, "width_multiplier": 0.25, "batch_size": 8}


def _command(program, **options):
    options = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", f"cdnet_tf.{program}", *options]


def _run(program, **options):
    command = _command(program, **options)
    return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)


def _tuning(folder, study, **more):
    """Returns options of a study that holds out 3 people, which makes a family of 4."""
    options = {**_SIZE, "data_dir": folder / "data", "run_dir": folder / study}
    return {**options, "epochs": 1, "holdout_identities": 3, **more}


def _tuning_of_train(folder, study, **more):
    """Returns options with batches of 2 people, because there are only 4."""
    more = {"genotype": folder / "shallow.json", "range": "p_x_k=2x4", **more}
    return _tuning(folder, study, **more)


def _score(run):
    return json.loads((run / "evaluation.json").read_text())["scores"]["mean_ap"]


def _rows(study):
    with open(study / "trials.csv", newline="") as file:
        return list(csv.DictReader(file))


def _lines(recipe):
    """Returns a flag file's lines without comments and the folder of the results."""
    lines = recipe.read_text().splitlines()
    return [each for each in lines if not each.startswith(("#", "--run_dir="))]


@pytest.fixture(scope="module")
def whole(folder):
    """Runs a study with a chief and two workers; one is killed in its first trial.

    Returns:
      The chief's output, and the number of the trial that was lost.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    oracle = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(port)}
    options = _tuning_of_train(folder, "study", trials=3, worker_timeout=2)
    chief, mortal, worker = (
        subprocess.Popen(
            _command("tune", **options),
            cwd=_ROOT,
            env={**os.environ, **oracle, "KERASTUNER_TUNER_ID": name},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in ("chief", "mortal", "worker")
    )
    for line in mortal.stdout:
        lost = re.match(r"Trial (\d+): --", line)
        if lost:
            mortal.kill()
            break
    printed = [process.communicate(timeout=300)[0] for process in (chief, worker)]
    assert (chief.returncode, worker.returncode) == (0, 0), printed
    assert mortal.wait() == -signal.SIGKILL
    assert "Worker mortal is lost" in printed[0]
    return printed[0], lost[1]


def test_every_trial_has_a_score(whole, folder):
    study = folder / "study"
    rows = _rows(study)
    assert [row["trial"] for row in rows] == ["0", "1", "2"] and whole[1] in "012"
    assert [row["status"] for row in rows] == ["COMPLETED"] * 3
    scores = [_score(study / "trials" / row["trial"] / "train") for row in rows]
    assert [float(row["mean_ap"]) for row in rows] == scores
    # The first is the recipe: of the shipped values, and the batch that the flags say.
    values = {"lr": "0.065", "schedule": "multi_step", "dropout": "0.2", "parts": "2"}
    values |= {"batch_size": "8", "images_per_id": "4"}
    assert {name: rows[0][name] for name in values} == values
    assert "recipe 0  " in whole[0] and "recipe 1" not in whole[0]
    best_row = whole[0].split("\n\n")[-2].splitlines()[1]
    assert f"{max(scores):.1%}" in best_row
    assert len(list((study / "tensorboard").glob("trial_*/events*"))) == 3


def test_best_cfg_repeats_the_best_trial(whole, folder):
    study = folder / "study"
    done = _run("train", flagfile=study / "best.cfg")
    assert done.returncode == 0, done.stderr
    assert _score(study / "best") == max(float(r["mean_ap"]) for r in _rows(study))
    # Nobody was trained on and tested on, and no test image was looked at.
    record = json.loads((study / "study.json").read_text())
    data = datasets.read("market1501", str(folder / "data"))
    # 3 are not a whole family.
    data = dataclasses.replace(data, families=writer.families(data.root))
    held = np.unique(holdout.hold_out(data, 4).query.identities)
    assert record["held_out"]["identities"] == held.tolist()
    evaluation = json.loads((study / "best" / "evaluation.json").read_text())
    counts = evaluation["provenance"]["dataset"]["counts"]
    assert counts["train"]["identities"] == 4
    assert counts["query"]["identities"] == counts["gallery"]["identities"] == 4


def test_search_is_scored_by_what_it_finds(folder):
    """The trials are hyperband's first two, with one epoch of three."""
    (folder / "retrain.cfg").write_text("--epochs=1\n--batch_size=8\n--lr=0.01\n")
    options = {"target": "search", "space": "cs", "epochs": 3, "tuner": "hyperband"}
    options |= {"trials": 1, "retraining": folder / "retrain.cfg"}
    done = _run("tune", **_tuning(folder, "searches", **options))
    assert done.returncode == 0, done.stdout + done.stderr
    study = folder / "searches"
    (row,) = _rows(study)
    trial = study / "trials" / "0"
    assert float(row["mean_ap"]) == _score(trial / "train")
    assert row["epochs"] == "1" and "alpha_milestones" not in row
    assert {"alpha_lr", "exploration", "top_k"} <= set(row)
    searched = genotype.load(str(trial / "search"))
    trained = json.loads((trial / "train" / "run.json").read_text())["flags"]
    assert trained["genotype"] == str(trial / "search") and len(searched.layers) == 6
    assert trained["holdout_identities"] == 3
    # The flag files of the trial and of its repetition say the same.
    drawn = [each for each in _lines(study / "best.cfg") if each != "# Tuned:"]
    assert drawn == _lines(trial / "search.cfg")
    repeated = _lines(study / "best_train.cfg")
    assert repeated[:-1] == _lines(trial / "train.cfg")[:-1]
    assert repeated[-1] == f"--genotype={study / 'best'}"


def _followed(command, folder):
    """Returns the flags with which a command runs, including those of its flag file."""
    words = command.split()
    assert words[:2] == ["python", "-m"]
    given = [each.removeprefix("--").partition("=")[::2] for each in words[3:]]
    file = pathlib.Path(dict(given)["flagfile"])
    assert file.parent == folder
    lines = [each for each in file.read_text().splitlines() if each.startswith("--")]
    own = [each.removeprefix("--").partition("=")[::2] for each in lines]
    return words[2], dict([*own, *given])


@pytest.mark.parametrize("target", ["search", "train"])
def test_head_of_the_best_can_be_followed(tmp_path, target, monkeypatch):
    retraining = tmp_path / "retrain.cfg"
    retraining.write_text("--epochs=1\n")
    plan = tune._Plan(tmp_path, ["--seed=1", "--holdout_identities=4"], {})
    best = study_log.Outcome("3", "COMPLETED", 0.5, {"lr": "0.1"})
    for name, value in (("_TARGET", target), ("_RETRAINING", str(retraining))):
        monkeypatch.setattr(tune, name, types.SimpleNamespace(value=value))
    tune._write_best(plan, best)
    programs = {"search": ["search", "train"], "train": ["train"]}[target]
    files = sorted(tmp_path.glob("best*.cfg"))
    assert len(files) == len(programs)
    for file in files:
        text = file.read_text().splitlines()
        commands = [line[1:] for line in text if line.startswith("#   python")]
        runs = [_followed(command, tmp_path) for command in commands]
        assert [run[0] for run in runs] == [f"cdnet_tf.{p}" for p in programs * 2]
        repeating, everybody = runs[: len(programs)], runs[len(programs) :]
        for variant in (repeating, everybody):
            if target == "search":
                assert variant[1][1]["genotype"] == variant[0][1]["run_dir"]
        assert all(options["holdout_identities"] == "4" for _, options in repeating)
        assert all(options["holdout_identities"] == "0" for _, options in everybody)
        folders = {options["run_dir"] for _, options in runs}
        assert len(folders) == len(runs)


def test_unknown_flag_stops_the_study_before_its_first_trial(folder):
    options = _tuning_of_train(folder, "typo", range="learn_rate=0:1")
    done = _run("tune", **options)
    assert done.returncode == 1
    assert "does not take these flags" in done.stderr
    assert "learn_rate" in done.stderr
    assert not (folder / "typo" / "study.json").exists()


def test_recipe_that_no_trial_could_run_is_refused_before_data_are_read(folder):
    options = {"genotype": folder / "absent.json", "data_dir": folder / "no_data"}
    done = _run("tune", **_tuning_of_train(folder, "typo", **options))
    assert done.returncode == 1
    assert "absent.json" in done.stderr and "Traceback" not in done.stderr
    assert not (folder / "typo").exists()


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
