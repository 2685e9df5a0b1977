"""Finds the distance below which two embeddings of a network are of one person.

A threshold is valid for one file only. This module looks where the package writes what
it measured on a file, and ignores what was measured on other files.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from cdnet_tf import shipped
from cdnet_tf.deploy import export_report, identity, measurements
from cdnet_tf.retrieval import verification


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether two images show one person; can be used as a bool.

    Attributes:
      same: whether `distance` is below `threshold`.
      distance: Euclidean, of the L2-normalised embeddings, 0..2.
      threshold: the distance below which a pair is accepted.
      false_accept_rate: share of the pairs of two people that are accepted, as it was
        measured on images from different cameras.
      true_accept_rate: share of the pairs of one person that are accepted.
    """

    same: bool
    distance: float
    threshold: float
    false_accept_rate: float
    true_accept_rate: float

    def __bool__(self) -> bool:
        return self.same


def judge(distance: float, threshold: verification.Threshold) -> Verdict:
    """Returns the verdict on two embeddings at a distance, by a threshold from `at`."""
    limit, *rates = dataclasses.astuple(threshold)[:3]
    return Verdict(distance < limit, distance, limit, *rates)


def at(found: Mapping[str, Any], rate: float) -> verification.Threshold:
    """Returns the threshold of a false-accept rate.

    Args:
      found: the fields of `verification.Thresholds`.
      rate: one of its `rates`.

    Raises:
      ValueError: none was measured for this rate, or on too few pairs.
    """
    for measured, row in zip(found["rates"], found["at_rates"]):
        if math.isclose(measured, rate):
            threshold = verification.Threshold(**row)
            if threshold.distance is None:
                raise ValueError(
                    f"false_accept_rate={rate:g} has no threshold: {threshold.note} "
                    "Choose a higher rate, or measure on more images."
                )
            return threshold
    known = ", ".join(f"{measured:g}" for measured in found["rates"])
    raise ValueError(
        f"false_accept_rate={rate:g} was not measured; choose one of {known}."
    )


def of_file(path: pathlib.Path) -> dict[str, Any]:
    """Returns the thresholds that were measured on a file.

    They are read from the evaluations that training and `cdnet_tf.evaluate` write
    beside a file, from an export's report, from the record of shipped weights, or from
    a SavedModel.

    Args:
      path: a model.keras, a .tflite file or a SavedModel directory.

    Returns:
      The fields of `verification.Thresholds`.

    Raises:
      ValueError: none were measured on this file; the message says how to do it.
    """
    # Thresholds of a network are valid for its SavedModel; see `identity.of_file`.
    checksums = {identity.of_file(path).checksum, measurements.sha256(path)}
    reasons = []
    for source, record in _records(path.resolve()):
        misfit = _misfit(record, checksums)
        if not misfit:
            return record["thresholds"]
        reasons.append(f"{source} {misfit}")
    reason = "; ".join(reasons) or "no measurement stands with it"
    raise ValueError(
        f"{path} has no threshold for the same person: {reason}. Measure it on images "
        f"of your own: python -m cdnet_tf.evaluate --model={shipped.spelled(path)} "
        "--data_dir=DIR"
    )


def _records(path: pathlib.Path) -> Iterator[tuple[pathlib.Path, dict[str, Any]]]:
    """Yields the records that may hold a file's thresholds, and where they stand."""
    folder, stem = path.parent, path.stem
    for place in ("evaluation", f"evaluation_{stem}", "."):
        yield from _read(folder / place / "evaluation.json")
    yield from _read(path / identity.RECORD)
    yield from _read(folder / f"{stem}.json")
    for file, record in _read(folder / f"{stem.removesuffix('_int8')}.json"):
        if "int8" in record:
            yield file, record["int8"]
    for file, record in _read(folder / export_report.NAME):
        yield from ((file, row) for row in record["files"] if row["file"] == path.name)


def _read(file: pathlib.Path) -> list[tuple[pathlib.Path, dict[str, Any]]]:
    """Returns the record in a file, in a list that is empty if there is no file."""
    if not file.is_file():
        return []
    try:
        return [(file, dict(json.loads(file.read_text("utf-8"))))]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{file} is no record of this package ({error}); remove it."
        ) from error


def _misfit(record: Mapping[str, Any], checksums: Collection[str]) -> str:
    """Says why a record's thresholds are not those of a file; empty if they are."""
    # An evaluation has at its top what an export's row has under `measured`.
    measured = record.get("measured") or {**record.get("model", {}), **record}
    if measured.get("sha256") not in checksums:
        return "was measured on another file"
    if measured.get("flip") is not False:
        return "added the mirrored images (--flip)"
    return "" if "thresholds" in record else "holds no thresholds"
