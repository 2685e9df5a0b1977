"""The benchmark is trained once, line by line; one of the trainings is real."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest

from cdnet_tf import trainings
from cdnet_tf.bench import plans, table
from cdnet_tf.nn import genotype
from cdnet_tf.pedestrians import writer
from tools import bench_space

_ROOT = pathlib.Path(__file__).parent.parent
_SMALLEST = genotype.Genotype((genotype.CS[0],) * 6)
_RUNS = [plans.Run(_SMALLEST, 0, 20), plans.Run(genotype.load("cdnet"), 0, 20)]


class _Trainer:
    """Stands for a training: writes its files, and notes its options."""

    def __init__(self):
        self.calls = {}
        self.fails = ""

    def __call__(self, options, run_dir, cores):
        self.calls[run_dir.name] = options
        if self.fails and run_dir.name.startswith(self.fails):
            raise trainings.FailedError(f"{run_dir} failed")
        for name in ("checkpoint", "tensorboard"):
            (run_dir / name).mkdir(parents=True)
        record = {
            "parameters": 1000,
            "macs": 2_000_000,
            "scores": {"rank1": 0.5, "mean_ap": 0.25},
            "provenance": {"dataset": {"counts": {"train": {"images": 600}}}},
        }
        (run_dir / "evaluation.json").write_text(json.dumps(record))
        (run_dir / "test.json").write_text('{"rank1": 0.75, "mean_ap": 0.125}')
        rows = "epoch,accuracy,images_per_s\n1,0.1,10\n2,0.9,10\n"
        (run_dir / "history.csv").write_text(rows)


@pytest.fixture
def trainer(monkeypatch):
    trainer = _Trainer()
    monkeypatch.setattr(bench_space, "_train", trainer)
    return trainer


def _bench(folder, options=("--a=1",), people=301):
    results = folder / "results.csv"
    bench_space.train_missing(
        _RUNS, options, people, folder / "runs", results, data_dir="somewhere", jobs=1
    )
    return table.load(results)


def test_a_training_becomes_a_line(trainer, tmp_path):
    first, second = _bench(tmp_path)
    assert list(trainer.calls) == [
        "351-351-351-351-351-351_20_301_0",
        "351-372-572-591-572-571_20_301_0",
    ]
    assert trainer.calls["351-351-351-351-351-351_20_301_0"] == [
        "--a=1",
        "--genotype=(3,5,1) (3,5,1) (3,5,1) (3,5,1) (3,5,1) (3,5,1)",
        "--seed=0",
        "--epochs=20",
        "--people=301",
        "--data_dir=somewhere",
    ]
    # 600 images twice at 10 a second are 2 minutes.
    scores = {"select_rank1": 50, "select_mAP": 25, "test_rank1": 75, "test_mAP": 12.5}
    assert first == table.Entry(
        **_RUNS[0]._asdict(),
        **scores,
        people=301,
        depth=6,
        parameters=1000,
        macs=2_000_000,
        minutes=2,
        train_accuracy=90,
        flags="--a=1",
    )
    assert (second.genotype, second.depth) == (_RUNS[1].genotype, 9)


def test_what_takes_room_is_removed_when_the_line_is_there(trainer, tmp_path):
    _bench(tmp_path)
    left = {path.name for path in (tmp_path / "runs").glob("*/*/*")}
    assert left == {"evaluation.json", "test.json", "history.csv"}


def test_only_what_is_missing_is_trained(trainer, tmp_path):
    trainer.fails = "351-372"
    with pytest.raises(trainings.FailedError, match="351-372.* failed"):
        _bench(tmp_path)
    assert [entry.depth for entry in table.load(tmp_path / "results.csv")] == [6]
    failed = trainer.calls.popitem()[0]
    trainer.calls.clear()
    trainer.fails = ""
    assert [entry.depth for entry in _bench(tmp_path)] == [6, 9]
    # The run directory is the same, so the training resumes from its checkpoint.
    assert list(trainer.calls) == [failed]
    trainer.calls.clear()
    _bench(tmp_path)
    assert not trainer.calls


def test_other_people_and_other_flags_are_other_trainings(trainer, tmp_path):
    _bench(tmp_path)
    _bench(tmp_path, people=100)
    entries = _bench(tmp_path, options=("--a=1", "--b=x y"))
    assert [(entry.people, entry.flags) for entry in entries[::2]] == [
        (301, "--a=1"),
        (100, "--a=1"),
        (301, "--a=1 '--b=x y'"),
    ]
    folders = (tmp_path / "runs").iterdir()
    assert sorted(len(list(folder.iterdir())) for folder in folders) == [2, 4]


def _program(*arguments):
    command = [sys.executable, "tools/bench_space.py", *map(str, arguments)]
    return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)


def test_program_prints_a_report_and_refuses_strays(trainer, tmp_path):
    _bench(tmp_path)
    done = _program("--report", f"--results={tmp_path / 'results.csv'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("### 20 epochs, 301 people\n\n2 trainings of 2 ")
    done = _program("--plan=pilot", f"--output_dir={tmp_path}", "width=3")
    assert done.returncode and "Unknown argument 'width=3'" in done.stderr
    done = _program("--epochs=", f"--output_dir={tmp_path}")
    assert (
        done.returncode and "must be whole numbers, as in --epochs=20,60" in done.stderr
    )


def test_trains_on_some_people_and_tests_on_two_groups_of_others(tmp_path):
    size = {"train_identities": 12, "test_identities": 4, "height": 64, "width": 32}
    writer.write_pedestrians(tmp_path / "data", images_per_camera=2, **size)
    options = ["--flagfile=flags/photographs.cfg", "--height=64", "--width=32"]
    options += ["--batch_size=8", "--width_multiplier=0.05", "--lr_warmup_epochs=0"]
    options += ["--select_people=4", "--test_people=4", "--split_seed=0"]
    runs = [plans.Run(_SMALLEST, 0, 1)]
    results = tmp_path / "results.csv"
    bench_space.train_missing(
        runs, options, 4, tmp_path / "runs", results, data_dir=str(tmp_path / "data")
    )
    (entry,) = table.load(results)
    assert (entry.depth, entry.epochs, entry.people) == (6, 1, 4)
    (run_dir,) = (path for path in (tmp_path / "runs").glob("*/*") if path.is_dir())
    record = json.loads((run_dir / "evaluation.json").read_text())
    counts = record["provenance"]["dataset"]["counts"]
    assert {part: own["identities"] for part, own in counts.items()} == {
        "train": 4,
        "query": 4,
        "gallery": 4,
    }
    assert record["provenance"]["flags"]["select_people"] == 4
    assert entry.parameters == record["parameters"] and entry.macs == record["macs"]
    test = json.loads((run_dir / "test.json").read_text())
    assert entry.test_mAP == pytest.approx(100 * test["mean_ap"], abs=0.01)
    assert entry.select_mAP != entry.test_mAP
    assert (run_dir / "model.keras").exists() and not (run_dir / "checkpoint").exists()
    done = _program("--genotype=nowhere", f"--output_dir={tmp_path}")
    assert done.returncode and "No genotype 'nowhere'" in done.stderr
    assert "Traceback" not in done.stderr
