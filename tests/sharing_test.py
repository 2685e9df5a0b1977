"""The rows of candidates, and that shared rows are the same."""

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.nn import genotype
from cdnet_tf.supernet import bank, mblock, sharing

_LITES = [branch.lites for branch in genotype.CDS]  # (1, 2), (1, 3), ...


def test_nothing_is_shared():
    rows = sharing.rows(_LITES, "branch")
    assert rows.body == tuple(range(12))
    assert [len(own) for own in rows.lites] == [sum(pair) for pair in _LITES]
    everyone = [row for own in rows.lites for row in own]
    assert everyone == list(range(len(everyone)))
    assert rows.counts == (12, len(everyone))


def test_the_body_is_shared():
    rows = sharing.rows(_LITES, "body")
    assert rows.body == (0,) * 12
    assert rows.lites == sharing.rows(_LITES, "branch").lites


def test_short_streams_are_the_beginning_of_long_ones():
    rows = sharing.rows(_LITES, "nested")
    assert rows.counts == (1, 3 + 4)
    for (first, second), own in zip(_LITES, rows.lites):
        assert own == (0, 1, 2)[:first] + (3, 4, 5, 6)[:second]


def test_unknown():
    with pytest.raises(ValueError, match="sharing='all' is unknown.*nested"):
        sharing.rows(_LITES, "all")


@pytest.mark.parametrize("shared", sharing.SHARING)
def test_candidates_have_the_same_layers_where_they_share(shared):
    rows = bank.Bank(_LITES, 16, 16, shared=shared)
    short, long = rows.unpacked(0), rows.unpacked(5)  # (3,5) and (7,9)
    body, lite = "squeeze/conv/kernel", "{}/pointwise/kernel"
    assert np.array_equal(short[body], long[body]) == (shared != "branch")
    for ours, theirs in (("lite3_1", "lite7_1"), ("lite5_2", "lite9_2")):
        ours, theirs = short[lite.format(ours)], long[lite.format(theirs)]
        assert np.array_equal(ours, theirs) == (shared == "nested")
    ours, theirs = long[lite.format("lite7_1")], long[lite.format("lite9_1")]
    assert not np.array_equal(ours, theirs)


def test_a_step_of_one_branch_moves_what_others_share_with_it():
    block = mblock.MBlock(genotype.CDS, 16, 32, shared="nested")
    x = tf.random.stateless_normal((2, 8, 4, 16), (0, 1))

    def run(branch, training=False):
        return block(x, tf.constant([branch]), training=training)

    before = {branch: run(branch).numpy() for branch in (0, 5, 11)}
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(run(5, training=True) ** 2)
    variables = block.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(loss, variables)):
        if gradient is not None:
            variable.assign_sub(1e-3 * tf.convert_to_tensor(gradient))
    for branch, y in before.items():
        assert np.abs(run(branch).numpy() - y).max() > 1e-4
