"""Learning rates by epoch. Every schedule changes between epochs, never within one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tensorflow.keras.optimizers import schedules


def cosine(epochs: int, initial: float, final: float) -> Callable[[int], float]:
    """Half a cosine wave from `initial` at epoch 0 towards `final` at `epochs`."""
    return lambda epoch: (
        final + (initial - final) / 2 * (1 + math.cos(math.pi * epoch / epochs))
    )


def multi_step(
    initial: float, milestones: Sequence[int], factor: float = 0.1
) -> Callable[[int], float]:
    """Multiplies by `factor` at each milestone, an epoch counted from 0."""
    return lambda epoch: initial * factor ** sum(epoch >= m for m in milestones)


def by_epoch(
    rate: Callable[[int], float], epochs: int, steps_per_epoch: int
) -> schedules.LearningRateSchedule:
    """A Keras schedule, per step, of a rate per epoch.

    A table, so that the rate of every epoch is computed once and in Python.
    """
    rates = [rate(epoch) for epoch in range(epochs)]
    boundaries = [epoch * steps_per_epoch - 1 for epoch in range(1, epochs)]
    return schedules.PiecewiseConstantDecay(boundaries, rates)
