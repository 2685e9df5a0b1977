"""Runs exported files in today's runtimes and compares them with TensorFlow 2.15.

Each runtime has a virtual environment of its own under --environments, which is made
when it is missing; all of them take 2.7 GB.

    python tools/compat.py --export_dir=DIR    # .tflite files and SavedModels below it
    python tools/compat.py                     # a small untrained network's, made here

Floats must agree within 1e-4 of an embedding's length. A file runs twice in a TFLite
runtime: with its built-in kernels, where 8-bit integers must be equal, and with the
default ones, where another runtime brings another XNNPACK, which rounds integers
otherwise: there the cosine must be 0.999. So must it be of a `dynamic` file, which
rounds floats as it runs: one that is a bit off takes another integer.

OpenVINO and TensorFlow Lite Micro compute with kernels of their own: floats must agree
as above, integers to a cosine of 0.995. Micro, which is made for microcontrollers, may
lack kernels for files that compute in floats; it prints the arena, the memory, that a
file takes. The exit status is 1 if anything departs or fails.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import NamedTuple

import cdnet_tf  # isort: skip  # noqa: F401  (quiets TensorFlow)
import numpy as np
import tensorflow as tf
from absl import app, flags, logging

from cdnet_tf.deploy import serving, tflite
from cdnet_tf.nn import genotype, networks

_EXPORT_DIR = flags.DEFINE_string(
    "export_dir", None, "Folder of exports. Default: exports of a small network."
)
_ENVIRONMENTS = flags.DEFINE_string(
    "environments", ".compat", "Folder of the runtimes' virtual environments."
)
_RUNTIMES = flags.DEFINE_list(
    "runtimes",
    [
        *("tensorflow==2.21.0", "ai-edge-litert==2.3.0"),
        *("openvino==2026.4.1", "tflite-micro==0.dev20261023182759"),
    ],
    "Packages to compare with, with versions.",
)
_PYTHON = flags.DEFINE_string(
    "python", sys.executable, "Makes the environments; at least Python 3.10."
)

_REFERENCE = "reference"
_TOLERANCE = 1e-4
_COSINE = 0.999
# Where a runtime has kernels of its own.
_COSINE_ELSEWHERE = 0.995
_ELSEWHERE = {"openvino", "tflite-micro"}
_NO_KERNELS = "no kernels"  # as compat_check.py begins such a failure
_CHECK = pathlib.Path(__file__).with_name("compat_check.py")


class Verdict(NamedTuple):
    """How an output departs from the reference's."""

    good: bool
    text: str


class Result(NamedTuple):
    """What one runtime made of all files.

    Attributes:
      outputs, failures, kinds: by `FILE|CASE`; kinds are `float`, `integer`,
        `mixed` (float ends), `dynamic` (8-bit weights alone).
      versions: of packages and Python.
    """

    outputs: dict[str, np.ndarray]
    failures: dict[str, str]
    kinds: dict[str, str]
    versions: dict[str, str]

    def title(self) -> str:
        names = {"tensorflow": "TensorFlow", "ai-edge-litert": "LiteRT"}
        names |= {"openvino": "OpenVINO", "tflite-micro": "TFLite Micro"}
        return next(
            f"{title} {self.versions[name]}"
            for name, title in names.items()
            if name in self.versions
        )


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    logging.set_verbosity(logging.WARNING)
    tf.get_logger().setLevel("WARNING")
    pythons = {runtime: _environment(runtime) for runtime in _RUNTIMES.value}
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(_EXPORT_DIR.value or pathlib.Path(scratch, "exports"))
        if not _EXPORT_DIR.value:
            _export_small_network(folder)
        files = _exports(folder)
        work = pathlib.Path(scratch)
        # The first one draws the inputs.
        reference = _run(sys.executable, work, _REFERENCE, folder, files)
        others = [
            _run(python, work, runtime, folder, files)
            for runtime, python in pythons.items()
        ]
    if not report(reference, others):
        sys.exit(1)


def _environment(runtime: str) -> str:
    """The Python of a runtime's environment, which is made if it is missing."""
    root = pathlib.Path(_ENVIRONMENTS.value)
    folder = root / runtime.replace("==", "-")
    python = str(folder / "bin" / "python")
    # Written last, so that an interrupted installation is not taken for a whole one.
    stamp = folder / "installed"
    if not stamp.exists():
        print(f"Installing {runtime} into {folder}.", flush=True)
        root.mkdir(parents=True, exist_ok=True)
        (root / ".gitignore").write_text("*\n")
        _command(_PYTHON.value, "-m", "venv", "--clear", str(folder))
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _command(*pip, runtime)
        stamp.touch()
    return python


def _command(*command: str, **options) -> str:
    """What a program prints; raises RuntimeError where it fails."""
    process = subprocess.run(
        command, capture_output=True, text=True, check=False, **options
    )
    if process.returncode:
        raise RuntimeError(
            f"{' '.join(command)} failed:\n{process.stderr.strip()}\n(TensorFlow 2.21 "
            "and LiteRT 2.3 need Python 3.10 or later: --python names another.)"
        )
    return process.stdout


def _export_small_network(folder: pathlib.Path) -> None:
    """A SavedModel, and every variant of TFLite file."""
    tf.keras.utils.set_random_seed(0)
    shallow = genotype.Genotype((genotype.Branch(3, 5, 1),) * 6)
    network = networks.build(shallow, (64, 32, 3), width_multiplier=0.25)
    serving.export(network, folder / "savedmodel")
    images = np.random.default_rng(0).integers(0, 256, (8, 64, 32, 3), np.uint8)
    for variant in tflite.VARIANTS:
        content = tflite.convert(network, variant, images=images)
        (folder / f"{variant}.tflite").write_bytes(content)


def _exports(folder: pathlib.Path) -> list[str]:
    """Paths below the folder, relative to it."""
    found = [*folder.rglob("*.tflite")]
    found += [file.parent for file in folder.rglob("saved_model.pb")]
    if not found:
        raise FileNotFoundError(
            f"export_dir={folder} holds no .tflite file and no SavedModel; name the "
            "--output_dir of an export, or leave the flag out."
        )
    return sorted(str(path.relative_to(folder)) for path in found)


def _run(
    python: str, work: pathlib.Path, name: str, folder: pathlib.Path, files: list[str]
) -> Result:
    # Nothing of this environment may be found by another Python.
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    python = os.path.abspath(python)
    said = _command(python, str(_CHECK), str(work), name, *files, cwd=folder, env=clean)
    print(said, end="", flush=True)
    record = json.loads((work / f"{name}.json").read_text("utf-8"))
    return Result(outputs=dict(np.load(work / f"{name}.npz")), **record)


def report(reference: Result, others: list[Result]) -> bool:
    """Prints a line for each file and way to run it; returns whether all is well."""
    titles = [reference.title(), *(other.title() for other in others)]
    good, rows, notes = True, [["file", "run with", *titles]], []
    for result in (reference, *others):
        notes += [f"{result.title()}: {k}: {v}" for k, v in result.failures.items()]
    known = {key for result in (reference, *others) for key in result.outputs}
    failed = {key for result in (reference, *others) for key in result.failures}
    for key in sorted(known | failed):
        verdicts = [judge(key, reference, other) for other in (reference, *others)]
        good &= all(verdict.good for verdict in verdicts)
        rows.append(
            [*f"{key}|".split("|")[:2], *(verdict.text for verdict in verdicts)]
        )
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    print(*notes, sep="\n")
    return good


def judge(key: str, reference: Result, other: Result) -> Verdict:
    """Compares one file's outputs, run one way."""
    if key in other.failures:
        lacks = other.failures[key].startswith(_NO_KERNELS)
        if lacks and reference.kinds.get(key) in ("float", "dynamic"):
            return Verdict(True, _NO_KERNELS)
        return Verdict(False, "FAILS")
    if other is reference:
        return Verdict(True, reference.kinds[key])
    if key not in other.outputs:
        # A SavedModel, where there is only TFLite.
        return Verdict(True, "-")
    if key not in reference.outputs:
        return Verdict(False, "FAILS in the reference")
    expected, actual = (
        result.outputs[key].astype(np.float64) for result in (reference, other)
    )
    kind = reference.kinds[key]
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    elsewhere = bool(_ELSEWHERE & set(other.versions))
    rounds_otherwise = elsewhere or key.endswith("default kernels")
    if kind == "dynamic" or (kind != "float" and rounds_otherwise):
        products = (expected * actual).sum(axis=1)
        cosine = min(products / lengths[:, 0] / np.linalg.norm(actual, axis=1))
        least = _COSINE_ELSEWHERE if elsewhere else _COSINE
        return Verdict(bool(cosine >= least), f"cosine {cosine:.5f}")
    if kind == "integer":
        steps = int(np.abs(expected - actual).max())
        return Verdict(not steps, f"{steps} steps" if steps else "equal")
    difference = float((np.abs(expected - actual) / lengths).max())
    return Verdict(difference <= _TOLERANCE, f"{difference:.1e}")


if __name__ == "__main__":
    app.run(main)
