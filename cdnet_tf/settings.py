"""Values that decide how a search or a training goes, with their defaults.

A program fills them from its flags, which have the same names; a notebook writes them
down. Neither this module nor any that takes the values may know of flags.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from cdnet_tf.deploy import latency
from cdnet_tf.learn import (
    bilevel,
    devices,
    distributed,
    precision,
    schedules,
    single_path,
)
from cdnet_tf.nn import genotype, networks, transfer
from cdnet_tf.supernet import sharing

SCHEDULES = ("multi_step", "cosine", "exponential")
STEMS = ("reid", "cifar")
SEARCH_STRATEGIES = ("top_k", "single_path", "random", "halving", "regression")


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
class SearchSettings(RunSettings):
    """How a search goes; the defaults are those of the authors' released code.

    Attributes:
      space: `cs`, 6 branches a block, or `cds`, 12.
      search_strategy: one of `SEARCH_STRATEGIES`; docs/search.md says what they do.
      select_identities: how many people of the training split are kept back to compare
        networks on; no weight learns from them. By default a fifth; none for `top_k`.
      top_k: how many branches of each block run in a step, 1 to 6 or 12, or `all`.
      exploration: how a step's branches are chosen, see `bilevel.Exploration`.
      temperature: strength of `gumbel`'s noise at the start; it falls to 0.
      warmup_epochs: epochs of `uniform_warmup` in which alpha does not learn.
      draw: how `single_path` draws a step's branches, see `single_path.draw`.
      shared: the weights that the branches of a block share in `single_path`, one of
        `sharing.SHARING`; `top_k` shares nothing.
      population, generations: of the evolution that follows `single_path`.
      candidates: how many networks `random`, `halving` and `regression` train.
      device: a name of `latency.names()`, or a file of tools/measure_latency.py. Where
        there is one, or a limit, a search looks for the best network of each cost.
      max_ms, max_macs, max_params: limits that every network keeps that is compared.
      width_multipliers: of the networks, one more thing to choose; by default
        `width_multiplier` alone.
      w_lr, w_lr_end: learning rate of the weights, at both ends of a cosine.
      w_lr_warmup_epochs: epochs at the start in which it rises linearly.
      w_l2: L2 penalty of the weights, added to their gradient.
      alpha_lr: learning rate of alpha (Adam).
      alpha_milestones: epochs at which `alpha_lr` drops to a tenth; by default after a
        third and two thirds of the epochs.
      alpha_l2: L2 penalty of alpha, added to its gradient.
    """

    space: str = "cds"
    search_strategy: str = "top_k"
    select_identities: int | None = None
    top_k: int | str = 2
    exploration: str = "none"
    temperature: float = 1.0
    warmup_epochs: int = 20
    draw: str = "fair"
    shared: str = "branch"
    population: int = 50
    generations: int = 20
    candidates: int = 32
    device: str | None = None
    max_ms: float | None = None
    max_macs: int | None = None
    max_params: int | None = None
    width_multipliers: tuple[float, ...] | None = None
    w_lr: float = 0.025
    w_lr_end: float = 1e-4
    w_lr_warmup_epochs: int = 0
    w_l2: float = 3e-4
    alpha_lr: float = 3e-4
    alpha_milestones: tuple[int, ...] | None = None
    alpha_l2: float = 1e-3

    @property
    def branches(self) -> tuple[genotype.Branch, ...]:
        """The branches of each block."""
        return genotype.SPACES[self.space]

    @property
    def chosen(self) -> int:
        """How many branches of each block run in a step."""
        return len(self.branches) if self.top_k == "all" else int(self.top_k)

    @property
    def milestones(self) -> list[int]:
        """Epochs at which alpha's learning rate drops."""
        if self.alpha_milestones is None:
            return schedules.at_same_shares((80, 160), 240, self.epochs)
        return [int(epoch) for epoch in self.alpha_milestones]

    @property
    def widths(self) -> tuple[float, ...]:
        """Width multipliers that a network may have, in ascending order."""
        if self.width_multipliers is None:
            return (self.width_multiplier,)
        try:
            return tuple(sorted({float(width) for width in self.width_multipliers}))
        except ValueError as error:
            raise ValueError(
                f"width_multipliers={','.join(map(str, self.width_multipliers))}: use "
                "numbers, as in 0.25,0.5."
            ) from error

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, by the names of their costs."""
        named = {"ms": self.max_ms, "macs": self.max_macs}
        named["parameters"] = self.max_params
        return {name: limit for name, limit in named.items() if limit is not None}

    def people_to_select_on(self, identities: int) -> int:
        """How many people of a training split of `identities` people are kept back."""
        if self.select_identities is None:
            return 0 if self.search_strategy == "top_k" else max(2, identities // 5)
        return self.select_identities

    @property
    def network_options(self) -> dict:
        """Input shape and width of all networks of the space."""
        return {
            "input_shape": self.input_shape,
            "width_multiplier": self.width_multiplier,
        }

    def check(self) -> None:
        """Raises ValueError for values that do not fit each other."""
        _check_known("space", self.space, tuple(genotype.SPACES))
        _check_known("search_strategy", self.search_strategy, SEARCH_STRATEGIES)
        _check_known("draw", self.draw, single_path.DRAWS)
        _check_known("shared", self.shared, sharing.SHARING)
        if self.search_strategy == "top_k" and self.shared != "branch":
            raise ValueError(
                f"shared={self.shared}: search_strategy=top_k needs branches that have "
                "weights of their own; leave it out, or use single_path."
            )
        _check_known("exploration", self.exploration, bilevel.Exploration.KINDS)
        self._check_people()
        self._check_limits()
        networks.check_input_shape(self.input_shape, "reid")
        networks.scaled_channels(self.width_multiplier)
        bilevel.check_top_k(self.chosen, self.branches)
        schedules.check_milestones("alpha_milestones", self.milestones, self.epochs)
        if self.exploration == "uniform_warmup" and self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs={self.warmup_epochs} leaves alpha no epoch of epochs="
                f"{self.epochs} to learn in; lower it, or choose another exploration."
            )

    def _check_limits(self) -> None:
        names = "device", "max_ms", "max_macs", "max_params", "width_multipliers"
        given = [name for name in names if getattr(self, name) is not None]
        if self.search_strategy == "top_k" and given:
            others = ", ".join(SEARCH_STRATEGIES[1:])
            raise ValueError(
                f"{given[0]}={getattr(self, given[0])}: the paper's rule follows the "
                "gradient of alpha, which knows of no cost and of one width; use "
                f"search_strategy={others}, or leave {given[0]} out."
            )
        if self.max_ms is not None and self.device is None:
            raise ValueError(
                f"max_ms={self.max_ms:g} says milliseconds, but not on which device; "
                f"add device={latency.names()[0]}, or a file of "
                "tools/measure_latency.py."
            )
        for width in self.widths:
            networks.scaled_channels(width)

    def _check_people(self) -> None:
        if self.search_strategy != "top_k" and self.select_identities == 0:
            raise ValueError(
                f"search_strategy={self.search_strategy} compares networks on people "
                "whom no weight has learnt from, and select_identities=0 leaves none; "
                "leave it out, which takes a fifth of them."
            )


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
        _check_known("schedule", self.schedule, SCHEDULES)
        _check_known("neck", self.neck, tuple(networks.NECKS))
        _check_known("stem", self.stem, STEMS)
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


def _check_known(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name}={value} is unknown; use one of {', '.join(known)}.")
