r"""Prints one table of a run, from baselines without learning to its exported files.

It compares raw pixels, colour histograms, the network and each exported file on the
same query and gallery images. With the extra `npu` it also estimates the time of an
integer file on a camera's chip.

python tools/summarise.py --flagfile=flags/demo.cfg \
    --model=runs/demo/train/model.keras --export_dir=runs/demo/tflite
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics
import time
from collections.abc import Mapping, Sequence

import cdnet_tf  # isort: skip  # noqa: F401  (quiets TensorFlow)
import numpy as np
import tensorflow as tf
from absl import app, flags

from cdnet_tf import shared_flags, shipped
from cdnet_tf.data import datasets
from cdnet_tf.deploy import embedders, export_report, measurements, npu
from cdnet_tf.learn import devices
from cdnet_tf.retrieval import baselines, ranking

_MODEL = flags.DEFINE_string(
    "model",
    None,
    "A training's model.keras, or shipped weights, such as market1501/cdnet_x0_25.",
)
_EXPORT_DIR = flags.DEFINE_string(
    "export_dir", None, "Folder that tools/export_tflite.py has filled."
)
_RUNS = 50  # timed runs
_CHIP = "ethos-u65-256"


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    devices.set_threads()
    model = shipped.resolve(_MODEL.value, "a training's model.keras")
    exports = pathlib.Path(_EXPORT_DIR.value)
    measured, origin = measurements.of_network(model)
    if not measured:
        raise ValueError(f"The scores of {model} are unknown: {origin}")
    report = json.loads((exports / export_report.NAME).read_text("utf-8"))
    data = shared_flags.read_data(["query", "gallery"])
    rows = [
        (name, dataclasses.asdict(_score(embed, data)), "", "", "")
        for name, embed in baselines.BASELINES.items()
    ]
    size, ms = model.stat().st_size, _milliseconds(model)
    rows.append((model.name, measured["scores"], f"{size / 1e6:.2f}", f"{ms:.2f}", ""))
    for each in report["files"]:
        size, ms = each["bytes"], each["latency_ms"]
        chip = _on_chip(exports / each["file"], each.get("variant"))
        rows.append((each["file"], each, f"{size / 1e6:.2f}", f"{ms:.2f}", chip))
    print(_table(rows))
    estimate = f" On {_CHIP}: Vela's estimate." if any(row[-1] for row in rows) else ""
    print(
        f"{len(data.query):,} queries, {len(data.gallery):,} gallery images. "
        f"ms: median of one image, TensorFlow {tf.__version__}, .tflite on one thread."
        f"{estimate}\n\nNetwork, scores and curves: {model.parent}\n"
        f"Files for phones and cameras, and how to run them: "
        f"{exports / export_report.README}"
    )


def _table(rows: Sequence[tuple[str, Mapping, str, str, str]]) -> str:
    """Renders name, scores, megabytes and milliseconds, one network in each line."""
    width = max(len(name) for name, *_ in rows)
    chip = f"{_CHIP + ', ms':>20}" if any(row[-1] for row in rows) else ""
    lines = [f"\n{'':<{width}}{'rank-1':>8}{'mAP':>8}{'MB':>8}{'ms':>8}{chip}"]
    for name, scores, megabytes, ms, estimate in rows:
        shares = f"{scores['rank1']:>8.1%}{scores['mean_ap']:>8.1%}"
        line = f"{name:<{width}}{shares}{megabytes:>8}{ms:>8}{estimate:>20}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def _on_chip(path: pathlib.Path, variant: str | None) -> str:
    """Milliseconds on a camera's chip; empty if none runs the file, or without Vela."""
    if variant not in npu.VARIANTS:
        return ""
    try:
        (target,) = npu.targets([_CHIP])
        return f"{npu.compiled(path, target)[1]['milliseconds']:.2f}"
    except npu.NpuError:
        return ""


def _score(embed, data: datasets.ReidDataset) -> ranking.Scores:
    query, gallery = (
        np.stack([embed(path) for path in images.paths])
        for images in (data.query, data.gallery)
    )
    return ranking.evaluate(query, data.query, gallery, data.gallery)


def _milliseconds(path: pathlib.Path) -> float:
    """Returns the median time of the Keras model for one image."""
    network = embedders.load_network(path)
    run = tf.function(lambda images: network(images, training=False))
    image = tf.zeros((1, *network.input_shape[1:]))
    times = []
    for _ in range(_RUNS + 5):
        began = time.perf_counter()
        run(image).numpy()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times[5:])


if __name__ == "__main__":
    flags.mark_flags_as_required(["model", "export_dir"])
    app.run(main)
