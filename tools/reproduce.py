r"""Trains the rows of a table of results with several seeds, and prints the table.

Each finished run adds a line to the CSV file of results. A run that has its line is not
repeated, and a run that was cut short is resumed.

  python tools/reproduce.py                               # docs/reproduction.md
  python tools/reproduce.py --dataset=market1501 --data_dir=DIR \
      --results=docs/photographs.csv                      # docs/photographs.md
  python tools/reproduce.py --rows=cdnet,cdnet_bn         # only these rows

The rows `found` and `found_20` first search for their genotype.
"""

from __future__ import annotations

import pathlib
import shlex
import statistics
import sys
from collections.abc import Iterable
from typing import NamedTuple

from absl import app, flags

from cdnet_tf import trainings

# The smallest network of the search space CDS.
_SMALLEST = " ".join(["(3,5,1)"] * 6)
_COLUMNS = "row seed epochs parameters macs minutes rank1 mAP flags".split()


class Row(NamedTuple):
    """A row of a table.

    Attributes:
      flags: arguments that the row adds to the recipe.
      seeds: number of seeds, unless --seeds says otherwise.
    """

    flags: list[str]
    seeds: int = 3


class Table(NamedTuple):
    """The trainings on a data set.

    Attributes:
      recipe: arguments that all rows share.
      search: arguments of the search whose genotype the rows `found` train.
      rows: by name.
    """

    recipe: list[str]
    search: list[str]
    rows: dict[str, Row]


# As when the rows on pedestrians were measured: then the padding did not follow the
# height, and the search used Random Erasing.
_PADDING = "--crop_padding=10"


def _pedestrians() -> Table:
    names = ("cdnet", "cnet", "cdnet_v35", "cdnet_std", "osnet", "mobilenet_v2")
    rows = {"found": Row([_FOUND])}
    rows |= {name: Row([f"--genotype={name}"]) for name in names}
    for neck in ("bn", "bl"):
        rows[f"cdnet_{neck}"] = Row(["--genotype=cdnet", f"--neck={neck}"])
    search = ["--flagfile=flags/cds.cfg", "--flagfile=flags/demo.cfg", "--epochs=20"]
    search += [_PADDING, "--random_erasing=0.5"]
    return Table(["--flagfile=flags/pedestrians.cfg", _PADDING], search, rows)


def _market1501() -> Table:
    genotypes = {name: name for name in ("cdnet", "cdnet_v35", "osnet")}
    genotypes |= {"smallest": _SMALLEST}
    genotypes |= {name: name for name in ("cnet", "cdnet_std", "mobilenet_v2")}
    rows = {}
    for epochs in (20, 60):
        for name, genotype in genotypes.items():
            twice = epochs == 60 and list(genotypes).index(name) < 4
            options = [f"--genotype={genotype}", f"--epochs={epochs}"]
            rows[f"{name}_{epochs}"] = Row(options, 2 if twice else 1)
    for name in ("cdnet", "smallest"):
        options = [*rows[f"{name}_20"].flags, "--nozero_init_residual"]
        rows[f"{name}_ones_20"] = Row(options, 1)
    # The weights that are shipped. Their networks are wide enough, and train for long
    # enough, to learn the people by heart; Random Erasing makes that harder.
    wide = ["--genotype=cdnet", "--random_erasing=0.5", "--precision=mixed_bfloat16"]
    for name, width, epochs in (("half", 0.5, 60), ("full", 1.0, 30)):
        options = [*wide, f"--width_multiplier={width}", f"--epochs={epochs}"]
        rows[f"cdnet_{name}_{epochs}"] = Row(options, 1)
    short = rows["cdnet_20"].flags
    for name, option in _HARDER.items():
        rows[f"cdnet_{name}_20"] = Row([*short, option], 1)
    rows["cdnet_bn_20"] = Row([*short, "--neck=bn"], 1)
    for parts in (0, 1, 3, 4):  # 0 is the BLNeck, and 2 is the row `cdnet_20`.
        rows[f"cdnet_fbl{parts}_20"] = Row([*short, f"--parts={parts}"], 1)
    rows["found_20"] = Row([_FOUND, "--epochs=20"])
    # The same networks and people in both precisions.
    half = ["--genotype=cdnet", "--width_multiplier=0.5", "--holdout_identities=450"]
    for precision in ("float32", "mixed_bfloat16"):
        options = [*half, f"--precision={precision}", "--epochs=20"]
        rows[f"{precision}_20"] = Row(options)
    return Table([_PHOTOGRAPHS], _RULE, rows)


_PHOTOGRAPHS = "--flagfile=flags/photographs.cfg"
# The paper's rule, on the images and the width of photographs.cfg.
_RULE = ["--flagfile=flags/cds.cfg", "--height=128", "--width=64"]
_RULE += ["--width_multiplier=0.25", "--random_erasing=0", "--dropout=0"]
_RULE += ["--alpha_milestones=", "--zero_init_residual", "--epochs=20"]
_FOUND = "--genotype={output_dir}/search"
# Options that make training harder, so that less is learned by heart.
_HARDER = {
    "erasing": "--random_erasing=0.5",
    "dropout": "--dropout=0.2",
    "smoothing": "--label_smoothing=0.1",
}
_TABLES = {"pedestrians": _pedestrians(), "market1501": _market1501()}


def define_flags() -> None:
    # At import, the names would clash with those of other programs in one process.
    flags.DEFINE_enum(
        "dataset", "pedestrians", list(_TABLES), "The data set whose table is made."
    )
    flags.DEFINE_string(
        "data_dir",
        None,
        "Folder of the data set; pedestrians are generated by default.",
    )
    flags.DEFINE_list(
        "rows", None, "Rows to train, by name. Default: all of the data set's table."
    )
    flags.DEFINE_integer(
        "seeds", None, "Number of seeds of each row. Default: as the table says.", 1
    )
    flags.DEFINE_integer(
        "jobs",
        None,
        "Trainings to run side by side, each on its share of the cores. Default: one "
        "for each core.",
        1,
    )
    flags.DEFINE_string(
        "output_dir",
        None,
        "Folder of all runs. Default: runs/reproduction_DATASET.",
    )
    flags.DEFINE_string(
        "results",
        None,
        "CSV file of the results. Default: results.csv in --output_dir.",
    )


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    values = flags.FLAGS
    output_dir = values.output_dir or f"runs/reproduction_{values.dataset}"
    data = [f"--data_dir={values.data_dir}"] if values.data_dir else []
    text = reproduce(
        _TABLES[values.dataset],
        values.rows,
        pathlib.Path(output_dir),
        pathlib.Path(values.results or f"{output_dir}/results.csv"),
        data=data,
        seeds=values.seeds,
        jobs=values.jobs,
    )
    print(text)


def reproduce(
    table: Table,
    names: list[str] | None,
    output_dir: pathlib.Path,
    results: pathlib.Path,
    *,
    data: list[str],
    seeds: int | None = None,
    jobs: int | None = None,
) -> str:
    """Does the missing trainings of a table; returns the table as text.

    Args:
      table: the trainings.
      names: of the rows; by default all.
      output_dir: folder of all runs.
      results: CSV file of the results.
      data: arguments that name the data.
      seeds: number of seeds of each row; by default as the table says.
      jobs: number of trainings side by side; by default one for each core.

    Raises:
      app.UsageError: a row is unknown.
    """
    names = names or list(table.rows)
    unknown = sorted(set(names) - set(table.rows))
    if unknown:
        raise app.UsageError(f"Unknown rows {unknown}; use {', '.join(table.rows)}.")
    output_dir.mkdir(parents=True, exist_ok=True)
    done = {(line["row"], int(line["seed"])) for line in trainings.read(results)}
    runs = [(n, seed) for n in names for seed in range(seeds or table.rows[n].seeds)]
    missing = [run for run in runs if run not in done]
    if any(_FOUND in table.rows[name].flags for name, _ in missing):
        _run("search", [*table.search, *data], output_dir / "search", None)
    shared = table._replace(recipe=[*table.recipe, *data])
    _train_all(shared, missing, output_dir, results, jobs)
    return as_markdown(trainings.read(results), names)


def _train_all(
    table: Table,
    runs: Iterable[tuple[str, int]],
    output_dir: pathlib.Path,
    results: pathlib.Path,
    jobs: int | None,
) -> None:
    """Trains all runs, `jobs` at a time, and adds a line for each."""

    def train(run: tuple[str, int], cores) -> None:
        name, seed = run
        row = table.rows[name].flags
        given = [each.format(output_dir=output_dir) for each in row]
        options = [*table.recipe, *given, f"--seed={seed}"]
        run_dir = output_dir / f"{name}_{seed}"
        _run("train", options, run_dir, cores)
        trainings.append(results, _COLUMNS, _result(name, seed, row, run_dir))

    trainings.side_by_side(train, runs, jobs)


def _run(program: str, options: list[str], run_dir: pathlib.Path, cores) -> None:
    """Runs a program of this package in a new process; its output goes to a file."""
    command = [sys.executable, "-m", f"cdnet_tf.{program}", *options]
    trainings.run(command, run_dir, cores)


def _result(name: str, seed: int, row: list[str], run_dir: pathlib.Path) -> dict:
    """Returns the CSV file's line of a finished run."""
    ended = trainings.Ended.read(run_dir)
    record = ended.evaluation
    return {
        "row": name,
        "seed": seed,
        "epochs": len(ended.epochs),
        "parameters": record["parameters"],
        "macs": record["macs"],
        "minutes": f"{ended.minutes:.1f}",
        "rank1": f"{100 * record['scores']['rank1']:.2f}",
        "mAP": f"{100 * record['scores']['mean_ap']:.2f}",
        "flags": shlex.join(row),
    }


def as_markdown(lines: list[dict[str, str]], names: Iterable[str]) -> str:
    """Returns the results as a table, with the mean and range over seeds."""
    text = [
        "| row | epochs | parameters | MACs, M | seeds | rank-1, % | mAP, % |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in names:
        own = [line for line in lines if line["row"] == name]
        if own:
            first, macs = own[0], float(own[0]["macs"]) / 1e6
            scores = [_mean_and_range(own, column) for column in ("rank1", "mAP")]
            cells = [name, first["epochs"], f"{int(first['parameters']):,}"]
            cells += [f"{macs:.1f}", str(len(own)), *scores]
            text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text)


def _mean_and_range(lines: list[dict[str, str]], column: str) -> str:
    values = [float(line[column]) for line in lines]
    mean = f"{statistics.mean(values):.1f}"
    return (
        mean if len(values) == 1 else f"{mean} ({min(values):.1f} to {max(values):.1f})"
    )


if __name__ == "__main__":
    define_flags()
    app.run(main)
