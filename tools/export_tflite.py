"""Exports a network as TFLite files, and lets none pass that retrieves worse.

python tools/export_tflite.py --model=RUN/model.keras --data_dir=... --output_dir=...

Every file is run on query and gallery through the interpreter before it gets its name.
export_report.json and README.txt stand beside the files. docs/export.md says more.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
import tempfile
import time

from cdnet_tf import run_directory, shared_flags  # isort: skip  (quiets TensorFlow)
import numpy as np
import tensorflow as tf
from absl import app, flags, logging

from cdnet_tf.data import datasets, image_files, pipeline, preprocess
from cdnet_tf.deploy import embedders, quantize, readme, rewrite, tflite, tflite_file
from cdnet_tf.nn import counting
from cdnet_tf.retrieval import ranking

_MODEL = flags.DEFINE_string("model", None, "A training's model.keras.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the files.")
_VARIANTS = flags.DEFINE_list(
    "variants", list(tflite.VARIANTS), "Of " + ", ".join(tflite.VARIANTS) + "."
)
_LAYOUT = flags.DEFINE_enum("layout", "nhwc", tflite.LAYOUTS, "Of the input.")
_BATCH = flags.DEFINE_enum(
    "batch", "1", ["1", "dynamic"], "Images a run takes; `dynamic` leaves it free."
)
_CALIBRATION = flags.DEFINE_integer(
    "calibration_images", 100, "Of the training split, drawn by --seed.", 1
)
_GATE_IMAGES = flags.DEFINE_integer(
    "gate_images",
    0,
    "Judge on about so many query and gallery images, of whole identities drawn by "
    "--seed; 0 for all.",
    0,
)
_MAX_MAP_DROP = flags.DEFINE_float(
    "max_map_drop", 1.0, "Points of mAP that a file may lose to the float network."
)
_KEEP_FAILED = flags.DEFINE_boolean(
    "keep_failed", False, "Keep files that fail, as NAME.failed.tflite."
)
_DEBUG_LAYERS = flags.DEFINE_boolean(
    "debug_layers", False, "List the layers that int8 hurts most, and export nothing."
)
_SELECTIVE = flags.DEFINE_list(
    "selective",
    [],
    "Layers that integer files keep in float, by the names that --debug_layers prints, "
    "or the beginning of several up to a slash. Such files are not whole-integer.",
)
_QAT_EPOCHS = flags.DEFINE_integer(
    "qat_epochs", 0, "Epochs of quantisation-aware training, for integer files.", 0
)
_QAT_LR = flags.DEFINE_float("qat_lr", 1e-4, "Its learning rate (Adam) at the start.")
_REWRITE = flags.DEFINE_list(
    "rewrite",
    [],
    "Faster forms of the same function: `pool`, `shortcut` or both; docs/inference.md.",
)
_REWRITES = {"pool", "shortcut"}  # rewrite.STEPS without RESHAPE, which no check passes
_WORST = 20  # layers listed
_REPORT = "export_report.json"
_EMBED_BATCH = 64


def main(argv: list[str]) -> int:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    _check_flags()
    logging.set_verbosity(logging.WARNING)  # The converter announces itself each time.
    shared_flags.set_threads()
    tf.keras.utils.set_random_seed(shared_flags.SEED.value)
    network = _load(pathlib.Path(_MODEL.value))
    data = shared_flags.read_data()
    calibration = _calibration(network, data.train)
    if _DEBUG_LAYERS.value:
        _print_worst(network, calibration)
        return 0
    gate = Gate(network, data)
    trained = _trained(network, data, calibration) if _QAT_EPOCHS.value else network
    directory = pathlib.Path(_OUTPUT_DIR.value)
    directory.mkdir(parents=True, exist_ok=True)
    rows: list[dict] = []
    try:
        plain = rewrite.rewrite(network, _REWRITE.value) if _REWRITE.value else network
        for variant in _VARIANTS.value:
            integer = _QAT_EPOCHS.value and variant in tflite.INTEGER_VARIANTS
            source = trained if integer else plain
            rows.append(_export(source, variant, calibration, gate, directory))
    finally:
        # Also of an export that breaks off: files are not left without their row.
        _write_report(directory, rows, data)
        _write_readme(directory)
    print(table(rows, gate.reference))
    return int(any(row["failure"] for row in rows))


def _check_flags() -> None:
    unknown = sorted(set(_VARIANTS.value) - set(tflite.VARIANTS))
    if unknown or not _VARIANTS.value:
        raise app.UsageError(
            f"--variants={','.join(unknown)}: use some of {', '.join(tflite.VARIANTS)}."
        )
    if _SELECTIVE.value and _QAT_EPOCHS.value:
        raise app.UsageError(
            "--selective keeps layers in float, --qat_epochs trains all of them for "
            "integers; use one of the two."
        )
    unknown = sorted(set(_REWRITE.value) - _REWRITES)
    if unknown:
        raise app.UsageError(f"--rewrite={','.join(unknown)}: use pool, shortcut.")
    if _REWRITE.value and (_QAT_EPOCHS.value or _SELECTIVE.value):
        raise app.UsageError(
            "--rewrite gives layers other names and joins ranges; leave it out beside "
            "--qat_epochs and --selective."
        )
    if not (_OUTPUT_DIR.value or _DEBUG_LAYERS.value):
        raise app.UsageError("Name an --output_dir.")


def _load(path: pathlib.Path) -> tf.keras.Model:
    embedders.open_model(path)  # Says what is wrong with a file.
    return tf.keras.models.load_model(path, compile=False)


def _calibration(network: tf.keras.Model, train: datasets.Images) -> np.ndarray:
    """Draws images of the training split, (n, h, w, 3) uint8."""
    rng = np.random.default_rng(shared_flags.SEED.value)
    count = min(_CALIBRATION.value, len(train))
    drawn = sorted(rng.choice(len(train), count, replace=False))
    paths = [train.paths[i] for i in drawn]
    return np.concatenate(list(_batches(network, paths)))


def _batches(network: tf.keras.Model, paths):
    height, width = network.input_shape[1:3]
    return image_files.ImageBatches(paths, height, width, _EMBED_BATCH)


class Gate:
    """The float network's embeddings and scores, and what a file loses to them.

    Attributes:
      reference: the float network's row of the report.
    """

    def __init__(self, network: tf.keras.Model, data: datasets.ReidDataset) -> None:
        self._network = network
        self._splits = subset(data, _GATE_IMAGES.value, shared_flags.SEED.value)
        self._macs = counting.macs(network)

        @tf.function
        def embed(images):
            return network(preprocess.normalise(images), training=False)

        self._embeddings = self._embed(lambda images: embed(images).numpy())
        self.reference = {
            **self._scores(self._embeddings),
            "macs": self._macs,
            "bytes": 4 * network.count_params(),
        }

    def judge(self, path: pathlib.Path) -> dict:
        """Runs a file on query and gallery.

        Returns:
          Cosines to the float network's embeddings, scores, and `map_drop`, in points.
        """
        found = self._embed(embedders.open_model(path).embed)
        cosines = np.concatenate(
            [_cosines(*pair) for pair in zip(found, self._embeddings)]
        )
        scores = self._scores(found)
        drop = 100 * (self.reference["mean_ap"] - scores["mean_ap"])
        return {
            "cosine_mean": float(cosines.mean()),
            "cosine_min": float(cosines.min()),
            **scores,
            "map_drop": drop,
        }

    def macs(self, variant: str) -> int:
        """Multiply-accumulates of a variant; `uint8` normalises, product and sum."""
        height, width, channels = self._network.input_shape[1:]
        pixels = 2 * height * width * channels
        return self._macs + (pixels if variant == "uint8" else 0)

    def _embed(self, embed) -> list[np.ndarray]:
        return [
            np.concatenate([embed(b) for b in _batches(self._network, split.paths)])
            for split in self._splits
        ]

    def _scores(self, embeddings: list[np.ndarray]) -> dict:
        (query, gallery), (of_query, of_gallery) = self._splits, embeddings
        scores = ranking.evaluate(of_query, query, of_gallery, gallery)
        return dataclasses.asdict(scores)


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.einsum("nd,nd->n", a, b) / np.maximum(norms, 1e-12)


def subset(
    data: datasets.ReidDataset, count: int, seed: int
) -> tuple[datasets.Images, datasets.Images]:
    """(query, gallery) of whole identities, drawn until there are `count` images.

    Distractors stay out, so the scores are higher than on everything, for the float
    network and for the files alike.

    Args:
      data: the data set.
      count: images, 0 for everything.
      seed: of the draw.
    """
    if not count:
        return data.query, data.gallery
    identities = np.unique(data.query.identities)
    both = np.concatenate([data.query.identities, data.gallery.identities])
    order = np.random.default_rng(seed).permutation(identities)
    sizes = np.cumsum([(both == identity).sum() for identity in order])
    kept = order[: np.searchsorted(sizes, count) + 1]
    return _only(data.query, kept), _only(data.gallery, kept)


def _only(images: datasets.Images, identities: np.ndarray) -> datasets.Images:
    kept = np.flatnonzero(np.isin(images.identities, identities))
    return datasets.Images(
        tuple(images.paths[i] for i in kept),
        images.identities[kept],
        images.cameras[kept],
    )


def _trained(network, data, calibration: np.ndarray) -> tf.keras.Model:
    """Quantisation-aware training against the float network's own embeddings.

    model.keras has no heads, and its classifier is gone, so there is no re-ID loss to
    go on with; and what is wanted is the float network's ranking, not another one. The
    loss is the squared error over the squared norm, twice 1 - cosine where the norms
    agree: an error of the norm would leave the range the output is stored in.
    """
    student = quantize.trainable(network, preprocess.normalise(calibration).numpy())
    height, width = network.input_shape[1:3]
    options = shared_flags.batch_options(0)
    options.update(epochs=_QAT_EPOCHS.value, height=height, width=width)
    batches = pipeline.train_batches(data.train, **options)
    steps = batches.steps_per_epoch * _QAT_EPOCHS.value
    rate = tf.keras.optimizers.schedules.CosineDecay(_QAT_LR.value, steps)
    optimizer = tf.keras.optimizers.Adam(rate)
    optimizer.build(student.trainable_variables)

    @tf.function
    def step(images):
        wanted = network(images, training=False)
        with tf.GradientTape() as tape:
            error = student(images, training=True) - wanted
            squares = tf.reduce_sum(error**2, 1) / tf.reduce_sum(wanted**2, 1)
            loss = tf.reduce_mean(squares)
        gradients = tape.gradient(loss, student.trainable_variables)
        optimizer.apply_gradients(zip(gradients, student.trainable_variables))
        return loss

    losses = []
    for images, _ in batches.dataset:
        losses.append(float(step(images)))
        if len(losses) % batches.steps_per_epoch == 0:
            epoch = len(losses) // batches.steps_per_epoch
            mean = np.mean(losses[-batches.steps_per_epoch :])
            print(f"Quantisation-aware training, epoch {epoch}: error {mean:.5f}")
    return student


def _export(source, variant: str, calibration, gate: Gate, directory) -> dict:
    """Converts, checks and judges one variant; the file gets its name if it passes."""
    name = _file_name(source, variant)
    row = {"file": name, "variant": variant, "layout": _LAYOUT.value}
    kept = _SELECTIVE.value if variant in tflite.INTEGER_VARIANTS else []
    with tempfile.TemporaryDirectory(prefix=".export-", dir=directory) as hidden:
        path = pathlib.Path(hidden, name)
        row["seconds"] = {}
        content = tflite.convert(
            source,
            variant,
            layout=_LAYOUT.value,
            dynamic_batch=_BATCH.value == "dynamic",
            images=calibration,
            keep_float=kept,
            seconds=row["seconds"],
        )
        path.write_bytes(content)
        failure = _examine(path, variant, kept, gate, row)
        row["failure"] = failure
        if not failure:
            path.replace(directory / name)
        elif _KEEP_FAILED.value:
            row["file"] = f"{path.stem}.failed.tflite"
            path.replace(directory / row["file"])
    return row


def _examine(path, variant: str, kept, gate: Gate, row: dict) -> str | None:
    """Fills in the row of a written file; returns why it fails, or None."""
    content = path.read_bytes()
    start = time.perf_counter()
    try:
        tflite_file.check(content, variant, _LAYOUT.value, kept)
    except tflite_file.RefusedError as error:
        return str(error)
    checked = time.perf_counter()
    row.update(
        batch=_BATCH.value,
        whole_integer=variant in tflite.INTEGER_VARIANTS and not kept,
        kept_in_float=list(kept),
        bytes=len(content),
        macs=gate.macs(variant),
        ops=tflite_file.op_counts(content),
        latency_ms=1e3 * tflite.latency(content),
        runtime=f"TensorFlow Lite {tf.__version__}, one thread",
        cpu=tflite.processor(),
        **gate.judge(path),
        float=gate.reference,
    )
    judged = time.perf_counter() - checked
    row["seconds"].update(check=checked - start, gate=judged)
    if row["map_drop"] > _MAX_MAP_DROP.value:
        return (
            f"loses {row['map_drop']:.2f} points of mAP, more than "
            f"max_map_drop={_MAX_MAP_DROP.value:g}; try more --calibration_images, "
            "--qat_epochs, or --debug_layers and --selective."
        )
    return None


def _file_name(network: tf.keras.Model, variant: str) -> str:
    parts = [network.name, variant]
    parts += ["fast"] if _REWRITE.value else []
    if variant in tflite.INTEGER_VARIANTS:
        parts += ["qat"] if _QAT_EPOCHS.value else []
        parts += ["selective"] if _SELECTIVE.value else []
    parts += ["nchw"] if _LAYOUT.value == "nchw" else []
    parts += ["batch"] if _BATCH.value == "dynamic" else []
    return "_".join(parts) + ".tflite"


def _print_worst(network: tf.keras.Model, calibration: np.ndarray) -> None:
    made = tflite.converter(network, "int8")
    images = tflite.fed(calibration, "int8", "nhwc")
    print("error (of the output's step)  operation           layer")
    for each in quantize.worst_layers(made, images)[:_WORST]:
        print(f"{each.error:>28.2f}  {each.op:<18}  {each.layer}")


def _write_report(directory: pathlib.Path, rows: list[dict], data) -> None:
    """Rows of files that other runs left in the folder stay in the report."""
    path = directory / _REPORT
    now = {row["file"] for row in rows}
    before = json.loads(path.read_text())["files"] if path.exists() else []
    others = [
        row
        for row in before
        if row["file"] not in now and (directory / row["file"]).exists()
    ]
    settings = {
        "model": _MODEL.value,
        "calibration_images": _CALIBRATION.value,
        "gate_images": _GATE_IMAGES.value or "all",
        "max_map_drop": _MAX_MAP_DROP.value,
        "qat_epochs": _QAT_EPOCHS.value,
        "qat_lr": _QAT_LR.value,
        "rewrite": _REWRITE.value,
        "provenance": run_directory.provenance(data),
    }
    passed = [{**row, "export": settings} for row in rows if not row["failure"]]
    failed = [{**row, "export": settings} for row in rows if row["failure"]]
    record = {"files": [*others, *passed], "failed": failed}
    run_directory.write_text(path, json.dumps(record, indent=1))


def _write_readme(directory: pathlib.Path) -> None:
    files = {}
    for path in sorted(directory.glob("*.tflite")):
        try:
            files[path.name] = tflite_file.describe(path.read_bytes())
        except ValueError as error:
            print(f"README.txt leaves out {path.name}: {error}", file=sys.stderr)
    text = readme.readme(files, readme.thresholds(_evaluation()))
    run_directory.write_text(directory / "README.txt", text)


def _evaluation() -> dict | None:
    """What was measured of the model, where it stands beside it."""
    run = pathlib.Path(_MODEL.value).parent
    for path in (run / "evaluation" / "evaluation.json", run / "evaluation.json"):
        if path.exists():
            record = json.loads(path.read_text())
            if record.get("thresholds"):
                return record
    return None


def table(rows: list[dict], reference: dict) -> str:
    """The report for a console: the float network, then a line for each file."""
    width = max(len(row["file"]) for row in rows)
    lines = [
        f"{'':<{width}}{'rank-1':>8}{'mAP':>8}{'cosine':>9}{'least':>9}{'MB':>7}"
        f"{'MMAC':>8}{'ms':>8}",
        f"{'float Keras':<{width}}{reference['rank1']:>8.1%}"
        f"{reference['mean_ap']:>8.1%}{'':>18}{reference['bytes'] / 1e6:>7.2f}"
        f"{reference['macs'] / 1e6:>8.1f}",
    ]
    for row in rows:
        if "mean_ap" in row:
            lines.append(
                f"{row['file']:<{width}}{row['rank1']:>8.1%}{row['mean_ap']:>8.1%}"
                f"{row['cosine_mean']:>9.5f}{row['cosine_min']:>9.5f}"
                f"{row['bytes'] / 1e6:>7.2f}{row['macs'] / 1e6:>8.1f}"
                f"{row['latency_ms']:>8.2f}"
            )
        if row["failure"]:
            lines.append(f"FAILED  {row['file']}: {row['failure']}")
    lines += [_times(row) for row in rows]
    runtimes = {f"{row['runtime']}, {row['cpu']}" for row in rows if "cpu" in row}
    return "\n".join([*lines, *(f"ms: median, {each}." for each in sorted(runtimes))])


def _times(row: dict) -> str:
    steps = ", ".join(f"{step} {took:.1f}" for step, took in row["seconds"].items())
    return f"{row['file']}, seconds: {steps}."


if __name__ == "__main__":
    flags.mark_flag_as_required("model")
    app.run(main)
