"""Trains a network and evaluates it, from settings instead of flags.

`train.py` is the program; a notebook calls `train` of this module.
"""

from __future__ import annotations

import json
import os
import pathlib
import time
from typing import Any

import numpy as np
import tensorflow as tf

from cdnet_tf import atomic_files, run_directory
from cdnet_tf.data import (
    classification,
    classification_pipeline,
    datasets,
    image_files,
    pipeline,
    preprocess,
)
from cdnet_tf.deploy import embedders, measurements, network_file
from cdnet_tf.learn import (
    callbacks,
    devices,
    distributed,
    fitting,
    losses,
    optimizers,
    schedules,
    training,
    training_log,
)
from cdnet_tf.nn import counting, genotype, networks, transfer
from cdnet_tf.retrieval import report
from cdnet_tf.settings import TrainSettings

Data = datasets.ReidDataset | classification.ClassificationDataset

_REMEDY = "Most often the learning rate is too high: lower --lr."


def train(
    data: Data,
    run_dir: str | os.PathLike,
    settings: TrainSettings | None = None,
    *,
    strategy: tf.distribute.Strategy | None = None,
    restarts: int = 0,
    record: dict | None = None,
    launched: float | None = None,
) -> dict | None:
    """Trains a network and evaluates it, or resumes a run that was cut short.

    Args:
      data: people, or classes.
      run_dir: folder of the results: `model.keras` (the network from images to
        embedding), `heads.keras`, `history.csv`, `curves.png` and `evaluation.json`.
      settings: how to train; by default CDNet as the authors' released code does.
      strategy: from `devices.connect`; by default TensorFlow's current one.
      restarts: see `distributed.guarded`.
      record: the settings to note in `run.json`; by default all of them.
      launched: `time.perf_counter()` when the program began; by default now.

    Returns:
      What evaluation.json holds: `scores` of people (see `report.report`) or `errors`
      of classes, and the network's `parameters` and `macs`. None on a worker that is
      not the chief.

    Raises:
      ValueError: the settings do not fit each other, the data, or the run that is
        resumed.
      FileNotFoundError: the genotype's file or the weights of `init_from` are missing.
      FloatingPointError: the loss is not finite.
    """
    settings = settings or TrainSettings()
    strategy = strategy or tf.distribute.get_strategy()
    record = settings.record() if record is None else record
    launched = time.perf_counter() if launched is None else launched
    settings.check()
    settings.check_batch(strategy.num_replicas_in_sync, _has_classes(data))
    run_dir = run_directory.join_run(run_dir, record, data, strategy)
    devices.begin(settings.seed, settings.policy(run_dir, strategy))
    if (run_dir / "evaluation.json").exists():
        print(f"{run_dir} holds a finished training; choose another --run_dir.")
        return json.loads((run_dir / "evaluation.json").read_text())
    model = _fitted(data, run_dir, settings, strategy, restarts, launched)
    if distributed.place(strategy)[0] > 0:
        return None
    provenance = run_directory.begun_with(run_dir, record, data)
    return _write_results(model, data, run_dir, settings, provenance, launched)


def _fitted(
    data: Data,
    run_dir: pathlib.Path,
    settings: TrainSettings,
    strategy: tf.distribute.Strategy,
    restarts: int,
    launched: float,
) -> training.ReidTraining:
    """Returns the model after its last epoch, with weights on this device."""
    first_epoch = callbacks.last_epoch(run_dir / "checkpoint")
    batches = _batches(data, settings, first_epoch, distributed.place(strategy))
    with strategy.scope():
        model = build_model(batches, settings, _has_classes(data))
        if settings.init_from and not first_epoch:
            _take_weights(model, settings.init_from, run_dir)
    with distributed.guarded(strategy, restarts):
        fitting.fit(
            model,
            batches.dataset,
            run_dir,
            strategy,
            epochs=settings.epochs,
            steps_per_epoch=batches.steps_per_epoch,
            images_per_step=settings.batch_size,
            remedies={"loss": _REMEDY},
            log=training_log.History(run_dir / "history.csv", first_epoch),
            launched=launched,
        )
        return _local_copy(model, strategy)


def _has_classes(data: Data) -> bool:
    return isinstance(data, classification.ClassificationDataset)


def _batches(
    data: Data, settings: TrainSettings, first_epoch: int, share
) -> pipeline.Batches:
    options = settings.batch_options(first_epoch, _has_classes(data))
    if isinstance(data, classification.ClassificationDataset):
        batches = classification_pipeline.train_batches(data, **options)
        return pipeline.share_of(batches, share)
    return pipeline.train_batches(data.train, share=share, **options)


def _normalisation(data: Data) -> preprocess.Normalisation:
    """Returns the mean and deviation by which a data set's batches are normalised."""
    if isinstance(data, classification.ClassificationDataset):
        return classification_pipeline.normalisation(data)
    return preprocess.IMAGENET


def build_model(
    batches: pipeline.Batches, settings: TrainSettings, has_classes: bool = False
) -> training.ReidTraining:
    """Builds the network with its heads, and compiles it with loss and optimizer."""
    options: dict[str, Any] = {
        "stem": settings.stem,
        "input_shape": settings.input_shape,
        "width_multiplier": settings.width_multiplier,
        "neck": settings.neck,
        "parts": settings.parts,
        "num_classes": batches.num_classes,
        "dropout": settings.dropout,
    }
    if settings.genotype in networks.NAMES:
        network = networks.build_named(str(settings.genotype), **options)
    else:
        network = networks.build(genotype.load(settings.genotype), **options)
    if settings.zero_init_residual:
        networks.zero_init_residual(network)
    margin = None if has_classes else settings.margin
    loss = losses.ReidLoss(margin, settings.label_smoothing)
    model = training.ReidTraining(network, loss)
    steps = batches.steps_per_epoch
    rates = schedules.by_epoch(settings.rate(), settings.epochs, steps)
    optimizer = optimizers.CoupledSGD(rates, settings.momentum, settings.l2)
    model.compile(optimizers.for_policy(optimizer), settings.xla)
    return model


def _take_weights(
    model: training.ReidTraining, source: str, run_dir: pathlib.Path
) -> None:
    taken = transfer.take_weights(model.embedder(), source)
    atomic_files.write_text(run_dir / "init_from.txt", f"{source}\n{taken}\n")
    print(f"From {source}: {taken}")


def _local_copy(model: training.ReidTraining, strategy) -> training.ReidTraining:
    network = distributed.local_copy(strategy, model.network)
    return model if network is model.network else training.ReidTraining(network)


def _write_results(
    model: training.ReidTraining,
    data: Data,
    run_dir: pathlib.Path,
    settings: TrainSettings,
    provenance: dict,
    launched: float,
) -> dict:
    """Writes networks, curves and last evaluation.json, whose content is returned."""
    network = model.embedder()
    network_file.save(network, run_dir / "model.keras", _normalisation(data))
    with atomic_files.replacing(run_dir / "heads.keras") as partial:
        model.heads().save(partial)
    rows = training_log.read_history(run_dir / "history.csv")
    training_log.plot_history(run_dir / "curves.png", rows)
    found, table = _judged(model, network, data, settings)
    record = {
        **found,
        "flip": False,
        "model": {"sha256": measurements.sha256(run_dir / "model.keras")},
        "parameters": counting.parameters(network),
        "macs": counting.macs(network),
        "provenance": provenance,
    }
    atomic_files.write_text(run_dir / "evaluation.json", json.dumps(record, indent=1))
    minutes = (time.perf_counter() - launched) / 60
    print(
        f"\n{table}\n\n{record['parameters']:,} parameters, {record['macs']:,} "
        f"multiply-accumulates, {minutes:.1f} minutes. Results: {run_dir}\n"
    )
    return record


def _judged(
    model: training.ReidTraining,
    embedder: tf.keras.Model,
    data: Data,
    settings: TrainSettings,
) -> tuple[dict, str]:
    """Returns the scores of people or the errors of classes, and a table of them."""
    if isinstance(data, classification.ClassificationDataset):
        errors = _errors(model.network, data, settings)
        table = "\n".join(f"{k:<12}{v:.2%}" for k, v in errors.items())
        return {"errors": errors}, table
    opened = embedders.of_network(embedder, _normalisation(data))
    query, gallery = (
        opened.embed_all(
            image_files.ImageBatches(part.paths, *settings.input_shape[:2])
        )
        for part in (data.query, data.gallery)
    )
    found = report.report(query, data.query, gallery, data.gallery)
    return found, report.table(found)


def _errors(network: tf.keras.Model, data, settings: TrainSettings) -> dict[str, float]:
    """Returns the top-1 and the top-5 error on the test images, as shares.

    The logits of all heads are added.
    """
    batches = classification_pipeline.test_batches(
        data, settings.batch_size, settings.height, settings.width
    )
    logits = [network.predict_on_batch(images)["logits"] for images, _ in batches]
    scores = np.concatenate([np.sum(heads, axis=0) for heads in logits])  # (n, classes)
    own = scores[np.arange(len(scores)), data.test.labels, np.newaxis]
    places = np.sum(scores > own, axis=1)
    return {f"top-{k} error": float(np.mean(places >= k)) for k in (1, 5)}
