"""Strategies without a supernet: each network that is compared is trained by itself."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from cdnet_tf import training_run
from cdnet_tf.data import datasets
from cdnet_tf.learn import distributed
from cdnet_tf.search_settings import SearchSettings
from cdnet_tf.settings import RunSettings, TrainSettings
from cdnet_tf.strategies import candidates, front, limits, ridge
from cdnet_tf.strategies.run import Found, Run
from cdnet_tf.strategies.space import Choice, Network, Sum

_KEPT = 3  # Each rung of successive halving keeps one network in three.


def random_search(
    data: datasets.ReidDataset, settings: SearchSettings, run: Run
) -> Found | None:
    """Trains networks drawn evenly from those that keep the limits; takes the best.

    Args:
      data: networks are trained on its training split and judged on its query and
        gallery.
      settings: the search's settings; `settings.candidates` networks are trained.
      run: where and how it runs.

    Returns:
      None on a worker that is not the chief.
    """
    trials = _Trials(data, settings, run)
    trials.judge_all(trials.drawn(), settings.epochs)
    return trials.found()


def halving(
    data: datasets.ReidDataset, settings: SearchSettings, run: Run
) -> Found | None:
    """Random search by successive halving (Jamieson and Talwalkar, 2016).

    All networks that are drawn train for few epochs. The best third of them train from
    the beginning for three times as many, and so on up to `settings.epochs`.

    Arguments and result are those of `random_search`.
    """
    trials = _Trials(data, settings, run)
    choices = trials.drawn()
    for rung in range(math.floor(math.log(len(choices), _KEPT) + 1e-9), -1, -1):
        epochs = max(1, settings.epochs // _KEPT**rung)
        scores = trials.judge_all(choices, epochs)
        kept = max(1, len(choices) // _KEPT)
        choices = [choices[i] for i in np.argsort(scores)[::-1][:kept]]
    return trials.found()


def regression(
    data: datasets.ReidDataset, settings: SearchSettings, run: Run
) -> Found | None:
    """Trains networks that are drawn evenly, and predicts the best of the space.

    A predicted score is a sum over the blocks, as costs are. So the networks with the
    best predictions for their cost are found exactly, among all that keep the limits.

    Arguments and result are those of `random_search`.
    """
    trials = _Trials(data, settings, run)
    choices = trials.drawn()
    scores = trials.judge_all(choices, settings.epochs)
    genotypes, widths = zip(*map(trials.space.network, choices))
    fitted = ridge.Ridge(genotypes, scores, widths=widths)
    # A width of which no network keeps the limits has no training.
    return trials.predicted(
        {width: fitted.as_sum(settings.branches, width) for width in set(widths)}
    )


class _Trials:
    """Trains networks, each in a folder of its own, and keeps what came of them."""

    def __init__(
        self, data: datasets.ReidDataset, settings: SearchSettings, run: Run
    ) -> None:
        self._data, self._settings, self._run = data, settings, run
        self.space = limits.space_of(settings)

    def drawn(self) -> list[Choice]:
        """Draws `settings.candidates` different networks; see `Space.drawn`."""
        return self.space.drawn(self._settings.candidates, self._settings.seed)

    def judge_all(self, choices: list[Choice], epochs: int) -> list[float]:
        """Returns the mAP of networks after trainings of so many epochs."""
        name = "candidates.csv"
        if epochs != self._settings.epochs:
            name = f"candidates_{epochs}_epochs.csv"
        self.table = candidates.Candidates(self._run.directory / name, self.space)
        return [
            self.table.judge(choice, lambda c: self._train(c, epochs)).mean_ap
            for choice in choices
        ]

    def found(self) -> Found | None:
        """Returns the result of a search that takes the best trained network."""
        own = None
        if self.space.is_bounded:
            own = front.of_judged(self.space, self.table.all())
        return self._found(self.table.best()[0].network, own)

    def predicted(self, scores: Mapping[float, Sum]) -> Found | None:
        """Returns the result of a search that takes the best predicted network.

        Args:
          scores: predictions for the networks of each width that was trained.
        """
        predicted = front.of_predicted(self.space, scores, self.table.all())
        best = predicted.points[-1]
        own = predicted if self.space.is_bounded else None
        return self._found(best.network, own, predicted_mAP=best.mean_ap)

    def _found(
        self, network: Network, own: front.Front | None, **record
    ) -> Found | None:
        if distributed.place(self._run.strategy)[0] > 0:
            return None
        report = candidates.report(self.table.best(5), len(self.table))
        record = {"candidates": len(self.table), **record}
        return Found(network.genotype, report, record, network.width_multiplier, own)

    def _train(self, choice: Choice, epochs: int) -> float:
        network = self.space.network(choice)
        layers = network.genotype.layers
        name = "_".join("".join(map(str, branch)) for branch in layers)
        if len(self.space.widths) > 1:
            name += f"_x{network.width_multiplier:g}"
        folder = self._run.directory / "candidates" / f"{name}_{epochs}"
        print(f"Training {network} for {epochs} epochs.", flush=True)
        tf.keras.backend.clear_session()
        record = training_run.train(
            self._data,
            folder,
            _training(self._settings, network, epochs),
            strategy=self._run.strategy,
            restarts=self._run.restarts,
        )
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)
        score = record["scores"]["mean_ap"] if record else None
        return distributed.from_chief(self._run.strategy, score)


def _training(settings: SearchSettings, network: Network, epochs: int) -> TrainSettings:
    """Returns the settings of a training: the search's learning rates, and FBLNeck."""
    shared = {
        name: getattr(settings, name) for name in RunSettings.__dataclass_fields__
    }
    return TrainSettings(
        **{**shared, "epochs": epochs, "width_multiplier": network.width_multiplier},
        genotype=str(network.genotype),
        schedule="cosine",
        lr=settings.w_lr,
        lr_end=settings.w_lr_end,
        lr_warmup_epochs=min(settings.w_lr_warmup_epochs, epochs // 4),
        l2=settings.w_l2,
    )
