"""The distance below which a file's embeddings are of one person, and where it stands.

A threshold holds for one file alone. This module looks where the package leaves what it
measured on a file, and takes nothing that was measured on another one.
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
    """Whether two images show one person; true or false by itself.

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
      ValueError: there is none for this rate, or too few pairs were measured for one.
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
    """Returns the thresholds that were measured on a file and stand with it.

    They stand in the evaluations that training and `cdnet_tf.evaluate` write beside a
    file, in an export's report, in the record of shipped weights, or in a SavedModel.

    Args:
      path: of a model.keras, a .tflite file or a SavedModel directory.

    Returns:
      The fields of `verification.Thresholds`.

    Raises:
      ValueError: none were measured on this file; says how to measure them.
    """
    # What was measured on a network holds for its SavedModel; see `identity.of_file`.
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
    """The records that may tell of a file, and where they stand."""
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
    """The record in a file, none where there is no file."""
    if not file.is_file():
        return []
    try:
        return [(file, dict(json.loads(file.read_text("utf-8"))))]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{file} is no record of this package ({error}); remove it."
        ) from error


def _misfit(record: Mapping[str, Any], checksums: Collection[str]) -> str:
    """Why a record's thresholds are not those of a file; empty where they are."""
    # An evaluation says at its top what an export's row says under `measured`.
    measured = record.get("measured") or {**record.get("model", {}), **record}
    if measured.get("sha256") not in checksums:
        return "was measured on another file"
    if measured.get("flip") is not False:
        return "added the mirrored images (--flip)"
    return "" if "thresholds" in record else "holds no thresholds"
