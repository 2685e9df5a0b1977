"""How far the outputs of a runtime are from TensorFlow's.

Outputs are known by keys `FILE|CASE`; the case says how the file was run. Nothing is
run here; tools/compat.py does that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

TOLERANCE = 1e-4  # of an embedding's length
# Mean cosine of what rounds otherwise than TensorFlow: with the same kernels or with
# kernels of another make; and of chips' converters, which round weights anew.
COSINE, COSINE_ELSEWHERE, COSINE_CONVERTED = 0.999, 0.995, 0.98
NO_KERNELS = "no kernels"  # as tools/compat_check.py begins such a failure
# Package -> title of a runtime.
TITLES = {
    "boxmot": "BoxMOT",
    "rknn-toolkit2": "RKNN",
    "nncase": "nncase",
    "tensorflow": "TensorFlow",
    "ai-edge-litert": "LiteRT",
    "openvino": "OpenVINO",
    "tflite-micro": "TFLite Micro",
}
_OWN_KERNELS = {"openvino", "tflite-micro"}


class Verdict(NamedTuple):
    """How an output departs from the reference's."""

    good: bool
    text: str


class Result(NamedTuple):
    """What one runtime made of all files.

    Attributes:
      outputs, failures, kinds: by key; kinds are `float`, `integer`, `mixed` (float
        ends), `dynamic` (8-bit weights alone). Integers are less their zero point.
      versions: of packages and Python.
    """

    outputs: dict[str, np.ndarray]
    failures: dict[str, str]
    kinds: Mapping[str, str]
    versions: Mapping[str, str]

    def title(self) -> str:
        """Returns the runtime's name and version."""
        return next(
            f"{title} {self.versions[name]}"
            for name, title in TITLES.items()
            if name in self.versions
        )


def judge(key: str, reference: Result, other: Result) -> Verdict:
    """Compares one file's outputs, run one way.

    A key that the reference lacks names a way that only the other runtime has. It is
    compared with the file's run in the reference, by cosine. A slow runtime may have
    embedded only the first of the reference's images.
    """
    if key in other.failures:
        lacks = other.failures[key].startswith(NO_KERNELS)
        if lacks and reference.kinds.get(key) in ("float", "dynamic"):
            return Verdict(True, NO_KERNELS)
        return Verdict(False, "FAILS")
    if other is reference:
        known = key in reference.outputs
        return Verdict(True, reference.kinds[key] if known else "-")
    if key not in other.outputs:
        # A SavedModel, where there is only TFLite; a file that is not for this runtime.
        return Verdict(True, "-")
    expected = counterpart(key, reference)
    if expected is None:
        return Verdict(False, "FAILS in the reference")
    least = _least_cosine(key, reference, other)
    actual = other.outputs[key].astype(np.float64)
    expected = expected[: len(actual)].astype(np.float64)
    if least is not None:
        found = cosines(expected, actual)
        text = f"cosine {found.mean():.5f}, least {found.min():.5f}"
        return Verdict(bool(found.mean() >= least), text)
    if reference.kinds[key] == "integer":
        steps = int(np.abs(expected - actual).max())
        return Verdict(not steps, f"{steps} steps" if steps else "equal")
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    difference = float((np.abs(expected - actual) / lengths).max())
    return Verdict(difference <= TOLERANCE, f"{difference:.1e}")


def counterpart(key: str, reference: Result) -> np.ndarray | None:
    """Returns what a key's outputs are compared with, if the reference has it."""
    file = key.partition("|")[0]
    for each in (key, f"{file}|default kernels"):
        if each in reference.outputs:
            return reference.outputs[each]
    return None


def _least_cosine(key: str, reference: Result, other: Result) -> float | None:
    """What the mean cosine must reach; None where outputs must be nearly equal."""
    if key not in reference.outputs:
        return COSINE_CONVERTED
    kind = reference.kinds[key]
    elsewhere = bool(_OWN_KERNELS & set(other.versions))
    rounds_otherwise = elsewhere or key.endswith("default kernels")
    if kind == "dynamic" or (kind != "float" and rounds_otherwise):
        return COSINE_ELSEWHERE if elsewhere else COSINE
    return None


def cosines(expected: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Returns the cosine of each row's angle, (n, d) and (n, d) -> (n,)."""
    norms = np.linalg.norm(expected, axis=1) * np.linalg.norm(actual, axis=1)
    return (expected * actual).sum(axis=1) / norms


def table(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows of cells, aligned."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
