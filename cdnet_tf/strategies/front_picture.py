"""Draws fronts: the mAP of networks against their cost."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib import figure

from cdnet_tf import atomic_files
from cdnet_tf.strategies.candidates import Candidate
from cdnet_tf.strategies.front import Front

_AXES = {
    "ms": ("ms", 1.0),
    "macs": ("multiply-accumulates, M", 1e-6),
    "parameters": ("parameters, M", 1e-6),
}
_PEER_MARKERS = "s^Dv*Px"


class Series(NamedTuple):
    """Points that are drawn alike.

    Attributes:
      label: text in the legend.
      costs: cost of each point.
      scores: mAP of each point, %. Several scores of a point, such as those of its
        seeds, are drawn as their mean and a line from the least to the greatest.
      marker: a marker of matplotlib.
      line: a line style of matplotlib, from point to point; "" for no line.
    """

    label: str
    costs: Sequence[float]
    scores: Sequence[Sequence[float]]
    marker: str = "."
    line: str = ""


class Scored(NamedTuple):
    """A network, its cost, and its mAP in each of its trainings, 0..1."""

    cost: float
    scores: Sequence[float]


def title(strategy: str) -> str:
    """Returns the title of a panel with the scores of a search strategy."""
    return f"as the strategy {strategy} scores them"


def searched(front: Front) -> list[Series]:
    """Returns what a search found: all compared networks, the front, and its peers."""
    compared, points = (
        _series(label, [_scored(each, front.by) for each in networks], *style)
        for label, networks, *style in (
            ("compared", front.judged, "."),
            ("front", front.points, "o", "-"),
        )
    )
    scored = {name: _scored(each, front.by) for name, each in front.peers.items()}
    return [compared, points, *_peers(scored)]


def trained(points: Mapping[str, Scored], others: Mapping[str, Scored]) -> list[Series]:
    """Returns what networks reach once they are trained.

    Args:
      points: those of a front, the cheapest first.
      others: other networks by their names; each gets a marker of its own.
    """
    return [_series("front", list(points.values()), "o", "-"), *_peers(others)]


def _peers(found: Mapping[str, Scored]) -> list[Series]:
    markers = itertools.cycle(_PEER_MARKERS)
    return [_series(name, [each], next(markers)) for name, each in found.items()]


def _series(
    label: str, networks: Sequence[Scored], marker: str, line: str = ""
) -> Series:
    scores = [[100 * score for score in each.scores] for each in networks]
    return Series(label, [each.cost for each in networks], scores, marker, line)


def _scored(network: Candidate, by: str) -> Scored:
    return Scored(getattr(network, by), [network.mean_ap])


def draw(
    path: pathlib.Path,
    panels: Mapping[str, Sequence[Series]],
    by: str,
    limit: float | None = None,
) -> None:
    """Draws panels side by side, with a common axis of the cost but not of the mAP.

    Args:
      path: the picture's file.
      panels: the series of each panel, by its title.
      by: the cost, one of `space.COSTS`.
      limit: a limit of the cost, drawn as a vertical line.
    """
    label, factor = _AXES[by]
    picture = figure.Figure(figsize=(6.5 * len(panels), 5), layout="constrained")
    places = picture.subplots(1, len(panels), sharex=True, squeeze=False)[0]
    for axes, (title, series) in zip(places, panels.items()):
        for each in series:
            _draw(axes, each, factor)
        if limit is not None:
            axes.axvline(factor * limit, color="k", linestyle=":", label="limit")
        axes.set(xlabel=label, ylabel="mAP, %", title=title)
        axes.legend()
    with atomic_files.replacing(path) as partial:
        picture.savefig(partial, dpi=100)


def _draw(axes, series: Series, factor: float) -> None:
    means = [sum(scores) / len(scores) for scores in series.scores]
    below = [mean - min(scores) for mean, scores in zip(means, series.scores)]
    above = [max(scores) - mean for mean, scores in zip(means, series.scores)]
    costs = [factor * cost for cost in series.costs]
    axes.errorbar(
        costs,
        means,
        yerr=[below, above] if any(len(each) > 1 for each in series.scores) else None,
        marker=series.marker,
        linestyle=series.line or "none",
        label=series.label,
    )
