"""What a search strategy is given, and what it gives back."""

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
      directory: of its results.
      strategy: that distributes a step over devices or machines.
      restarts: see `distributed.guarded`.
      launched: `time.perf_counter()` when the search began.
    """

    directory: pathlib.Path
    strategy: tf.distribute.Strategy
    restarts: int
    launched: float


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search ends with.

    Attributes:
      genotype: of the network that it chose.
      report: a text for the user, how it came to that.
      record: what genotype.json says beside the genotype; JSON.
      width_multiplier: of the network; by default that of the search.
      front: the best networks of each cost; None of a search that looked for the best
        of all.
    """

    genotype: genotype.Genotype
    report: str
    record: dict[str, Any]
    width_multiplier: float | None = None
    front: Front | None = None
