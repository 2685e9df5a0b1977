"""Initial rows of a bank; `mblock_test` runs them."""

import numpy as np
import pytest

from cdnet_tf.nn import genotype
from cdnet_tf.supernet import bank

_LITES = [branch.lites for branch in genotype.CS]


def test_initial_weights_follow_the_seed_and_he():
    first, again = (bank.Bank(_LITES, 64, 256, seed=3) for _ in range(2))
    other = bank.Bank(_LITES, 64, 256, seed=4)
    for a, b, c in zip(first.variables, again.variables, other.variables):
        np.testing.assert_array_equal(a, b)
        assert not a.trainable or (a.numpy() != c.numpy()).any()
    values = first.unpacked(5)
    fan_ins = {"squeeze/conv": 64, "restore/conv": 64, "lite7_2/pointwise": 64}
    for name, fan_in in fan_ins.items():
        kernel = values[f"{name}/kernel"]
        assert kernel.std() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
    depthwise = values["lite9_4/depthwise/depthwise_kernel"]
    assert depthwise.std() == pytest.approx((2 / 9) ** 0.5, rel=0.15)
    assert (values["lite9_4/bn/gamma"] == 1).all()
    assert (values["lite9_4/bn/moving_variance"] == 1).all()
    assert (values["gate/fc1/bias"] == 0).all()
