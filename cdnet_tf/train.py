"""Trains a found or published network, and evaluates it on the test identities.

python -m cdnet_tf.train --flagfile=flags/market1501.cfg --run_dir=runs/cdnet
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
import time

from cdnet_tf import run_flags  # isort: skip  (quiets TensorFlow)
import numpy as np
import tensorflow as tf
from absl import app, flags

from cdnet_tf.data import pipeline
from cdnet_tf.learn import callbacks, losses, optimizers, schedules, training
from cdnet_tf.nn import counting, genotype, networks
from cdnet_tf.retrieval import ranking

_GENOTYPE = flags.DEFINE_string(
    "genotype",
    "cdnet",
    "A search's run directory, a genotype file, or a published name: "
    + ", ".join(networks.NAMES),
)
_NECK = flags.DEFINE_enum("neck", "fbl", networks.NECKS, "Neck (Table 6).")
_PARTS = flags.DEFINE_integer("parts", 2, "Stripes of the FNeck (Table 5).", 0, 4)
_LR = flags.DEFINE_float("lr", 0.065, "Learning rate at the start.")
_MILESTONES = flags.DEFINE_list(
    "milestones", ["150", "225", "300"], "Epochs at which it falls to a tenth."
)
_L2 = flags.DEFINE_float("l2", 5e-4, "L2 of all weights, coupled.", 0.0)
_MOMENTUM = flags.DEFINE_float("momentum", 0.9, "Of SGD.", 0.0, 1.0)
_MARGIN = flags.DEFINE_float("margin", 0.3, "Of the triplet loss.", 0.0)
_DROPOUT = flags.DEFINE_float("dropout", 0.2, "Before triplet features.", 0.0, 1.0)
_LABEL_SMOOTHING = flags.DEFINE_float(
    "label_smoothing", 0.0, "Of the softmax loss.", 0.0, 1.0
)
_REMEDY = "Most often the learning rate is too high: lower --lr."


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    strategy = run_flags.set_up()
    data = run_flags.read_data()
    run_dir = run_flags.open_run(data)
    if (run_dir / "evaluation.json").exists():
        print(f"{run_dir} holds a finished training; choose another --run_dir.")
        return
    first_epoch = callbacks.last_epoch(run_dir / "checkpoint")
    batches = pipeline.train_batches(data.train, **run_flags.batch_options(first_epoch))
    with strategy.scope():
        model = _model(batches)
    _fit(model, batches, first_epoch, run_dir)
    _write_results(model.embedder(), data, run_dir)


def _model(batches: pipeline.Batches) -> training.ReidTraining:
    options = {
        "input_shape": (run_flags.HEIGHT.value, run_flags.WIDTH.value, 3),
        "width_multiplier": run_flags.WIDTH_MULTIPLIER.value,
        "neck": _NECK.value,
        "parts": _PARTS.value,
        "num_classes": batches.num_classes,
        "dropout": _DROPOUT.value,
    }
    if _GENOTYPE.value in networks.NAMES:
        network = networks.build_named(_GENOTYPE.value, **options)
    else:
        network = networks.build(genotype.load(_GENOTYPE.value), **options)
    loss = losses.ReidLoss(_MARGIN.value, _LABEL_SMOOTHING.value)
    model = training.ReidTraining(network, loss)
    rate = schedules.multi_step(_LR.value, [int(epoch) for epoch in _MILESTONES.value])
    rates = schedules.by_epoch(rate, run_flags.EPOCHS.value, batches.steps_per_epoch)
    optimizer = optimizers.CoupledSGD(rates, _MOMENTUM.value, _L2.value)
    model.compile(optimizers.for_policy(optimizer))
    return model


def _fit(model, batches, first_epoch: int, run_dir: pathlib.Path) -> None:
    # Weights, momentum and the checkpoint before it, while the next one is written.
    run_flags.check_space(run_dir, 2 * 2 * 4 * model.network.count_params())
    checkpoint = callbacks.EpochCheckpoint(run_dir / "checkpoint", model)
    checkpoint.restore()
    if first_epoch:
        print(f"Going on after epoch {first_epoch} of {run_dir}.")
    model.fit(
        batches.dataset,
        initial_epoch=first_epoch,
        epochs=run_flags.EPOCHS.value,
        steps_per_epoch=batches.steps_per_epoch,
        verbose=1 if sys.stdout.isatty() else 2,
        callbacks=[
            callbacks.StopOnNaN({"loss": _REMEDY}),
            callbacks.Throughput(run_flags.BATCH_SIZE.value, run_flags.LAUNCHED),
            tf.keras.callbacks.TensorBoard(
                str(run_dir / "tensorboard"), write_graph=False
            ),
            checkpoint,
        ],
    )


def _write_results(network: tf.keras.Model, data, run_dir: pathlib.Path) -> None:
    """Writes model.keras and, last, evaluation.json."""
    partial = run_dir / "model.part.keras"
    network.save(partial)
    partial.replace(run_dir / "model.keras")
    scores = ranking.evaluate(
        _embed(network, data.query),
        data.query,
        _embed(network, data.gallery),
        data.gallery,
    )
    record = {
        "scores": dataclasses.asdict(scores),
        "parameters": counting.parameters(network),
        "macs": counting.macs(network),
        "provenance": run_flags.provenance(data),
    }
    run_flags.write_text(run_dir / "evaluation.json", json.dumps(record, indent=1))
    rows = {
        "rank-1": f"{scores.rank1:.1%}",
        "rank-5": f"{scores.rank5:.1%}",
        "mAP": f"{scores.mean_ap:.1%}",
        "parameters": f"{record['parameters']:,}",
        "multiply-accumulates": f"{record['macs']:,}",
        "minutes": f"{(time.perf_counter() - run_flags.LAUNCHED) / 60:.1f}",
    }
    for name, value in rows.items():
        print(f"{name:<22}{value}")


def _embed(network: tf.keras.Model, images) -> np.ndarray:
    size = run_flags.HEIGHT.value, run_flags.WIDTH.value
    return network.predict(pipeline.eval_batches(images.paths, *size), verbose=0)


if __name__ == "__main__":
    flags.mark_flag_as_required("run_dir")
    app.run(main)
