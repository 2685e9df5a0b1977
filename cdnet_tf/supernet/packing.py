"""The layout of a CBlock's weights in rows: names, shapes and order.

One row of a variable holds all weights of a part, so that a step gathers,
differentiates and updates them as one slice.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

Shapes = dict  # name -> shape; its dimensions are numbers or scalar tensors


def body_shapes(c_in: int, c_out: int, shortcut: bool) -> Shapes:
    """Returns the shapes of a CBlock's weights without its Lites, in packing order.

    The names are those of the layers of `blocks.cblock`. Dimensions may be tensors.
    """
    m = c_out // 4
    convs: dict[str, tuple] = {"squeeze": (c_in, m), "restore": (m, c_out)}
    if shortcut:
        convs["shortcut"] = (c_in, c_out)
    shapes: Shapes = {}
    for name, kernel in convs.items():
        shapes[f"{name}/conv/kernel"] = kernel
        shapes[f"{name}/bn/gamma"] = shapes[f"{name}/bn/beta"] = kernel[1:]
    denses: dict[str, tuple] = {"gate/fc1": (m, m // 4), "gate/fc2": (m // 4, m)}
    for name, kernel in denses.items():
        shapes[f"{name}/kernel"] = kernel
        shapes[f"{name}/bias"] = kernel[1:]
    return shapes


def lite_shapes(m: int) -> Shapes:
    """Returns the shapes of the weights of one Lite 3x3 over m channels, in order."""
    return {
        "pointwise/kernel": (m, m),
        "depthwise/depthwise_kernel": (3, 3, m, 1),
        "bn/gamma": (m,),
        "bn/beta": (m,),
    }


def statistics_shapes(shapes: Shapes) -> Shapes:
    """Returns the shapes of the moving statistics of the normalisations in `shapes`."""
    moving = {}
    for name, shape in shapes.items():
        if name.endswith("/gamma"):
            bn = name[: -len("gamma")]
            moving[f"{bn}moving_mean"] = moving[f"{bn}moving_variance"] = shape
    return moving


def unpack(rows: Tensor, shapes: Shapes, count: int) -> list[dict[str, Tensor]]:
    """Splits packed rows, (count, size), into named tensors, one dict for each row."""
    sizes = tf.stack([math.prod(shape) for shape in shapes.values()])
    columns = tf.split(rows, sizes, axis=1, num=len(shapes))
    parts = [
        [tf.reshape(column, shape)]
        if count == 1
        else tf.unstack(tf.reshape(column, (count, *shape)), num=count)
        for column, shape in zip(columns, shapes.values())
    ]
    return [dict(zip(shapes, row)) for row in zip(*parts)]


def initial_row(shapes: Shapes, random: np.random.Generator) -> np.ndarray:
    """Draws He-normal kernels (fan-in); BN's gamma and variance are 1, others 0."""
    parts = []
    for name, shape in shapes.items():
        if name.endswith("kernel"):
            fan_in = 9 if "depthwise" in name else shape[0]
            parts.append(random.normal(0, (2 / fan_in) ** 0.5, shape))
        else:
            ones = name.endswith(("gamma", "moving_variance"))
            parts.append(np.full(shape, float(ones)))
    return np.concatenate([part.ravel() for part in parts]).astype(np.float32)
