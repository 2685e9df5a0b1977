"""Callbacks for any training: resuming, a guard against NaN, images per second."""

from __future__ import annotations

import math
import pathlib
import time

import tensorflow as tf

_EPOCH_KEY = "epoch/.ATTRIBUTES/VARIABLE_VALUE"


def last_epoch(directory: pathlib.Path) -> int:
    """Number of epochs before the last checkpoint in a directory; 0 if it has none."""
    path = tf.train.latest_checkpoint(str(directory))
    return int(tf.train.load_variable(path, _EPOCH_KEY)) if path else 0


class EpochCheckpoint(tf.keras.callbacks.Callback):
    """Saves the whole state after every epoch, and restores it.

    Keras' BackupAndRestore tells the epoch only inside `fit`; here `last_epoch` tells
    it before, so that the batches can start there, too. A checkpoint appears whole or
    not at all.

    Args:
      directory: of the checkpoints; the last one is kept.
      model: compiled, so that it has its optimizers. Dropout must draw from generators:
        `tf.keras.backend.experimental.enable_tf_random_generator()`.
    """

    def __init__(self, directory: pathlib.Path, model: tf.keras.Model) -> None:
        super().__init__()
        self._epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        # Keras leaves the state of Dropout's random numbers out of checkpoints.
        generators = [
            layer._random_generator._generator
            for layer in model.submodules
            if isinstance(layer, tf.keras.layers.Dropout)
        ]
        checkpoint = tf.train.Checkpoint(
            model=model, epoch=self._epoch, generators=generators
        )
        self._manager = tf.train.CheckpointManager(checkpoint, str(directory), 1)

    def restore(self) -> None:
        """Restores the last checkpoint, if there is one."""
        if self._manager.latest_checkpoint:
            status = self._manager.checkpoint.restore(self._manager.latest_checkpoint)
            status.assert_existing_objects_matched()

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        self._epoch.assign(epoch + 1)
        self._manager.save()


class StopOnNaN(tf.keras.callbacks.Callback):
    """Stops at the step at which a loss is not finite, and says what to try.

    Args:
      remedies: what to try, by the name of the logged loss.
    """

    def __init__(self, remedies: dict[str, str]) -> None:
        super().__init__()
        self._remedies = remedies
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        for name, remedy in self._remedies.items():
            if not math.isfinite(logs[name]):
                raise FloatingPointError(
                    f"{name} is {logs[name]} at step {batch + 1} of epoch "
                    f"{self._epoch + 1}. {remedy} The last epoch's checkpoint is kept."
                )


class Throughput(tf.keras.callbacks.Callback):
    """Adds `images_per_s`, a mean over the epoch, to the logs that later callbacks see.

    The first step is not counted, because it includes tracing; the time from launch to
    its end is printed.

    Args:
      images_per_step: images in a step, over all replicas.
      launched: `time.perf_counter()` when the program began.
    """

    def __init__(self, images_per_step: int, launched: float) -> None:
        super().__init__()
        self._images = images_per_step
        self._launched: float | None = launched
        self._started = 0.0
        self._steps = 0
        self._rate = 0.0

    def _begin(self) -> None:
        self._started, self._steps = time.perf_counter(), 0

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        self._begin()

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        self._steps += 1
        elapsed = time.perf_counter() - self._started
        self._rate = self._images * self._steps / elapsed
        logs["images_per_s"] = self._rate
        if self._launched is not None:
            seconds = time.perf_counter() - self._launched
            print(f"First step ended {seconds:.1f} s after launch.", flush=True)
            self._launched = None
            self._begin()

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        logs["images_per_s"] = self._rate
