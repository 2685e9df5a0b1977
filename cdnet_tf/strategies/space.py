"""The networks that a search may choose from, with their costs and its limits.

Every cost is a sum over the blocks, so the costs of all networks of the space, 3
million for CDS, are computed in a moment. No network is built or run here.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cdnet_tf.bench import fronts
from cdnet_tf.nn.genotype import NUM_BLOCKS, Branch, Genotype

Choice = tuple[int, ...]

# The costs of a network, and the flag that limits each.
COSTS = {"ms": "max_ms", "macs": "max_macs", "parameters": "max_params"}


class Network(NamedTuple):
    """A genotype, and its width multiplier."""

    genotype: Genotype
    width_multiplier: float

    def __str__(self) -> str:
        return f"x{self.width_multiplier:g} {self.genotype}"


class Sum(NamedTuple):
    """A cost or a score of networks that is a sum over their blocks.

    Attributes:
      rest: what all parts beside the blocks add.
      blocks: what each branch adds in each block, (6, n).
    """

    rest: float
    blocks: np.ndarray

    def of(self, branches: Sequence[Choice] | np.ndarray) -> np.ndarray:
        """Returns the sums of some networks: (m, 6) indices -> (m,)."""
        columns = [block[i] for block, i in zip(self.blocks, np.transpose(branches))]
        return self.rest + functools.reduce(np.add, columns)

    def of_all(self) -> np.ndarray:
        """Returns the sums of all networks, (n ** 6,); the last index runs fastest."""
        # Added in the order of `of`, so that both round alike and meet the same limits.
        return self.rest + functools.reduce(np.add.outer, self.blocks).ravel()


class Space:
    """The networks that a search may choose from.

    A choice is the index of each block's branch and, if there are several widths, the
    index of the width.

    Args:
      branches: the branches that each block may have.
      costs: for each width multiplier the `parameters`, the `macs` and, if there is a
        device, the `ms` of its networks.
      limits: the greatest allowed value of some of these costs.
    """

    def __init__(
        self,
        branches: Sequence[Branch],
        costs: Mapping[float, Mapping[str, Sum]],
        limits: Mapping[str, float] | None = None,
    ) -> None:
        self.branches = tuple(branches)
        self.widths = tuple(costs)
        self.limits = dict(limits or {})
        self._costs = tuple(costs.values())

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many values each index of a choice has."""
        of_blocks = (len(self.branches),) * NUM_BLOCKS
        return of_blocks if len(self.widths) == 1 else (*of_blocks, len(self.widths))

    @property
    def by(self) -> str:
        """The front's cost: `ms` if known, else the first limited one or `macs`."""
        known = "ms" in self._costs[0]
        return "ms" if known else next(iter(self.limits), "macs")

    @property
    def is_bounded(self) -> bool:
        """Whether cost matters to the search, beside the score."""
        return bool(self.limits) or "ms" in self._costs[0]

    def network(self, choice: Sequence[int]) -> Network:
        """Returns the network that a choice stands for."""
        layers = tuple(self.branches[i] for i in choice[:NUM_BLOCKS])
        return Network(Genotype(layers), self.widths[_width(choice)])

    def choice(self, network: Network) -> Choice:
        """Returns the choice that stands for a network.

        Raises:
          ValueError: the space has no such branch, or no such width.
        """
        branches = tuple(map(self.branches.index, network.genotype.layers))
        width = self.widths.index(network.width_multiplier)
        return branches if len(self.widths) == 1 else (*branches, width)

    def costs(self, choice: Sequence[int]) -> dict[str, float]:
        """Returns the costs by the names in `COSTS`; no `ms` if there is no device."""
        branches = np.array([choice[:NUM_BLOCKS]])
        sums = self._costs[_width(choice)]
        return {name: each.of(branches)[0].item() for name, each in sums.items()}

    def excess(self, choice: Sequence[int]) -> list[float]:
        """Returns cost / limit - 1 for each limit; 0 or less if the limit is kept."""
        costs = self.costs(choice)
        return [costs[name] / limit - 1 for name, limit in self.limits.items()]

    @functools.cached_property
    def number_within(self) -> int:
        """How many networks keep all limits."""
        return sum(map(len, self._places()))

    def check(self) -> None:
        """Raises a ValueError that names possible limits, if no network keeps these."""
        if self.number_within:
            return
        asked = ", ".join(
            f"{COSTS[name]}={limit:g}" for name, limit in self.limits.items()
        )
        least = ", ".join(
            f"{COSTS[name]} {_rounded_up(self._least(name))}" for name in self.limits
        )
        raise ValueError(
            f"No network of the space keeps {asked}. Within reach is {least}"
            f"{', each while the others are kept' if len(self.limits) > 1 else ''}; "
            "raise the limit, or allow a smaller width in width_multipliers."
        )

    def drawn(self, count: int, seed: int) -> list[Choice]:
        """Draws different networks evenly from all that keep the limits.

        Several widths take turns. A longer list of the same seed begins with the
        shorter one.

        Args:
          count: number of networks. If there are no more, all are returned, in a drawn
            order.
          seed: seed of the draw.
        """
        random = np.random.default_rng(seed)
        if self.limits or len(self.widths) > 1:
            orders = [random.permutation(each) for each in self._places()]
            turns = itertools.chain.from_iterable(itertools.zip_longest(*orders))
            places = (place for place in turns if place is not None)
            return [self._choice_at(each) for each in itertools.islice(places, count)]
        drawn: dict[Choice, None] = {}
        while len(drawn) < min(count, self.number_within):
            choice = random.integers(len(self.branches), size=NUM_BLOCKS)
            drawn[tuple(choice.tolist())] = None
        return list(drawn)

    def front(self, scores: Mapping[float, Sum]) -> list[tuple[Choice, float]]:
        """Returns the exact front of all networks that keep the limits, over `by`.

        Args:
          scores: scores of the networks, by width. A width without scores is left out.

        Returns:
          Choices and their scores, the cheapest first; the last has the highest score
          of all.
        """
        places, costs, found = [], [], []
        every = zip(self.widths, self._costs, self._places())
        for number, (width, sums, own) in enumerate(every):
            if width in scores:
                inside = own - number * len(self.branches) ** NUM_BLOCKS
                places.append(own)
                costs.append(sums[self.by].of_all()[inside])
                found.append(scores[width].of_all()[inside])
        place, cost, score = map(np.concatenate, (places, costs, found))
        best = fronts.pareto(cost, score)
        return [(self._choice_at(place[i]), score[i].item()) for i in best]

    def _places(self) -> list[np.ndarray]:
        """Returns which networks of each width keep the limits.

        Returns:
          (n,) places for each width, in a list of all networks. It has one width after
          the other, each in the order of `Sum.of_all`.
        """
        per_width = len(self.branches) ** NUM_BLOCKS
        return [
            i * per_width + np.flatnonzero(self._within(i))
            for i in range(len(self.widths))
        ]

    def _choice_at(self, place: int) -> Choice:
        shape = (len(self.widths), *[len(self.branches)] * NUM_BLOCKS)
        width, *branches = (int(i) for i in np.unravel_index(place, shape))
        return (*branches, width)[: len(self.sizes)]

    def _within(self, width: int, besides: str | None = None) -> np.ndarray:
        """Marks networks of a width that keep all limits but `besides`: (n ** 6,)."""
        within = np.ones(len(self.branches) ** NUM_BLOCKS, bool)
        for name, limit in self.limits.items():
            if name != besides:
                within &= self._costs[width][name].of_all() <= limit
        return within

    def _least(self, name: str) -> float:
        """Returns the least value of a cost among networks that keep the other limits.

        If no network keeps them, it is the least value in the space.
        """
        values = [sums[name].of_all().astype(float) for sums in self._costs]
        kept = [
            each[self._within(i, besides=name)].min(initial=math.inf)
            for i, each in enumerate(values)
        ]
        least = min(kept)
        return least if math.isfinite(least) else min(each.min() for each in values)


def _width(choice: Sequence[int]) -> int:
    return int(choice[NUM_BLOCKS]) if len(choice) > NUM_BLOCKS else 0


def _rounded_up(value: float) -> str:
    """Returns a limit that can be kept: the value, rounded up to three decimals."""
    return f"{math.ceil(value * 1000) / 1000:.12g}"
