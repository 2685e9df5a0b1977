"""From measured times of whole files to a time of each branch, and how well it holds.

What a branch costs is a sum over its CBlocks, and in them over their Lite 3x3, so the
regression begins with that: for each block, what a second CBlock adds and what a Lite
adds. On top of it each branch may depart by an amount of its own, kept small by a
penalty that leave-one-out errors choose. So 100 files are enough for 72 branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cdnet_tf.bench import agreement
from cdnet_tf.deploy.latency import Additive
from cdnet_tf.nn.genotype import CDS, NUM_BLOCKS, Genotype

WITHIN = 0.1  # of the measured time
SHARE, TAU = 0.95, 0.9
_PENALTIES = 10.0 ** np.arange(-3, 5)
_STRUCTURE = 2  # columns of a block: a second CBlock, and its Lites


class Judgement(NamedTuple):
    """How predicted times agree with measured ones of files that nobody fitted.

    Attributes:
      files: how many there are.
      within_10_percent: the share whose prediction lies within 10 % of the measurement.
      kendall_tau: of the two orders.
      mean_error, largest_error: relative, of the absolute value.
      accepted: at least 95 % lie within 10 %, and tau is at least 0.9.
    """

    files: int
    within_10_percent: float
    kendall_tau: float
    mean_error: float
    largest_error: float
    accepted: bool


def fit(genotypes: Sequence[Genotype], times: Sequence[float]) -> Additive:
    """Fits a time for each branch of each block; relative errors count.

    Args:
      genotypes: at least 20, of CDS.
      times: milliseconds of each, positive.

    Raises:
      ValueError: too few genotypes, or a time is not positive.
    """
    measured = np.asarray(times, float)
    least = 1 + _STRUCTURE * NUM_BLOCKS + 7
    if len(genotypes) < least:
        raise ValueError(
            f"{len(genotypes)} files are too few for a regression; measure at least "
            f"{least}, better 100."
        )
    if not (measured > 0).all():
        raise ValueError(f"A time of {measured.min()} ms is no measurement.")
    columns = np.array([_columns(genotype) for genotype in genotypes])
    columns /= measured[:, np.newaxis]
    found = min((_ridge(columns, penalty) for penalty in _PENALTIES), key=_by_error)[1]
    return _additive(found)


def judge(
    model: Additive, genotypes: Sequence[Genotype], times: Sequence[float]
) -> Judgement:
    """Compares a model with times that it was not fitted to."""
    predicted = np.array([model.milliseconds(each) for each in genotypes])
    errors = np.abs(predicted / np.asarray(times, float) - 1)
    share = float((errors <= WITHIN).mean())
    tau = agreement.tau(predicted, times)
    return Judgement(
        files=len(errors),
        within_10_percent=share,
        kendall_tau=tau,
        mean_error=float(errors.mean()),
        largest_error=float(errors.max()),
        accepted=bool(share >= SHARE and tau >= TAU),
    )


def _columns(genotype: Genotype) -> list[float]:
    """1, the structure of each block, and which branch it has."""
    structure: list[float] = []
    for layer in genotype.layers:
        structure += [layer.repeats - 1, layer.repeats * sum(layer.lites)]
    chosen = [float(layer == branch) for layer in genotype.layers for branch in CDS]
    return [1.0, *structure, *chosen]


def _ridge(columns: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
    """Coefficients for a right side of ones, and the mean squared leave-one-out error.

    Args:
      columns: (files, 1 + structure + branches), over the measured time.
      penalty: of what a branch departs from the structure; relative to the mean time.
    """
    free = 1 + _STRUCTURE * NUM_BLOCKS
    weights = np.zeros(columns.shape[1])
    weights[free:] = penalty * (columns[:, 0] ** 2).mean()
    inverse = np.linalg.pinv(columns.T @ columns + np.diag(weights))
    found = inverse @ columns.sum(axis=0)
    leverage = np.einsum("ij,jk,ik->i", columns, inverse, columns)
    errors = (1 - columns @ found) / np.maximum(1 - leverage, 1e-6)
    return float((errors**2).mean()), found


def _by_error(candidate: tuple[float, np.ndarray]) -> float:
    return candidate[0]


def _additive(found: np.ndarray) -> Additive:
    constant, structure, own = np.split(found, [1, 1 + _STRUCTURE * NUM_BLOCKS])
    blocks = []
    for parts, departures in zip(
        structure.reshape(NUM_BLOCKS, -1), own.reshape(NUM_BLOCKS, -1)
    ):
        blocks.append(
            {
                str(branch): float(
                    parts[0] * (branch.repeats - 1)
                    + parts[1] * branch.repeats * sum(branch.lites)
                    + departure
                )
                for branch, departure in zip(CDS, departures)
            }
        )
    return Additive(float(constant[0]), tuple(blocks))
