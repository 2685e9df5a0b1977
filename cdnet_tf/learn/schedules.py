"""Learning rates by epoch. Every schedule changes between epochs, never within one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import tensorflow as tf
from tensorflow.keras.optimizers import schedules


def cosine(epochs: int, initial: float, final: float) -> Callable[[int], float]:
    """Returns half a cosine wave from `initial` at epoch 0 to `final` at `epochs`."""
    return lambda epoch: (
        final + (initial - final) / 2 * (1 + math.cos(math.pi * epoch / epochs))
    )


def multi_step(
    initial: float, milestones: Sequence[int], factor: float = 0.1
) -> Callable[[int], float]:
    """Multiplies by `factor` at each milestone, an epoch counted from 0."""
    return lambda epoch: initial * factor ** sum(epoch >= m for m in milestones)


def at_same_shares(milestones: Sequence[int], whole: int, epochs: int) -> list[int]:
    """Moves milestones of a run of `whole` epochs to the same shares of another run.

    150, 225 and 300 of 350 epochs become 9, 13 and 17 of 20. A run of one epoch has
    no milestones, because the rate cannot drop within an epoch.
    """
    if epochs < 2:
        return []
    moved = (int(each * epochs / whole + 0.5) for each in milestones)
    return [min(max(each, 1), epochs - 1) for each in moved]


def check_milestones(name: str, milestones: Sequence[int], epochs: int) -> None:
    """Raises ValueError if a milestone is not an epoch from 1 to `epochs - 1`.

    Args:
      name: of the flag that holds the milestones, for the error.
      milestones: epochs, counted from 0.
      epochs: of the run.
    """
    wrong = [each for each in milestones if not 0 < each < epochs]
    if wrong:
        thirds = at_same_shares((1, 2), 3, epochs)
        given, never, better = (
            ",".join(map(str, each)) for each in (milestones, wrong, thirds)
        )
        raise ValueError(
            f"{name}={given} does not fit epochs={epochs}: no drop can come at "
            f"{never}, because epochs are counted from 0 and the last is {epochs - 1}. "
            f"Use e.g. {name}={better}, or change epochs."
        )


def exponential(initial: float, factor: float) -> Callable[[int], float]:
    """Multiplies by `factor` after every epoch."""
    return lambda epoch: initial * factor**epoch


def warmed_up(rate: Callable[[int], float], epochs: int) -> Callable[[int], float]:
    """Multiplies `rate` by 1/n, 2/n, ... in the first n = `epochs` epochs."""
    return lambda epoch: rate(epoch) * min(1.0, (epoch + 1) / max(1, epochs))


@tf.keras.utils.register_keras_serializable(package="cdnet_tf")
class ByEpoch(schedules.LearningRateSchedule):
    """A learning rate for each epoch, as the function of the step that Keras expects.

    The rates are a table of numbers that was computed in Python. Keras' piecewise
    constant schedule would put one condition per epoch into the graph.

    Args:
      rates: of each epoch; the last rate also holds in all later epochs.
      steps_per_epoch: at least 1.
    """

    def __init__(self, rates: Sequence[float], steps_per_epoch: int) -> None:
        self.rates = list(rates)
        self.steps_per_epoch = steps_per_epoch

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        epoch = tf.cast(step, tf.int32) // self.steps_per_epoch
        last = len(self.rates) - 1
        return tf.gather(tf.constant(self.rates, tf.float32), tf.minimum(epoch, last))

    def get_config(self) -> dict:
        return {"rates": self.rates, "steps_per_epoch": self.steps_per_epoch}


def by_epoch(
    rate: Callable[[int], float], epochs: int, steps_per_epoch: int
) -> ByEpoch:
    """Makes the schedule of a run from its rate as a function of the epoch, from 0."""
    return ByEpoch([rate(epoch) for epoch in range(epochs)], steps_per_epoch)
