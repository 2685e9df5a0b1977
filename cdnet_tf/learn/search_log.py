"""Records of a search: alpha over time, the choices, and whether alpha collapsed."""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Sequence

import matplotlib
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from cdnet_tf import atomic_files
from cdnet_tf.learn import bilevel
from cdnet_tf.nn import genotype
from cdnet_tf.supernet import costs


def entropy(alpha: np.ndarray) -> np.ndarray:
    """Returns the entropy of softmax(alpha), (6, n) -> (6,), in nats: 0 to log n."""
    p = np.exp(alpha - alpha.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return -(p * np.log(np.maximum(p, 1e-30))).sum(1)


class AlphaHistory:
    """alpha.csv: a row per epoch, block and branch; epoch 0 is before training.

    Args:
      path: of the file.
      space: the branches, in alpha's order.
    """

    HEADER = ("epoch", "block", "kernel1", "kernel2", "repeats", "alpha")

    def __init__(self, path: pathlib.Path, space: Sequence[genotype.Branch]) -> None:
        self._path = path
        self._space = space

    def begin(self, epoch: int, alpha: np.ndarray) -> None:
        """Starts the file; a resumed run drops the rows of epochs that it repeats."""
        kept = self.read()[: epoch + 1] if epoch and self.exists() else [alpha]
        with (
            atomic_files.replacing(self._path) as partial,
            open(partial, "w", newline="") as file,
        ):
            csv.writer(file).writerow(self.HEADER)
            for number, each in enumerate(kept):
                self._write(file, number, each)

    def append(self, epoch: int, alpha: np.ndarray) -> None:
        with open(self._path, "a", newline="") as file:
            self._write(file, epoch, alpha)

    def _write(self, file, epoch: int, alpha: np.ndarray) -> None:
        csv.writer(file).writerows(
            (epoch, block, *branch, repr(float(value)))
            for block, row in enumerate(alpha, 1)
            for branch, value in zip(self._space, row)
        )

    def exists(self) -> bool:
        """Whether a search has begun to write the file."""
        return self._path.exists()

    def read(self) -> np.ndarray:
        """Reads alpha of every complete epoch, (epochs + 1, 6, n)."""
        with open(self._path, newline="") as file:
            values = [row["alpha"] for row in csv.DictReader(file)]
        size = genotype.NUM_BLOCKS * len(self._space)
        # A killed run may leave half an epoch, whose last line may be half a line.
        whole = len(values) // size * size
        numbers = [float(value) for value in values[:whole]]
        return np.reshape(numbers, (-1, genotype.NUM_BLOCKS, len(self._space)))


class SearchLog(tf.keras.callbacks.Callback):
    """Logs the genotype of each epoch, its size, and the state of alpha.

    Args:
      search: the model.
      history: the file of alpha.
      first_epoch: the epoch at which the run begins or is resumed, from 0.
      summaries: directory for TensorBoard.
      network_options: of the derived network, to count its parameters and MACs.
    """

    def __init__(
        self,
        search: bilevel.BilevelSearch,
        history: AlphaHistory,
        first_epoch: int,
        summaries: pathlib.Path,
        **network_options,
    ) -> None:
        super().__init__()
        self._search = search
        self._history = history
        self._first_epoch = first_epoch
        self._writer = tf.summary.create_file_writer(str(summaries))
        self._costs = costs.of_space(search.net.space, **network_options)

    def on_train_begin(self, logs=None) -> None:
        self._history.begin(self._first_epoch, self._search.net.alpha.numpy())

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        alpha = self._search.net.alpha.numpy()
        self._history.append(epoch + 1, alpha)
        derived = self._search.net.derive()
        parameters, macs = self._costs(alpha.argmax(1))
        entropies = entropy(alpha)
        norms = [float(mean.result()) for mean in self._search.gradient_norms]
        with self._writer.as_default():
            tf.summary.text("genotype", str(derived), epoch)
            tf.summary.scalar("derived/parameters", parameters, epoch)
            tf.summary.scalar("derived/macs", macs, epoch)
            for i, (h, norm) in enumerate(zip(entropies, norms), 1):
                tf.summary.scalar(f"alpha_entropy/block{i}", h, epoch)
                tf.summary.scalar(f"alpha_gradient_norm/block{i}", norm, epoch)


def collapse_report(
    alphas: np.ndarray, counts: np.ndarray, space: Sequence[genotype.Branch]
) -> str:
    """Says which blocks never changed their best branch, and how choices were spread.

    Args:
      alphas: of every epoch, (epochs + 1, 6, n).
      counts: how often each branch ran, (6, n).
      space: the branches, in alpha's order.
    """
    lines = []
    for block in range(genotype.NUM_BLOCKS):
        best = alphas[:, block].argmax(1)
        first, last = (space[best[i]] for i in (0, -1))
        changes = int(np.count_nonzero(np.diff(best)))
        fate = (
            f"stayed with its first pick {first}"
            if not changes
            else f"from {first} to {last}, {changes} change(s)"
        )
        total = counts[block].sum()
        steps = counts[block] / max(total, 1)
        order = np.argsort(-steps)[:3]
        often = ", ".join(f"{space[j]} {steps[j]:.0%}" for j in order)
        tried = int(np.count_nonzero(counts[block]))
        lines.append(
            f"block {block + 1}: {fate}; {tried} of {len(space)} branches tried; "
            f"most often {often}"
        )
    stayed = sum("stayed" in line for line in lines)
    lines.append(
        f"{stayed} of {genotype.NUM_BLOCKS} blocks stayed with their first pick."
    )
    return "\n".join(lines) + "\n"


def write_choices(
    path: pathlib.Path, counts: np.ndarray, space: Sequence[genotype.Branch]
) -> None:
    """Writes choices.csv: how often each branch of each block ran."""
    with (
        atomic_files.replacing(path) as partial,
        open(partial, "w", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(("block", "kernel1", "kernel2", "repeats", "steps"))
        writer.writerows(
            (block, *branch, int(count))
            for block, row in enumerate(counts, 1)
            for branch, count in zip(space, row)
        )


def plot_alpha(
    path: pathlib.Path, alphas: np.ndarray, space: Sequence[genotype.Branch]
) -> None:
    """Draws alpha over the epochs, one panel a block.

    Args:
      path: PNG to write.
      alphas: of every epoch, (epochs + 1, 6, n).
      space: the branches, in alpha's order.
    """
    figure = Figure(figsize=(12, 6))
    axes = figure.subplots(2, 3, sharex=True)
    colours = matplotlib.colormaps["tab10"]
    for block, axis in enumerate(axes.flat):
        for j, branch in enumerate(space):
            style = "-" if branch.repeats == 1 else "--"
            colour = colours(genotype.CS.index(branch._replace(repeats=1)))
            axis.plot(alphas[:, block, j], style, color=colour, label=str(branch))
        axis.set_title(f"block {block + 1}")
    for axis in axes[1]:
        axis.set_xlabel("epoch")
    for axis in axes[:, 0]:
        axis.set_ylabel("alpha, no unit")
    figure.suptitle("alpha of each branch, at the start and after each epoch")
    figure.legend(
        *axes.flat[0].get_legend_handles_labels(),
        loc="center right",
        title="branch: kernels\nof two streams,\nCBlocks",
    )
    figure.subplots_adjust(right=0.87, left=0.08, top=0.89, bottom=0.09)
    with atomic_files.replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=80)
