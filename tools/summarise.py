"""One table of a run, from no learning at all to its exported files.

python tools/summarise.py --flagfile=flags/demo.cfg \
    --model=runs/demo/train/model.keras --export_dir=runs/demo/tflite
"""

from __future__ import annotations

import json
import pathlib
import statistics
import time

from cdnet_tf import shared_flags  # isort: skip  (quiets TensorFlow)
import numpy as np
import tensorflow as tf
from absl import app, flags

from cdnet_tf.data import datasets
from cdnet_tf.retrieval import baselines, ranking

_MODEL = flags.DEFINE_string("model", None, "A training's model.keras.")
_EXPORT_DIR = flags.DEFINE_string(
    "export_dir", None, "Folder that tools/export_tflite.py filled."
)
_RUNS = 50  # timed
_ROW = "{:<24}{:>8.1%}{:>8.1%}{:>8}{:>8}"


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    shared_flags.set_threads()
    data = shared_flags.read_data()
    model = pathlib.Path(_MODEL.value)
    trained = json.loads((model.parent / "evaluation.json").read_text())["scores"]
    exported = json.loads(
        (pathlib.Path(_EXPORT_DIR.value) / "export_report.json").read_text()
    )["files"]
    print(f"\n{'':<24}{'rank-1':>8}{'mAP':>8}{'MB':>8}{'ms':>8}")
    for name, embed in baselines.BASELINES.items():
        scores = _score(embed, data)
        print(_ROW.format(name, scores.rank1, scores.mean_ap, "", ""))
    rows = [
        ("model.keras", trained, model.stat().st_size, _milliseconds(model)),
        *((each["file"], each, each["bytes"], each["latency_ms"]) for each in exported),
    ]
    for name, scores, size, ms in rows:
        megabytes, ms = f"{size / 1e6:.2f}", f"{ms:.2f}"
        print(_ROW.format(name, scores["rank1"], scores["mean_ap"], megabytes, ms))
    print(
        f"{len(data.query):,} queries, {len(data.gallery):,} gallery images. "
        f"ms: median of one image, TensorFlow {tf.__version__}, .tflite on one thread."
    )


def _score(embed, data: datasets.ReidDataset) -> ranking.Scores:
    query, gallery = (
        np.stack([embed(path) for path in images.paths])
        for images in (data.query, data.gallery)
    )
    return ranking.evaluate(query, data.query, gallery, data.gallery)


def _milliseconds(path: pathlib.Path) -> float:
    """Median time of the Keras model for one image."""
    network = tf.keras.models.load_model(path, compile=False)
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
