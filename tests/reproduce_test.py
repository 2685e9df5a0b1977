"""Rows of results are trained once, and their lines are read as a table."""

import json

import pytest
from absl import app

from cdnet_tf import trainings
from tools import reproduce

_LINE = {
    "row": "cdnet_20",
    "seed": 0,
    "epochs": 20,
    "parameters": 125150,
    "macs": 19583964,
    "minutes": "30.0",
    "rank1": "66.00",
    "mAP": "42.00",
    "flags": "--genotype=cdnet --epochs=20",
}


def _fake_training(calls):
    """Stands for a training, and writes its files."""

    def run(program, options, run_dir, cores):
        calls.append((program, run_dir.name, options))
        run_dir.mkdir()
        record = {
            "parameters": 1000,
            "macs": 2_000_000,
            "scores": {"rank1": 0.5, "mean_ap": 0.25},
            "provenance": {"dataset": {"counts": {"train": {"images": 600}}}},
        }
        (run_dir / "evaluation.json").write_text(json.dumps(record))
        (run_dir / "history.csv").write_text("epoch,images_per_s\n1,10\n2,20\n")

    return run


def _main(tmp_path, names, jobs=None):
    table = reproduce._TABLES["market1501"]
    folder, results = tmp_path / "runs", tmp_path / "results.csv"
    data = ["--data_dir=somewhere"]
    return reproduce.reproduce(table, names, folder, results, data=data, jobs=jobs)


def test_trains_what_is_missing_and_prints_the_table(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(reproduce, "_run", _fake_training(calls))
    trainings.append(tmp_path / "results.csv", list(_LINE), _LINE)
    printed = _main(tmp_path, ["cdnet_20", "smallest_20"], jobs=1).splitlines()
    (call,) = calls
    assert call[:2] == ("train", "smallest_20_0")
    genotype = "--genotype=(3,5,1) (3,5,1) (3,5,1) (3,5,1) (3,5,1) (3,5,1)"
    assert call[2] == [
        "--flagfile=flags/photographs.cfg",
        "--data_dir=somewhere",
        genotype,
        "--epochs=20",
        "--seed=0",
    ]
    lines = trainings.read(tmp_path / "results.csv")
    assert [line["row"] for line in lines] == ["cdnet_20", "smallest_20"]
    # 600 images at 10 and at 20 images/s: 60 + 30 s.
    assert lines[1]["minutes"] == "1.5"
    assert lines[1]["flags"] == f"'{genotype}' --epochs=20"
    assert printed[2] == "| cdnet_20 | 20 | 125,150 | 19.6 | 1 | 66.0 | 42.0 |"
    assert printed[3] == "| smallest_20 | 2 | 1,000 | 2.0 | 1 | 50.0 | 25.0 |"


def test_searches_before_it_trains_what_was_found(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(reproduce, "_run", _fake_training(calls))
    _main(tmp_path, ["found_20"], jobs=1)
    assert [call[:2] for call in calls] == [
        ("search", "search"),
        ("train", "found_20_0"),
        ("train", "found_20_1"),
        ("train", "found_20_2"),
    ]
    assert "--zero_init_residual" in calls[0][2]
    assert f"--genotype={tmp_path}/runs/search" in calls[1][2]
    # The file of results is committed, so it names no folder of this machine.
    assert str(tmp_path) not in (tmp_path / "results.csv").read_text()


def test_a_row_is_the_mean_and_range_over_its_seeds():
    lines = [_LINE, {**_LINE, "seed": 1, "rank1": "68.00", "mAP": "44.50"}]
    table = reproduce.as_markdown(
        [{k: str(v) for k, v in line.items()} for line in lines], ["cdnet_20"]
    )
    assert table.endswith("| 2 | 67.0 (66.0 to 68.0) | 43.2 (42.0 to 44.5) |")


def test_unknown_rows_are_refused(tmp_path):
    with pytest.raises(app.UsageError, match=r"Unknown rows \['cdnet'\]; use cdnet_20"):
        _main(tmp_path, ["cdnet"])
