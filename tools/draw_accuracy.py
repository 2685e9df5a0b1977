"""Times networks on this machine, and draws their accuracy on photographs against it.

Each network is written as an int8 file for the size of its images, rewritten as the
exporter does, and run on one image and one thread, all files in turn. Its accuracy is
the mAP in a table of `tools/reproduce.py`.

    python tools/draw_accuracy.py --litert_python=PATH --output=docs/accuracy.png

PATH is a Python that has ai-edge-litert, or TensorFlow. The times are printed, one JSON
line for each row of the table. Random weights take as long as trained ones.
"""

from __future__ import annotations

import csv
import itertools
import json
import pathlib
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cdnet_tf  # isort: skip  # noqa: F401  (quiets TensorFlow)
import tensorflow as tf
from absl import app, flags
from matplotlib import figure

from cdnet_tf import atomic_files
from cdnet_tf.deploy import latency_files, rewrite, tflite
from cdnet_tf.nn import genotype, networks

_TIMER = pathlib.Path(__file__).with_name("time_tflite.py")
_STEPS = ("pool", "shortcut")  # of the rewrite, as the exporter takes them
_HEIGHT, _WIDTH = 128, 64
_NARROW = 0.25  # the width of flags/photographs.cfg


class Row(NamedTuple):
    """A training: which network, how long, and how good it became (mAP, %)."""

    name: str
    genotype: str
    width_multiplier: float
    epochs: int
    mean_ap: float


def define_flags() -> None:
    # At import, the names would clash with those of other programs in one process.
    flags.DEFINE_string(
        "results", "docs/photographs.csv", "CSV file of tools/reproduce.py."
    )
    flags.DEFINE_list(
        "rows",
        "cdnet_60,cdnet_v35_60,smallest_60,osnet_60,cdnet_20,osnet_20,cdnet_v35_20,"
        "smallest_20,cnet_20,cdnet_std_20,mobilenet_v2_20,cdnet_half_60,"
        "cdnet_full_30".split(","),
        "Rows of the table to draw.",
    )
    flags.DEFINE_string("output", "docs/accuracy.png", "The picture.")
    flags.DEFINE_integer("rounds", 25, "How often each file runs.", 3)
    flags.DEFINE_string(
        "litert_python",
        sys.executable,
        "Python that has ai-edge-litert, or TensorFlow.",
    )


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    values = flags.FLAGS
    rows = read(pathlib.Path(values.results), values.rows)
    compare(rows, values.litert_python, values.rounds, pathlib.Path(values.output))


def compare(
    rows: Sequence[Row], python: str, rounds: int, output: pathlib.Path
) -> None:
    """Times the networks of some trainings, prints the times, and draws the picture.

    Args:
      rows: the trainings.
      python: an interpreter that has ai-edge-litert, or TensorFlow.
      rounds: how often each file runs.
      output: the picture, a PNG file.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [_written(row, pathlib.Path(folder)) for row in rows]
        runtime, times = _timed(python, files, rounds)
    for row, time in zip(rows, times):
        said = {"row": row.name, "ms": round(time, 3), "mAP": row.mean_ap}
        print(json.dumps(said | {"runtime": runtime, "cpu": tflite.processor()}))
    _draw(dict(zip(rows, times)), runtime, output)


def read(path: pathlib.Path, names: Sequence[str]) -> list[Row]:
    """Reads rows of a table; of several seeds of a row it takes the mean mAP.

    Raises:
      ValueError: the table lacks a row.
    """
    with open(path, newline="") as file:
        runs = list(csv.DictReader(file))
    found = []
    for name in names:
        seeds = [run for run in runs if run["row"] == name]
        if not seeds:
            raise ValueError(f"{path} has no row {name!r}; see --rows.")
        given = dict(
            option.removeprefix("--").split("=", 1)
            for option in shlex.split(seeds[0]["flags"])
            if "=" in option
        )
        found.append(
            Row(
                name,
                given["genotype"],
                float(given.get("width_multiplier", _NARROW)),
                int(seeds[0]["epochs"]),
                statistics.mean(float(run["mAP"]) for run in seeds),
            )
        )
    return found


def _written(row: Row, folder: pathlib.Path) -> pathlib.Path:
    tf.keras.backend.clear_session()
    size = (_HEIGHT, _WIDTH, 3), row.width_multiplier
    if row.genotype in networks.NAMES:
        network = networks.build_named(row.genotype, *size)
    else:
        network = networks.build(genotype.load(row.genotype), *size)
    path = folder / f"{row.name}.tflite"
    path.write_bytes(latency_files.of_network(rewrite.rewrite(network, _STEPS)))
    return path


def _timed(
    python: str, files: Sequence[pathlib.Path], rounds: int
) -> tuple[str, list[float]]:
    """Returns the runtime's name, and the median milliseconds of each file."""
    with subprocess.Popen(
        [python, str(_TIMER), *map(str, files)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as worker:
        assert worker.stdin and worker.stdout
        runtime = json.loads(worker.stdout.readline())
        turns = []
        for _ in range(rounds):
            print("go", file=worker.stdin, flush=True)
            turns.append(json.loads(worker.stdout.readline()))
        worker.stdin.close()
    return runtime, [statistics.median(each) for each in zip(*turns)]


def _draw(times: Mapping[Row, float], runtime: str, path: pathlib.Path) -> None:
    picture = figure.Figure(figsize=(8, 4), layout="constrained")
    axes = picture.subplots()
    lengths = sorted({row[2:4] for row in times})
    for (row, time), marker in zip(times.items(), itertools.cycle("osDv^<>PX*")):
        network = row.name.removesuffix(f"_{row.epochs}")
        label = f"{network}, width {row.width_multiplier:g}, {row.epochs} epochs"
        color = f"C{lengths.index(row[2:4])}"
        axes.plot(time, row.mean_ap, marker, color=color, markersize=8, label=label)
    axes.set_xscale("log")
    axes.set_xticks([0.1, 0.2, 0.5, 1, 2, 5], ["0.1", "0.2", "0.5", "1", "2", "5"])
    axes.set_xlim(0.7 * min(times.values()), 1.4 * max(times.values()))
    axes.set_xlabel(f"ms for one image, int8, one thread, {runtime}")
    axes.set_ylabel("mAP on Market-1501, %")
    axes.set_title(f"Accuracy against time at {_HEIGHT}x{_WIDTH}")
    axes.grid(alpha=0.3)
    picture.legend(loc="outside right upper", fontsize=8)
    with atomic_files.replacing(path) as partial:
        picture.savefig(partial, dpi=110, format="png")


if __name__ == "__main__":
    define_flags()
    app.run(main)
