"""How single paths are drawn, and what a step on one of them moves."""

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.learn import optimizers, single_path
from cdnet_tf.nn import genotype
from cdnet_tf.supernet import supernet


def _draws(kind, steps, seed=0, branches=12):
    return np.stack(
        [
            single_path.draw(kind, 6, branches, tf.constant(i, tf.int64), seed)
            for i in range(steps)
        ]
    )[..., 0]  # (steps, 6)


def test_fair_draws_go_through_all_branches_of_each_block():
    drawn = _draws("fair", 36)
    for start in (0, 12, 24):
        rounds = np.sort(drawn[start : start + 12], axis=0)
        np.testing.assert_array_equal(rounds, np.tile(np.arange(12)[:, None], 6))
    # Neither blocks nor rounds share an order.
    assert len({tuple(block) for block in drawn[:12].T}) == 6
    assert (drawn[:12] != drawn[12:24]).any()


def test_uniform_draws_are_even_and_alone():
    drawn = _draws("uniform", 600, branches=4)
    for block in drawn.T:
        # 150 each is expected, with a standard deviation of 10.6.
        assert np.abs(np.bincount(block, minlength=4) - 150).max() < 50
    assert np.abs(np.corrcoef(drawn.T) - np.eye(6)).max() < 0.2


@pytest.mark.parametrize("kind", single_path.DRAWS)
def test_draws_depend_on_seed_and_step_alone(kind):
    first = _draws(kind, 5)
    np.testing.assert_array_equal(_draws(kind, 5), first)
    assert (_draws(kind, 5, seed=1) != first).any()


def test_unknown_draw():
    with pytest.raises(ValueError, match="draw='greedy' is unknown.*fair"):
        single_path.SinglePathTraining(None, "greedy")


def test_a_step_moves_one_path_and_not_alpha():
    net = supernet.Supernet(genotype.CS, 2, (64, 32, 3), 0.25, dropout=0.0)
    model = single_path.SinglePathTraining(net, "fair", seed=5)
    model.compile(optimizers.CoupledSGD(0.05, 0.9, 0.01))
    chosen = single_path.draw("fair", 6, 6, tf.constant(0, tf.int64), 5).numpy()
    alpha = net.alpha.numpy()
    before = [block.first.body_rows.numpy() for block in net.blocks]
    images = np.random.default_rng(0).normal(size=(8, 64, 32, 3)).astype("f")
    logs = model.train_step((tf.constant(images), tf.constant([0] * 4 + [1] * 4)))
    assert np.isfinite(logs["loss"])
    np.testing.assert_array_equal(net.alpha, alpha)
    np.testing.assert_array_equal(model.counts, np.eye(6)[chosen[:, 0]])
    for block, old, (branch,) in zip(net.blocks, before, chosen):
        moved = (block.first.body_rows.numpy() != old).any(axis=1)
        np.testing.assert_array_equal(moved, np.arange(6) == branch)
