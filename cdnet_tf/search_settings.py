"""Values that decide how a search goes, with their defaults.

As in `settings`, a program fills them from its flags, which have the same names, and
neither this module nor any that takes the values may know of flags.
"""

from __future__ import annotations

import dataclasses

from cdnet_tf import settings
from cdnet_tf.deploy import latency
from cdnet_tf.learn import bilevel, schedules, single_path
from cdnet_tf.nn import genotype, networks
from cdnet_tf.supernet import sharing

SEARCH_STRATEGIES = (
    *("top_k", "single_path", "random", "halving", "regression"),
    "table",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchSettings(settings.RunSettings):
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
      table: CSV file of trainings that `table` predicts from; the package's by default.
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
    table: str | None = None
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
        if self.select_identities is not None:
            return self.select_identities
        has_none = self.search_strategy in ("top_k", "table")
        return 0 if has_none else max(2, identities // 5)

    @property
    def network_options(self) -> dict:
        """Input shape and width of all networks of the space."""
        return {
            "input_shape": self.input_shape,
            "width_multiplier": self.width_multiplier,
        }

    def check(self) -> None:
        """Raises ValueError for values that do not fit each other."""
        settings.check_known("space", self.space, tuple(genotype.SPACES))
        settings.check_known("search_strategy", self.search_strategy, SEARCH_STRATEGIES)
        settings.check_known("draw", self.draw, single_path.DRAWS)
        settings.check_known("shared", self.shared, sharing.SHARING)
        if self.search_strategy == "top_k" and self.shared != "branch":
            raise ValueError(
                f"shared={self.shared}: search_strategy=top_k needs branches that have "
                "weights of their own; leave it out, or use single_path."
            )
        settings.check_known("exploration", self.exploration, bilevel.Exploration.KINDS)
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
