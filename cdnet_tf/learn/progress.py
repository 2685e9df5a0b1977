"""Prints one line per epoch, for whoever watches: losses, speed and time left."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping

import tensorflow as tf

_REDRAWN_S = 0.2


class EpochLine(tf.keras.callbacks.Callback):
    """Prints a line at the end of every epoch, and on a terminal also within it.

    Put this callback last, after the checkpoint's: once the line of an epoch is seen,
    the program may be stopped without losing that epoch. Give `verbose=0` to `fit`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._epoch = 0
        self._steps_timed = 0
        self._timed_from: float | None = None
        self._drawn = 0.0

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        now = time.perf_counter()
        if self._timed_from is None:
            self._timed_from = now  # The first step traces, so it does not count.
            return
        self._steps_timed += 1
        if sys.stdout.isatty() and now - self._drawn > _REDRAWN_S:
            self._drawn = now
            done = f", step {batch + 1}/{self.params['steps']}"
            columns = shutil.get_terminal_size().columns - 1
            line = self._line(logs, batch + 1, done)
            print(f"\r{line[:columns]}\033[K", end="", flush=True)

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        over = "\r\033[K" if sys.stdout.isatty() else ""
        print(over + self._line(logs, self.params["steps"]), flush=True)

    def _line(self, logs: Mapping[str, float], steps: int, done: str = "") -> str:
        parts = [f"{k} {_number(k, v)}" for k, v in logs.items() if k != "images_per_s"]
        if "images_per_s" in logs:
            parts.append(f"{logs['images_per_s']:.0f} images/s")
        epochs = self.params["epochs"]
        left = (epochs - self._epoch) * self.params["steps"] - steps
        if left and self._steps_timed and self._timed_from is not None:
            elapsed = time.perf_counter() - self._timed_from
            parts.append(f"{duration(left * elapsed / self._steps_timed)} left")
        return f"Epoch {self._epoch + 1}/{epochs}{done}: {', '.join(parts)}"


def _number(name: str, value: float) -> str:
    return f"{value:.1%}" if name == "accuracy" else f"{value:.4f}"


def duration(seconds: float) -> str:
    """Returns a time in the two units that matter: 45 s, 12 min, 3 h 20 min."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
