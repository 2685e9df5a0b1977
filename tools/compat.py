"""Runs exported files where they will run, and compares them with TensorFlow 2.15.

Each runtime has a virtual environment of its own under --environments, made when it is
missing; docs/export.md has the sizes. Every TFLite file embeds the same generated
pedestrians everywhere, so that beside the distance to TensorFlow's outputs there are
rank-1 and mAP.

    python tools/compat.py --export_dir=DIR    # .tflite files and SavedModels below it
    python tools/compat.py                     # a shipped network's, made here

Floats must agree within 1e-4 of an embedding's length. A file runs twice in a TFLite
runtime: with its built-in kernels, where 8-bit integers must be equal, and with the
default ones, where another runtime brings another XNNPACK, which rounds integers
otherwise: there the mean cosine must be 0.999. So must it be of a `dynamic` file, which
rounds floats as it runs: one that is a bit off takes another integer.

OpenVINO and TensorFlow Lite Micro compute with kernels of their own: floats must agree
as above, integers to a mean cosine of 0.995. Micro, which is made for microcontrollers,
may lack kernels for files that compute in floats; it prints the arena, the memory, that
a file takes. BoxMOT crops and resizes otherwise, and the chips' converters round
anew: there 0.98. A slow simulator embeds the first people alone, on whom TensorFlow is
then judged, too. The exit status is 1 if anything departs or fails.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags

from cdnet_tf.deploy import environments, readme, runtimes
from cdnet_tf.retrieval import ranking

# Case of tools/compat_elsewhere.py -> the package that it needs, and the files that it
# takes, by variant and layout.
_FLOAT = ("float32", "nhwc")
_INTEGERS = {(variant, "nhwc") for variant in ("int8", "uint8", "int8_float_io")}
_ELSEWHERE = {
    "own crops": ("boxmot", {("float32", "nchw"), ("int8_float_io", "nchw")}),
    "K230, own integers": ("nncase", {_FLOAT}),
    "RK3588, 16-bit floats": ("rknn-toolkit2", {_FLOAT}),
    "RK3588, our integers": ("rknn-toolkit2", _INTEGERS),
    "RV1106, own integers": ("rknn-toolkit2", {_FLOAT}),
}
_CPP, _CPP_NEEDS = "C++ of README.txt", "ai-edge-litert"
_REFERENCE = "reference"
_HERE = pathlib.Path(__file__).resolve()


class Labels(NamedTuple):
    """Who is on each image, and which camera took it."""

    identities: np.ndarray
    cameras: np.ndarray

    def of(self, images: np.ndarray) -> Labels:
        """Returns the labels of some images, which a mask names."""
        return Labels(self.identities[images], self.cameras[images])


class Work(NamedTuple):
    """What tools/compat_files.py has made.

    Attributes:
      folder: of it.
      exports: folder of the files.
      files: what each of them says of itself; None where it says nothing.
      people: who is embedded.
    """

    folder: pathlib.Path
    exports: pathlib.Path
    files: Mapping[str, Mapping[str, Any] | None]
    people: Labels


def define_flags() -> None:
    # At import, the names would clash with other programs' in one process.
    flags.DEFINE_string(
        "export_dir", None, "Folder of exports. Default: exports of --model."
    )
    flags.DEFINE_string(
        "model", "market1501/cdnet_x0_25", "Network to export without --export_dir."
    )
    flags.DEFINE_string(
        "environments", ".compat", "Folder of the runtimes' virtual environments."
    )
    flags.DEFINE_list(
        "runtimes",
        [
            *("tensorflow==2.21.0", "ai-edge-litert==2.3.0"),
            *("openvino==2026.4.1", "tflite-micro==0.dev20261023182759"),
            *("boxmot==25.0.0", "nncase==2.11.0", "rknn-toolkit2==2.5.0"),
        ],
        "Packages to compare with, with versions.",
    )
    flags.DEFINE_string(
        "python", sys.executable, "Makes the environments; Python 3.10 to 3.12."
    )


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    pythons = dict(_pythons())
    with tempfile.TemporaryDirectory() as scratch:
        work = _work(pathlib.Path(scratch))
        # The first one draws the inputs of SavedModels.
        reference = _run(sys.executable, _REFERENCE, work)
        others = []
        for runtime, python in pythons.items():
            package = runtime.partition("==")[0]
            cases = [case for case, what in _ELSEWHERE.items() if what[0] == package]
            if cases:
                others.append(_run_cases(python, runtime, cases, work))
                continue
            result = _run(python, runtime, work)
            if package == _CPP_NEEDS:
                program = _run_cases(python, runtime, [_CPP], work)
                result.outputs.update(program.outputs)
                result.failures.update(program.failures)
            others.append(result)
    if not report(reference, others, work):
        sys.exit(1)


def _pythons() -> Iterator[tuple[str, str]]:
    """The Python of each runtime; says which cannot be had here, and why."""
    for runtime in flags.FLAGS.runtimes:
        root = pathlib.Path(flags.FLAGS.environments)
        try:
            yield runtime, environments.python(runtime, root, flags.FLAGS.python)
        except environments.InstallationError as error:
            why = str(error).splitlines()[-1]
            print(f"{runtime} is left out, for it does not install here: {why}")


def _work(folder: pathlib.Path) -> Work:
    words = [sys.executable, str(_HERE.with_name("compat_files.py"))]
    words += [str(folder), flags.FLAGS.model]
    words += [flags.FLAGS.export_dir] if flags.FLAGS.export_dir else []
    environments.command(words)
    with np.load(folder / "people.npz") as held:
        people = Labels(held["identities"], held["cameras"])
    files = json.loads((folder / "files.json").read_text("utf-8"))
    exports = pathlib.Path(flags.FLAGS.export_dir or folder / "exports").resolve()
    return Work(folder, exports, files, people)


def _run(python: str, name: str, work: Work) -> runtimes.Result:
    """Runs all files in a TFLite runtime, or one that reads TFLite files."""
    words = [os.path.abspath(python), str(_HERE.with_name("compat_check.py"))]
    words += [str(work.folder), name, *work.files]
    said = environments.command(words, cwd=work.exports, env=_clean())
    print(said, end="", flush=True)
    record = json.loads((work.folder / f"{name}.json").read_text("utf-8"))
    with np.load(work.folder / f"{name}.npz") as held:
        outputs = {key: _centred(key, held[key], work) for key in held.files}
    return runtimes.Result(outputs, **record)


def _clean() -> dict[str, str]:
    """An environment in which another Python finds nothing of this one's."""
    return {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}


def _centred(key: str, values: np.ndarray, work: Work) -> np.ndarray:
    """Integers less their zero point, as far as the file says it."""
    record = work.files[key.partition("|")[0]]
    if record is None or not np.issubdtype(values.dtype, np.integer):
        return values
    return values.astype(np.int16) - record["output"]["zero_point"]


def _run_cases(
    python: str, runtime: str, cases: Sequence[str], work: Work
) -> runtimes.Result:
    """Runs files in ways of their own, each in a process of its own."""
    package, _, version = runtime.partition("==")
    outputs, failures, versions = {}, {}, {package: version}
    for case in cases:
        for file, record in work.files.items():
            if record is None or not takes(case, record):
                continue
            key = f"{file}|{case}"
            try:
                if case == _CPP:
                    outputs[key] = _run_cpp(python, file, work)
                else:
                    found, said = _run_elsewhere(python, case, file, record, work)
                    outputs[key] = _centred(key, found, work)
                    versions |= said
            except RuntimeError as error:
                failures[key] = " ".join(str(error).split())[-600:]
    return runtimes.Result(outputs, failures, {}, versions)


def takes(case: str, record: Mapping[str, Any]) -> bool:
    """Whether a way of its own takes a file of this description."""
    form = record["variant"], record["input"]["layout"]
    if case == _CPP:
        return form == ("uint8", "nhwc") and record["input"]["shape"][0] == 1
    return form in _ELSEWHERE[case][1]


def _run_elsewhere(
    python: str, case: str, file: str, record: Mapping[str, Any], work: Work
) -> tuple[np.ndarray, dict[str, str]]:
    output = work.folder / "output.npy"
    size = f"{record['input']['height']}x{record['input']['width']}"
    words = [os.path.abspath(python), str(_HERE.with_name("compat_elsewhere.py"))]
    words += [case, str(work.exports), file, size, str(work.folder), str(output)]
    # Some converters leave files where they run.
    said = environments.command(words, env=_clean(), cwd=work.folder)
    return np.load(output), json.loads(said.splitlines()[-1])


def _run_cpp(python: str, file: str, work: Work) -> np.ndarray:
    """Compiles README.txt's program, links it with LiteRT's library and runs it."""
    if not shutil.which("g++"):
        raise RuntimeError("g++ is not installed, and compiles README.txt's program.")
    where = "import ai_edge_litert; print(*ai_edge_litert.__path__)"
    library = environments.command([python, "-c", where], env=_clean()).strip()
    source, program = (work.folder / name for name in ("embed.cc", "embed"))
    source.write_text(readme.CPP)
    words = ["g++", "-std=c++17", "-Wall", "-Werror", str(source), "-L", library]
    words += ["-l:libLiteRt.so", f"-Wl,-rpath,{library}", "-o", str(program)]
    environments.command(words)
    pixels = work.folder / "pixels"
    with np.load(work.folder / "inputs.npz") as held:
        held[file].tofile(pixels)
    said = environments.command([str(program), str(work.exports / file), str(pixels)])
    return np.array([line.split() for line in said.splitlines()], np.float32)


def report(
    reference: runtimes.Result, others: Sequence[runtimes.Result], work: Work
) -> bool:
    """Prints how each file agrees and retrieves; returns whether all is well."""
    results = [reference, *others]
    titles = [result.title() for result in results]
    good, rows, notes = True, [["file", "run with", *titles]], []
    retrieved = [["rank-1 / mAP", "run with", "images", *titles]]
    for result in results:
        notes += [f"{result.title()}: {k}: {v}" for k, v in result.failures.items()]
    known = {key for result in results for key in result.outputs}
    failed = {key for result in results for key in result.failures}
    for key in sorted(known | failed):
        verdicts = [runtimes.judge(key, reference, other) for other in results]
        good &= all(verdict.good for verdict in verdicts)
        head = f"{key}|".split("|")[:2]
        rows.append([*head, *(verdict.text for verdict in verdicts)])
        if key in known and work.files.get(head[0]):
            retrieved.append([*head, *_retrieval(key, results, work)])
    tables = [runtimes.table(rows), *notes, runtimes.table(retrieved)]
    print(*tables, sep="\n")
    return good


def _retrieval(
    key: str, results: Sequence[runtimes.Result], work: Work
) -> Iterator[str]:
    """How many images are ranked, and how well each runtime ranks them.

    A slow runtime has embedded the first images alone; all are then judged on those.
    """
    found = [result.outputs.get(key) for result in results]
    found[0] = runtimes.counterpart(key, results[0])
    images = min(len(values) for values in found if values is not None)
    yield str(images)
    for values in found:
        yield "-" if values is None else _scores(values[:images], work.people)


def _scores(embeddings: np.ndarray, people: Labels) -> str:
    """Rank-1 and mAP in per cent, of the first people.

    They are looked for in what the first camera saw: weights that never learnt drawn
    people tell cameras apart better than people.
    """
    values = embeddings.astype(np.float32)
    people = Labels(*(labels[: len(values)] for labels in people))
    first = people.cameras == people.cameras.min()
    query, gallery = people.of(~first), people.of(first)
    found = ranking.evaluate(values[~first], query, values[first], gallery)
    return f"{found.rank1:.1%} / {found.mean_ap:.1%}"


if __name__ == "__main__":
    define_flags()
    app.run(main)
