r"""Tunes the flags of a training or a search on people held out of the training split.

A trial runs the program in a process of its own, so a trial that runs out of memory
harms no other. docs/tuning.md says more.

python -m cdnet_tf.tune --flagfile=flags/market1501.cfg --data_dir=DIR --trials=30 \
    --run_dir=runs/tune
python -m cdnet_tf.tune --target=search --flagfile=flags/cds.cfg --data_dir=DIR \
    --retraining=flags/market1501.cfg --run_dir=runs/tune_search

All flags of the target's program are accepted, as --name=value, and passed to each
trial.
"""

from __future__ import annotations

import dataclasses
import fcntl
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys

import keras_tuner as kt
import numpy as np
from absl import app, flags

from cdnet_tf import atomic_files, recipes, shared_flags
from cdnet_tf.data import holdout
from cdnet_tf.learn import hyperparameters as spaces
from cdnet_tf.learn import study, study_log

flags.adopt_module_key_flags(shared_flags)  # --help lists them, too.
_TARGET = flags.DEFINE_enum(
    "target", "train", list(spaces.SPACES), "The program whose flags are tuned."
)
_TUNER = flags.DEFINE_enum(
    "tuner", "random", study.TUNERS, "How keras-tuner chooses the next trial."
)
_TRIALS = flags.DEFINE_integer(
    "trials",
    None,
    "Number of trials at most. Default: 20, or one whole sweep of --tuner=hyperband.",
    1,
)
_RANGE = flags.DEFINE_multi_string(
    "range",
    [],
    "Values to try of a flag: lr=0.01:0.1:log, dropout=0:0.5, parts=1,2; `parts=` does "
    "not tune the flag. May be given several times.",
)
_RETRAINING = flags.DEFINE_string(
    "retraining",
    None,
    "Flag file that trains the network found; needed by --target=search.",
)
_WORKER_TIMEOUT = flags.DEFINE_float(
    "worker_timeout",
    300.0,
    "Seconds without a sign of life after which a worker's trial goes to another.",
    1,
)
_OWN = {"target", "tuner", "trials", "range", "retraining", "worker_timeout"}
_OWN |= {"run_dir", "flagfile"}
_READER = """
import importlib, json, sys
from absl import flags
program = importlib.import_module(sys.argv[1])
for line in json.loads(sys.argv[2]):
    flags.FLAGS.unparse_flags()
    flags.FLAGS([sys.argv[1], *line])
program.read_settings().check()
values = {name: flags.FLAGS[name].value for name in flags.FLAGS}
texts = {k: ",".join(v) if isinstance(v, list) else v for k, v in values.items()}
print(json.dumps(texts, default=str))
"""
# The program that takes each flag file of the best trial.
_PROGRAMS = {
    "train": {"best": "train"},
    "search": {"best": "search", "best_train": "train"},
}
# Flags that a retraining takes over from the search before it.
_SHARED = {
    *("dataset", "data_dir", "train_identities", "height", "width", "width_multiplier"),
    *("holdout_identities", "holdout_seed", "seed", "cache_mb", "strategy"),
    *("logical_cpus", "precision"),
}


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What all trials share.

    Attributes:
      directory: of the study.
      recipe: arguments of every trial.
      given: the recipe's own values of the flags that are tuned.
    """

    directory: pathlib.Path
    recipe: list[str]
    given: dict[str, str]


def main(argv: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the trial, too
    if _TARGET.value == "search" and not _RETRAINING.value:
        raise app.UsageError("--target=search needs --retraining=FLAGFILE.")
    directory = pathlib.Path(shared_flags.RUN_DIR.value)
    recipe = _recipe(argv[1:])
    with shared_flags.refusing():
        space = spaces.override(spaces.SPACES[_TARGET.value], _RANGE.value)
        given = _given(recipe, space)
    oracle = study.make_oracle(
        _TUNER.value,
        space,
        trials=_TRIALS.value or (None if _TUNER.value == "hyperband" else 20),
        epochs=shared_flags.EPOCHS.value,
        seed=shared_flags.SEED.value,
        recipe=spaces.nearest(space, given),
        lease_s=_WORKER_TIMEOUT.value,
    )
    recipe, held = _hold_out(recipe)
    plan = _Plan(directory, recipe, given)
    _open(directory, recipe, space, held)
    tuner = study.Study(
        oracle,
        functools.partial(_score, plan),
        str(directory),
        functools.partial(_write_results, plan),
    )
    tuner.search()
    if tuner.is_worker:
        return 0
    outcomes = _write_results(plan, list(oracle.trials.values()))
    print(f"\n{study_log.table(outcomes)}\n\nResults: {directory}")
    if all(each.mean_ap is None for each in outcomes):
        return 1
    commands = study_log.for_everybody(directory, _PROGRAMS[_TARGET.value])
    print("To run the best on everybody, and evaluate it on the test images:")
    print("\n".join(f"  {command}" for command in commands))
    return 0


def parse(argv: list[str]) -> list[str]:
    """Parses this program's flags; returns all arguments, with flag files opened."""
    opened = recipes.open_flag_files(argv[1:])
    flags.FLAGS([argv[0], *opened], known_only=True)
    return [argv[0], *opened]


def _name(argument: str) -> str:
    return argument.lstrip("-").partition("=")[0]


def _recipe(arguments: list[str]) -> list[str]:
    """Returns the arguments that are passed on to each trial."""
    for argument in arguments:
        if not argument.startswith("--"):
            raise app.UsageError(f"Cannot read {argument!r}; write --name=value.")
    return [each for each in arguments if _name(each) not in _OWN]


def _hold_out(recipe: list[str]) -> tuple[list[str], dict]:
    """Adds --holdout_identities if it is missing; also returns who is held out."""
    data = shared_flags.read_data(["train"])
    if not shared_flags.HOLDOUT_IDENTITIES.value:
        number = max(2, len(np.unique(data.train.identities)) // 5)
        data = holdout.hold_out(data, number, shared_flags.HOLDOUT_SEED.value or 0)
        # Only whole families are held out, which may be more people.
        number = len(np.unique(data.query.identities))
        recipe = [*recipe, f"--holdout_identities={number}"]
    held = np.unique(data.query.identities)
    return recipe, {"identities": held.tolist(), "counts": data.counts()}


def _given(recipe: list[str], space: spaces.Space) -> dict[str, str]:
    """Returns the recipe's own values of the flags that are tuned.

    Raises:
      ValueError: a program refuses its flags, or an outermost value of a range.
    """
    said = _read(_TARGET.value, [*recipe, *spaces.corners(space)], recipe)
    if _RETRAINING.value:
        _read("train", _retraining(recipe))
    return spaces.of_recipe(space, said)


def _open(directory: pathlib.Path, recipe, space, held: dict) -> None:
    """Records what is tuned and on whom; refuses to resume a different study."""
    harmless = shared_flags.HARMLESS
    now = {
        "target": _TARGET.value,
        "tuner": _TUNER.value,
        "recipe": [each for each in recipe if _name(each) not in harmless],
        "retraining": _retraining([]) if _RETRAINING.value else None,
        "space": {name: repr(domain) for name, domain in space.items()},
        "held_out": held,
    }
    record = directory / "study.json"
    if record.exists():
        then = json.loads(record.read_text())
        for name, value in now.items():
            if then.get(name) != value:
                raise ValueError(
                    f"{record} was begun with {name} = {then.get(name)!r}, and now it "
                    f"is {value!r}: set it back, or choose another --run_dir."
                )
    elif not os.environ.get("KERASTUNER_ORACLE_IP") or _is_chief():
        directory.mkdir(parents=True, exist_ok=True)
        atomic_files.write_text(record, json.dumps(now, indent=1))


def _is_chief() -> bool:
    return "chief" in os.environ.get("KERASTUNER_TUNER_ID", "")


def _read(program: str, *lines: list[str]) -> dict:
    """Lets the program parse several command lines; returns the flags of the last one.

    Raises:
      ValueError: the program refuses one of the command lines.
    """
    command = [sys.executable, "-c", _READER, f"cdnet_tf.{program}", json.dumps(lines)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = study_log.reason(done.returncode, done.stderr)
        raise ValueError(f"cdnet_tf.{program} does not take these flags: {said}")
    return json.loads(done.stdout)


def _retraining(recipe: list[str]) -> list[str]:
    """Returns the arguments of the training that follows a search, on its data."""
    file = f"--flagfile={_RETRAINING.value}"
    opened = recipes.open_flag_files([file])
    return [*opened, *(each for each in recipe if _name(each) in _SHARED)]


def _tuned(plan: _Plan, trial) -> dict[str, str]:
    """Returns the values of the tuned flags in a trial."""
    if study.is_recipe(trial):
        return spaces.as_flags(plan.given)
    values, epochs = study.drawn_values(trial)
    tuned = spaces.as_flags(values)
    if epochs:
        tuned["epochs"] = str(epochs)
    said = {_name(each): each.partition("=")[2] for each in plan.recipe}
    whole = shared_flags.EPOCHS.value
    return tuned | spaces.in_epochs(_TARGET.value, said, tuned, whole)


def _arguments(tuned: dict[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in tuned.items()]


def _score(plan: _Plan, trial) -> float:
    """Runs a trial; returns mAP on the people held out."""
    tuned = _tuned(plan, trial)
    folder = plan.directory / "trials" / trial.trial_id
    folder.mkdir(parents=True, exist_ok=True)
    print(f"Trial {trial.trial_id}: {' '.join(_arguments(tuned))}", flush=True)
    try:
        _run(folder, _TARGET.value, [*plan.recipe, *_arguments(tuned)])
        if _TARGET.value == "search":
            found = f"--genotype={folder / 'search'}"
            _run(folder, "train", [*_retraining(plan.recipe), found])
        record = json.loads((folder / "train" / "evaluation.json").read_text())
    except kt.errors.FailedTrialError as error:
        atomic_files.write_text(folder / "failed.txt", f"{error}\n")
        print(f"Trial {trial.trial_id} failed: {error}", flush=True)
        raise
    mean_ap = record["scores"]["mean_ap"]
    print(f"Trial {trial.trial_id}: mAP {mean_ap:.1%}", flush=True)
    return mean_ap


def _run(folder: pathlib.Path, program: str, arguments: list[str]) -> None:
    """Runs or resumes a program in `folder/PROGRAM`; what it prints goes to a log."""
    lines = [*arguments, f"--run_dir={folder / program}"]
    recipe = folder / f"{program}.cfg"
    command = [sys.executable, "-m", f"cdnet_tf.{program}", f"--flagfile={recipe}"]
    # The program inherits the lock, so the next study waits for one that outlived this.
    with (
        open(folder / "lock", "w") as lock,
        open(folder / f"{program}.log", "a") as log,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        atomic_files.write_text(recipe, "\n".join(lines) + "\n")
        status = subprocess.run(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[lock.fileno()],
            check=False,
        ).returncode
    if status:
        text = (folder / f"{program}.log").read_text(errors="replace")
        raise kt.errors.FailedTrialError(study_log.reason(status, text))


def _write_results(plan: _Plan, trials) -> list:
    """Writes trials.csv, HParams and best.cfg as of now; returns the outcomes."""
    outcomes = [_outcome(plan, trial) for trial in trials]
    study_log.write_table(plan.directory / "trials.csv", outcomes)
    study_log.write_hparams(plan.directory / "tensorboard", outcomes)
    done = [each for each in study_log.ranked(outcomes) if each.mean_ap is not None]
    if done:
        _write_best(plan, done[0])
    return outcomes


def _outcome(plan: _Plan, trial) -> study_log.Outcome:
    failed = plan.directory / "trials" / trial.trial_id / "failed.txt"
    why = ""
    if trial.status == "FAILED":
        why = failed.read_text() if failed.exists() else trial.message or "unknown"
    done = trial.status == "COMPLETED"
    return study_log.Outcome(
        trial.trial_id,
        trial.status,
        trial.score if done else None,
        _tuned(plan, trial),
        why.strip().rpartition("\n")[2],
        study.is_recipe(trial),
    )


def _write_best(plan: _Plan, best) -> None:
    """Writes a flag file that repeats the best trial; for a search, two of them."""
    lines = {"best": [*plan.recipe, "# Tuned:", *_arguments(best.flags)]}
    if _TARGET.value == "search":
        found = f"--genotype={plan.directory / 'best'}"
        lines["best_train"] = [*_retraining(plan.recipe), found]
    score = f"trial {best.trial}, mAP {best.mean_ap:.4f}"
    programs = _PROGRAMS[_TARGET.value]
    head = study_log.recipe_head(plan.directory, programs, score)
    for name, own in lines.items():
        whole = [*head, *own, f"--run_dir={plan.directory / name}", ""]
        atomic_files.write_text(plan.directory / f"{name}.cfg", "\n".join(whole))


if __name__ == "__main__":
    flags.mark_flag_as_required("run_dir")
    app.run(main, flags_parser=parse)
