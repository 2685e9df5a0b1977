"""Packed weights and the CBlock's functions; `mblock_test` checks their results."""

import math

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.nn import blocks
from cdnet_tf.supernet import branches, packing


@pytest.fixture(scope="module", params=[True, False], ids=["shortcut", "identity"])
def case(request):
    """Makes functions, features and rows: widths 8 -> 16 or 16 -> 16, m = 4."""
    shortcut = request.param
    c_in = 8 if shortcut else 16
    random = np.random.default_rng(0)
    sizes = [
        sum(map(math.prod, shapes.values()))
        for shapes in (
            packing.body_shapes(c_in, 16, shortcut),
            packing.lite_shapes(4),
        )
    ]
    # By hand: squeeze 4c + 8, restore 64 + 32, gate 4+1 + 4+4, shortcut 128 + 32;
    # a Lite 16 + 36 + 8.
    assert sizes == [4 * c_in + 8 + 96 + 13 + 160 * shortcut, 60]
    body, lites = (
        tf.constant(random.uniform(0.1, 0.5, (rows, size)), tf.float32)
        for rows, size in zip((1, 7), sizes)
    )
    x = tf.constant(random.normal(size=(2, 4, 3, c_in)), tf.float32)
    return branches.cblock_functions(shortcut, "float32"), x, body, lites


def test_structures_are_the_pairs_of_cs():
    assert branches.STRUCTURES == ((1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4))
    assert branches.IDENTITY == 6


@pytest.mark.parametrize("c_in", [16, 32])
def test_names_and_shapes_are_the_keras_blocks(c_in):
    x = tf.keras.Input((4, 4, c_in))
    model = tf.keras.Model(x, blocks.cblock(x, 32, (3, 5), "b"))
    body = packing.body_shapes(c_in, 32, c_in != 32)
    lite = packing.lite_shapes(8)
    packed = {}
    for shapes in (lambda s: s, packing.statistics_shapes):
        packed.update(shapes(body))
        for name in ("lite3_1", "lite5_1", "lite5_2"):
            packed.update({f"{name}/{k}": v for k, v in shapes(lite).items()})
    expected = {
        # Pointwise kernels are packed as matrices, without their 1 x 1.
        w.name[len("b/") : -len(":0")]: tuple(w.shape[2 * (w.shape[0] == 1) :])
        for w in model.weights
    }
    assert packed == expected


@pytest.mark.parametrize("count", [1, 2])
def test_unpack(count):
    shapes = {"kernel": (2, 3), "gamma": (2,), "beta": (1,)}
    rows = tf.reshape(tf.range(9.0 * count), (count, 9))
    found = packing.unpack(rows, shapes, count)
    assert len(found) == count
    for start, named in zip((0, 9), found):
        assert list(named) == list(shapes)
        kernel = [[start, start + 1, start + 2], [start + 3, start + 4, start + 5]]
        np.testing.assert_array_equal(named["kernel"], kernel)
        np.testing.assert_array_equal(named["gamma"], [start + 6, start + 7])
        np.testing.assert_array_equal(named["beta"], [start + 8])


def test_statistics_stand_beside_their_batch_normalisation():
    found = packing.statistics_shapes({"conv/kernel": (2, 3), "bn/gamma": (3,)})
    assert found == {"bn/moving_mean": (3,), "bn/moving_variance": (3,)}


@pytest.mark.parametrize("index", range(6))
def test_weights_need_not_be_differentiated(case, index):
    functions, x, body, lites = case
    lites = lites[: sum(branches.STRUCTURES[index])]
    result = functions.forward(index, x, body, lites, 16)
    assert result.y.shape == (2, 4, 3, 16)
    assert result.lite_statistics.shape == (len(lites), 2 * 4)
    dy = tf.random.stateless_normal(result.y.shape, (1, 2))
    arguments = index, dy, x, body, lites, result.kept
    whole = functions.backward(*arguments, learn_weights=True)
    (dx,) = functions.backward(*arguments, learn_weights=False)
    assert [g.shape for g in whole] == [x.shape, body.shape, lites.shape]
    assert all(np.abs(gradient).max() > 0 for gradient in whole)
    np.testing.assert_allclose(dx, whole[0], atol=1e-6)


def test_identity(case):
    functions, _, body, lites = case
    x = tf.random.stateless_normal((2, 4, 3, 16), (1, 2))
    nothing = body[:0], lites[:0]
    result = functions.forward(branches.IDENTITY, x, *nothing, 16)
    np.testing.assert_array_equal(result.y, x)
    assert tf.size(result.body_statistics) == tf.size(result.lite_statistics) == 0
    gradients = functions.backward(
        branches.IDENTITY, 2 * x, x, *nothing, result.kept, learn_weights=True
    )
    np.testing.assert_array_equal(gradients[0], 2 * x)
    assert [g.shape for g in gradients[1:]] == [nothing[0].shape, nothing[1].shape]
    y = functions.infer(branches.IDENTITY, x, *nothing, 16, *nothing)
    np.testing.assert_array_equal(y, x)


def test_traced_once(case):
    functions = case[0]
    shortcut = functions is branches.cblock_functions(True, "float32")
    assert functions is branches.cblock_functions(shortcut, "float32")
