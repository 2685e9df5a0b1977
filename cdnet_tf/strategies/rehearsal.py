"""Rehearses searches in a table of trainings, which takes minutes instead of days.

A rehearsed search sees the select mAP of one seed of each network that it "trains".
What it chooses counts for the mean test mAP of the network's other seeds, because the
test mAP of the same training would share its luck.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cdnet_tf.bench import agreement, fronts, table
from cdnet_tf.nn.genotype import Genotype
from cdnet_tf.strategies import ridge

_SEARCHES = 1000  # rehearsals of each kind
_DRAWS, _SEARCHES_OF_DRAW = 200, 50  # of the bootstrap
_MOST_TRAININGS = (8, 16)
_NAME, _CELL = 26, 28  # widths of the report's columns


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


class Scored(NamedTuple):
    """What a search knows at its end.

    Attributes:
      places: the networks of the pool that it could score, (n,) indices.
      scores: the score of each, (n,); higher is better.
    """

    places: np.ndarray
    scores: np.ndarray


# Scores networks of a pool, given the select mAP that each would show, (g,).
Search = Callable[[Pool, np.ndarray, np.random.Generator], Scored]


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


def _cheapest(pool: Pool, seen: np.ndarray, random: np.random.Generator) -> Scored:
    return Scored(np.array([pool.macs.argmin()]), np.zeros(1))


def _random_search(trainings: int) -> Search:
    def search(pool: Pool, seen: np.ndarray, random: np.random.Generator) -> Scored:
        drawn = random.permutation(len(seen))[:trainings]
        return Scored(drawn, seen[drawn])

    return search


def _regression(trainings: int) -> Search:
    def search(pool: Pool, seen: np.ndarray, random: np.random.Generator) -> Scored:
        drawn = random.permutation(len(seen))[:trainings]
        fitted = ridge.Ridge([pool.genotypes[i] for i in drawn], seen[drawn])
        return Scored(np.arange(len(seen)), fitted.predict(pool.genotypes))

    return search


class Kind(NamedTuple):
    """A kind of search.

    Attributes:
      search: the search.
      rival: the kind with which its fronts are compared; None for a random search.
    """

    search: Search
    rival: str | None = None


KINDS = {"the fewest MACs": Kind(_cheapest, f"random, {_MOST_TRAININGS[0]} trainings")}
for _number in _MOST_TRAININGS:
    _name = f"random, {_number} trainings"
    KINDS[_name] = Kind(_random_search(_number))
    KINDS[f"regression, {_number} trainings"] = Kind(_regression(_number), _name)


class Worth(NamedTuple):
    """What searches of one kind have found, in trainings that they have not seen.

    Attributes:
      best: test mAP, in %, of the network with the highest score, (searches,).
      areas: hypervolume of the front of score and cost, in million multiply-accumulates
        times points of test mAP, (searches,). It reaches to the most
        multiply-accumulates and to the least mean test mAP in the pool.
    """

    best: np.ndarray
    areas: np.ndarray


def worth(pool: Pool, search: Search, searches: int, seed: int = 0) -> Worth:
    """Rehearses searches of one kind.

    Args:
      pool: the networks to choose from.
      search: the kind of search, such as that of one of `KINDS`.
      searches: number of searches.
      seed: seed of all that is drawn.
    """
    random = np.random.default_rng(seed)
    found = [_one(pool, search, random) for _ in range(searches)]
    return Worth(*np.transpose(found))


def _one(
    pool: Pool, search: Search, random: np.random.Generator
) -> tuple[float, float]:
    luck = np.where(np.isnan(pool.select), -1.0, random.random(pool.select.shape))
    shown = luck.argmax(axis=1)[:, np.newaxis]  # one of each network's own seeds
    seen = np.take_along_axis(pool.select, shown, axis=1)[:, 0]
    unseen = pool.test.copy()
    np.put_along_axis(unseen, shown, np.nan, axis=1)
    places, scores = search(pool, seen, random)
    front = places[fronts.pareto(pool.macs[places], scores)]
    area = fronts.hypervolume(
        pool.macs[front] / 1e6,
        np.nanmean(unseen[front], axis=1),
        worst_cost=pool.macs.max() / 1e6,
        worst_score=np.nanmean(pool.test, axis=1).min(),
    )
    return float(np.nanmean(unseen[places[scores.argmax()]])), area


def report(entries: Sequence[table.Entry]) -> str:
    """Returns two text tables: what each kind of search finds without, and with, costs.

    The first has the gain over a blind draw, in points of test mAP, and by how much
    single searches differ. The second has the hypervolume of each kind's front, and by
    how much it exceeds that of random search with as many trainings, or with the fewest
    where nothing is trained. Intervals are of 95 %, by a bootstrap over the networks.

    Arguments and errors are those of `pool_of`.
    """
    pool = pool_of(entries)
    best = [
        f"Searches among {len(pool.genotypes)} networks. A blind draw has "
        f"{_blind(pool):.2f} % test mAP, and a choice gains:",
        f"{'':<{_NAME}}{'gain (95 % interval)':>{_CELL}}{'sd of searches':>{_CELL}}",
    ]
    areas = [
        "Fronts of mAP and cost: hypervolume, in million MACs times points.",
        f"{'':<{_NAME}}{'area':>{_CELL}}{'more than random':>{_CELL}}",
    ]
    found = {name: worth(pool, kind.search, _SEARCHES) for name, kind in KINDS.items()}
    for name, (search, rival) in KINDS.items():
        own = found[name]
        gain = _text(own.best.mean() - _blind(pool), _ends(pool, _gain_of(search)))
        best.append(f"{name:<{_NAME}}{gain:>{_CELL}}{own.best.std():>{_CELL}.2f}")
        line = f"{name:<{_NAME}}{own.areas.mean():>{_CELL}.1f}"
        if rival:
            more = own.areas.mean() - found[rival].areas.mean()
            ends = _ends(pool, _more_of(search, KINDS[rival].search))
            line += f"{_text(more, ends):>{_CELL}}"
        areas.append(line)
    return "\n".join([*best, "", *areas])


def _gain_of(search: Search) -> Callable[[Pool], float]:
    return lambda own: worth(own, search, _SEARCHES_OF_DRAW).best.mean() - _blind(own)


def _more_of(search: Search, rival: Search) -> Callable[[Pool], float]:
    def more(own: Pool) -> float:
        first = worth(own, search, _SEARCHES_OF_DRAW).areas
        return first.mean() - worth(own, rival, _SEARCHES_OF_DRAW).areas.mean()

    return more


def _ends(pool: Pool, statistic: Callable[[Pool], float]) -> tuple[float, float]:
    """Returns the ends of a statistic's interval, from fewer searches in each draw."""
    everyone = np.arange(len(pool.genotypes))

    def of_drawn(places: np.ndarray) -> float:
        return float(statistic(pool.take(places.tolist())))

    return agreement.estimate(of_drawn, everyone, draws=_DRAWS)[1:]


def _text(value: float, ends: tuple[float, float]) -> str:
    return agreement.Estimate(float(value), *ends).text()


def _blind(pool: Pool) -> float:
    return float(np.nanmean(np.nanmean(pool.test, axis=1)))
