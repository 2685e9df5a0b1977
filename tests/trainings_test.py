"""Programs side by side: their cores, their failures, and the lines they leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from cdnet_tf import trainings


@pytest.mark.parametrize("jobs, shares", [(1, [[0, 1, 2]]), (2, [[0, 2], [1]])])
def test_trainings_share_the_cores(monkeypatch, jobs, shares):
    monkeypatch.setattr(trainings, "_cores", lambda: {0, 1, 2})
    places = trainings.places(jobs)
    found = [sorted(places.get()) for _ in range(places.qsize())]
    assert found == shares


def test_as_many_at_a_time_as_there_are_jobs(monkeypatch):
    monkeypatch.setattr(trainings, "_cores", set)  # as where cores cannot be chosen
    both, begun = threading.Barrier(2, timeout=30), []

    def work(item, cores):
        begun.append((item, sorted(cores)))
        both.wait()  # breaks unless another one goes on

    trainings.side_by_side(work, range(4), jobs=2)
    assert sorted(begun) == [(0, []), (1, []), (2, []), (3, [])]


def test_a_failure_does_not_keep_the_others_from_being_done():
    done = []

    def work(item, cores):
        if item in (0, 2):
            raise trainings.FailedError(f"{item} failed")
        done.append(item)

    with pytest.raises(trainings.FailedError, match="0 failed\n2 failed"):
        trainings.side_by_side(work, range(4), jobs=1)
    assert done == [1, 3]


def test_what_is_not_a_programs_failure_stops_at_once():
    begun = []

    def work(item, cores):
        begun.append(item)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk"):
        trainings.side_by_side(work, range(100), jobs=1)
    assert len(begun) < 100


def test_a_failed_run_names_its_log(tmp_path):
    command = [sys.executable, "-c", "import sys; sys.exit(f'no {sys.argv[1]}')"]
    with pytest.raises(trainings.FailedError, match="failed; see the end of .*x_0.log"):
        trainings.run(command, tmp_path / "x_0")
    assert f"no --run_dir={tmp_path}/x_0" in (tmp_path / "x_0.log").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can do so")
def test_a_run_has_its_cores_and_ends_with_the_tool(tmp_path):
    core = min(os.sched_getaffinity(0))
    child = "import os, sys, time; print(os.getpid(), *os.sched_getaffinity(0)); "
    child += "sys.stdout.flush(); time.sleep(600)"
    tool = "import pathlib, sys; from cdnet_tf import trainings; "
    tool += f"command = [sys.executable, '-c', {child!r}]; "
    tool += f"trainings.run(command, pathlib.Path({str(tmp_path)!r}, 'x'), [{core}])"
    with subprocess.Popen([sys.executable, "-c", tool]) as process:
        pid, *cores = _wait_for(lambda: (tmp_path / "x.log").read_text().split())
        assert cores == [str(core)]
        process.send_signal(signal.SIGKILL)
    _wait_for(lambda: not _lives(int(pid)))


def _wait_for(condition):
    for _ in range(600):
        try:
            if found := condition():
                return found
        except FileNotFoundError:
            pass
        time.sleep(0.1)
    raise TimeoutError


def _lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_lines_are_added(tmp_path):
    results = tmp_path / "results.csv"
    assert trainings.read(results) == []
    for number in range(2):
        line = {"b": number, "a": "x, y"}
        trainings.append(results, ["a", "b"], line)
    assert results.read_text() == 'a,b\n"x, y",0\n"x, y",1\n'
    assert trainings.read(results)[1] == {"a": "x, y", "b": "1"}


def test_minutes_are_those_of_all_epochs(tmp_path):
    counts = {"train": {"images": 600}}
    record = {"provenance": {"dataset": {"counts": counts}}}
    (tmp_path / "evaluation.json").write_text(json.dumps(record))
    (tmp_path / "history.csv").write_text("epoch,images_per_s\n1,10\n2,20\n")
    ended = trainings.Ended.read(tmp_path)
    # 600 images at 10 and at 20 a second: 60 + 30 s.
    assert ended.minutes == pytest.approx(1.5)
    assert len(ended.epochs) == 2
