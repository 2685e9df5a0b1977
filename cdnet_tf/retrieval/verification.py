"""Chooses the distance below which two images show the same person; NumPy only.

A ranking needs no threshold, but a user's program does. It is chosen by the rate of
false accepts among pairs of a query and a gallery image of different cameras. Pairs of
one camera do not count, because they say nothing about a change of camera.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from cdnet_tf.data import datasets
from cdnet_tf.retrieval import distances, protocol
from cdnet_tf.retrieval.distances import Embeddings

_BLOCK_BYTES = 2**25
# Steps of the squared distance, which lies in 0..4. Multiplying by a power of two is
# exact.
_STEPS_PER_UNIT = 2**18
_STEPS = 4 * _STEPS_PER_UNIT + 1  # The last step holds 4, and more after rounding.
_UNCOUNTED = _STEPS


@dataclasses.dataclass(frozen=True)
class Threshold:
    """A threshold of the distance, and the shares of pairs that it would accept.

    Attributes:
      distance: accept a pair whose Euclidean distance, of L2-normalised embeddings
        (0..2), is below this. None if there are too few pairs; `note` then says why.
      false_accept_rate: share of the impostor pairs accepted.
      true_accept_rate: share of the genuine pairs accepted.
      note: why there is no threshold, or empty.
    """

    distance: float | None
    false_accept_rate: float | None
    true_accept_rate: float | None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """Thresholds for one network and one data set.

    Attributes:
      genuine_pairs: pairs of the same person.
      impostor_pairs: pairs of different people, including distractors.
      rates: the false-accept rates asked for.
      at_rates: the threshold for each rate.
      equal_error: the threshold at which the shares of accepted impostor pairs and
        rejected genuine pairs are equal; that is its `false_accept_rate`.
    """

    genuine_pairs: int
    impostor_pairs: int
    rates: tuple[float, ...]
    at_rates: tuple[Threshold, ...]
    equal_error: Threshold


def thresholds(
    query_embeddings: np.ndarray,
    query: protocol.Labels,
    gallery_embeddings: np.ndarray,
    gallery: protocol.Labels,
    rates: Sequence[float] = (0.01, 0.001),
    *,
    block_bytes: int = _BLOCK_BYTES,
) -> Thresholds:
    """Chooses thresholds from all pairs of different cameras, without junk.

    Pairs are counted by squared distance in steps of 2^-18, so a threshold is within
    2e-6 of the exact one at distance 1, 4e-6 at 0.5, 0.002 at 0. The rates given with a
    threshold are exact. Time grows with the number of pairs; memory beyond the
    embeddings is about five times `block_bytes`.

    Args:
      query_embeddings: (q, d) floats, of any length.
      query: labels of the q queries.
      gallery_embeddings: (g, d) floats, of any length.
      gallery: labels of the g gallery images.
      rates: false-accept rates, above 0 and below 1. The largest threshold that keeps a
        rate is chosen; it needs at least 1 / rate impostor pairs.
      block_bytes: memory for distances held at once; those of one query always are.

    Raises:
      ValueError: as `ranking.evaluate`; there is no genuine pair; or a rate is out of
        range.
    """
    for rate in rates:
        if not 0 < rate < 1:
            raise ValueError(f"rate={rate} is out of range; use one between 0 and 1.")
    genuine, impostor = _count(
        Embeddings.of(query_embeddings, "query", query),
        query,
        Embeddings.of(gallery_embeddings, "gallery", gallery),
        gallery,
        block_bytes,
    )
    if not genuine.any():
        raise ValueError(
            f"none of the {len(query.identities)} queries has a gallery image of its "
            "identity under another camera, so no pair shows the same person; check "
            "identities and cameras."
        )
    curve = _Curve(genuine, impostor)
    return Thresholds(
        genuine_pairs=int(genuine.sum()),
        impostor_pairs=int(impostor.sum()),
        rates=tuple(float(rate) for rate in rates),
        at_rates=tuple(curve.at_rate(rate) for rate in rates),
        equal_error=curve.equal_error(),
    )


def _count(
    queries: Embeddings,
    query: protocol.Labels,
    images: Embeddings,
    gallery: protocol.Labels,
    block_bytes: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Counts genuine and impostor pairs by the step of their squared distance."""
    lookup = protocol.Lookup(gallery)
    of_camera = _by_camera(gallery)
    genuine, impostor = (np.zeros(_STEPS + 1, np.int64) for _ in range(2))
    start = 0
    for block in distances.blocks(queries, images, True, block_bytes):
        # (step, g)
        steps = _steps(block)
        steps[:, lookup.junk] = _UNCOUNTED
        for i, row in enumerate(steps, start):
            identity, camera = query.identities[i], query.cameras[i]
            row[of_camera.get(camera, [])] = _UNCOUNTED
            if identity == datasets.JUNK:
                row[:] = _UNCOUNTED
            matches, _ = lookup.find(identity, camera)
            np.add.at(genuine, row[matches], 1)
            row[matches] = _UNCOUNTED
        impostor += np.bincount(steps.ravel(), minlength=_STEPS + 1)
        start += len(block)
    return genuine[:_UNCOUNTED], impostor[:_UNCOUNTED]


def _by_camera(labels: protocol.Labels) -> dict[int, np.ndarray]:
    """Returns camera -> indices of its images, by one sort, as cameras may be many."""
    order = np.argsort(labels.cameras, kind="stable")
    cameras, starts = np.unique(np.asarray(labels.cameras)[order], return_index=True)
    return dict(zip(cameras.tolist(), np.split(order, starts[1:])))


def _steps(block: np.ndarray) -> np.ndarray:
    """Returns the step number of each squared distance; overwrites the distances."""
    np.clip(block, 0, 4, out=block)
    block *= _STEPS_PER_UNIT
    return block.astype(np.int32)


class _Curve:
    """The shares of pairs that a threshold at each edge between steps would accept."""

    def __init__(self, genuine: np.ndarray, impostor: np.ndarray):
        self._impostors = int(impostor.sum())
        # (steps + 1,): shares accepted below edge 0, 1, ..., both ascending.
        self._true, self._false = (
            np.concatenate([[0], np.cumsum(counts)]) / max(1, counts.sum())
            for counts in (genuine, impostor)
        )

    def at_rate(self, rate: float) -> Threshold:
        """Returns the largest threshold whose false-accept rate is at most `rate`."""
        needed = int(np.ceil(1 / rate))
        if self._impostors < needed:
            note = (
                f"{self._impostors:,} impostor pairs cannot tell a rate of {rate:g}; "
                f"it takes {needed:,}."
            )
            return Threshold(None, None, None, note)
        return self._at(int(np.searchsorted(self._false, rate, side="right")) - 1)

    def equal_error(self) -> Threshold:
        """Returns the middle of the edges at which the two error rates are closest."""
        if not self._impostors:
            return Threshold(None, None, None, "there is no impostor pair.")
        # (steps + 1,), ascending
        excess = self._false - (1 - self._true)
        best = excess[np.argmin(np.abs(excess))]
        first, stop = (
            np.searchsorted(excess, v) for v in (best, np.nextafter(best, 2))
        )
        return self._at(int(first + stop - 1) // 2)

    def _at(self, edge: int) -> Threshold:
        return Threshold(
            float(np.sqrt(edge / _STEPS_PER_UNIT)),
            float(self._false[edge]),
            float(self._true[edge]),
        )
