"""Makes the space of a search: the costs of its networks, and the limits."""

from __future__ import annotations

import numpy as np

from cdnet_tf.deploy import latency
from cdnet_tf.search_settings import SearchSettings
from cdnet_tf.strategies.space import Space, Sum
from cdnet_tf.supernet import costs


def space_of(settings: SearchSettings) -> Space:
    """Returns the networks that a search may choose from.

    Raises:
      FileNotFoundError: there is no such device.
      ValueError: the device's file is broken, or has no times for the input size or for
        a width; or no network keeps the limits.
    """
    device = latency.load(settings.device) if settings.device else None
    size = settings.height, settings.width
    times = {
        width: {"ms": _times(device.model(width, *size), settings)} if device else {}
        for width in settings.widths
    }
    sums = {width: _sizes(width, settings) | times[width] for width in settings.widths}
    space = Space(settings.branches, sums, settings.limits)
    space.check()
    return space


def _times(model: latency.Additive, settings: SearchSettings) -> Sum:
    names = [str(branch) for branch in settings.branches]
    blocks = [[times[name] for name in names] for times in model.branches]
    return Sum(model.constant, np.array(blocks))


def _sizes(width: float, settings: SearchSettings) -> dict[str, Sum]:
    options = settings.network_options | {"width_multiplier": width}
    rest, blocks = costs.of_space(settings.branches, **options).parts
    return {
        name: Sum(getattr(rest, name), getattr(blocks, name)) for name in rest._fields
    }
