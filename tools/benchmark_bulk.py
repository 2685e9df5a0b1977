"""Times bulk embedding beside a bare loop; `benchmark.py embed_bulk` runs it.

The bare loop decodes files and embeds them in one thread of each process, and keeps the
embeddings in memory, without Beam, a plan or Parquet. `tools/embed.py` embeds the same
files with --threads=1 in as many processes. Both run as programs, in turn, and their
times include the start of the interpreter. The images are those of the gallery, which
are repeated if there are too few. Other programs prolong the time by the clock, so the
processor's time is reported, too. The result is one JSON line for each number of
processes.

  python tools/benchmark_bulk.py --dataset=market1501 --data_dir=DIR
"""

from __future__ import annotations

import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import cdnet_tf  # isort: skip  # noqa: F401  (quiets TensorFlow)
import numpy as np
from absl import app, flags

from cdnet_tf import shared_flags
from cdnet_tf.api import image_sources
from cdnet_tf.deploy import embedders, identity, tflite

_MODEL = flags.DEFINE_string(
    "bulk_model", "market1501/cdnet_x0_25_int8", "The network, a .tflite file."
)
_IMAGES = flags.DEFINE_integer("bulk_images", 10_000, "Images to embed.", 1)
_TURNS = flags.DEFINE_integer("bulk_turns", 3, "Runs of each program.", 1)
_PROCESSES = flags.DEFINE_list(
    "bulk_processes", ["1", "2"], "Numbers of processes to try."
)
_BATCH = 64  # images that are decoded before they are embedded, as tools/embed.py does
_HERE = pathlib.Path(__file__).resolve()


def main(argv: list[str]) -> None:
    if argv[1:2] == ["loop"]:
        _loop(*argv[2:])
    elif len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    else:
        _compare()


def _compare() -> None:
    gallery = shared_flags.read_data(["gallery"]).gallery.paths
    with tempfile.TemporaryDirectory() as folder:
        crops = pathlib.Path(folder, "crops")
        crops.mkdir()
        for number in range(_IMAGES.value):
            original = pathlib.Path(gallery[number % len(gallery)]).resolve()
            (crops / f"{number:07}{original.suffix}").symlink_to(original)
        for processes in map(int, _PROCESSES.value):
            turns = []
            for turn in range(_TURNS.value):
                output = pathlib.Path(folder, f"{processes}-{turn}")
                ways = {
                    "loop": _loops(crops, processes),
                    "beam": [_bulk(crops, output, processes)],
                }
                # Whichever comes second finds the files in memory.
                order = [*ways][:: 1 if turn % 2 else -1]
                turns.append({name: _timed(ways[name]) for name in order})
            print(json.dumps(_result(turns, processes)), flush=True)


def _loops(crops: pathlib.Path, processes: int) -> list[list[str]]:
    loop = [sys.executable, str(_HERE), f"--bulk_model={_MODEL.value}", "loop"]
    return [[*loop, str(crops), str(i), str(processes)] for i in range(processes)]


def _bulk(crops: pathlib.Path, output: pathlib.Path, processes: int) -> list[str]:
    return [
        sys.executable,
        str(_HERE.with_name("embed.py")),
        f"--input={crops}",
        f"--output={output}",
        f"--model={_MODEL.value}",
        "--camera=door",
        f"--processes={processes}",
        "--threads=1",
    ]


def _loop(crops: str, first: str, step: str) -> None:
    """Embeds every so many-th image of a folder."""
    embedder = embedders.open_model(identity.find(_MODEL.value))
    reader = image_sources.Reader(embedder.height, embedder.width)
    paths = sorted(os.listdir(crops))[int(first) :: int(step)]
    rows = []
    for start in range(0, len(paths), _BATCH):
        batch = (pathlib.Path(crops, name) for name in paths[start : start + _BATCH])
        pixels = [reader.decode(path.name, path.read_bytes()) for path in batch]
        rows.append(embedder.embed(np.stack(pixels)))
    print(len(np.concatenate(rows)))


def _timed(commands: Sequence[Sequence[str]]) -> tuple[float, float]:
    """Seconds by the clock and the processor until programs side by side have ended."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    running = [
        subprocess.Popen(each, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for each in commands
    ]
    for each in running:
        _, error = each.communicate()
        if each.returncode:
            raise RuntimeError(f"A program failed:\n{error.decode()}")
    took, after = (
        time.perf_counter() - began,
        resource.getrusage(resource.RUSAGE_CHILDREN),
    )
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took, used


def _result(turns: list[dict], processes: int) -> dict:
    result: dict = {
        "network": _MODEL.value,
        "images": _IMAGES.value,
        "processes": processes,
        "turns": len(turns),
        "cpu": tflite.processor(),
    }
    for name in ("loop", "beam"):
        clock = statistics.median(turn[name][0] for turn in turns)
        used = statistics.median(turn[name][1] for turn in turns)
        result[f"{name}_seconds"] = round(clock, 1)
        result[f"{name}_images_per_s"] = round(_IMAGES.value / clock, 1)
        result[f"{name}_cpu_seconds"] = round(used, 1)
    for place, what in enumerate(("clock", "cpu")):
        ratios = [turn["beam"][place] / turn["loop"][place] for turn in turns]
        result[f"beam_over_loop_{what}"] = round(statistics.median(ratios), 3)
    return result


if __name__ == "__main__":
    app.run(main)
