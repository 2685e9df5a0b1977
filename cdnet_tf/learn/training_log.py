"""Records of a training: a row of numbers per epoch, and their curves."""

from __future__ import annotations

import csv
import pathlib

import tensorflow as tf
from matplotlib.figure import Figure

from cdnet_tf import atomic_files

_UNITS = {"accuracy": "fraction, 0 to 1", "images_per_s": "images/s"}


class History(tf.keras.callbacks.Callback):
    """Writes history.csv, a row per epoch, counted from 1.

    A resumed run drops the rows of epochs that it repeats. Put this callback before the
    checkpoint's.

    Args:
      path: of the file.
      first_epoch: the epoch at which the run begins, from 0; not 0 if it is resumed.
    """

    def __init__(self, path: pathlib.Path, first_epoch: int = 0) -> None:
        super().__init__()
        self._path = path
        self._rows = read_history(path)[:first_epoch] if first_epoch else []

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        rate = self.model.optimizer.learning_rate
        if callable(rate):
            # The rate of the epoch's last step; the optimizer has counted one further.
            rate = rate(self.model.optimizer.iterations - 1)
        row = {"epoch": epoch + 1, **logs, "learning_rate": float(rate)}
        self._rows.append({name: float(value) for name, value in row.items()})
        with (
            atomic_files.replacing(self._path) as partial,
            open(partial, "w", newline="") as file,
        ):
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerows(self._rows)


def read_history(path: pathlib.Path) -> list[dict[str, float]]:
    """Reads the rows of history.csv, in order; none if there is no file."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [
            {name: float(value) for name, value in row.items()}
            for row in csv.DictReader(file)
        ]


def plot_history(path: pathlib.Path, rows: list[dict[str, float]]) -> None:
    """Draws a panel for each column of the history, over the epochs, as PNG."""
    names = [name for name in rows[0] if name != "epoch"]
    figure = Figure(figsize=(3.2 * len(names), 3), layout="constrained")
    figure.suptitle("Means of each epoch, and the learning rate of its last step")
    for axis, name in zip(figure.subplots(1, len(names)), names):
        axis.plot([row["epoch"] for row in rows], [row[name] for row in rows])
        axis.set_title(name)
        axis.set_xlabel("epoch")
        axis.set_ylabel(_UNITS.get(name, "no unit"))
    with atomic_files.replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=80)
