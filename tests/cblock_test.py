"""The CBlock of named weights against the Keras block; `mblock_test` trains it."""

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.nn import blocks
from cdnet_tf.supernet import cblock, forward_backward


@pytest.mark.parametrize("c_in", [16, 32])
def test_equals_the_keras_block(c_in):
    inputs = tf.keras.Input((5, 3, c_in))
    model = tf.keras.Model(inputs, blocks.cblock(inputs, 32, (3, 7), "b"))
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.uniform(0.1, 0.5, weight.shape))
    weights = {w.name[len("b/") : -len(":0")]: w for w in model.weights}
    # Pointwise kernels are packed as matrices, without their 1 x 1.
    body = {
        name: tf.reshape(w, w.shape[-2:]) if w.shape.rank == 4 else w
        for name, w in weights.items()
        if not name.startswith("lite")
    }
    parts = "pointwise/kernel", "depthwise/depthwise_kernel", "bn/gamma", "bn/beta"
    lites = [
        {
            part: tf.reshape(w, w.shape[-2:]) if part == "pointwise/kernel" else w
            for part in parts
            for w in [weights[f"{lite}/{part}"]]
        }
        for lite in ("lite3_1", "lite7_1", "lite7_2", "lite7_3")
    ]
    norms = ["squeeze", "lite3_1", "lite7_1", "lite7_2", "lite7_3", "restore"]
    norms += ["shortcut"] * (c_in != 32)
    statistics = [
        (weights[f"{n}/bn/moving_mean"], weights[f"{n}/bn/moving_variance"])
        for n in norms
    ]
    x = tf.constant(random.normal(size=(2, 5, 3, c_in)), tf.float32)
    around = forward_backward.Inference([statistics[0], *statistics[5:]])
    within = forward_backward.Inference(statistics[1:5])

    def streams(h):
        return cblock.streams(within, (1, 3), h, body, lites)

    y = cblock.cblock(around, streams, x, tf.constant(32), body)
    np.testing.assert_allclose(y, model(x), rtol=1e-4)
