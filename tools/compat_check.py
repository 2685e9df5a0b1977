"""Runs exported files in the one runtime that this Python has; for tools/compat.py.

It needs NumPy beside the runtime and nothing of this project, which is not installed
where it runs.

    python tools/compat_check.py DIRECTORY NAME FILE...

Takes inputs from DIRECTORY/inputs.npz, or draws them and leaves them there, and writes
NAME.npz (outputs) and NAME.json (versions, kinds of file, what failed).
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import pathlib
import platform
import re
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_IMAGES = 4
# Of the images for a SavedModel, which takes any size.
_FRAME = (150, 70, 3)
_RUNTIMES = ("tensorflow", "ai-edge-litert", "openvino", "tflite-micro")
# Begins the failure of a file that a runtime has no kernels for.
NO_KERNELS = "no kernels"
_ARENA = re.compile(r"Arena allocation total (\d+) bytes")


def main() -> None:
    directory, name = pathlib.Path(sys.argv[1]), sys.argv[2]
    inputs = Inputs(directory / "inputs.npz")
    outputs: dict[str, np.ndarray] = {}
    failures: dict[str, str] = {}
    kinds: dict[str, str] = {}
    for path in sys.argv[3:]:
        try:
            cases = _cases(path, inputs)
        except Exception as error:
            failures[path] = _one_line(error)
            continue
        for case, run in cases.items():
            key = f"{path}|{case}"
            try:
                outputs[key], kinds[key] = run()
            except Exception as error:
                failures[key] = _one_line(error)
    inputs.save()
    np.savez(directory / f"{name}.npz", **outputs)
    record = {"versions": _versions(), "kinds": kinds, "failures": failures}
    (directory / f"{name}.json").write_text(json.dumps(record, indent=1))


class Inputs:
    """Random inputs, drawn where they are first asked for and read elsewhere."""

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._values = dict(np.load(path)) if path.exists() else {}
        self._rng = np.random.default_rng(0)

    def get(self, key: str, make: Callable[[np.random.Generator], np.ndarray]):
        """Returns what was kept under `key`, or makes and keeps it."""
        if key not in self._values:
            self._values[key] = make(self._rng)
        return self._values[key]

    def drawn(self, key: str) -> np.ndarray:
        """Returns what was kept under `key`; raises KeyError if there is nothing."""
        return self._values[key]

    def save(self) -> None:
        np.savez(self._path, **self._values)


def _draw(rng: np.random.Generator, shape, dtype) -> np.ndarray:
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max + 1, shape, dtype)
    # Normalised pixels.
    return rng.normal(size=shape).astype(dtype)


_Run = Callable[[], "tuple[np.ndarray, str]"]


def _cases(path: str, inputs: Inputs) -> dict[str, _Run]:
    """The ways to run a file here; none for a SavedModel where there is only TFLite."""
    if path.endswith(".tflite"):
        if _is_installed("openvino"):
            return {"default kernels": functools.partial(_run_openvino, path, inputs)}
        if _is_installed("tflite-micro"):
            return {"built-in kernels": functools.partial(_run_micro, path, inputs)}
        return {
            "default kernels": functools.partial(_run_tflite, path, inputs, False),
            "built-in kernels": functools.partial(_run_tflite, path, inputs, True),
        }
    if not _is_installed("tensorflow"):
        return {}
    model = importlib.import_module("tensorflow").saved_model.load(path)
    return {
        name: functools.partial(_run_signature, f"{path}|{name}", inputs, model, name)
        for name, signature in model.signatures.items()
        if "embeddings" in signature.structured_outputs
    }


def _run_tflite(path: str, inputs: Inputs, builtin: bool) -> tuple[np.ndarray, str]:
    """Outputs of one image at a time, and what kind of file it is."""
    if _is_installed("tensorflow"):
        lite = importlib.import_module("tensorflow").lite
        resolvers = lite.experimental.OpResolverType
    else:
        lite = importlib.import_module("ai_edge_litert.interpreter")
        resolvers = lite.OpResolverType
    # By default a delegate, XNNPACK, takes over what it can.
    resolver = (
        resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES if builtin else resolvers.AUTO
    )
    interpreter = lite.Interpreter(
        path, num_threads=1, experimental_op_resolver_type=resolver
    )
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    (target,) = interpreter.get_output_details()
    shape, dtype = (_IMAGES, *source["shape"]), source["dtype"]
    outputs = []
    for image in inputs.get(path, lambda rng: _draw(rng, shape, dtype)):
        interpreter.set_tensor(source["index"], image)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(target["index"]))
    return np.concatenate(outputs), _kind(interpreter, target)


def _run_openvino(path: str, inputs: Inputs) -> tuple[np.ndarray, str]:
    """As `_run_tflite`, on the CPU; floats keep 32 bits."""
    core = importlib.import_module("openvino").Core()
    model = core.read_model(path)
    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    run = core.compile_model(model, "CPU", options)
    return np.concatenate([run(image)[0] for image in inputs.drawn(path)]), "unknown"


def _run_micro(path: str, inputs: Inputs) -> tuple[np.ndarray, str]:
    """As `_run_tflite`; prints the arena that a microcontroller has to have.

    Raises:
      RuntimeError: no kernels for the file; says which, as the runtime prints it.
    """
    runtime = importlib.import_module("tflite_micro.python.tflite_micro.runtime")
    made: list = []
    said = _printed(lambda: made.append(_attempted(runtime.Interpreter, path)))
    (interpreter,) = made
    if isinstance(interpreter, Exception):
        raise RuntimeError(f"{NO_KERNELS}: {_one_line(said or interpreter)}")
    outputs = []
    for image in inputs.drawn(path):
        interpreter.set_input(image, 0)
        interpreter.invoke()
        outputs.append(interpreter.get_output(0))
    arena = _ARENA.search(_printed(interpreter.print_allocations))
    if arena:
        print(f"{path}: arena of {int(arena[1]) / 1024:.0f} KiB", flush=True)
    return np.concatenate(outputs), "unknown"


def _attempted(interpreter, path: str):
    """An interpreter of a file, or the exception instead."""
    try:
        return interpreter.from_file(path)
    except RuntimeError as error:
        return error


def _printed(function: Callable[[], None]) -> str:
    """What a function prints from C++, to either stream."""
    with tempfile.TemporaryFile("w+") as held:
        kept = [os.dup(stream) for stream in (1, 2)]
        try:
            for stream in (1, 2):
                os.dup2(held.fileno(), stream)
            function()
        finally:
            for stream, copy in zip((1, 2), kept):
                os.dup2(copy, stream)
                os.close(copy)
        held.seek(0)
        return held.read()


def _kind(interpreter, target) -> str:
    """What a file computes in, by which its outputs are judged."""
    if np.issubdtype(target["dtype"], np.integer):
        return "integer"
    types = [np.dtype(tensor["dtype"]) for tensor in interpreter.get_tensor_details()]
    if not {np.dtype("i1"), np.dtype("u1")} & set(types):
        return "float"
    # With 8-bit weights alone, what flows between operations is float, mostly.
    return "dynamic" if 2 * types.count(np.dtype("f4")) > len(types) else "mixed"


def _run_signature(
    key: str, inputs: Inputs, model, name: str
) -> tuple[np.ndarray, str]:
    tensorflow = importlib.import_module("tensorflow")
    # Of the model, which has to outlive it: it owns the weights.
    signature = model.signatures[name]
    ((argument, spec),) = signature.structured_input_signature[1].items()

    def make(rng):
        images = _draw(rng, (_IMAGES, *_FRAME), np.uint8)
        if spec.dtype != tensorflow.string:
            return images.astype(spec.dtype.as_numpy_dtype)
        # A JPEG does not end in a zero byte, which an array of strings would drop.
        return np.array([tensorflow.io.encode_jpeg(image).numpy() for image in images])

    value = tensorflow.constant(inputs.get(key, make))
    (result,) = signature(**{argument: value}).values()
    return result.numpy(), "float"


def _one_line(error: Exception | str) -> str:
    """Each runtime has its own kinds of error; what they say is all they share."""
    return " ".join(str(error).split())


def _is_installed(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False


def _versions() -> dict[str, str]:
    packages = [name for name in (*_RUNTIMES, "numpy") if _is_installed(name)]
    return {
        **{name: metadata.version(name) for name in packages},
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
