"""What a search strategy is given, and what it gives back."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import tensorflow as tf

from cdnet_tf.nn import genotype


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
    """

    genotype: genotype.Genotype
    report: str
    record: dict[str, Any]
