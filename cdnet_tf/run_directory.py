"""The directory of a run: what it records, and training that goes on in it."""

from __future__ import annotations

import json
import pathlib
import platform
import shutil
import subprocess
from importlib import metadata
from typing import Any

from cdnet_tf import shared_flags  # isort: skip  (quiets TensorFlow)
import tensorflow as tf

from cdnet_tf import atomic_files
from cdnet_tf.data import pipeline
from cdnet_tf.learn import callbacks, distributed, progress

_RECORDED_PACKAGES = ("cdnet_tf", "keras", "numpy", "tensorflow", "tensorflow-addons")
_GIT_TIMEOUT_S = 10


def open_run(data: shared_flags.Data, own_copy: bool = False) -> pathlib.Path:
    """Makes or reopens the run directory.

    Its `run.json` holds the flags, the data's counts, and the environments (versions
    and commit) in which the run began and, if they were others, went on.

    Args:
      data: the data set read.
      own_copy: leave it as it is, and open a copy.

    Raises:
      ValueError: if a flag or the data differ from the run that is to go on. One that
        ended within its first epoch begins anew, and may have others.
      OSError: if the directory cannot be written.
    """
    directory = pathlib.Path(shared_flags.RUN_DIR.value)
    if own_copy:
        directory = distributed.own_folder(directory)
    record = directory / "run.json"
    now = {"flags": shared_flags.flag_values(), "data": data.counts()}
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


def join_run(strategy: tf.distribute.Strategy, data: shared_flags.Data) -> pathlib.Path:
    """`open_run` for each of the machines that train together.

    All must be about to do the same; then the chief has the run directory, and every
    other worker a copy, to keep files in that nobody reads.

    Raises:
      ValueError, OSError: as `open_run`, or if a worker differs from the chief.
    """
    worker, workers = distributed.place(strategy)
    if workers > 1:
        checkpoint = pathlib.Path(shared_flags.RUN_DIR.value) / "checkpoint"
        facts = {
            f"--{name}": value for name, value in shared_flags.flag_values().items()
        }
        facts |= {f"{part} data": count for part, count in data.counts().items()}
        facts["last checkpoint's epoch"] = callbacks.last_epoch(checkpoint)
        distributed.agree(strategy, facts)
    return open_run(data, own_copy=worker > 0)


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


def fit(
    model: tf.keras.Model,
    batches: pipeline.Batches,
    run_dir: pathlib.Path,
    strategy: tf.distribute.Strategy,
    *,
    images_per_step: int,
    remedies: dict[str, str],
    log: tf.keras.callbacks.Callback,
) -> None:
    """Trains to the last epoch, from the last checkpoint on, and keeps one an epoch.

    Args:
      model: compiled.
      batches: of this worker, from the epoch after the checkpoint.
      run_dir: from `join_run`.
      strategy: from `shared_flags.set_up`.
      images_per_step: of all replicas.
      remedies: what to do if one of these losses is not finite.
      log: what the program itself writes of each epoch.

    Raises:
      OSError: the disk has no room for the checkpoints.
      FloatingPointError: a loss is not finite.
    """
    weights = sum(weight.shape.num_elements() for weight in model.weights)
    # Weights, momentum and the checkpoint before it, while the next one is written.
    check_space(run_dir, 2 * 2 * 4 * weights)
    folder = run_dir / "checkpoint"
    first_epoch = callbacks.last_epoch(folder)
    checkpoint = callbacks.EpochCheckpoint(folder, model)
    checkpoint.restore()
    if first_epoch >= shared_flags.EPOCHS.value:
        print(f"{run_dir} has had its {first_epoch} epochs; only results are missing.")
        return
    if first_epoch:
        print(f"Going on after epoch {first_epoch} of {run_dir}.")
    summaries = tf.keras.callbacks.TensorBoard(
        str(run_dir / "tensorboard"), write_graph=False
    )
    throughput = callbacks.Throughput(images_per_step, shared_flags.LAUNCHED)
    with shared_flags.unrewritten():
        model.fit(
            distributed.feed(strategy, batches.dataset),
            initial_epoch=first_epoch,
            epochs=shared_flags.EPOCHS.value,
            steps_per_epoch=batches.steps_per_epoch,
            verbose=0,
            callbacks=[
                callbacks.StopOnNaN(remedies),
                throughput,
                log,
                summaries,
                checkpoint,
                progress.EpochLine(),
            ],
        )


def check_space(directory: pathlib.Path, needed_bytes: int) -> None:
    """Raises OSError where the disk has no room for a run's files."""
    free = shutil.disk_usage(directory).free
    if free < needed_bytes:
        raise OSError(
            f"run_dir={directory} has {free / 1e6:.0f} MB free, and the run needs "
            f"{needed_bytes / 1e6:.0f} MB; free some or choose another --run_dir."
        )


def provenance(data: shared_flags.Data) -> dict[str, Any]:
    """What a result comes from: flags, data, versions, commit. Never raises."""
    return {
        "seed": shared_flags.SEED.value,
        "flags": shared_flags.flag_values(),
        "dataset": {"name": shared_flags.DATASET.value, "counts": data.counts()},
        **environment(),
    }


def begun_with(directory: pathlib.Path, data: shared_flags.Data) -> dict[str, Any]:
    """`provenance` of a run, with the versions and the commit that it began with.

    Where another program or machine went on with the run, `went_on_with` lists what
    each of them had.

    Args:
      directory: from `open_run`.
      data: the data set read.
    """
    first, *later = json.loads((directory / "run.json").read_text())["environments"]
    return {**provenance(data), **first, **({"went_on_with": later} if later else {})}


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


write_text = atomic_files.write_text
