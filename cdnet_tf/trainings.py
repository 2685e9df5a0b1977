"""Runs many trainings side by side, each on its own cores, and keeps results as CSV.

The tools that call this decide what is trained and what a line of the results holds.
"""

from __future__ import annotations

import concurrent.futures
import csv
import ctypes
import json
import os
import pathlib
import queue
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from cdnet_tf import atomic_files

Item = TypeVar("Item")

_WRITING = threading.Lock()
_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>


class FailedError(RuntimeError):
    """A program ended with an error; the message names its log."""


class Ended(NamedTuple):
    """The results that a finished training has left in its run directory.

    Attributes:
      evaluation: its evaluation.json.
      epochs: the rows of its history.csv, in order.
    """

    evaluation: dict[str, Any]
    epochs: list[dict[str, str]]

    @classmethod
    def read(cls, run_dir: pathlib.Path) -> Ended:
        """Reads the run directory of a training of people."""
        evaluation = json.loads((run_dir / "evaluation.json").read_text())
        return cls(evaluation, read(run_dir / "history.csv"))

    @property
    def minutes(self) -> float:
        """Duration of the training alone, even if it was resumed several times."""
        counts = self.evaluation["provenance"]["dataset"]["counts"]
        images = counts["train"]["images"]
        return sum(images / float(row["images_per_s"]) for row in self.epochs) / 60


def side_by_side(
    work: Callable[[Item, Collection[int]], None],
    items: Iterable[Item],
    jobs: int | None = None,
) -> None:
    """Calls `work` for every item, several at a time, starting in their order.

    If an item fails, the others are still done before the error is raised.

    Args:
      work: called with an item and the cores it may use, which are empty where the
        system cannot restrict a process to some cores.
      items: any number.
      jobs: how many at a time; by default one for each core.

    Raises:
      FailedError: with the messages of all items that failed.
    """
    free = places(jobs)
    failed: list[str] = []

    def work_somewhere(item: Item) -> None:
        cores = free.get()
        try:
            work(item, cores)
        except FailedError as error:
            print(error, file=sys.stderr, flush=True)
            failed.append(str(error))
        finally:
            free.put(cores)

    with concurrent.futures.ThreadPoolExecutor(free.qsize()) as pool:
        list(pool.map(work_somewhere, items))
    if failed:
        raise FailedError("\n".join(failed))


def places(jobs: int | None = None) -> queue.SimpleQueue[set[int]]:
    """Divides the cores among `jobs` trainings that run side by side."""
    cores = sorted(_cores())
    jobs = min(jobs or len(cores), len(cores)) if cores else jobs or 1
    free: queue.SimpleQueue[set[int]] = queue.SimpleQueue()
    for i in range(jobs):
        free.put(set(cores[i::jobs]))
    return free


def _cores() -> set[int]:
    # macOS and Windows cannot restrict a process to some cores.
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def run(
    command: Sequence[str],
    run_dir: pathlib.Path,
    cores: Collection[int] | None = None,
) -> None:
    """Runs a program in a process of its own, until it ends.

    If this process is killed, so is the program. A tool that is started again then
    finds nobody else writing to the run directory.

    Args:
      command: program and arguments; `--run_dir` is added.
      run_dir: of the program. Its output is appended to `RUN_DIR.log`.
      cores: that the program may use; all cores if they are None or empty.

    Raises:
      FailedError: the program ended with an error.
    """
    log = run_dir.with_name(f"{run_dir.name}.log")
    with open(log, "a") as file:
        status = subprocess.run(
            [*command, f"--run_dir={run_dir}"],
            stdout=file,
            stderr=file,
            check=False,
            preexec_fn=_confined(cores) if cores else None,
        ).returncode
    if status:
        raise FailedError(f"{shlex.join(command)} failed; see the end of {log}.")
    print(f"{run_dir} is done.", file=sys.stderr, flush=True)


def _confined(cores: Collection[int]) -> Callable[[], None]:
    """Returns a start function for a process: use `cores`, and end with the parent."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # of Linux

    def confine() -> None:
        os.sched_setaffinity(0, cores)
        if prctl:
            prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return confine


def read(results: pathlib.Path) -> list[dict[str, str]]:
    """Returns the lines of a CSV file of results; none where there is no file."""
    if not results.exists():
        return []
    with open(results, newline="") as file:
        return list(csv.DictReader(file))


def append(results: pathlib.Path, columns: Sequence[str], line: dict[str, Any]) -> None:
    """Adds a line to a CSV file of results; may be called by several threads."""
    with _WRITING, atomic_files.replacing(results) as partial:
        with open(partial, "w", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows([*read(results), line])
