"""Times two ways of embedding a data set; `benchmark.py embed` runs it.

Query and gallery are read from disk and embedded by Keras' `predict_on_batch` ("old"),
64 at a time, and by `embedders.Embedder.embed_all` ("new").

  python tools/benchmark_embedding.py --data_dir=DIR --model=runs/cdnet/model.keras

The two take turns on pieces of the images, and ratios are medians over the pieces.
Other programs prolong the time by the clock, so the processor's time and the fastest
pieces are reported, too. The result is one JSON line.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time

import cdnet_tf  # isort: skip  # noqa: F401  (quiets TensorFlow)
import numpy as np
import tensorflow as tf
from absl import app, flags

from cdnet_tf import shared_flags
from cdnet_tf.data import image_files, preprocess
from cdnet_tf.deploy import embedders, network_file, parallel, tflite
from cdnet_tf.learn import devices
from cdnet_tf.nn import networks

_MODEL = flags.DEFINE_string(
    "model",
    None,
    "A run's model.keras. Default: CDNet of --height, --width and --width_multiplier "
    "with random weights and the statistics of 16 images.",
)
_IMAGES = flags.DEFINE_integer(
    "images", 2000, "Images to embed, spread evenly over query and gallery.", 1
)
_PIECE = 256  # images
_BATCH = 64


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    devices.set_threads()
    data = shared_flags.read_data(["query", "gallery"])
    paths = [*data.query.paths, *data.gallery.paths]
    count = min(_IMAGES.value, len(paths))
    chosen = np.linspace(0, len(paths) - 1, count).astype(int)
    paths = [paths[i] for i in chosen]
    network, normalisation = _network(paths)
    height, width = network.input_shape[1:3]
    embedder = embedders.of_network(network, normalisation)

    def old(files):
        values = (
            preprocess.normalise(images, normalisation)
            for images in image_files.ImageBatches(files, height, width, _BATCH)
        )
        return np.concatenate([network.predict_on_batch(each) for each in values])

    def new(files):
        return embedder.embed_all(
            image_files.ImageBatches(files, height, width, _BATCH)
        )

    for way in (old, new):
        way(paths[: 2 * _BATCH])
    turns = []
    for start in range(0, count, _PIECE):
        files = paths[start : start + _PIECE]
        # The second one finds the files in memory, so each is second half of the time.
        ways = [("old", old), ("new", new)][:: 1 if start // _PIECE % 2 else -1]
        turns.append({name: _timed(way, files) for name, way in ways})
    print(json.dumps(_result(turns, network, count)), flush=True)


def _network(paths: list[str]) -> tuple[tf.keras.Model, preprocess.Normalisation]:
    if _MODEL.value:
        network = embedders.load_network(_MODEL.value)
        return network, network_file.normalisation(_MODEL.value)
    tf.keras.utils.set_random_seed(0)
    shape = shared_flags.HEIGHT.value, shared_flags.WIDTH.value, 3
    network = networks.build_named(
        "cdnet",
        input_shape=shape,
        width_multiplier=shared_flags.WIDTH_MULTIPLIER.value,
    )
    first = image_files.ImageBatches(paths, shape[0], shape[1], 16)
    images = next(itertools.islice(first, 1))
    networks.imitate_training(network, preprocess.normalise(images))
    return network, preprocess.IMAGENET


def _timed(way, files: list[str]) -> tuple[np.ndarray, float, float]:
    """Returns embeddings, and their seconds by the clock and by the processor."""
    processor, clock = time.process_time(), time.perf_counter()
    found = way(files)
    return found, time.perf_counter() - clock, time.process_time() - processor


def _result(turns: list[dict], network: tf.keras.Model, count: int) -> dict:
    result = {
        "network": network.name,
        "height": network.input_shape[1],
        "width": network.input_shape[2],
        "images": count,
        "threads": parallel.threads(),
        "cpu": tflite.processor(),
    }
    for name in ("old", "new"):
        result[f"{name}_images_per_s"] = round(count / sum(t[name][1] for t in turns))
        seconds = sum(t[name][2] for t in turns)
        result[f"{name}_cpu_ms_an_image"] = round(1000 * seconds / count, 2)
        rates = [len(t[name][0]) / t[name][1] for t in turns]
        result[f"{name}_fastest_piece_images_per_s"] = round(max(rates))
    for place, what in ((1, "clock"), (2, "cpu")):
        ratios = [t["new"][place] / t["old"][place] for t in turns]
        result[f"new_over_old_{what}"] = round(statistics.median(ratios), 3)
    old, new = (np.concatenate([t[name][0] for t in turns]) for name in ("old", "new"))
    error = np.linalg.norm(new - old, axis=1) / np.linalg.norm(old, axis=1)
    return result | {"largest_error_of_norm": float(f"{error.max():.2g}")}


if __name__ == "__main__":
    app.run(main)
