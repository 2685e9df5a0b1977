"""Summarises what a table of trainings says about the space, as Markdown."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from cdnet_tf.bench import agreement, table

# Possible predictors of the test mAP, and their columns.
_PREDICTORS = {
    "select mAP": "select_mAP",
    "depth": "depth",
    "parameters": "parameters",
    "MACs": "macs",
}
_seed_tau = functools.partial(agreement.estimate, agreement.seed_tau)
_tau = functools.partial(agreement.estimate, agreement.tau)


def text(entries: Sequence[table.Entry]) -> str:
    """Returns a section for all trainings of the same length, people and flags.

    A section says how much seeds agree, which limits every predictor; how well scores
    on the select people predict those on the test people; and how well depth, size and
    shorter trainings predict them. Each number has a 95 % interval, and is given for
    all genotypes and within one depth.
    """
    groups = table.by_conditions(entries)
    sections = []
    for conditions, own in groups.items():
        shorter = {
            other.epochs: table.means(others)
            for other, others in groups.items()
            if other[:2] == conditions[:2] and other.epochs < conditions.epochs
        }
        sections.append(_section(conditions, own, shorter))
    return "\n\n".join(sections)


def _section(
    conditions: table.Conditions,
    entries: Sequence[table.Entry],
    shorter: dict[int, dict],
) -> str:
    genotypes, test = table.matrix(entries)
    truth = np.nanmean(test, axis=1)
    depths = np.array([genotype.depth for genotype in genotypes])
    row = functools.partial(_row, depths)
    rows = []
    for what in ("select", "test"):
        scores = table.matrix(entries, f"{what}_mAP")[1]
        rows.append(row(f"ICC of {what} mAP", _icc, scores))
        rows.append(row(f"tau of seeds, {what} mAP", _seed_tau, scores))
    for name, known in _predictors(entries, shorter).items():
        scores = np.array([known.get(genotype, np.nan) for genotype in genotypes])
        rows.append(row(f"tau of {name} with test mAP", _tau, scores, truth))
    lines = [
        f"### {conditions.epochs} epochs, {conditions.people} people",
        "",
        f"{len(entries)} trainings of {len(genotypes)} genotypes, `{conditions.flags}`."
        f" {_spread(test, truth)}",
        "",
        "| | all | within one depth |",
        "|---|---|---|",
    ]
    return "\n".join([*lines, *rows])


def _predictors(
    entries: Sequence[table.Entry], shorter: dict[int, dict]
) -> dict[str, dict]:
    """Returns predictors of the test mAP, by name: a value for each genotype."""
    found = {name: table.means(entries, column) for name, column in _PREDICTORS.items()}
    return found | {
        f"test mAP after {epochs} epochs": known for epochs, known in shorter.items()
    }


def _spread(test: np.ndarray, truth: np.ndarray) -> str:
    split = agreement.variances(test)
    between, noise = (
        "unknown" if math.isnan(each) else f"{math.sqrt(max(0.0, each)):.2f}"
        for each in (split.between, split.noise)
    )
    return (
        f"Mean test mAP from {truth.min():.1f} to {truth.max():.1f} %; standard "
        f"deviation between genotypes {between}, between seeds {noise}."
    )


def _icc(scores: np.ndarray, within: np.ndarray | None) -> agreement.Estimate:
    return agreement.variances(scores, within).icc


def _row(
    depths: np.ndarray,
    name: str,
    statistic: Callable[..., agreement.Estimate],
    *scores: np.ndarray,
) -> str:
    """Makes a row of the table: the statistic of all, and of pairs of equal depth."""
    found = (statistic(*scores, within) for within in (None, depths))
    cells = ("-" if math.isnan(each.value) else each.text() for each in found)
    return f"| {name} | {' | '.join(cells)} |"
