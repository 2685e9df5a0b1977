"""Results of a study: a table, a recipe, and TensorBoard's HParams view."""

from __future__ import annotations

import csv
import dataclasses
import pathlib
import re
import signal
import tempfile
from collections.abc import Mapping, Sequence

import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from cdnet_tf import atomic_files

_NOT_YET = float("-inf")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A trial as its study's table shows it.

    Attributes:
      trial: its number.
      status: as keras-tuner calls it: COMPLETED, FAILED, RUNNING.
      mean_ap: mAP on the held-out identities, 0 to 1; None if there is none.
      flags: the text of each flag that was drawn.
      reason: why the trial failed, else empty.
      is_recipe: whether the trial is the recipe as it was given.
    """

    trial: str
    status: str
    mean_ap: float | None
    flags: dict[str, str]
    reason: str = ""
    is_recipe: bool = False


def ranked(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Sorts trials: the best first, those without a score last, equal ones in order."""
    return sorted(
        outcomes,
        key=lambda each: _NOT_YET if each.mean_ap is None else each.mean_ap,
        reverse=True,
    )


def write_table(path: pathlib.Path, outcomes: Sequence[Outcome]) -> None:
    """Writes trials.csv, in the order of the trials."""
    names = _flag_names(outcomes)
    with (
        atomic_files.replacing(path) as partial,
        open(partial, "w", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["trial", "status", "mean_ap", *names, "reason"])
        for each in sorted(outcomes, key=lambda each: int(each.trial)):
            score = "" if each.mean_ap is None else repr(each.mean_ap)
            values = (each.flags.get(name, "") for name in names)
            writer.writerow([each.trial, each.status, score, *values, each.reason])


def table(outcomes: Sequence[Outcome]) -> str:
    """Renders the trials for a console, the best first, a failure's reason below it."""
    names = _flag_names(outcomes)
    rows = [["trial", "mAP", *names]]
    notes = [""]
    for each in ranked(outcomes):
        score = each.status.lower() if each.mean_ap is None else f"{each.mean_ap:.1%}"
        trial = f"recipe {each.trial}" if each.is_recipe else each.trial
        rows.append([trial, score, *(each.flags.get(n, "-") for n in names)])
        notes.append(f"\n    {each.reason}" if each.reason else "")
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths)) for row in rows]
    return "\n".join(line + note for line, note in zip(lines, notes))


def write_hparams(directory: pathlib.Path, outcomes: Sequence[Outcome]) -> None:
    """Writes a run for each completed trial, for TensorBoard's HParams view.

    A run that exists already is left alone; each appears whole or not at all.

    Args:
      directory: of the runs; it is made if it is missing, in a folder that exists.
      outcomes: of all trials.
    """
    directory.mkdir(exist_ok=True)
    for each in outcomes:
        run = directory / f"trial_{each.trial}"
        if each.mean_ap is None or run.exists():
            continue
        # TensorBoard does not watch this place, and renaming works within one disk.
        with tempfile.TemporaryDirectory(dir=directory.parent) as parent:
            partial = pathlib.Path(parent) / run.name
            writer = tf.summary.create_file_writer(str(partial))
            with writer.as_default():
                hparams.hparams(_typed(each.flags), trial_id=each.trial)
                tf.summary.scalar("mAP", each.mean_ap, step=0)
            writer.close()
            partial.rename(run)


def _typed(flags: dict[str, str]) -> dict[str, float | str]:
    """Turns texts of numbers into numbers, so that the view draws scales for them."""
    typed: dict[str, float | str] = {}
    for name, text in flags.items():
        try:
            typed[name] = float(text)
        except ValueError:
            typed[name] = text
    return typed


def _flag_names(outcomes: Sequence[Outcome]) -> list[str]:
    return list(dict.fromkeys(name for each in outcomes for name in each.flags))


def reason(status: int, log: str) -> str:
    """Says why a program ended, by its exit status and the last error in its log."""
    if status < 0:
        name = signal.Signals(-status).name
        memory = ", as when memory runs out" if name == "SIGKILL" else ""
        return f"killed by {name}{memory}"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return (errors or lines or [f"exit status {status}"])[-1]


def recipe_head(
    directory: pathlib.Path, programs: Mapping[str, str], score: str
) -> list[str]:
    """Returns the head of the best trial's flag file: the commands that use it.

    Args:
      directory: of the study.
      programs: the program for each flag file, in the order in which they run. The
        second program trains the network that the first has found.
      score: of the trial, in words.
    """
    order = " The commands run one after the other." if len(programs) > 1 else ""
    repeating = [_command(directory, *each) for each in programs.items()]
    return [
        f"# The best of a study: {score} on",
        f"# identities held out of the training split.{order}",
        "#",
        "# This repeats the trial:",
        "#",
        *(f"#   {command}" for command in repeating),
        "#",
        "# This trains on everybody, and evaluates on the test images:",
        "#",
        *(f"#   {command}" for command in for_everybody(directory, programs)),
        "#",
    ]


def for_everybody(directory: pathlib.Path, programs: Mapping[str, str]) -> list[str]:
    """Returns the commands that run the best trial on everybody.

    The arguments are those of `recipe_head`.
    """
    commands = []
    for name, program in programs.items():
        run_dir = directory / f"{name}_everybody"
        command = _command(directory, name, program)
        command += f" --holdout_identities=0 --run_dir={run_dir}"
        if name == "best_train":
            command += f" --genotype={directory / 'best_everybody'}"
        commands.append(command)
    return commands


def _command(directory: pathlib.Path, name: str, program: str) -> str:
    return f"python -m cdnet_tf.{program} --flagfile={directory / name}.cfg"
