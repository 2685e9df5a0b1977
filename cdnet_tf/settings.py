"""Values that decide how a training goes, with their defaults.

A program fills them from its flags, which have the same names; a notebook writes them
down. Neither this module nor any that takes the values may know of flags. A search has
more values, which are in `search_settings`.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from cdnet_tf.learn import devices, distributed, precision, schedules
from cdnet_tf.nn import genotype, networks, transfer

SCHEDULES = ("multi_step", "cosine", "exponential")
STEMS = ("reid", "cifar")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What a search and a training have in common.

    The defaults are those of the paper (section 4.2) and, where it is silent, of the
    authors' released code.

    Attributes:
      epochs: at least 1.
      seed: of everything that is drawn at random, non-negative.
      height, width: of the network's input, pixels; divisible by 16.
      width_multiplier: scales the channels of every layer.
      batch_size: images in a batch, P x K.
      images_per_id: K, the images of one identity in a batch.
      random_erasing: probability that a part of a training image is erased, 0..1.
      crop_padding: pixels by which a training image may shift in each direction; by
        default 10 at height 256, and in proportion at other heights.
      momentum: of the weights' SGD.
      margin: of the triplet loss.
      dropout: rate before the triplet feature, 0..1.
      zero_init_residual: start with all CBlocks passing their input through; see
        `networks.zero_init_residual`.
      precision: a Keras policy, `float32`, `mixed_float16` or `mixed_bfloat16`, or
        `auto`, which measures whether bfloat16 is faster here; see `precision.of_run`.
      cache_mb: memory for decoded images; by default a quarter of what is free.
    """

    epochs: int = 240
    seed: int = 0
    height: int = 256
    width: int = 128
    width_multiplier: float = 1.0
    batch_size: int = 64
    images_per_id: int = 4
    random_erasing: float = 0.5
    crop_padding: int | None = None
    momentum: float = 0.9
    margin: float = 0.3
    dropout: float = 0.2
    zero_init_residual: bool = False
    precision: str = "float32"
    cache_mb: int | None = None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the network's input."""
        return self.height, self.width, 3

    def check_batch(self, replicas: int, has_classes: bool = False) -> None:
        """Raises ValueError unless every replica gets two whole identities or more."""
        images_per_id = 1 if has_classes else self.images_per_id
        devices.check_batch(self.batch_size, images_per_id, replicas)

    def policy(self, run_dir: pathlib.Path, strategy: tf.distribute.Strategy) -> str:
        """Returns the Keras policy of a run; see `precision.of_run`."""
        return precision.of_run(
            self.precision,
            run_dir,
            input_shape=self.input_shape,
            width_multiplier=self.width_multiplier,
            batch_size=self.batch_size // strategy.num_replicas_in_sync,
            workers=distributed.place(strategy)[1],
        )

    def batch_options(
        self, first_epoch: int = 0, has_classes: bool = False
    ) -> dict[str, Any]:
        """Returns the arguments that make the training batches.

        Args:
          first_epoch: the epoch at which the run begins or is resumed, from 0.
          has_classes: whether the data set shows classes instead of people.
        """
        options = {
            "seed": self.seed,
            "epochs": self.epochs,
            "first_epoch": first_epoch,
            "height": self.height,
            "width": self.width,
        }
        if has_classes:
            return {**options, "batch_size": self.batch_size}
        return {
            **options,
            "identities_per_batch": self.batch_size // self.images_per_id,
            "images_per_id": self.images_per_id,
            "erasing": self.random_erasing,
            "pad": self.crop_padding,
            "cache_bytes": None if self.cache_mb is None else self.cache_mb * 2**20,
        }

    def record(self) -> dict[str, Any]:
        """Returns the values that decide the result, for `run.json`."""
        values = dataclasses.asdict(self)
        del values["cache_mb"]
        return values


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings(RunSettings):
    """How a training goes; the defaults are those of the authors' released code.

    Attributes:
      genotype: a search's run directory, a genotype file, a name of
        `networks.NAMES`, or the branches themselves, `(3,5,1) (3,7,2) ...`.
      stem: first convolution, `reid` (7x7 /2 and pool) or `cifar` (3x3 /1).
      neck: one of `networks.NECKS` (Table 6).
      parts: stripes of the FNeck, 0 to 4 (Table 5).
      init_from: weights to start from, except the heads': a run directory, a .keras
        file, an .h5 file, or a name of `shipped.names()`.
      lr: peak learning rate.
      schedule: how the learning rate falls from epoch to epoch: `multi_step`, `cosine`
        or `exponential`.
      milestones: epochs at which the rate of `multi_step` drops; by default at 3/7,
        9/14 and 6/7 of the epochs.
      lr_decay: factor at each milestone, or after each epoch of `exponential`.
      lr_end: the learning rate at the end of `cosine`.
      lr_warmup_epochs: epochs at the start in which the learning rate rises linearly.
      l2: L2 penalty of all weights, added to the gradient.
      label_smoothing: of the softmax loss, 0..1.
      xla: compile the step with XLA.
    """

    genotype: str | pathlib.Path = "cdnet"
    stem: str = "reid"
    neck: str = "fbl"
    parts: int = 2
    init_from: str | None = None
    lr: float = 0.065
    schedule: str = "multi_step"
    milestones: tuple[int, ...] | None = None
    lr_decay: float = 0.1
    lr_end: float = 0.0
    lr_warmup_epochs: int = 0
    l2: float = 5e-4
    label_smoothing: float = 0.0
    xla: bool = False

    @property
    def drops(self) -> list[int]:
        """Epochs at which the learning rate of `multi_step` drops."""
        if self.milestones is None:
            return schedules.at_same_shares((150, 225, 300), 350, self.epochs)
        return [int(epoch) for epoch in self.milestones]

    def check(self) -> None:
        """Refuses values that do not fit each other, or that name a missing file.

        Raises:
          FileNotFoundError: the genotype's file or the weights of `init_from` are
            missing.
          ValueError: anything else is wrong.
        """
        check_known("schedule", self.schedule, SCHEDULES)
        check_known("neck", self.neck, tuple(networks.NECKS))
        check_known("stem", self.stem, STEMS)
        networks.check_input_shape(self.input_shape, self.stem)
        networks.scaled_channels(self.width_multiplier)
        if self.genotype not in networks.NAMES:
            genotype.load(self.genotype)
        if self.init_from:
            transfer.locate(self.init_from)
        if self.schedule == "multi_step":
            schedules.check_milestones("milestones", self.drops, self.epochs)

    def rate(self) -> Callable[[int], float]:
        """Returns the learning rate as a function of the epoch."""
        if self.schedule == "cosine":
            rate = schedules.cosine(self.epochs, self.lr, self.lr_end)
        elif self.schedule == "exponential":
            rate = schedules.exponential(self.lr, self.lr_decay)
        else:
            rate = schedules.multi_step(self.lr, self.drops, self.lr_decay)
        return schedules.warmed_up(rate, self.lr_warmup_epochs)


def check_known(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raises ValueError for a value that is not one of the known ones."""
    if value not in known:
        raise ValueError(f"{name}={value} is unknown; use one of {', '.join(known)}.")
