"""The history of a training, across a restart, and its curves."""

import pathlib
import types

import pytest
import tensorflow as tf

from cdnet_tf.learn import schedules, training_log


def _run(path: pathlib.Path, first_epoch: int, epochs: int):
    """Logs epochs of 2 steps with rates 10, 20, ..., as a training would."""
    history = training_log.History(path, first_epoch)
    rates = schedules.by_epoch(lambda epoch: 10.0 * (epoch + 1), 9, 2)
    for epoch in range(first_epoch, epochs):
        optimizer = types.SimpleNamespace(
            learning_rate=rates, iterations=tf.constant(2 * (epoch + 1), tf.int64)
        )
        history.set_model(types.SimpleNamespace(optimizer=optimizer))
        history.on_epoch_end(epoch, {"loss": 5.0 - epoch})


def test_a_row_an_epoch(tmp_path):
    path = tmp_path / "history.csv"
    _run(path, 0, 2)
    assert training_log.read_history(path) == [
        {"epoch": 1, "loss": 5, "learning_rate": 10},
        {"epoch": 2, "loss": 4, "learning_rate": 20},
    ]


def test_epochs_that_come_again_are_written_once(tmp_path):
    whole, again = tmp_path / "whole.csv", tmp_path / "again.csv"
    _run(whole, 0, 4)
    _run(again, 0, 3)  # killed after epoch 3's row, before its checkpoint
    _run(again, 2, 4)
    assert again.read_text() == whole.read_text()


def test_a_new_run_does_not_keep_old_rows(tmp_path):
    _run(tmp_path / "history.csv", 0, 3)
    _run(tmp_path / "history.csv", 0, 1)
    assert len(training_log.read_history(tmp_path / "history.csv")) == 1


def test_constant_rate(tmp_path):
    history = training_log.History(tmp_path / "history.csv")
    optimizer = types.SimpleNamespace(learning_rate=tf.Variable(0.5))
    history.set_model(types.SimpleNamespace(optimizer=optimizer))
    history.on_epoch_end(0, {"loss": 1.0})
    (row,) = training_log.read_history(tmp_path / "history.csv")
    assert row["learning_rate"] == pytest.approx(0.5)


def test_curves(tmp_path):
    rows = [{"epoch": i, "loss": 1 / i, "accuracy": i / 9} for i in (1, 2, 3)]
    training_log.plot_history(tmp_path / "curves.png", rows)
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
