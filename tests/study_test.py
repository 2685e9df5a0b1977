"""Studies of a function that takes no time: failing, killed, and resumed."""

from __future__ import annotations

import keras_tuner as kt
import pytest

from cdnet_tf.learn import hyperparameters, study

_SPACE: hyperparameters.Space = {
    "lr": hyperparameters.Interval(0.01, 1.0, log=True),
    "schedule": hyperparameters.Choice(("a", "b")),
}


def _oracle(tuner="random", trials=4, **options):
    options = {"epochs": 9, "seed": 0, **options}
    return study.make_oracle(tuner, _SPACE, trials=trials, **options)


def _values(oracle):
    return [study.drawn_values(oracle.trials[i])[0] for i in sorted(oracle.trials)]


def test_random_study_draws_from_the_space_and_ranks_by_map(tmp_path):
    oracle = _oracle()
    told: list = []
    study.Study(
        oracle, lambda t: t.hyperparameters["lr"], str(tmp_path), told.append
    ).search()
    values = _values(oracle)
    assert len(values) == 4 and [len(trials) for trials in told] == [1, 2, 3, 4]
    assert all(0.01 <= each["lr"] <= 1 for each in values)
    assert {each["schedule"] for each in values} <= {"a", "b"}
    best = max(each["lr"] for each in values)
    assert oracle.get_best_trials()[0].score == best


def test_recipe_is_the_first_trial_that_has_all_epochs(tmp_path):
    recipe = {"lr": 0.5, "schedule": "b"}
    for tuner, trials in (("random", 4), ("bayesian", 4), ("hyperband", None)):
        oracle = _oracle(tuner, trials, recipe=recipe)
        study.Study(oracle, lambda _: 0.5, str(tmp_path / tuner)).search()
        every = [oracle.trials[name] for name in sorted(oracle.trials)]
        (found,) = (trial for trial in every if study.is_recipe(trial))
        values, epochs = study.drawn_values(found)
        assert values == recipe
        if tuner == "hyperband":
            # The bracket of three trials comes last.
            assert epochs == 9 and found is every[-3]
        else:
            assert found is every[0]


def test_failures_keep_their_reason_and_stop_nothing(tmp_path):
    def score(trial):
        raise kt.errors.FailedTrialError(f"no memory for {trial.trial_id}")

    oracle = _oracle(trials=6)
    study.Study(oracle, score, str(tmp_path)).search()
    for name, trial in oracle.trials.items():
        assert trial.status == "FAILED" and trial.score is None
        assert f"no memory for {name}" in trial.message
    assert len(oracle.trials) == 6


def test_killed_study_goes_on_with_the_trial_it_was_in(tmp_path):
    whole = _oracle()
    study.Study(whole, lambda _: 0.5, str(tmp_path / "whole")).search()

    ran = []

    def score(trial):
        ran.append(trial.trial_id)
        if ran == ["0", "1", "2"]:
            raise KeyboardInterrupt
        return 0.5

    with pytest.raises(KeyboardInterrupt):
        study.Study(_oracle(), score, str(tmp_path / "killed")).search()
    again = _oracle()
    study.Study(again, score, str(tmp_path / "killed")).search()
    assert ran == ["0", "1", "2", "2", "3"]
    assert _values(again) == _values(whole)
    assert {t.status for t in again.trials.values()} == {"COMPLETED"}


def test_hyperband_gives_the_best_more_epochs(tmp_path):
    oracle, runs = _oracle("hyperband", trials=None), []

    def score(trial):
        runs.append(study.drawn_values(trial))
        return runs[-1][0]["lr"]

    study.Study(oracle, score, str(tmp_path)).search()
    # 9 epochs and a factor of 3: runs of 1, 3 and 9 epochs in the first bracket.
    assert {epochs for _, epochs in runs} == {1, 3, 9}
    first = [(values["lr"], epochs) for values, epochs in runs]
    short = sorted(lr for lr, epochs in first[:9] if epochs == 1)
    promoted = [lr for lr, epochs in first if epochs == 3][:1]
    assert promoted[0] in short[len(short) // 2 :]


def test_bayesian_study(tmp_path):
    pytest.importorskip("sklearn")
    # More trials than it draws at random: 3 for each of two flags.
    oracle = _oracle("bayesian", trials=8)
    study.Study(oracle, lambda t: -t.hyperparameters["lr"], str(tmp_path)).search()
    assert len({str(each) for each in _values(oracle)}) == 8


def test_idle_workers_wait_for_trials_that_may_be_lost(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(study.time, "monotonic", lambda: now[0])
    oracle = _oracle(trials=1, lease_s=10.0)
    oracle._set_project_dir(str(tmp_path), "state")
    lent = oracle.create_trial("a")
    assert oracle.create_trial("b").status == "IDLE"
    now[0] = 9.0
    oracle.get_trial(lent.trial_id)  # a is alive
    now[0] = 18.0
    assert oracle.create_trial("b").status == "IDLE"
    now[0] = 19.5
    assert oracle.create_trial("b").trial_id == lent.trial_id
    assert not oracle.is_over()
