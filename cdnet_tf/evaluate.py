"""Evaluates a network on the query and gallery of a data set, or examines the data.

Scores, thresholds and pictures go into a folder; docs/evaluation.md explains them.

python -m cdnet_tf.evaluate --model=runs/cdnet/model.keras --data_dir=DIR
python -m cdnet_tf.evaluate --check_data --data_dir=DIR
"""

from __future__ import annotations

import json
import os
import pathlib
import time

import numpy as np
import tensorflow as tf
from absl import app, flags

from cdnet_tf import (
    atomic_files,
    next_steps,
    recipes,
    run_directory,
    shared_flags,
    shipped,
)
from cdnet_tf.data import datasets, doctor, image_files
from cdnet_tf.deploy import embedders, measurements
from cdnet_tf.learn import devices
from cdnet_tf.retrieval import lists, pictures, report

flags.adopt_module_key_flags(shared_flags)  # --help lists them, too.
_MODEL = flags.DEFINE_string(
    "model",
    None,
    "A run's model.keras, a SavedModel directory, a .tflite file, or shipped weights, "
    "such as market1501/cdnet_x0_25 or market1501/cdnet_x0_25_int8.",
)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir",
    None,
    "Folder of the results. Default: beside --model, `evaluation` for a model.keras, "
    "and `evaluation_NAME` for the file or directory NAME. For shipped weights it is "
    "runs/market1501_cdnet_x0_25/evaluation and the like.",
)
_FLIP = flags.DEFINE_boolean(
    "flip", False, "Add the embedding of the mirrored image to each image's own."
)
_RERANK = flags.DEFINE_boolean(
    "rerank", False, "Also score the rankings after k-reciprocal re-ranking."
)
_RANKED_LISTS = flags.DEFINE_integer(
    "ranked_lists",
    10,
    "Number of queries to draw with the ten gallery images found first; 0 for none.",
    0,
)
_CHECK_DATA = flags.DEFINE_boolean(
    "check_data",
    False,
    "Look for faults of the data that would make scores wrong, and run no network. The "
    "exit status is 1 if there are errors.",
)
_LIST_LENGTH = 10  # images
_SHEET = 10  # queries


def main(argv: list[str]) -> int:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    devices.set_threads()
    if not (_MODEL.value or _CHECK_DATA.value):
        raise app.UsageError("Name a --model, or examine the data with --check_data.")
    with shared_flags.refusing():
        size = _wanted_size()
        shared_flags.refuse_classes()
        if not _CHECK_DATA.value:
            model = shipped.resolve(_MODEL.value, embedders.KINDS)
    data = shared_flags.read_data([] if _CHECK_DATA.value else ["query", "gallery"])
    if _CHECK_DATA.value:
        return _check(data)
    directory = _output_dir(model)
    found = evaluate(
        model,
        data,
        flip=_FLIP.value,
        rerank=_RERANK.value,
        output_dir=directory,
        ranked_lists=_RANKED_LISTS.value,
        input_size=size,
        batch_size=shared_flags.BATCH_SIZE.value,
        record=shared_flags.flag_values(__name__),
    )
    print(report.table(found))
    if data.camera_names:
        names = (f"{number} {name}" for number, name in data.camera_names.items())
        print(f"Cameras: {', '.join(names)}.")
    print(f"\nResults, with pictures of ranked lists and the CMC: {directory}")
    print(next_steps.after_evaluation(model))
    return 0


def evaluate(
    model: str | os.PathLike,
    data: datasets.ReidDataset,
    *,
    flip: bool = False,
    rerank: bool = False,
    output_dir: str | os.PathLike | None = None,
    ranked_lists: int = 10,
    input_size: tuple[int, int] | None = None,
    batch_size: int = 64,
    record: dict | None = None,
) -> dict:
    """Evaluates a network's file on query and gallery by the Market-1501 protocol.

    Args:
      model: a model.keras, a SavedModel directory, a .tflite file, or a name of
        `shipped.names()`.
      data: the data set; its query and gallery are embedded.
      flip: add the embedding of the mirrored image to each image's own.
      rerank: also score the rankings after k-reciprocal re-ranking.
      output_dir: existing folder for `evaluation.json` and pictures of ranked lists
        and the CMC; nothing is written without it.
      ranked_lists: number of queries to draw with the ten images found first.
      input_size: (height, width) of the images, for a file that leaves them free.
      batch_size: images that a core embeds at once.
      record: settings that evaluation.json repeats.

    Returns:
      What evaluation.json holds: `scores` (rank1, rank5, rank10, mean_ap, mean_inp,
      cmc), `reranked`, `thresholds`, `camera_pairs`, and what was evaluated.

    Raises:
      FileNotFoundError: there is no such model.
      ValueError: the model or an image cannot be read.
    """
    settings = {"flip": flip} if record is None else record
    provenance = run_directory.provenance(settings, data)
    embedder = embedders.open_model(model, input_size=input_size)
    query, gallery = (
        _embed(embedder, getattr(data, split), split, flip, batch_size)
        for split in ("query", "gallery")
    )
    found = {
        **report.report(query, data.query, gallery, data.gallery, rerank=rerank),
        "flip": flip,
        "model": _describe(embedder),
        "provenance": provenance,
    }
    if output_dir:
        directory = pathlib.Path(output_dir)
        _draw(directory, found, query, gallery, data, ranked_lists)
        text = json.dumps(found, indent=1)
        atomic_files.write_text(directory / "evaluation.json", text)
    return found


def _check(data: datasets.ReidDataset) -> int:
    """Prints what the doctor finds; returns the exit status."""
    findings = doctor.examine(data, shared_flags.IMAGES_PER_ID.value)
    print(doctor.text(findings))
    if any(finding.is_error for finding in findings):
        return 1
    print(f"\n{next_steps.after_check()}")
    return 0


def _wanted_size() -> tuple[int, int] | None:
    """Returns the (height, width) that the flags ask for, None without such flags."""
    size = shared_flags.HEIGHT, shared_flags.WIDTH
    if not any(flag.present for flag in size):
        return None
    if not all(flag.present for flag in size):
        raise ValueError(
            "Only one of --height and --width is given; give both, or neither, because "
            "a model knows its size."
        )
    return shared_flags.HEIGHT.value, shared_flags.WIDTH.value


def _output_dir(model: pathlib.Path) -> pathlib.Path:
    """Makes the folder of the results before the long part of the work."""
    model = model.resolve()
    # Exports of one network lie in one folder; the name keeps their results apart.
    is_alone = model.name == "model.keras" or shipped.name_of(model)
    name = "evaluation" if is_alone else f"evaluation_{model.stem}"
    directory = pathlib.Path(_OUTPUT_DIR.value or shipped.results_dir(model) / name)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK):
            raise PermissionError("it is read-only")
    except OSError as error:
        raise OSError(
            f"output_dir={directory} cannot be used ({error}); choose another."
        ) from error
    return directory


def _embed(
    embedder: embedders.Embedder,
    images: datasets.Images,
    split: str,
    flip: bool,
    batch_size: int,
) -> np.ndarray:
    """Embeds a split, (n, d); `flip` adds vectors, and cosines ignore the length."""
    began = time.perf_counter()
    batches = image_files.ImageBatches(
        images.paths, embedder.height, embedder.width, batch_size
    )
    embeddings = embedder.embed_all(batches, flip=flip)
    seconds = time.perf_counter() - began
    print(f"{split}: {len(images)} images embedded in {seconds:.1f} s.", flush=True)
    return embeddings


def _draw(
    directory: pathlib.Path, found: dict, query, gallery, data, ranked_lists: int
) -> None:
    """Writes cmc.png, and ranked_lists_1.png and so on with ten queries in each."""
    curves = {"nearest first": found["scores"]["cmc"]}
    if found["reranked"]:
        curves["re-ranked"] = found["reranked"]["cmc"]
    pictures.cmc_curve(directory / "cmc.png", curves)
    for old in directory.glob("ranked_lists_*.png"):
        old.unlink()
    everything = query, data.query, gallery, data.gallery
    rows = lists.of_some(*everything, ranked_lists, _LIST_LENGTH)
    for start in range(0, len(rows), _SHEET):
        name = f"ranked_lists_{start // _SHEET + 1}.png"
        pictures.ranked_lists(directory / name, rows[start : start + _SHEET])


def _describe(embedder: embedders.Embedder) -> dict:
    """Returns the record's entry about the network that was evaluated."""
    return {
        "path": str(embedder.path),
        "sha256": measurements.sha256(embedder.path),
        "kind": embedder.kind,
        "runtime": f"TensorFlow {tf.__version__}",
        "height": embedder.height,
        "width": embedder.width,
        "dimensions": embedder.dimensions,
        "takes_pixels": embedder.pixels,
    }


if __name__ == "__main__":
    app.run(main, flags_parser=recipes.parse)
