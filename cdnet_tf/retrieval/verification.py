"""The distance under which two images show the same person; NumPy only.

A ranking needs no threshold, a user's program does. It is chosen by the rate of false
accepts among the pairs of a query and a gallery image of different cameras: pairs of
one camera say nothing about the change of camera, so they do not count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from cdnet_tf.data import datasets
from cdnet_tf.retrieval import distances, protocol
from cdnet_tf.retrieval.distances import Embeddings

_BLOCK_BYTES = 2**25
# Steps of the squared distance, which lies in 0..4; a power of two, so that multiplying
# by it rounds nothing.
_STEPS_PER_UNIT = 2**18
_STEPS = 4 * _STEPS_PER_UNIT + 1  # the last: 4 and what rounding adds
_UNCOUNTED = _STEPS


@dataclasses.dataclass(frozen=True)
class Threshold:
    """A distance, and what it would accept of the pairs it was chosen on.

    Attributes:
      distance: accept a pair whose Euclidean distance, of L2-normalised embeddings
        (0..2), is below it. None where the pairs cannot tell; `note` then says why.
      false_accept_rate: share of the impostor pairs accepted.
      true_accept_rate: share of the genuine pairs accepted.
      note: what to know about it; empty if nothing.
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
      impostor_pairs: pairs of different people, distractors among them.
      rates: the false-accept rates asked for.
      at_rates: the threshold of each.
      equal_error: where as many impostors are accepted as genuine pairs rejected, in
        shares; the equal error rate is its `false_accept_rate`.
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
    """Chooses thresholds from all pairs of different cameras, junk left out.

    Pairs are counted by squared distance in steps of 2^-18, so a threshold is within
    2e-6 of the exact one at distance 1, 4e-6 at 0.5, 0.002 at 0. The rates that stand
    with a threshold are exact for it. Time goes with the number of pairs; memory
    beyond the embeddings is about five times `block_bytes`.

    Args:
      query_embeddings: (q, d) floats, of any length.
      query: labels of the q queries.
      gallery_embeddings: (g, d) floats, of any length.
      gallery: labels of the g gallery images.
      rates: false-accept rates, above 0 and below 1. A threshold is the largest whose
        rate is not above; it needs at least 1 / rate impostor pairs.
      block_bytes: of distances held at once; at least one query's are.

    Raises:
      ValueError: as `ranking.evaluate`; no genuine pair; or a rate out of range.
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
    """Camera -> indices of its images; in one sort, since cameras may be many."""
    order = np.argsort(labels.cameras, kind="stable")
    cameras, starts = np.unique(np.asarray(labels.cameras)[order], return_index=True)
    return dict(zip(cameras.tolist(), np.split(order, starts[1:])))


def _steps(block: np.ndarray) -> np.ndarray:
    """Numbers the step of each squared distance; overwrites the distances."""
    np.clip(block, 0, 4, out=block)
    block *= _STEPS_PER_UNIT
    return block.astype(np.int32)


class _Curve:
    """What each edge between steps would accept."""

    def __init__(self, genuine: np.ndarray, impostor: np.ndarray):
        self._impostors = int(impostor.sum())
        # (steps + 1,): shares accepted below edge 0, 1, ..., both ascending.
        self._true, self._false = (
            np.concatenate([[0], np.cumsum(counts)]) / max(1, counts.sum())
            for counts in (genuine, impostor)
        )

    def at_rate(self, rate: float) -> Threshold:
        """The largest threshold whose rate of false accepts is not above `rate`."""
        needed = int(np.ceil(1 / rate))
        if self._impostors < needed:
            note = (
                f"{self._impostors:,} impostor pairs cannot tell a rate of {rate:g}; "
                f"it takes {needed:,}."
            )
            return Threshold(None, None, None, note)
        return self._at(int(np.searchsorted(self._false, rate, side="right")) - 1)

    def equal_error(self) -> Threshold:
        """The middle of the edges where the two rates of errors are closest."""
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
