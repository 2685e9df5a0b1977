"""Files of a study: its table, its recipe's head, and TensorBoard's runs."""

import pathlib

import pytest

from cdnet_tf.learn import study_log

_OUTCOMES = [
    study_log.Outcome("0", "COMPLETED", 0.25, {"lr": "0.1"}, is_recipe=True),
    study_log.Outcome("1", "FAILED", None, {"lr": "9"}, "the loss is not finite"),
    study_log.Outcome("2", "COMPLETED", 0.5, {"lr": "0.2", "neck": "bl"}),
]


def test_best_comes_first_and_failures_last():
    assert [each.trial for each in study_log.ranked(_OUTCOMES)] == ["2", "0", "1"]


def test_table_names_the_recipe_and_why_a_trial_failed():
    rows = study_log.table(_OUTCOMES).splitlines()
    assert rows[1].split() == ["2", "50.0%", "0.2", "bl"]
    assert rows[2].split() == ["recipe", "0", "25.0%", "0.1", "-"]
    assert rows[-1].strip() == "the loss is not finite"


def test_a_run_is_whole_or_missing(tmp_path, monkeypatch):
    directory = tmp_path / "tensorboard"

    def fail(*args, **options):
        raise OSError("disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(study_log.tf.summary, "scalar", fail)
        with pytest.raises(OSError, match="full"):
            study_log.write_hparams(directory, _OUTCOMES)
    assert list(tmp_path.rglob("*trial*")) == []
    study_log.write_hparams(directory, _OUTCOMES)
    names = {path.name for path in directory.iterdir()}
    assert names == {"trial_0", "trial_2"}
    assert {path.name for path in tmp_path.iterdir()} == {"tensorboard"}
    for name in names:
        (events,) = (directory / name).iterdir()
        assert events.stat().st_size > 100


def test_head_of_a_search_trains_what_it_finds_on_everybody():
    programs = {"best": "search", "best_train": "train"}
    found = study_log.recipe_head(pathlib.Path("runs/t"), programs, "trial 3")
    commands = [line.removeprefix("#   ") for line in found if "python" in line]
    assert commands[2:] == study_log.for_everybody(pathlib.Path("runs/t"), programs)
    assert "--genotype=runs/t/best_everybody" in commands[3]
    assert "--genotype" not in commands[1]
