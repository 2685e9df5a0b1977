"""Trains the rows of docs/reproduction.md, each with several seeds, and tables them.

  python tools/reproduce.py                          # all rows, three seeds each
  python tools/reproduce.py --rows=cdnet,cdnet_bn    # these rows

A run that has ended is not run again, and one that was cut short goes on. The row
`found` searches its genotype first.
"""

from __future__ import annotations

import concurrent.futures
import json
import pathlib
import statistics
import subprocess
import sys

from absl import app, flags

# Row -> what it adds to flags/pedestrians.cfg. CDNet has the FBLNeck unless told.
_ROWS: dict[str, list[str]] = {
    "found": ["--genotype={output_dir}/search"],
    "cdnet": ["--genotype=cdnet"],
    "cnet": ["--genotype=cnet"],
    "cdnet_v35": ["--genotype=cdnet_v35"],
    "cdnet_std": ["--genotype=cdnet_std"],
    "osnet": ["--genotype=osnet"],
    "mobilenet_v2": ["--genotype=mobilenet_v2"],
    "cdnet_bn": ["--genotype=cdnet", "--neck=bn"],
    "cdnet_bl": ["--genotype=cdnet", "--neck=bl"],
}
_SEARCH = ["--flagfile=flags/cds.cfg", "--flagfile=flags/demo.cfg", "--epochs=20"]
# As when the table was measured: the padding did not follow the height then, and the
# search erased.
_PADDING = "--crop_padding=10"
_SEARCH += [_PADDING, "--random_erasing=0.5"]

_NAMES = flags.DEFINE_list("rows", list(_ROWS), "Rows to run.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Seeds 0, 1, ... of each row.", 1)
_JOBS = flags.DEFINE_integer("jobs", 2, "Trainings side by side; one core each.", 1)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "runs/reproduction", "Of all runs.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    unknown = sorted(set(_NAMES.value) - set(_ROWS))
    if unknown:
        raise app.UsageError(f"Unknown rows {unknown}; use {', '.join(_ROWS)}.")
    output_dir = pathlib.Path(_OUTPUT_DIR.value)
    output_dir.mkdir(parents=True, exist_ok=True)
    if "found" in _NAMES.value:
        _run("search", _SEARCH, output_dir / "search")
    runs = [
        (row, seed, output_dir / f"{row}_{seed}")
        for row in _NAMES.value
        for seed in range(_SEEDS.value)
    ]
    with concurrent.futures.ThreadPoolExecutor(_JOBS.value) as pool:
        list(pool.map(lambda run: _train(*run), runs))
    _print_table(output_dir)


def _train(row: str, seed: int, run_dir: pathlib.Path) -> None:
    options = [each.format(output_dir=run_dir.parent) for each in _ROWS[row]]
    recipe = ["--flagfile=flags/pedestrians.cfg", _PADDING]
    options = [*recipe, *options, f"--seed={seed}"]
    _run("train", options, run_dir)


def _run(program: str, options: list[str], run_dir: pathlib.Path) -> None:
    """Runs a program of ours in a process of its own; its output goes to a file."""
    command = [sys.executable, "-m", f"cdnet_tf.{program}", *options]
    log = run_dir.with_name(f"{run_dir.name}.log")
    with open(log, "a") as file:
        status = subprocess.run(
            [*command, f"--run_dir={run_dir}"], stdout=file, stderr=file, check=False
        ).returncode
    if status:
        raise RuntimeError(f"{' '.join(command)} failed; see the end of {log}.")
    print(f"{run_dir} done", file=sys.stderr, flush=True)


def _print_table(output_dir: pathlib.Path) -> None:
    print("| row | parameters | MACs, M | rank-1, % | mAP, % |")
    print("|---|---|---|---|---|")
    for row in _NAMES.value:
        records = [
            json.loads((output_dir / f"{row}_{seed}" / "evaluation.json").read_text())
            for seed in range(_SEEDS.value)
        ]
        cells = [
            _mean_and_range([100 * record["scores"][name] for record in records])
            for name in ("rank1", "mean_ap")
        ]
        first = records[0]
        size = f"{first['parameters']:,} | {first['macs'] / 1e6:.1f}"
        print(f"| {row} | {size} | {' | '.join(cells)} |")


def _mean_and_range(values: list[float]) -> str:
    mean = statistics.mean(values)
    return f"{mean:.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    app.run(main)
