"""Exports a network as TFLite files, and rejects those that retrieve too much worse.

Every file embeds query and gallery in TFLite's interpreter before it gets its name.
export_report.json and README.txt are written beside the files; see docs/export.md.

python -m cdnet_tf.export_tflite --model=RUN/model.keras --data_dir=... --output_dir=...
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
from absl import app, flags, logging

from cdnet_tf import (
    file_flags,
    next_steps,
    recipes,
    run_directory,
    shared_flags,
    shipped,
)
from cdnet_tf.data import datasets, holdout, image_files, layouts, pipeline, preprocess
from cdnet_tf.deploy import (
    embedders,
    export_report,
    exporting,
    gate,
    measurements,
    network_file,
    npu,
    quantize,
    quantized_training,
    tflite,
    tflite_file,
)
from cdnet_tf.learn import devices
from cdnet_tf.settings import RunSettings

flags.adopt_module_key_flags(shared_flags)  # --help lists them, too.
flags.adopt_module_key_flags(file_flags)
_MODEL = flags.DEFINE_string(
    "model",
    None,
    "A training's model.keras, or shipped weights, such as market1501/cdnet_x0_25.",
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to write the files to.")
_VARIANTS = flags.DEFINE_list(
    "variants",
    list(tflite.VARIANTS),
    f"Kinds of file to make, some of {', '.join(tflite.VARIANTS)}.",
)
_LAYOUT = flags.DEFINE_enum("layout", "nhwc", tflite.LAYOUTS, "Layout of the input.")
_BATCH = flags.DEFINE_enum(
    "batch", "1", ["1", "dynamic"], "Images per run; `dynamic` leaves the number free."
)
_CALIBRATION = flags.DEFINE_integer(
    "calibration_images",
    100,
    "Images of the training split, drawn by --seed, that give integers their ranges.",
    1,
)
_CALIBRATION_DIR = flags.DEFINE_string(
    "calibration_dir",
    None,
    "Folder of crops to draw --calibration_images from instead of the training split, "
    "which may then be missing.",
)
_GATE_IMAGES = flags.DEFINE_integer(
    "gate_images",
    0,
    "Judge the files on about so many query and gallery images instead of all (0). "
    "They show whole identities, which are drawn by --seed.",
    0,
)
_MAX_MAP_DROP = flags.DEFINE_float(
    "max_map_drop", 1.0, "Points of mAP that a file may lose to the float network."
)
_KEEP_FAILED = flags.DEFINE_boolean(
    "keep_failed", False, "Keep files that fail the check, as NAME.failed.tflite."
)
_DEBUG_LAYERS = flags.DEFINE_boolean(
    "debug_layers", False, "List the layers that int8 hurts most, and export nothing."
)
_SELECTIVE = flags.DEFINE_list(
    "selective",
    [],
    "Layers that integer files keep in float, named as --debug_layers prints them. A "
    "beginning up to a slash names several. Such files are not whole-integer.",
)
_QAT_EPOCHS = flags.DEFINE_integer(
    "qat_epochs", 0, "Epochs of quantisation-aware training for integer files.", 0
)
_QAT_LR = flags.DEFINE_float(
    "qat_lr", 1e-4, "Adam's learning rate at the start of the --qat_epochs."
)
_NPU = flags.DEFINE_list(
    "npu", [], "Ethos-U chips to compile integer files for, as in --npu=ethos-u65-256."
)


def main(argv: list[str]) -> int:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    _check_flags()
    logging.set_verbosity(logging.WARNING)  # The converter announces itself each time.
    devices.set_threads()
    seed = shared_flags.SEED.value
    tf.keras.utils.set_random_seed(seed)
    with shared_flags.refusing():
        model = shipped.resolve(_MODEL.value, "a training's model.keras")
        chips = _chips()
    network = embedders.load_network(model)
    normalisation = network_file.normalisation(model)
    data = shared_flags.read_data(["query", "gallery"])
    calibration = _calibration(network, data)
    if _DEBUG_LAYERS.value:
        print(tflite.worst_layers(network, calibration, normalisation))
        return 0
    settings = _settings(data, model)
    directory = pathlib.Path(_OUTPUT_DIR.value)
    directory.mkdir(parents=True, exist_ok=True)
    judge = _gate(network, data, normalisation)
    rows: list[dict] = []
    try:
        for source, form in _planned(network, data, calibration, normalisation):
            row = _export(source, form, calibration, judge, normalisation)
            rows.append(row)
            print(_progress(row), flush=True)
            if chips and form.variant in npu.VARIANTS and not row["failure"]:
                row["npu"] = npu.compile_beside(directory / row["file"], chips)
    finally:
        # Even an export that breaks off reports the files that it has written.
        for left_out in export_report.write(directory, rows, settings):
            print(left_out, file=sys.stderr)
    print(f"\n{export_report.table(rows, judge.reference)}\n\n{_end(directory, rows)}")
    made = [*rows, *export_report.compiled(rows)]
    return int(any(each["failure"] for each in made))


def _check_flags() -> None:
    unknown = sorted(set(_VARIANTS.value) - set(tflite.VARIANTS))
    if unknown or not _VARIANTS.value:
        raise app.UsageError(
            f"--variants={','.join(unknown)}: use some of {', '.join(tflite.VARIANTS)}."
        )
    if _SELECTIVE.value and _QAT_EPOCHS.value:
        raise app.UsageError(
            "--selective keeps layers in float, and --qat_epochs trains all layers for "
            "integers; use one of the two."
        )
    unknown = sorted(set(file_flags.REWRITE.value or ()) - set(exporting.REWRITES))
    if unknown:
        steps = ", ".join(exporting.REWRITES)
        raise app.UsageError(f"--rewrite={','.join(unknown)}: use {steps}.")
    if file_flags.REWRITE.value and (_QAT_EPOCHS.value or _SELECTIVE.value):
        raise app.UsageError(
            "--rewrite renames and joins layers; leave it out beside --qat_epochs and "
            "--selective."
        )
    if not (_OUTPUT_DIR.value or _DEBUG_LAYERS.value):
        raise app.UsageError("Name an --output_dir.")


def _chips() -> list[npu.Target]:
    """Returns the chips of --npu; raises ValueError if no file can suit them."""
    given = file_flags.NPU_SYSTEM_CONFIG.value, file_flags.NPU_MEMORY_MODE.value
    if not _NPU.value:
        if any(given):
            raise ValueError("Name the chip, too, as in --npu=ethos-u65-256.")
        return []
    variants = set(_VARIANTS.value) & set(npu.VARIANTS)
    if not variants or _SELECTIVE.value or _BATCH.value == "dynamic":
        raise ValueError(
            f"An NPU runs whole-integer files of one image: use --npu with "
            f"--variants={','.join(npu.VARIANTS)} or one of them, and without "
            "--selective and --batch=dynamic."
        )
    return npu.targets(_NPU.value, *given)


def _settings(data: datasets.ReidDataset, model: pathlib.Path) -> dict:
    """Returns what every row of the report repeats about this export."""
    values = shared_flags.flag_values(__name__)
    values |= shared_flags.flag_values(file_flags.__name__)
    return {
        "model": shipped.spelled(model),
        "model_sha256": measurements.sha256(model),
        "calibration_images": _CALIBRATION.value,
        "calibration_dir": _CALIBRATION_DIR.value,
        "gate_images": _GATE_IMAGES.value or "all",
        "max_map_drop": _MAX_MAP_DROP.value,
        "qat_epochs": _QAT_EPOCHS.value,
        "qat_lr": _QAT_LR.value,
        "provenance": run_directory.provenance(values, data),
    }


def _calibration(network: tf.keras.Model, data: datasets.ReidDataset) -> np.ndarray:
    """Draws the images that give integers their ranges, (n, h, w, 3) uint8."""
    folder = _CALIBRATION_DIR.value
    if not data.train and (_QAT_EPOCHS.value or not folder):
        raise app.UsageError(
            f"{data.root} has no training split. Without --qat_epochs, you can pass "
            "--calibration_dir=FOLDER with crops of your cameras instead."
        )
    paths: Sequence[str] = data.train.paths
    if folder:
        with shared_flags.refusing():
            paths = [str(each) for each in layouts.images_below(pathlib.Path(folder))]
    height, width = network.input_shape[1:3]
    count, seed = _CALIBRATION.value, shared_flags.SEED.value
    return image_files.drawn(paths, count, height, width, seed)


def _gate(
    network: tf.keras.Model,
    data: datasets.ReidDataset,
    normalisation: preprocess.Normalisation,
) -> gate.Gate:
    """Makes the judge of the files from the data set that the flags name."""
    count, seed = _GATE_IMAGES.value, shared_flags.SEED.value
    part = None
    splits = data.query, data.gallery
    if shared_flags.HOLDOUT_IDENTITIES.value:
        held = len(np.unique(data.query.identities))
        part = f"{held} people held out of training"
    if count:
        splits = holdout.whole_people(data, count, seed)
        drawn = f"whole people drawn by seed {seed} for {count} images, no distractors"
        part = f"{part}, {drawn}" if part else drawn
    images = sum(map(len, splits))
    print(f"Judging on {images:,} images of {shared_flags.DATASET.value}.", flush=True)
    paths = [each.paths for each in splits]
    height, width = network.input_shape[1:3]
    megabytes = shared_flags.CACHE_MB.value
    batches = image_files.in_one_cache(paths, height, width, megabytes)
    query, gallery = map(gate.Split, splits, batches)
    name = shared_flags.DATASET.value
    return gate.Gate(network, query, gallery, name, part, normalisation)


def _planned(
    network: tf.keras.Model,
    data: datasets.ReidDataset,
    calibration: np.ndarray,
    normalisation: preprocess.Normalisation,
) -> Iterator[tuple[tf.keras.Model, exporting.Form]]:
    """Yields the network to convert and the form of its file for each of --variants."""
    trains = bool(_QAT_EPOCHS.value)
    trained = _trained(network, data, calibration, normalisation) if trains else network
    for variant in _VARIANTS.value:
        integer = tflite_file.is_integer(variant)
        is_trained = trains and integer
        keep_float = _SELECTIVE.value if integer else ()
        if (steps := file_flags.REWRITE.value) is None:
            steps = exporting.usual_rewrite(variant, for_npu=bool(_NPU.value))
        form = exporting.Form(
            variant,
            _LAYOUT.value,
            _BATCH.value == "dynamic",
            keep_float=keep_float,
            marks=["qat"] if is_trained else [],
            rewrite=() if is_trained or keep_float else steps,
        )
        yield (trained if is_trained else network), form


def _export(
    network: tf.keras.Model,
    form: exporting.Form,
    calibration: np.ndarray,
    judge: gate.Gate,
    normalisation: preprocess.Normalisation,
) -> dict:
    """Makes and judges a file in --output_dir; returns its row of the report."""
    return exporting.export(
        network,
        form,
        pathlib.Path(_OUTPUT_DIR.value),
        images=calibration,
        judge=judge,
        max_map_drop=_MAX_MAP_DROP.value,
        keep_failed=_KEEP_FAILED.value,
        or_plain=file_flags.REWRITE.value is None,
        normalisation=normalisation,
    )


def _trained(
    network: tf.keras.Model,
    data: datasets.ReidDataset,
    calibration: np.ndarray,
    normalisation: preprocess.Normalisation,
) -> tf.keras.Model:
    """Trains a copy of the network for --qat_epochs with rounded values."""
    values = preprocess.normalise(calibration, normalisation).numpy()
    student = quantize.trainable(network, values)
    height, width = network.input_shape[1:3]
    epochs = _QAT_EPOCHS.value
    settings = RunSettings(**shared_flags.values(RunSettings))
    options = settings.batch_options()
    options |= {"epochs": epochs, "height": height, "width": width}
    options["normalisation"] = normalisation
    batches = pipeline.train_batches(data.train, **options)

    def report(epoch: int, error: float) -> None:
        done = f"epoch {epoch} of {epochs}"
        print(f"Quantisation-aware training, {done}: error {error:.5f}", flush=True)

    quantized_training.train(
        student,
        network,
        batches.dataset.map(lambda images, labels: images),
        steps_per_epoch=batches.steps_per_epoch,
        epochs=epochs,
        learning_rate=_QAT_LR.value,
        after_epoch=report,
    )
    return student


def _progress(row: Mapping) -> str:
    verdict = "FAILS" if row["failure"] else "passes"
    lines = [f"{row['file']}: {verdict}, {sum(row['seconds'].values()):.1f} s"]
    if row["rewritten_failure"]:
        lines.insert(0, f"Not rewritten, for so it {row['rewritten_failure']}")
    return "\n".join(lines)


def _end(directory: pathlib.Path, rows: Sequence[Mapping]) -> str:
    """Says where the results are, and what to do next."""
    good = [row["file"] for row in rows if not row["failure"]]
    lines = [
        f"{len(good)} of {len(rows)} files passed. Files and report: {directory}",
        f"How programs run them, and when two images show the same person: "
        f"{directory / export_report.README}",
    ]
    if good:
        lines.append(next_steps.after_export(directory / good[-1]))
    return "\n".join(lines)


if __name__ == "__main__":
    flags.mark_flag_as_required("model")
    app.run(main, flags_parser=recipes.parse)
