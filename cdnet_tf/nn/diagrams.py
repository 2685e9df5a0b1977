"""Diagrams of a network and of the search's step, for documents.

They are drawn from the genotype alone, without building the network.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from cdnet_tf.nn import genotype

_PLAIN, FIRST, SECOND, _EDGE = "#eeeeee", "#9ecae1", "#fdae6b", "#555555"
_ARROW = {"arrowstyle": "->", "color": _EDGE}
_GAP = 0.32  # between parts, in units of the axes


def network_figure(
    found: genotype.Genotype,
    size: tuple[int, int],
    channels: tuple[int, ...],
    title: str,
) -> Figure:
    """Draws stem, blocks, DownSamples and neck from left to right.

    Args:
      found: the branch of each block.
      size: (height, width) of the input, pixels.
      channels: of the stem and the three stages.
      title: of the figure.
    """
    figure, axes = _canvas(13, 4.4, title)
    (height, width), x = size, 0.0
    x = _tall(axes, x, "image", f"{height}x{width}x3")
    shape = f"{height // 4}x{width // 4}x{channels[0]}"
    x = _tall(axes, x, "stem\n7x7 /2\npool /2", shape)
    for i, branch in enumerate(found.layers):
        scale, depth = 4 * 2 ** (i // 2), channels[i // 2 + 1]
        shape = f"{height // scale}x{width // scale}x{depth}"
        x = _block(axes, x, i + 1, branch, shape)
        if i in (1, 3):
            shape = f"{height // scale // 2}x{width // scale // 2}x{depth}"
            x = _tall(axes, x, "Down-\nSample", shape)
    _tall(axes, x, "FBLNeck:\nwhole and\nstripes", "embedding")
    axes.text(0, -0.9, _LEGEND, fontsize=9, va="top")
    axes.set(xlim=(-0.2, x + 1.2), ylim=(-1.8, 5.0))
    return figure


_LEGEND = (
    "Below each part stands the size of its output, height x width x channels. "
    "A block is one or two CBlocks.\n"
    "A CBlock adds two streams of Lite 3x3 convolutions: blue the smaller receptive "
    "field, orange the larger one, one square a Lite 3x3."
)


def _block(axes: Axes, x: float, number: int, branch: genotype.Branch, shape: str):
    """A block with a square for each Lite 3x3; returns where the next part begins."""
    _box(axes, x, 0, 1.5, 4, _PLAIN)
    for repeat in range(branch.repeats):
        bottom = 0.15 + 1.95 * repeat if branch.repeats == 2 else 1.1
        _box(axes, x + 0.12, bottom, 1.26, 1.75, "white")
        for column, (lites, colour) in enumerate(
            zip(branch.lites, (FIRST, SECOND), strict=True)
        ):
            for lite in range(lites):
                left, low = x + 0.3 + 0.55 * column, bottom + 0.15 + 0.38 * lite
                _box(axes, left, low, 0.36, 0.3, colour)
    kernels = f"{branch.kernel1}x{branch.kernel1} + {branch.kernel2}x{branch.kernel2}"
    axes.text(x + 0.75, 4.15, f"block {number}\n{kernels}", ha="center", fontsize=9)
    axes.text(x + 0.75, -0.15, shape, ha="center", va="top", fontsize=8)
    return _next(axes, x, 1.5)


def _tall(axes: Axes, x: float, text: str, shape: str) -> float:
    """A part without streams; returns where the next one begins."""
    _box(axes, x, 0.6, 1.05, 2.8, _PLAIN)
    axes.text(x + 0.52, 2, text, ha="center", va="center", fontsize=9)
    axes.text(x + 0.52, 0.45, shape, ha="center", va="top", fontsize=8)
    return _next(axes, x, 1.05)


def _next(axes: Axes, x: float, width: float) -> float:
    """Draws the arrow into a part that is not the first; returns where its own ends."""
    if x:
        axes.annotate("", (x, 2), (x - _GAP, 2), arrowprops=_ARROW)
    return x + width + _GAP


STEPS = (
    ("choose", "the k branches of each\nblock with the largest\nalpha, (6, k)"),
    (
        "weights",
        "forward and backward on a\nbatch of D_train, through\nthe chosen branches",
    ),
    ("update w", "SGD moves the rows of\nthe chosen branches\nin the banks"),
    (
        "alpha",
        "forward on a batch of D_val,\nthe same branches;\ngradient of alpha alone",
    ),
    ("update alpha", "all six rows of alpha,\n(6, branches)"),
)


def step_figure() -> Figure:
    """Draws Algorithm 1 as five boxes in a ring."""
    figure, axes = _canvas(13, 3, "A step of Top-k Sample Search (Algorithm 1)")
    for i, (name, text) in enumerate(STEPS):
        x, colour = 2.9 * i, (_PLAIN, FIRST, FIRST, SECOND, SECOND)[i]
        _box(axes, x, 1, 2.4, 2, colour)
        axes.text(x + 1.2, 2.7, name, ha="center", va="center", weight="bold")
        axes.text(x + 1.2, 1.75, text, ha="center", va="center", fontsize=9)
        if i:
            axes.annotate("", (x, 2), (x - 0.5, 2), arrowprops=_ARROW)
    ring = {**_ARROW, "connectionstyle": "bar,fraction=-0.08"}
    axes.annotate("", (1.2, 1), (12.8, 1), arrowprops=ring)
    axes.text(7, 0.3, "next step", ha="center", va="bottom", fontsize=9)
    axes.set(xlim=(-0.2, 14.2), ylim=(-0.3, 3.3))
    return figure


def _canvas(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """A figure of that many inches, without axes to read numbers from."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot(title=title)
    axes.axis("off")
    return figure, axes


def _box(axes: Axes, x: float, y: float, width: float, height: float, colour: str):
    style = "round,pad=0,rounding_size=0.06"
    axes.add_patch(
        FancyBboxPatch((x, y), width, height, style, facecolor=colour, edgecolor=_EDGE)
    )
