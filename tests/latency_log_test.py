"""Times survive the program that took them."""

import pytest

from cdnet_tf.deploy import latency_log

_CONDITIONS = {"cpu": "x", "rounds": 3, "rewrite": ["pool"]}


@pytest.fixture
def path(tmp_path):
    log = latency_log.Log(tmp_path / "times.jsonl", _CONDITIONS)
    for time in (3.0, 1.0, 2.5):
        log.append("a", time)
    log.append("b", 7.0)
    return tmp_path / "times.jsonl"


def test_another_run_finds_what_was_measured(path):
    log = latency_log.Log(path, _CONDITIONS)
    assert log.median("a") == 2.5
    assert log.missing(["a", "b", "c"]) == {"c": 1}
    assert log.missing(["a", "b", "c"], runs=3) == {"b": 2, "c": 3}


def test_a_line_that_was_broken_off_is_measured_again(path):
    path.write_bytes(path.read_bytes()[:-3])
    log = latency_log.Log(path, _CONDITIONS)
    assert log.missing(["a", "b"]) == {"b": 1}
    log.append("b", 5.0)
    assert latency_log.Log(path, _CONDITIONS).median("b") == 5.0


def test_a_log_whose_first_line_was_broken_off_begins_again(path):
    path.write_bytes(path.read_bytes()[:10])
    assert latency_log.Log(path, _CONDITIONS).missing(["a"]) == {"a": 1}
    assert latency_log.Log(path, _CONDITIONS).missing(["a"]) == {"a": 1}


def test_times_of_other_conditions_are_not_mixed_in(path):
    with pytest.raises(ValueError, match="times of other conditions, .*'cpu': 'x'"):
        latency_log.Log(path, {**_CONDITIONS, "cpu": "y"})


def test_names_a_file_that_is_no_log(path):
    path.write_text('{"file": "a"}\n')
    with pytest.raises(ValueError, match="times.jsonl is no log of times"):
        latency_log.Log(path, _CONDITIONS)
