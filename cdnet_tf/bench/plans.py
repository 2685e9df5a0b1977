"""Plans which genotypes of CDS are trained to learn about the space, in which order.

Genotypes are drawn from a seed, and half of them have the same depth. Networks of the
space differ most by their depth, so that other differences show only among networks of
the same depth.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from cdnet_tf.nn.genotype import CS, NUM_BLOCKS, Genotype, load

# The depth of half of the genotypes. It is CDNet's, and that of 31 % of the space.
DEPTH = 9
_OTHER_DEPTHS = (8, 10, 7, 11, 6, 12)
PUBLISHED = ("cnet", "cdnet", "cdnet_v35")


class Run(NamedTuple):
    """A training of a plan."""

    genotype: Genotype
    seed: int
    epochs: int


def drawn(number: int, seed: int = 0) -> list[Genotype]:
    """Draws genotypes: every second one has depth 9, the others other depths in turn.

    All genotypes of a depth are equally likely. None is drawn twice, and no published
    genotype is drawn. A longer list begins with the shorter one.

    Args:
      number: how many genotypes to draw.
      seed: seed of the draw, non-negative.
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
    """Plans 12 genotypes of `bench`, 6 of them of depth 9, with 3 seeds."""
    return of_genotypes(drawn(12), range(3), epochs)


def bench(epochs: Iterable[int]) -> list[Run]:
    """Plans the published genotypes and 64 others, the first half with 2 seeds."""
    genotypes = [*map(load, PUBLISHED), *drawn(64)]
    twice = -(-len(genotypes) // 2)
    first = [range(2 if i < twice else 1) for i in range(len(genotypes))]
    return _in_passes(genotypes, first, epochs)


PLANS = {"pilot": pilot, "bench": bench}


def of_genotypes(
    genotypes: Iterable[Genotype], seeds: Sequence[int], epochs: Iterable[int]
) -> list[Run]:
    """Plans each of the genotypes with each seed and each number of epochs."""
    genotypes = list(dict.fromkeys(genotypes))
    return _in_passes(genotypes, [seeds] * len(genotypes), epochs)


def _in_passes(
    genotypes: Sequence[Genotype],
    seeds: Sequence[Sequence[int]],
    epochs: Iterable[int],
) -> list[Run]:
    """Orders trainings by length, then by seed, then by genotype.

    So the finished trainings can be compared with each other at any time.

    Args:
      genotypes: genotypes to train.
      seeds: the seeds of each genotype.
      epochs: lengths of the trainings.
    """
    every = sorted({seed for own in seeds for seed in own})
    return [
        Run(genotype, seed, length)
        for length, seed in itertools.product(sorted(set(epochs)), every)
        for genotype, own in zip(genotypes, seeds)
        if seed in own
    ]
