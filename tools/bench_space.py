r"""Trains networks of the search space alike, and collects the results in a table.

Each finished training adds a line to the CSV file of results. A training that has its
line is not repeated, and a training that was cut short is resumed.

  python tools/bench_space.py --plan=pilot --epochs=20,60 --data_dir=DIR
  python tools/bench_space.py --plan=bench --epochs=60 --data_dir=DIR \
      -- --width_multiplier=0.5       # what follows `--` goes to every training
  python tools/bench_space.py --genotype=RUN --genotype=cdnet --seeds=100,101,102 \
      --data_dir=DIR                  # your own networks instead of a plan's
  python tools/bench_space.py --report --results=FILE
  python tools/bench_space.py --rehearse --results=FILE

--report trains nothing, and summarises the lines. Neither does --rehearse, which says
how much searches gain that choose from the table. docs/bench_space.md says what the
table is for.
"""

from __future__ import annotations

import json
import pathlib
import shlex
import shutil
import sys
import zlib
from collections.abc import Sequence
from typing import Any

from absl import app, flags

from cdnet_tf import trainings
from cdnet_tf.bench import plans, summary, table
from cdnet_tf.nn import genotype
from cdnet_tf.strategies import rehearsal

_PROGRAM = pathlib.Path(__file__).with_name("train_for_bench.py")
_RECIPE = "--flagfile=flags/photographs.cfg"
_KEY = ("genotype", "seed", "epochs", "people", "flags")


def define_flags() -> None:
    # At import, the names would clash with those of other programs in one process.
    flags.DEFINE_enum(
        "plan",
        "pilot",
        list(plans.PLANS),
        "Networks to train: `pilot` has 12 genotypes with 3 seeds; `bench` has 64 and "
        "the published ones, half of them with 2 seeds.",
    )
    flags.DEFINE_multi_string(
        "genotype",
        None,
        "Network to train with each of --seeds instead of a plan's: a search's run "
        "directory, a genotype file, a published name, or the branches, "
        "`(3,5,1) (3,7,2) ...`. May be given several times.",
    )
    flags.DEFINE_list("seeds", ["0"], "Seeds of each --genotype; plans have their own.")
    flags.DEFINE_list(
        "epochs", ["20"], "Numbers of epochs; each is a separate training."
    )
    flags.DEFINE_integer("people", 301, "People to train on.", 2)
    flags.DEFINE_integer("select_people", 150, "People to choose networks by.", 2)
    flags.DEFINE_integer("test_people", 300, "People to judge the choice by.", 2)
    flags.DEFINE_integer("split_seed", 0, "Seed of the draw of all people.", 0)
    flags.DEFINE_string(
        "data_dir", "data", "Folder of the data set, or the folder above it."
    )
    flags.DEFINE_integer(
        "jobs",
        None,
        "Trainings to run side by side, each on its share of the cores. Default: one "
        "for each core.",
        1,
    )
    flags.DEFINE_string("output_dir", "runs/bench_space", "Folder of all runs.")
    flags.DEFINE_string(
        "results",
        None,
        "CSV file of the results. Default: results.csv in --output_dir.",
    )
    flags.DEFINE_boolean(
        "report", False, "Train nothing; print how well the results agree."
    )
    flags.DEFINE_boolean(
        "rehearse",
        False,
        "Train nothing; print how much searches gain that choose from the table.",
    )
    for name in ("epochs", "seeds"):
        flags.register_validator(
            name,
            lambda values: values and all(each.isdecimal() for each in values),
            f"must be whole numbers, as in --{name}=20,60",
        )


def main(argv: list[str]) -> None:
    strays = [each for each in argv[1:] if not each.startswith("--")]
    if strays:
        raise app.UsageError(f"Unknown argument {strays[0]!r}; flags begin with --.")
    values = flags.FLAGS
    output_dir = pathlib.Path(values.output_dir)
    results = pathlib.Path(values.results or output_dir / "results.csv")
    if values.report:
        print(summary.text(table.load(results)))
        return
    if values.rehearse:
        print(rehearsal.report(table.longest(table.load(results))))
        return
    names = ("select_people", "test_people", "split_seed")
    division = [f"--{name}={values[name].value}" for name in names]
    try:
        runs = _runs(values)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    train_missing(
        runs,
        [_RECIPE, *division, *argv[1:]],
        values.people,
        output_dir,
        results,
        data_dir=values.data_dir,
        jobs=values.jobs,
    )
    print(f"The table is {results}.")


def _runs(values) -> list[plans.Run]:
    """Returns the trainings that the flags ask for."""
    epochs = [int(each) for each in values.epochs]
    if not values.genotype:
        return plans.PLANS[values.plan](epochs)
    genotypes = [genotype.load(each) for each in values.genotype]
    return plans.of_genotypes(genotypes, [int(each) for each in values.seeds], epochs)


def train_missing(
    runs: Sequence[plans.Run],
    options: Sequence[str],
    people: int,
    output_dir: pathlib.Path,
    results: pathlib.Path,
    *,
    data_dir: str,
    jobs: int | None = None,
) -> None:
    """Does the trainings whose lines are not in the table yet, in their order.

    Args:
      runs: the trainings of a plan.
      options: arguments that all trainings share.
      people: number of people to train on.
      output_dir: folder of all runs.
      results: CSV file of the table.
      data_dir: folder of the data set.
      jobs: number of trainings side by side; by default one for each core.

    Raises:
      trainings.FailedError: a training failed; the others are done first.
    """
    flags_text = shlex.join(options)
    # Trainings with other options have other folders.
    folder = output_dir / f"{zlib.crc32(flags_text.encode()):08x}"
    folder.mkdir(parents=True, exist_ok=True)
    results.parent.mkdir(parents=True, exist_ok=True)
    done = {tuple(line[key] for key in _KEY) for line in trainings.read(results)}

    def train(run: plans.Run, cores) -> None:
        run_dir = folder / _name(run, people)
        own = [f"--{name}={value}" for name, value in run._asdict().items()]
        own += [f"--people={people}", f"--data_dir={data_dir}"]
        _train([*options, *own], run_dir, cores)
        line = _line(run, people, flags_text, run_dir)
        trainings.append(results, table.COLUMNS, line)
        # The network's file stays, so that it can be examined later.
        for name in ("checkpoint", "tensorboard"):
            shutil.rmtree(run_dir / name, ignore_errors=True)

    missing = [
        run for run in runs if tuple(map(str, (*run, people, flags_text))) not in done
    ]
    print(f"{len(missing)} of {len(runs)} trainings are missing.", flush=True)
    trainings.side_by_side(train, missing, jobs)


def _name(run: plans.Run, people: int) -> str:
    """Names a run directory, such as 351-372-572-591-572-571_60_301_0."""
    layers = "-".join("".join(map(str, layer)) for layer in run.genotype.layers)
    return f"{layers}_{run.epochs}_{people}_{run.seed}"


def _train(options: Sequence[str], run_dir: pathlib.Path, cores) -> None:
    trainings.run([sys.executable, str(_PROGRAM), *options], run_dir, cores)


def _line(
    run: plans.Run, people: int, flags_text: str, run_dir: pathlib.Path
) -> dict[str, Any]:
    """Returns the table's line of a finished training."""
    ended = trainings.Ended.read(run_dir)
    select = ended.evaluation["scores"]
    test = json.loads((run_dir / "test.json").read_text())
    return {
        **run._asdict(),
        "people": people,
        "depth": run.genotype.depth,
        "parameters": ended.evaluation["parameters"],
        "macs": ended.evaluation["macs"],
        "minutes": f"{ended.minutes:.1f}",
        "select_rank1": _percent(select["rank1"]),
        "select_mAP": _percent(select["mean_ap"]),
        "test_rank1": _percent(test["rank1"]),
        "test_mAP": _percent(test["mean_ap"]),
        "train_accuracy": _percent(float(ended.epochs[-1]["accuracy"])),
        "flags": flags_text,
    }


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


if __name__ == "__main__":
    define_flags()
    app.run(main)
