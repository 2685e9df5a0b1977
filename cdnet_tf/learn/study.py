"""A study: keras-tuner's oracles and tuner around any function that scores a trial.

Three things are added to keras-tuner 1.4.8. One trial is the recipe as it was given, so
that the best trial is never worse. A trial is a lease that its worker renews; a lease
that is not renewed goes to the next worker that asks, whereas a killed worker would
hold its trial and the chief for ever. And while trials are lent, an idle worker waits
instead of leaving, so that it can take over a lost one.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import keras_tuner as kt
from keras_tuner.engine import base_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from cdnet_tf.learn import hyperparameters as spaces

OBJECTIVE = "mean_ap"
_RECIPE = "tuner/recipe"  # marks a trial's values, as keras-tuner's marks do
TUNERS = ("random", "bayesian", "hyperband")
_POLL_S = 0.2
_LEAVE_S = 1.0  # time for the last answer to reach its worker


class Leases(kt.Oracle):
    """A mixin for oracles that lends trials to workers, and lends lost ones again.

    Attributes:
      lease_s: seconds of silence after which a worker counts as lost.
      recipe: values of the first trial that has all epochs, by name.
    """

    lease_s = float("inf")
    recipe: dict = {}
    _retry_queue: list[str]

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self._heard: dict[str, float] = {}
        self._stopped = False

    @kt.synchronized
    def create_trial(self, tuner_id: str) -> Trial:
        """Lends a trial to a worker: a new one, or one that another worker lost."""
        self._take_back()
        self._heard[tuner_id] = time.monotonic()
        trial = super().create_trial(tuner_id)
        if trial.status == TrialStatus.STOPPED:
            if self.ongoing_trials:
                self.tuner_ids.add(tuner_id)
                trial.status = TrialStatus.IDLE
            else:
                self._stopped = True
        return trial

    def get_trial(self, trial_id: str) -> Trial:
        """Returns a trial; its worker asks for it now and then, to renew the lease."""
        for tuner_id, trial in list(self.ongoing_trials.items()):
            if trial.trial_id == trial_id:
                self._heard[tuner_id] = time.monotonic()
        return super().get_trial(trial_id)

    @kt.synchronized
    def is_over(self) -> bool:
        """Whether no trial is left, and every worker has been told so."""
        self._take_back()
        return self._stopped and not self.ongoing_trials and not self.tuner_ids

    def _random_values(self) -> dict | None:
        if self.recipe and self._recipe_is_next():
            return {**self.recipe, _RECIPE: 1}
        return super()._random_values()

    def _recipe_is_next(self) -> bool:
        return not self.trials

    def _take_back(self) -> None:
        now = time.monotonic()
        for tuner_id in list(self.tuner_ids):
            if now - self._heard.setdefault(tuner_id, now) > self.lease_s:
                self.tuner_ids.discard(tuner_id)
                trial = self.ongoing_trials.pop(tuner_id, None)
                if trial is not None:
                    print(f"Worker {tuner_id} is lost; trial {trial.trial_id} waits.")
                    self._retry_queue.append(trial.trial_id)
        # A worker that was thought lost may have finished its trial after all.
        self._retry_queue = [
            each for each in self._retry_queue if each not in self.end_order
        ]


class _Random(Leases, kt.oracles.RandomSearchOracle):
    pass


class _Bayesian(Leases, kt.oracles.BayesianOptimizationOracle):
    pass


class _Hyperband(Leases, kt.oracles.HyperbandOracle):
    _filling: dict

    def _random_trial(self, trial_id: str, bracket: dict) -> dict:
        self._filling = bracket
        return super()._random_trial(trial_id, bracket)

    def _recipe_is_next(self) -> bool:
        """The recipe is the first trial of the bracket whose trials have all epochs."""
        return self._filling["bracket_num"] == 0 and not self._filling["rounds"][0]


def make_oracle(
    tuner: str,
    space: spaces.Space,
    *,
    trials: int | None,
    epochs: int,
    seed: int,
    recipe: dict | None = None,
    lease_s: float = float("inf"),
) -> Leases:
    """Makes the oracle that draws the values of a study's trials.

    Args:
      tuner: one of `TUNERS`; `hyperband` gives most trials fewer epochs, and the best
        ones more, up to `epochs`.
      space: what to draw.
      trials: how many at most; None, for hyperband only, is as many as one sweep has.
      epochs: of a whole run; only hyperband uses it.
      seed: of what is drawn, non-negative.
      recipe: see `Leases`.
      lease_s: see `Leases`.

    Raises:
      ImportError: scikit-learn or scipy, which `bayesian` needs, are not installed.
    """
    options: dict = {
        "objective": kt.Objective(OBJECTIVE, "max"),
        "hyperparameters": _hyperparameters(space),
        "allow_new_entries": False,
        "seed": seed + 1,  # keras-tuner takes 0 for none
        # A failed trial speaks against its values, not against the study.
        "max_consecutive_failed_trials": float("inf"),
    }
    oracle: Leases
    if tuner == "hyperband":
        oracle = _Hyperband(max_epochs=epochs, **options)
        oracle.max_trials = trials
    else:
        kind = _Random if tuner == "random" else _Bayesian
        oracle = kind(max_trials=trials, **options)
    oracle.recipe = recipe or {}
    oracle.lease_s = lease_s
    oracle.verbose = 0
    return oracle


def _hyperparameters(space: spaces.Space) -> kt.HyperParameters:
    drawn = kt.HyperParameters()
    for name, domain in space.items():
        if isinstance(domain, spaces.Choice):
            drawn.Choice(name, list(domain.values))
        else:
            sampling = "log" if domain.log else "linear"
            drawn.Float(name, domain.low, domain.high, sampling=sampling)
    return drawn


def is_recipe(trial: Trial) -> bool:
    """Whether a trial is the recipe as it was given."""
    return _RECIPE in trial.hyperparameters.values


def drawn_values(trial: Trial) -> tuple[dict, int | None]:
    """Returns the values drawn for a trial, and its epochs if hyperband sets them."""
    values = dict(trial.hyperparameters.values)
    epochs = values.get("tuner/epochs")
    own = {k: v for k, v in values.items() if not k.startswith("tuner/")}
    return own, epochs


class Study(base_tuner.BaseTuner):
    """Scores trials until the oracle has no more; resumes a study that was killed.

    keras-tuner's environment variables decide whether this process does everything, is
    the chief that lends trials, or is a worker that runs them.

    Args:
      oracle: from `make_oracle`.
      score: returns the mAP of a trial; raises `kt.errors.FailedTrialError` with the
        reason if the trial fails.
      directory: of the state.
      on_progress: called with all trials each time that one has ended, except in a
        worker.
    """

    def __init__(
        self,
        oracle: Leases,
        score: Callable[[Trial], float],
        directory: str,
        on_progress: Callable[[list[Trial]], object] = lambda trials: None,
    ) -> None:
        self._whole = oracle
        self._score = score
        self._on_progress = on_progress
        self._seen = 0
        super().__init__(oracle, directory=directory, project_name="state")
        self.is_worker = self._is_worker()
        self.save()  # Otherwise a study killed in its first trial would start over.

    def search(self) -> None:
        """Runs the study, or this process's part of it."""
        if "chief" not in self.tuner_id or self.oracle is not self._whole:
            super().search()
            return
        server = threading.Thread(target=super().search, daemon=True)
        server.start()
        while not self._whole.is_over():
            server.join(_POLL_S)
            if not server.is_alive():
                raise OSError("The chief's server has stopped; is its port free?")
            self._tell()
        time.sleep(_LEAVE_S)

    def pre_create_trial(self) -> None:
        if self.is_worker:
            time.sleep(_POLL_S)  # keras-tuner would ask an idle oracle again at once.

    def run_trial(self, trial: Trial) -> dict[str, float]:
        with self._renewed(trial):
            return {OBJECTIVE: self._score(trial)}

    def on_trial_end(self, trial: Trial) -> None:
        super().on_trial_end(trial)
        if not self.is_worker:
            self._tell()

    def _tell(self) -> None:
        if len(self._whole.end_order) != self._seen:
            self._seen = len(self._whole.end_order)
            self._on_progress(list(self._whole.trials.values()))

    @contextlib.contextmanager
    def _renewed(self, trial: Trial) -> Iterator[None]:
        """Renews a worker's lease while its trial runs."""
        over = threading.Event()

        def renew() -> None:
            while not over.wait(min(30.0, self._whole.lease_s / 4)):
                self.oracle.get_trial(trial.trial_id)

        if self.is_worker:
            threading.Thread(target=renew, daemon=True).start()
        try:
            yield
        finally:
            over.set()
