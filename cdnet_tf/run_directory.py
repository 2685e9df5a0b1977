"""The directory of a run: what is recorded there, and which run may be resumed."""

from __future__ import annotations

import json
import os
import pathlib
import platform
import subprocess
from importlib import metadata
from typing import Any, Protocol

import tensorflow as tf

from cdnet_tf import atomic_files
from cdnet_tf.learn import callbacks, distributed

_RECORDED_PACKAGES = ("cdnet_tf", "keras", "numpy", "tensorflow", "tensorflow-addons")
_GIT_TIMEOUT_S = 10


class Data(Protocol):
    """What a run learns from, as far as its origin is concerned."""

    @property
    def name(self) -> str:
        """Name of the data set."""

    def counts(self) -> dict[str, dict[str, int]]:
        """Returns how much there is of what, for each part of the data."""


def open_run(
    run_dir: str | os.PathLike,
    settings: dict[str, Any],
    data: Data,
    own_copy: bool = False,
) -> pathlib.Path:
    """Makes or reopens the run directory.

    Its `run.json` holds the settings, the data's counts, and every environment
    (versions and commit) in which the run began or was resumed.

    Args:
      run_dir: the directory.
      settings: the values that decide the run's result, by the flags' names.
      data: the data set read.
      own_copy: leave the directory as it is, and open a copy.

    Raises:
      ValueError: if a setting or the data differ from the run that is resumed. A run
        that stopped before its first epoch was complete, or before its first network
        was judged, starts over, with any settings.
      OSError: if the directory cannot be written.
    """
    directory = pathlib.Path(run_dir)
    if own_copy:
        directory = distributed.own_folder(directory)
    record = directory / "run.json"
    now: dict[str, Any] = {"flags": settings, "data": data.counts()}
    # JSON turns tuples into lists, so the values are compared after it.
    now = json.loads(json.dumps(now))
    environments = []
    if record.exists() and _has_begun(directory):
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
    """Does `open_run` on each of the machines that train together.

    All must have the same settings and data. The chief then opens the run directory,
    and every other worker a copy, where it may write files that nobody reads.

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


def _has_begun(directory: pathlib.Path) -> bool:
    """Whether there is something to go on with."""
    judged = directory.glob("candidates*.csv")
    return any(judged) or bool(callbacks.last_epoch(directory / "checkpoint"))


def _check_same(then: dict, now: dict, record: pathlib.Path) -> None:
    for group in ("flags", "data"):
        for name in sorted({*then[group], *now[group]}):
            old, new = then[group].get(name), now[group].get(name)
            if old != new:
                what = f"--{name}" if group == "flags" else f"the data's {name} split"
                raise ValueError(
                    f"{record} was begun with {what} = {old!r}, and now it is {new!r}, "
                    "so the run cannot go on. Set it back, or choose another --run_dir."
                )


def provenance(settings: dict[str, Any], data: Data) -> dict[str, Any]:
    """Returns a result's origin: settings, data, versions and commit. Never raises.

    Args:
      settings: the values that decide the result, by the flags' names. If they hold
        `dataset`, that names the data; else `data.name` does.
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
    """Returns `provenance` of a run, with the versions and commit that it began with.

    If the run was resumed with other versions or commits, `went_on_with` lists them.

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
    """Returns versions and the commit of this package's checkout, None if unknown."""
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
    """Returns the commit of the checkout `ROOT` that holds a file `ROOT/PACKAGE/NAME`.

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
    """Returns what git prints, without the last line's end; None where git fails."""
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
