"""The tool that shows how large gradients are along a network."""

import tensorflow as tf

from cdnet_tf.learn import training
from cdnet_tf.nn import genotype, networks
from tools import gradient_scales


def test_with_zero_init_residual_gradients_take_the_shortcuts():
    tf.keras.utils.set_random_seed(0)
    shallow = genotype.Genotype((genotype.CS[0],) * 6)
    network = networks.build(shallow, (64, 32, 3), 0.25, num_classes=2, dropout=0.0)
    images = tf.random.stateless_normal((8, 64, 32, 3), (0, 0))
    model, batch = training.ReidTraining(network), (images, tf.repeat([0, 1], 4))
    before = dict(gradient_scales.ratios(model, *batch))
    assert next(iter(before)) == "stem/conv"
    assert all(ratio > 0 for ratio in before.values())
    networks.zero_init_residual(network)
    after = dict(gradient_scales.ratios(model, *batch))
    assert after["stage1/block1/cblock1/squeeze/conv"] == 0
    assert after["stage1/block1/cblock1/shortcut/conv"] > 0
    assert 0 < after["stem/conv"] < before["stem/conv"]
