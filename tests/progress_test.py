"""The line of an epoch, in a log file and on a terminal."""

import pytest

from cdnet_tf.learn import progress

_LOGS = {"loss": 1.5, "accuracy": 0.125, "images_per_s": 64.4}


@pytest.fixture
def clock(monkeypatch):
    """Sets the time that the progress reads, by a list of one number."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def _line(first_epoch=0):
    line = progress.EpochLine()
    line.set_params({"epochs": 3, "steps": 2})
    line.on_epoch_begin(first_epoch)
    return line


def test_a_line_an_epoch_with_the_time_left(clock, capsys):
    line = _line()
    clock[0] = 100.0  # the first step traces, and does not count
    line.on_train_batch_end(0, _LOGS)
    clock[0] = 160.0
    line.on_train_batch_end(1, _LOGS)
    assert capsys.readouterr().out == ""
    line.on_epoch_end(0, _LOGS)
    # Two epochs of two steps, a minute each, are left.
    assert capsys.readouterr().out == (
        "Epoch 1/3: loss 1.5000, accuracy 12.5%, 64 images/s, 4 min left\n"
    )


def test_the_last_epoch_leaves_no_time(clock, capsys):
    line = _line(2)
    for step in (0, 1):
        clock[0] += 1.0
        line.on_train_batch_end(step, {"loss": 1.0})
    line.on_epoch_end(2, {"loss": 1.0})
    assert capsys.readouterr().out == "Epoch 3/3: loss 1.0000\n"


def test_a_terminal_shows_the_steps_in_the_same_line(clock, capsys, monkeypatch):
    monkeypatch.setattr(progress.sys.stdout, "isatty", lambda: True, raising=False)
    line = _line()
    line.on_train_batch_end(0, _LOGS)
    clock[0] = 30.0
    line.on_train_batch_end(1, _LOGS)
    line.on_epoch_end(0, _LOGS)
    within, end = capsys.readouterr().out.split("\r")[1:]
    assert within.startswith("Epoch 1/3, step 2/2: loss 1.5000") and "\n" not in within
    assert end.endswith("2 min left\n")


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0.4, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (3599, "1 h 00 min"),
        (12_000, "3 h 20 min"),
    ],
)
def test_duration(seconds, text):
    assert progress.duration(seconds) == text
