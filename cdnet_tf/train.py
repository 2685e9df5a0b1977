"""Trains a found or published network, and evaluates it on the test images.

python -m cdnet_tf.train --flagfile=flags/market1501.cfg --run_dir=runs/cdnet
python -m cdnet_tf.train --flagfile=flags/cifar100.cfg --run_dir=runs/cifar100
"""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Callable

# Before TensorFlow is imported, which shared_flags quiets.
from cdnet_tf import next_steps, run_directory, shared_flags  # isort: skip
import numpy as np
import tensorflow as tf
from absl import app, flags

from cdnet_tf import atomic_files, recipes
from cdnet_tf.data import (
    classification,
    classification_pipeline,
    pipeline,
    preprocess,
)
from cdnet_tf.deploy import measurements, network_file
from cdnet_tf.learn import (
    callbacks,
    distributed,
    losses,
    optimizers,
    schedules,
    training,
    training_log,
)
from cdnet_tf.nn import counting, genotype, networks, transfer
from cdnet_tf.retrieval import report

flags.adopt_module_key_flags(shared_flags)  # --help lists them, too.
_GENOTYPE = flags.DEFINE_string(
    "genotype",
    "cdnet",
    "A search's run directory, a genotype file, or a name: "
    + ", ".join(networks.NAMES),
)
_STEM = flags.DEFINE_enum(
    "stem", "reid", ["reid", "cifar"], "First convolution: 7x7 /2 and pool, or 3x3 /1."
)
_NECK = flags.DEFINE_enum(
    "neck", "fbl", networks.NECKS, "Neck (Table 6); `fc` is OSNet's own."
)
_PARTS = flags.DEFINE_integer("parts", 2, "Stripes of the FNeck (Table 5).", 0, 4)
_INIT_FROM = flags.DEFINE_string(
    "init_from",
    None,
    "Weights to start from, heads excepted: a run directory, .keras, or .h5 by name.",
)
_LR = flags.DEFINE_float("lr", 0.065, "Peak learning rate.", 0.0)
_SCHEDULE = flags.DEFINE_enum(
    "schedule",
    "multi_step",
    ["multi_step", "cosine", "exponential"],
    "How the learning rate falls, from epoch to epoch.",
)
_MILESTONES = flags.DEFINE_list(
    "milestones",
    None,
    "Epochs at which the learning rate drops; used by --schedule=multi_step. Default: "
    "at 3/7, 9/14 and 6/7 of --epochs, which is 150,225,300 of 350.",
)
_LR_DECAY = flags.DEFINE_float(
    "lr_decay", 0.1, "Factor at each milestone, or of exponential after each epoch."
)
_LR_END = flags.DEFINE_float("lr_end", 0.0, "Of cosine: rate at the end.", 0.0)
_LR_WARMUP = flags.DEFINE_integer(
    "lr_warmup_epochs", 0, "Epochs of a linear ramp at the start.", 0
)
_L2 = flags.DEFINE_float("l2", 5e-4, "L2 of all weights, coupled.", 0.0)
_MOMENTUM = flags.DEFINE_float("momentum", 0.9, "Of SGD.", 0.0, 1.0)
_MARGIN = flags.DEFINE_float("margin", 0.3, "Of the triplet loss.", 0.0)
_DROPOUT = flags.DEFINE_float("dropout", 0.2, "Before triplet features.", 0.0, 1.0)
_LABEL_SMOOTHING = flags.DEFINE_float(
    "label_smoothing", 0.0, "Of the softmax loss.", 0.0, 1.0
)
_XLA = flags.DEFINE_boolean("xla", False, "Compile the step with XLA.")
shared_flags.register_epochs("milestones")
_REMEDY = "Most often the learning rate is too high: lower --lr."


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    with shared_flags.refusing():
        _check_flags()
        strategy = shared_flags.set_up()
    data = _read_data()
    run_dir = run_directory.join_run(strategy, data)
    if (run_dir / "evaluation.json").exists():
        print(f"{run_dir} holds a finished training; choose another --run_dir.")
        return
    first_epoch = callbacks.last_epoch(run_dir / "checkpoint")
    batches = _batches(data, first_epoch, distributed.place(strategy))
    with strategy.scope():
        model = _model(batches)
        if _INIT_FROM.value and not first_epoch:
            _take_weights(model, run_dir)
    with distributed.guarded(strategy, shared_flags.RESTARTS.value):
        run_directory.fit(
            model,
            batches,
            run_dir,
            strategy,
            images_per_step=shared_flags.BATCH_SIZE.value,
            remedies={"loss": _REMEDY},
            log=training_log.History(run_dir / "history.csv", first_epoch),
        )
        model = _local_copy(model, strategy)
    if distributed.place(strategy)[0] == 0:
        _write_results(model, data, run_dir)


def _check_flags() -> None:
    """Raises an error for flags that do not fit each other, or name what is missing."""
    shape = shared_flags.HEIGHT.value, shared_flags.WIDTH.value, 3
    networks.check_input_shape(shape, _STEM.value)
    networks.scaled_channels(shared_flags.WIDTH_MULTIPLIER.value)
    if _GENOTYPE.value not in networks.NAMES:
        genotype.load(_GENOTYPE.value)
    if _INIT_FROM.value:
        transfer.locate(_INIT_FROM.value)
    if _SCHEDULE.value == "multi_step":
        epochs = shared_flags.EPOCHS.value
        schedules.check_milestones("milestones", _milestones(), epochs)


def _milestones() -> list[int]:
    return shared_flags.epochs_or_shares(_MILESTONES.value, (150, 225, 300), 350)


def _read_data() -> shared_flags.Data:
    classes = shared_flags.has_classes()
    return shared_flags.read_classes() if classes else shared_flags.read_data()


def _batches(data: shared_flags.Data, first_epoch: int, share) -> pipeline.Batches:
    options = shared_flags.batch_options(first_epoch)
    if isinstance(data, classification.ClassificationDataset):
        batches = classification_pipeline.train_batches(data, **options)
        return pipeline.share_of(batches, share)
    options["share"] = share
    return pipeline.train_batches(data.train, **options)


def _normalisation(data: shared_flags.Data) -> preprocess.Normalisation:
    """What the batches of a data set are normalised by."""
    if isinstance(data, classification.ClassificationDataset):
        return classification_pipeline.normalisation(data)
    return preprocess.IMAGENET


def _model(batches: pipeline.Batches) -> training.ReidTraining:
    options = {
        "stem": _STEM.value,
        "input_shape": (shared_flags.HEIGHT.value, shared_flags.WIDTH.value, 3),
        "width_multiplier": shared_flags.WIDTH_MULTIPLIER.value,
        "neck": _NECK.value,
        "parts": _PARTS.value,
        "num_classes": batches.num_classes,
        "dropout": _DROPOUT.value,
    }
    if _GENOTYPE.value in networks.NAMES:
        network = networks.build_named(_GENOTYPE.value, **options)
    else:
        network = networks.build(genotype.load(_GENOTYPE.value), **options)
    margin = None if shared_flags.has_classes() else _MARGIN.value
    loss = losses.ReidLoss(margin, _LABEL_SMOOTHING.value)
    model = training.ReidTraining(network, loss)
    rate = schedules.warmed_up(_rate(), _LR_WARMUP.value)
    rates = schedules.by_epoch(rate, shared_flags.EPOCHS.value, batches.steps_per_epoch)
    optimizer = optimizers.CoupledSGD(rates, _MOMENTUM.value, _L2.value)
    model.compile(optimizers.for_policy(optimizer), _XLA.value)
    return model


def _rate() -> Callable[[int], float]:
    if _SCHEDULE.value == "cosine":
        return schedules.cosine(shared_flags.EPOCHS.value, _LR.value, _LR_END.value)
    if _SCHEDULE.value == "exponential":
        return schedules.exponential(_LR.value, _LR_DECAY.value)
    return schedules.multi_step(_LR.value, _milestones(), _LR_DECAY.value)


def _take_weights(model: training.ReidTraining, run_dir: pathlib.Path) -> None:
    report = transfer.take_weights(model.embedder(), _INIT_FROM.value)
    atomic_files.write_text(
        run_dir / "init_from.txt", f"{_INIT_FROM.value}\n{report}\n"
    )
    print(f"From {_INIT_FROM.value}: {report}")


def _local_copy(model: training.ReidTraining, strategy) -> training.ReidTraining:
    network = distributed.local_copy(strategy, model.network)
    return model if network is model.network else training.ReidTraining(network)


def _write_results(model: training.ReidTraining, data, run_dir: pathlib.Path) -> None:
    """Writes networks, curves and, last, evaluation.json."""
    network = model.embedder()
    network_file.save(network, run_dir / "model.keras", _normalisation(data))
    with atomic_files.replacing(run_dir / "heads.keras") as partial:
        model.heads().save(partial)
    rows = training_log.read_history(run_dir / "history.csv")
    training_log.plot_history(run_dir / "curves.png", rows)
    if isinstance(data, classification.ClassificationDataset):
        found: dict = {"errors": _errors(model.network, data)}
        table = "\n".join(f"{k:<12}{v:.2%}" for k, v in found["errors"].items())
    else:
        query, gallery = (_embed(network, part) for part in (data.query, data.gallery))
        found = report.report(query, data.query, gallery, data.gallery)
        table = report.table(found)
    record = {
        **found,
        "flip": False,
        "model": {"sha256": measurements.sha256(run_dir / "model.keras")},
        "parameters": counting.parameters(network),
        "macs": counting.macs(network),
        "provenance": run_directory.begun_with(run_dir, data),
    }
    atomic_files.write_text(run_dir / "evaluation.json", json.dumps(record, indent=1))
    minutes = (time.perf_counter() - shared_flags.LAUNCHED) / 60
    print(
        f"\n{table}\n\n{record['parameters']:,} parameters, {record['macs']:,} "
        f"multiply-accumulates, {minutes:.1f} minutes. Results: {run_dir}\n"
    )
    if shared_flags.has_classes():
        print(next_steps.after_classes(run_dir, _GENOTYPE.value))
    else:
        print(next_steps.after_training(run_dir))


def _embed(network: tf.keras.Model, images) -> np.ndarray:
    size = shared_flags.HEIGHT.value, shared_flags.WIDTH.value
    batches = pipeline.eval_batches(images.paths, *size)
    return np.concatenate([network.predict_on_batch(batch) for batch in batches])


def _errors(network: tf.keras.Model, data) -> dict[str, float]:
    """Shares of test images whose class is not first, or not among the first five.

    The scores of all heads are added.
    """
    size = shared_flags.HEIGHT.value, shared_flags.WIDTH.value
    batches = classification_pipeline.test_batches(
        data, shared_flags.BATCH_SIZE.value, *size
    )
    logits = [network.predict_on_batch(images)["logits"] for images, _ in batches]
    scores = np.concatenate([np.sum(heads, axis=0) for heads in logits])  # (n, classes)
    own = scores[np.arange(len(scores)), data.test.labels, np.newaxis]
    places = np.sum(scores > own, axis=1)
    return {f"top-{k} error": float(np.mean(places >= k)) for k in (1, 5)}


if __name__ == "__main__":
    flags.mark_flag_as_required("run_dir")
    app.run(main, flags_parser=recipes.parse)
