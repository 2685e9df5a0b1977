"""Which genotypes of CDS are trained to learn about the space, and in which order.

Genotypes are drawn, from a seed, so that half of them have one depth: depth is the
first thing in which networks of the space differ, and what differs beyond depth shows
among networks of one depth alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from cdnet_tf.nn.genotype import CS, NUM_BLOCKS, Genotype, load

# The depth of half of the genotypes. Of the space's own, 31 % have it; it is CDNet's.
DEPTH = 9
_OTHER_DEPTHS = (8, 10, 7, 11, 6, 12)
PUBLISHED = ("cnet", "cdnet", "cdnet_v35")


class Run(NamedTuple):
    """A training of a plan."""

    genotype: Genotype
    seed: int
    epochs: int


def drawn(number: int, seed: int = 0) -> list[Genotype]:
    """Draws genotypes, every second one of depth 9, the others of all depths in turn.

    Of one depth every genotype is equally likely. None is drawn twice, and no published
    one. A longer list begins with the shorter one.

    Args:
      number: of genotypes.
      seed: of the draw, non-negative.
    """
    rng = np.random.default_rng(seed)
    others = itertools.cycle(_OTHER_DEPTHS)
    found: list[Genotype] = []
    taken = {load(name) for name in PUBLISHED}
    for i in range(number):
        depth = next(others) if i % 2 else DEPTH
        while (genotype := _of_depth(depth, rng)) in taken:
            pass
        taken.add(genotype)
        found.append(genotype)
    return found


def _of_depth(depth: int, rng: np.random.Generator) -> Genotype:
    doubled = rng.permutation(NUM_BLOCKS) < depth - NUM_BLOCKS
    kernels = rng.integers(len(CS), size=NUM_BLOCKS)
    return Genotype(
        tuple(CS[k]._replace(repeats=1 + int(d)) for k, d in zip(kernels, doubled))
    )


def pilot(epochs: Iterable[int]) -> list[Run]:
    """12 genotypes, 6 of them of depth 9, with 3 seeds; they belong to `bench`, too."""
    return of_genotypes(drawn(12), range(3), epochs)


def bench(epochs: Iterable[int]) -> list[Run]:
    """The published genotypes and 64 others; the first half of all with 2 seeds."""
    genotypes = [*map(load, PUBLISHED), *drawn(64)]
    twice = -(-len(genotypes) // 2)
    first = [range(2 if i < twice else 1) for i in range(len(genotypes))]
    return _in_passes(genotypes, first, epochs)


PLANS = {"pilot": pilot, "bench": bench}


def of_genotypes(
    genotypes: Iterable[Genotype], seeds: Sequence[int], epochs: Iterable[int]
) -> list[Run]:
    """Each of some genotypes with each of some seeds at each of some lengths."""
    genotypes = list(dict.fromkeys(genotypes))
    return _in_passes(genotypes, [seeds] * len(genotypes), epochs)


def _in_passes(
    genotypes: Sequence[Genotype],
    seeds: Sequence[Sequence[int]],
    epochs: Iterable[int],
) -> list[Run]:
    """One seed of all genotypes at the shortest length, the next seed, the next length.

    Wherever it is cut, what was trained can be compared.

    Args:
      genotypes: to train.
      seeds: of each of them.
      epochs: the lengths.
    """
    every = sorted({seed for own in seeds for seed in own})
    return [
        Run(genotype, seed, length)
        for length, seed in itertools.product(sorted(set(epochs)), every)
        for genotype, own in zip(genotypes, seeds)
        if seed in own
    ]
