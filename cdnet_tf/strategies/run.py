"""What a search strategy is told of its run, and what it returns."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import tensorflow as tf

from cdnet_tf.nn import genotype
from cdnet_tf.strategies.front import Front


@dataclasses.dataclass(frozen=True)
class Run:
    """Where and how a search runs.

    Attributes:
      directory: folder of its results.
      strategy: distributes a step over devices or machines.
      restarts: see `distributed.guarded`.
      launched: `time.perf_counter()` when the search began.
    """

    directory: pathlib.Path
    strategy: tf.distribute.Strategy
    restarts: int
    launched: float


@dataclasses.dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
      genotype: the chosen network's genotype.
      report: a text for the user about how it was chosen.
      record: more entries of genotype.json, ready for JSON.
      width_multiplier: its width multiplier; None for that of the search's settings.
      front: the networks that are the best for their cost; None if cost does not matter
        to the search.
    """

    genotype: genotype.Genotype
    report: str
    record: dict[str, Any]
    width_multiplier: float | None = None
    front: Front | None = None
