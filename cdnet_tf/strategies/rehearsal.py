"""Rehearses searches in a table of trainings, which takes seconds instead of days.

A rehearsed search sees the select mAP of one seed of each network that it "trains". Its
choice counts for the mean test mAP of that network's other seeds, because the test mAP
of the same training would share its luck.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cdnet_tf.bench import agreement, table
from cdnet_tf.nn.genotype import Genotype
from cdnet_tf.strategies import ridge

_SEARCHES = 1000  # rehearsals of each kind
_DRAWS, _SEARCHES_OF_DRAW = 200, 50  # of the bootstrap
_MOST_TRAININGS = (8, 16)
_NAME, _CELL = 28, 26  # widths of the report's columns


class Pool(NamedTuple):
    """The networks that a rehearsed search may choose from: g, with s seeds.

    Attributes:
      genotypes: g genotypes.
      macs: multiply-accumulates, (g,).
      select, test: mAP in %, (g, s); NaN if a network lacks a seed.
    """

    genotypes: list[Genotype]
    macs: np.ndarray
    select: np.ndarray
    test: np.ndarray

    def take(self, places: Sequence[int]) -> Pool:
        """Returns a pool of some of the networks, each as often as it is named."""
        genotypes = [self.genotypes[i] for i in places]
        return Pool(genotypes, *(each[places] for each in self[1:]))


# Chooses a network from a pool, given the select mAP that each would show, (g,).
Chooser = Callable[[Pool, np.ndarray, np.random.Generator], int]


def pool_of(entries: Sequence[table.Entry]) -> Pool:
    """Returns the networks of a table that were trained with two seeds or more.

    Args:
      entries: trained under the same conditions.

    Raises:
      ValueError: there are not enough such networks.
    """
    genotypes, select = table.matrix(entries, "select_mAP")
    macs = np.array(list(table.means(entries, "macs").values()))
    everyone = Pool(genotypes, macs, select, table.matrix(entries)[1])
    places = np.flatnonzero((~np.isnan(select)).sum(axis=1) > 1)
    if len(places) < max(_MOST_TRAININGS):
        raise ValueError(
            f"{len(places)} networks of the table have two seeds, and rehearsals need "
            f"{max(_MOST_TRAININGS)} such networks; train second seeds with "
            "tools/bench_space.py."
        )
    return everyone.take(places.tolist())


def _cheapest(pool: Pool, seen: np.ndarray, random: np.random.Generator) -> int:
    return int(pool.macs.argmin())


def _random_search(trainings: int) -> Chooser:
    def choose(pool: Pool, seen: np.ndarray, random: np.random.Generator) -> int:
        drawn = random.permutation(len(seen))[:trainings]
        return int(drawn[seen[drawn].argmax()])

    return choose


def _regression(trainings: int) -> Chooser:
    def choose(pool: Pool, seen: np.ndarray, random: np.random.Generator) -> int:
        drawn = random.permutation(len(seen))[:trainings]
        fitted = ridge.Ridge([pool.genotypes[i] for i in drawn], seen[drawn])
        return int(fitted.predict(pool.genotypes).argmax())

    return choose


KINDS: dict[str, Chooser] = {"the fewest MACs": _cheapest}
for _number in _MOST_TRAININGS:
    KINDS[f"random, {_number} trainings"] = _random_search(_number)
    KINDS[f"regression, {_number} trainings"] = _regression(_number)


def worth(pool: Pool, choose: Chooser, searches: int, seed: int = 0) -> np.ndarray:
    """Rehearses searches of one kind.

    Args:
      pool: the networks to choose from.
      choose: the kind of search, such as one of `KINDS`.
      searches: number of searches.
      seed: seed of all that is drawn.

    Returns:
      (searches,): the test mAP, in %, of the network that each search has chosen, in
      trainings that the search has not seen.
    """
    random = np.random.default_rng(seed)
    return np.array([_one(pool, choose, random) for _ in range(searches)])


def _one(pool: Pool, choose: Chooser, random: np.random.Generator) -> float:
    luck = np.where(np.isnan(pool.select), -1.0, random.random(pool.select.shape))
    shown = luck.argmax(axis=1)[:, np.newaxis]  # one of each network's own seeds
    seen = np.take_along_axis(pool.select, shown, axis=1)[:, 0]
    chosen = choose(pool, seen, random)
    return float(np.nanmean(np.delete(pool.test[chosen], shown[chosen])))


def report(entries: Sequence[table.Entry]) -> str:
    """Returns a text table of what each kind of search gains over a blind draw.

    A gain is in points of test mAP, with its 95 % interval by a bootstrap over the
    networks. Beside it stands by how much single searches of this kind differ.

    Arguments and errors are those of `pool_of`.
    """
    pool = pool_of(entries)
    lines = [
        f"Searches among {len(pool.genotypes)} networks. A blind draw has "
        f"{_blind(pool):.2f} % test mAP, and a choice gains:",
        f"{'':<{_NAME}}{'gain (95 % interval)':>{_CELL}}{'sd of searches':>{_CELL}}",
    ]
    for name, choose in KINDS.items():
        found = worth(pool, choose, _SEARCHES)
        ends = _ends(pool, choose)
        gain = agreement.Estimate(float(found.mean()) - _blind(pool), *ends)
        lines.append(f"{name:<{_NAME}}{gain.text():>{_CELL}}{found.std():>{_CELL}.2f}")
    return "\n".join(lines)


def _ends(pool: Pool, choose: Chooser) -> tuple[float, float]:
    """Returns the ends of the gain's interval, from fewer searches in each draw."""

    def gain(places: np.ndarray) -> float:
        own = pool.take(places.tolist())
        return float(worth(own, choose, _SEARCHES_OF_DRAW).mean()) - _blind(own)

    everyone = np.arange(len(pool.genotypes))
    return agreement.estimate(gain, everyone, draws=_DRAWS)[1:]


def _blind(pool: Pool) -> float:
    return float(np.nanmean(np.nanmean(pool.test, axis=1)))
