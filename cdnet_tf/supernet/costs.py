"""Costs of the networks of a space, as sums over their branches, without a graph."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cdnet_tf.nn import counting, genotype, networks
from cdnet_tf.supernet import packing


class Costs(NamedTuple):
    """Costs of a network, or of a part of one; or of many, as arrays.

    Attributes:
      parameters: number of trainable parameters.
      macs: multiply-accumulates for one image, as `counting.macs` counts them.
    """

    parameters: int
    macs: int


class CostModel:
    """Costs of the networks of a space, exactly as `counting` counts them.

    Args:
      space: the branches of each block.
      input_shape: height and width divisible by 16, 3.
      width_multiplier: see `networks.scaled_channels`.
      **options: of the networks, see `networks.build`.
    """

    def __init__(
        self,
        space: Sequence[genotype.Branch],
        input_shape: tuple[int, int, int],
        width_multiplier: float = 1.0,
        **options,
    ) -> None:
        height, width, _ = input_shape
        widths = networks.block_channels(networks.scaled_channels(width_multiplier))
        # Blocks 1 and 2 see a quarter of the image's height, 3 and 4 an eighth ...
        positions = [height * width // 16 // 4 ** (i // 2) for i in range(len(widths))]
        self._blocks = np.array(
            [
                [_branch(branch, *channels, place) for branch in space]
                for channels, place in zip(widths, positions)
            ]
        )  # (6, n, 2)
        simple = genotype.Genotype((space[0],) * genotype.NUM_BLOCKS)
        network = networks.build(simple, input_shape, width_multiplier, **options)
        whole = np.array([counting.parameters(network), counting.macs(network)])
        self._rest = whole - self._blocks[:, 0].sum(0)

    def __call__(self, choice: Sequence[int]) -> Costs:
        """Returns the costs of a network, given as the index of each block's branch."""
        blocks = self._blocks[np.arange(len(self._blocks)), list(choice)]
        return Costs(*(self._rest + blocks.sum(0)).tolist())

    @property
    def parts(self) -> tuple[Costs, Costs]:
        """Costs of all that is no block; and of each branch of each block, (6, n)."""
        return Costs(*self._rest.tolist()), Costs(*np.moveaxis(self._blocks, -1, 0))


@functools.cache
def of_space(space: Sequence[genotype.Branch], **options) -> CostModel:
    """Returns the `CostModel` of these arguments, which is made once in a process."""
    return CostModel(space, **options)


def _branch(
    branch: genotype.Branch, c_in: int, c_out: int, positions: int
) -> tuple[int, int]:
    """Returns parameters and multiply-accumulates of a CDBlock."""
    inputs = [c_in, c_out][: branch.repeats]
    each = [_cblock(branch.lites, c, c_out, positions) for c in inputs]
    parameters, macs = zip(*each)
    return sum(parameters), sum(macs)


def _cblock(
    lites: tuple[int, int], c_in: int, c_out: int, positions: int
) -> tuple[int, int]:
    body = packing.body_shapes(c_in, c_out, c_in != c_out)
    lite = packing.lite_shapes(c_out // 4)
    sizes = {name: math.prod(shape) for name, shape in body.items()}
    gates = sum(size for name, size in sizes.items() if name.startswith("gate"))
    # Both streams share the gate, which runs on one pooled position of each stream.
    macs = 2 * gates + positions * (
        sum(size for name, size in sizes.items() if name.endswith("conv/kernel"))
        + sum(lites) * sum(math.prod(s) for n, s in lite.items() if "kernel" in n)
    )
    of_lites = sum(lites) * sum(map(math.prod, lite.values()))
    return sum(sizes.values()) + of_lites, macs
