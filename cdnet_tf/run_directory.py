"""The directory of a run: what it records of itself, and who may go on with it."""

from __future__ import annotations

import json
import os
import pathlib
import platform
import subprocess
from importlib import metadata
from typing import Any

import tensorflow as tf

from cdnet_tf import atomic_files
from cdnet_tf.data import classification, datasets
from cdnet_tf.learn import callbacks, distributed

Data = datasets.ReidDataset | classification.ClassificationDataset

_RECORDED_PACKAGES = ("cdnet_tf", "keras", "numpy", "tensorflow", "tensorflow-addons")
_GIT_TIMEOUT_S = 10


def open_run(
    run_dir: str | os.PathLike,
    settings: dict[str, Any],
    data: Data,
    own_copy: bool = False,
) -> pathlib.Path:
    """Makes or reopens the run directory.

    Its `run.json` holds the settings, the data's counts, and the environments (versions
    and commit) in which the run began and, if they were others, went on.

    Args:
      run_dir: the directory.
      settings: what decides the run's result, by the flags' names.
      data: the data set read.
      own_copy: leave it as it is, and open a copy.

    Raises:
      ValueError: if a setting or the data differ from the run that is to go on. A run
        that stopped before its first epoch was complete starts over, with any settings.
      OSError: if the directory cannot be written.
    """
    directory = pathlib.Path(run_dir)
    if own_copy:
        directory = distributed.own_folder(directory)
    record = directory / "run.json"
    now: dict[str, Any] = {"flags": settings, "data": data.counts()}
    # As they will be read again: tuples become lists.
    now = json.loads(json.dumps(now))
    environments = []
    if record.exists() and callbacks.last_epoch(directory / "checkpoint"):
        then = json.loads(record.read_text())
        _check_same(then, now, record)
        environments = then.get("environments", [])
    if (current := environment()) not in environments[-1:]:
        environments.append(current)
    now["environments"] = environments
    try:
        directory.mkdir(parents=True, exist_ok=True)
        atomic_files.write_text(record, json.dumps(now, indent=1))
    except OSError as error:
        raise OSError(
            f"run_dir={directory} cannot be written ({error}); choose another."
        ) from error
    return directory


def join_run(
    run_dir: str | os.PathLike,
    settings: dict[str, Any],
    data: Data,
    strategy: tf.distribute.Strategy,
) -> pathlib.Path:
    """`open_run` for each of the machines that train together.

    All must be about to do the same; then the chief has the run directory, and every
    other worker a copy, to keep files in that nobody reads.

    Raises:
      ValueError, OSError: as `open_run`, or if a worker differs from the chief.
    """
    worker, workers = distributed.place(strategy)
    if workers > 1:
        checkpoint = pathlib.Path(run_dir) / "checkpoint"
        facts = {f"--{name}": value for name, value in settings.items()}
        facts |= {f"{part} data": count for part, count in data.counts().items()}
        facts["last checkpoint's epoch"] = callbacks.last_epoch(checkpoint)
        distributed.agree(strategy, facts)
    return open_run(run_dir, settings, data, own_copy=worker > 0)


def _check_same(then: dict, now: dict, record: pathlib.Path) -> None:
    for group in ("flags", "data"):
        for name in sorted({*then[group], *now[group]}):
            old, new = then[group].get(name), now[group].get(name)
            if old != new:
                what = f"--{name}" if group == "flags" else f"the data's {name} split"
                raise ValueError(
                    f"{record} was begun with {what} = {old!r}, now {new!r}: the run "
                    "cannot go on with it. Set it back, or choose another --run_dir."
                )


def provenance(settings: dict[str, Any], data: Data) -> dict[str, Any]:
    """What a result comes from: settings, data, versions, commit. Never raises.

    Args:
      settings: what decides the result, by the flags' names. Generated pedestrians lie
        on disk as Market-1501 does, so `dataset`, if it is there, names the data.
      data: the data set read.
    """
    dataset = {"name": settings.get("dataset", data.name), "counts": data.counts()}
    if names := getattr(data, "camera_names", None):
        dataset["camera_names"] = names
    return {
        "seed": settings.get("seed"),
        "flags": settings,
        "dataset": dataset,
        **environment(),
    }


def begun_with(
    directory: pathlib.Path, settings: dict[str, Any], data: Data
) -> dict[str, Any]:
    """`provenance` of a run, with the versions and the commit that it began with.

    Where another program or machine went on with the run, `went_on_with` lists what
    each of them had.

    Args:
      directory: from `open_run`.
      settings: see `provenance`.
      data: the data set read.
    """
    first, *later = json.loads((directory / "run.json").read_text())["environments"]
    return {
        **provenance(settings, data),
        **first,
        **({"went_on_with": later} if later else {}),
    }


def environment() -> dict[str, Any]:
    """Versions, and the commit of this package's own checkout; None where unknown."""
    versions: dict[str, str | None] = {
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    for name in _RECORDED_PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {"versions": versions, **commit(pathlib.Path(__file__).resolve())}


def commit(file: pathlib.Path) -> dict[str, Any]:
    """The commit of the checkout `ROOT` to which a file `ROOT/PACKAGE/NAME` belongs.

    Returns:
      `commit`, and `uncommitted_changes`: whether tracked files differ from the commit.
      Both are None without git, or where the file is not tracked in a checkout whose
      root is the folder above its package. An installed package, which may stand inside
      the checkout of some other project, has no commit.
    """
    root = file.parent.parent
    found = _git(root, "rev-parse", "--show-toplevel", "HEAD")
    top, _, head = (found or "").partition("\n")
    is_own = bool(head) and pathlib.Path(top).resolve() == root
    if not is_own or _git(root, "ls-files", "--error-unmatch", str(file)) is None:
        return {"commit": None, "uncommitted_changes": None}
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {
        "commit": head,
        "uncommitted_changes": None if changes is None else bool(changes),
    }


def _git(root: pathlib.Path, *arguments: str) -> str | None:
    """What git prints, without the last line's end; None where git fails."""
    try:
        return subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=_GIT_TIMEOUT_S,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
