"""Costs as sums over branches, compared with counts of built networks."""

import numpy as np
import pytest

from cdnet_tf.nn import counting, genotype, networks
from cdnet_tf.supernet import costs


@pytest.mark.parametrize("space, neck", [(genotype.CS, "bl"), (genotype.CDS, "fbl")])
def test_costs_are_those_of_the_built_network(space, neck):
    options = {"input_shape": (64, 32, 3), "width_multiplier": 0.25, "neck": neck}
    model = costs.CostModel(space, **options)
    choice = np.random.default_rng(1).integers(len(space), size=6)
    found = genotype.Genotype(tuple(space[i] for i in choice))
    network = networks.build(found, **options)
    assert model(choice) == (counting.parameters(network), counting.macs(network))
    rest, blocks = model.parts
    of_blocks = [table[range(6), choice].sum() for table in blocks]
    assert (rest[0] + of_blocks[0], rest[1] + of_blocks[1]) == model(choice)
