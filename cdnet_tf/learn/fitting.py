"""Trains a model in a run directory, from its last checkpoint to the last epoch."""

from __future__ import annotations

import pathlib
import shutil

import tensorflow as tf

from cdnet_tf.learn import callbacks, devices, distributed, progress


def fit(
    model: tf.keras.Model,
    dataset: tf.data.Dataset,
    run_dir: pathlib.Path,
    strategy: tf.distribute.Strategy,
    *,
    epochs: int,
    steps_per_epoch: int,
    images_per_step: int,
    remedies: dict[str, str],
    launched: float,
    log: tf.keras.callbacks.Callback | None = None,
) -> None:
    """Trains from the last checkpoint to the last epoch, and saves every epoch.

    Args:
      model: compiled.
      dataset: batches of this worker, from the epoch after the checkpoint.
      run_dir: the run directory; `checkpoint` and `tensorboard` in it are filled.
      strategy: under which the model was made.
      epochs: of the whole run.
      steps_per_epoch: the same in every epoch.
      images_per_step: images in a step, over all replicas.
      remedies: what to try if a loss is not finite, by the loss's name.
      launched: `time.perf_counter()` when the run was started.
      log: the caller's callback that writes a record of each epoch.

    Raises:
      OSError: the disk has no room for the checkpoints.
      FloatingPointError: a loss is not finite.
    """
    checkpoint, first_epoch = _restored(model, run_dir)
    if first_epoch >= epochs:
        print(f"{run_dir} has had its {first_epoch} epochs; only results are missing.")
        return
    if first_epoch:
        print(f"Going on after epoch {first_epoch} of {run_dir}.")
    # In this order: what measures an epoch, what records it, and what saves it.
    in_order = [
        callbacks.StopOnNaN(remedies),
        callbacks.Throughput(images_per_step, launched),
        *([log] if log else []),
        tf.keras.callbacks.TensorBoard(str(run_dir / "tensorboard"), write_graph=False),
        checkpoint,
        progress.EpochLine(),
    ]
    with devices.unrewritten(), distributed.noting_step(model.optimizer.iterations):
        model.fit(
            distributed.feed(strategy, dataset),
            initial_epoch=first_epoch,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            verbose=0,
            callbacks=in_order,
        )


def _restored(
    model: tf.keras.Model, run_dir: pathlib.Path
) -> tuple[callbacks.EpochCheckpoint, int]:
    """Restores the last checkpoint; returns its callback, and its number of epochs."""
    weights = sum(weight.shape.num_elements() for weight in model.weights)
    # Two checkpoints of weights and momentum exist while the second one is written.
    check_space(run_dir, 2 * 2 * 4 * weights)
    folder = run_dir / "checkpoint"
    first_epoch = callbacks.last_epoch(folder)
    checkpoint = callbacks.EpochCheckpoint(folder, model)
    checkpoint.restore()
    return checkpoint, first_epoch


def check_space(directory: pathlib.Path, needed_bytes: int) -> None:
    """Raises OSError where the disk has no room for a run's files."""
    free = shutil.disk_usage(directory).free
    if free < needed_bytes:
        raise OSError(
            f"run_dir={directory} has {free / 1e6:.0f} MB free, and the run needs "
            f"{needed_bytes / 1e6:.0f} MB; free some or choose another --run_dir."
        )
