"""Makes the supernet and its optimizer, for the strategies that train one."""

from __future__ import annotations

import tensorflow as tf

from cdnet_tf.learn import optimizers, schedules
from cdnet_tf.search_settings import SearchSettings
from cdnet_tf.supernet import supernet

# What to try if the loss is not finite.
REMEDY = (
    "Most often the weights' learning rate is too high: lower --w_lr (with "
    "--precision=mixed_float16 also try float32)."
)


def make_supernet(settings: SearchSettings, num_classes: int) -> supernet.Supernet:
    """Makes the supernet of a search, with its initial weights."""
    net = supernet.Supernet(
        settings.branches,
        num_classes,
        settings.input_shape,
        settings.width_multiplier,
        settings.dropout,
        settings.seed,
        settings.shared,
    )
    if settings.zero_init_residual:
        net.zero_init_residual()
    return net


def make_optimizer(
    settings: SearchSettings, steps_per_epoch: int
) -> tf.keras.optimizers.legacy.Optimizer:
    """Makes the weights' optimizer: SGD with a cosine schedule, after any warm-up."""
    epochs = settings.epochs
    rate = schedules.cosine(epochs, settings.w_lr, settings.w_lr_end)
    rate = schedules.warmed_up(rate, settings.w_lr_warmup_epochs)
    rates = schedules.by_epoch(rate, epochs, steps_per_epoch)
    optimizer = optimizers.CoupledSGD(rates, settings.momentum, settings.w_l2)
    return optimizers.for_policy(optimizer)


def on_one_device(
    net: supernet.Supernet, settings: SearchSettings, num_classes: int
) -> supernet.Supernet:
    """Copies a supernet, which may be spread over devices; every worker must call it.

    Args:
      net: the supernet.
      settings, num_classes: those with which it was made.
    """
    copy = make_supernet(settings, num_classes)
    for own, theirs in zip(copy.weights, net.weights):
        own.assign(theirs.numpy())
    return copy
