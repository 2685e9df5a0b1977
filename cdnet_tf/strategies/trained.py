"""Strategies without a supernet: each network that is compared has its own training."""

from __future__ import annotations

import math
import shutil

import numpy as np
import tensorflow as tf

from cdnet_tf import training_run
from cdnet_tf.data import datasets
from cdnet_tf.learn import distributed
from cdnet_tf.nn import genotype
from cdnet_tf.settings import RunSettings, SearchSettings, TrainSettings
from cdnet_tf.strategies import candidates, ridge
from cdnet_tf.strategies.run import Found, Run
from cdnet_tf.supernet import costs

_KEPT = 3  # a rung of successive halving keeps one network in so many


def random_search(
    data: datasets.ReidDataset, settings: SearchSettings, run: Run
) -> Found | None:
    """Trains networks that are drawn evenly, and takes the best.

    Args:
      data: whose training split is trained on; query and gallery judge.
      settings: of the search; `settings.candidates` networks are trained.
      run: where and how it runs.

    Returns:
      None on a worker that is not the chief.
    """
    trials = _Trials(data, settings, run)
    trials.judge_all(trials.drawn(), settings.epochs)
    return trials.found(trials.best())


def halving(
    data: datasets.ReidDataset, settings: SearchSettings, run: Run
) -> Found | None:
    """Random search by successive halving (Jamieson and Talwalkar, 2016).

    All networks that are drawn train for few epochs, the best third of them from their
    beginning for three times as many, and so on up to `settings.epochs`.

    Args and returns as `random_search`.
    """
    trials = _Trials(data, settings, run)
    choices = trials.drawn()
    for rung in range(math.floor(math.log(len(choices), _KEPT) + 1e-9), -1, -1):
        epochs = max(1, settings.epochs // _KEPT**rung)
        scores = trials.judge_all(choices, epochs)
        kept = max(1, len(choices) // _KEPT)
        choices = [choices[i] for i in np.argsort(scores)[::-1][:kept]]
    return trials.found(trials.best())


def regression(
    data: datasets.ReidDataset, settings: SearchSettings, run: Run
) -> Found | None:
    """Trains networks that are drawn evenly, and predicts the best of the space.

    Args and returns as `random_search`.
    """
    trials = _Trials(data, settings, run)
    choices = trials.drawn()
    scores = trials.judge_all(choices, settings.epochs)
    fitted = ridge.Ridge([trials.table.genotype_of(c) for c in choices], scores)
    best = fitted.best(settings.branches)
    return trials.found(best, predicted_mAP=float(fitted.predict([best])[0]))


class _Trials:
    """Trainings of networks, each in a folder of its own, and what came of them."""

    def __init__(
        self, data: datasets.ReidDataset, settings: SearchSettings, run: Run
    ) -> None:
        self._data, self._settings, self._run = data, settings, run
        self._cost = costs.of_space(settings.branches, **settings.network_options)

    def drawn(self) -> list[candidates.Choice]:
        """`settings.candidates` different networks, each block's branch drawn evenly.

        A longer search begins with the networks of a shorter one.
        """
        random = np.random.default_rng(self._settings.seed)
        drawn: dict[candidates.Choice, None] = {}
        while len(drawn) < self._settings.candidates:
            choice = random.integers(
                len(self._settings.branches), size=genotype.NUM_BLOCKS
            )
            drawn[tuple(choice.tolist())] = None
        return list(drawn)

    def judge_all(self, choices: list[candidates.Choice], epochs: int) -> list[float]:
        """MAP of networks after trainings of so many epochs."""
        name = "candidates.csv"
        if epochs != self._settings.epochs:
            name = f"candidates_{epochs}_epochs.csv"
        self.table = candidates.Candidates(
            self._run.directory / name, self._settings.branches, self._cost
        )
        return [
            self.table.judge(choice, lambda c: self._train(c, epochs)).mean_ap
            for choice in choices
        ]

    def best(self) -> genotype.Genotype:
        """The best network of those that were judged last."""
        return self.table.best()[0].genotype

    def found(self, network: genotype.Genotype, **record) -> Found | None:
        """What the search ends with."""
        if distributed.place(self._run.strategy)[0] > 0:
            return None
        report = candidates.report(self.table.best(5), len(self.table))
        return Found(network, report, {"candidates": len(self.table), **record})

    def _train(self, choice: candidates.Choice, epochs: int) -> float:
        network = self.table.genotype_of(choice)
        name = "_".join("".join(map(str, branch)) for branch in network.layers)
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


def _training(
    settings: SearchSettings, network: genotype.Genotype, epochs: int
) -> TrainSettings:
    """How a network is trained: by the search's own rates, with FBLNeck."""
    shared = {
        name: getattr(settings, name) for name in RunSettings.__dataclass_fields__
    }
    return TrainSettings(
        **{**shared, "epochs": epochs},
        genotype=str(network),
        schedule="cosine",
        lr=settings.w_lr,
        lr_end=settings.w_lr_end,
        lr_warmup_epochs=min(settings.w_lr_warmup_epochs, epochs // 4),
        l2=settings.w_l2,
    )
