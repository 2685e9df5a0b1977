"""Compares networks with OSNet as TFLite files; `benchmark.py inference` runs it.

All files run in turn on one image and one thread; ratios are medians over the turns.

  python tools/benchmark_inference.py --litert_python=PATH
  python tools/benchmark_inference.py --networks=cdnet,osnet --step_by_step

Every network is written as it is and rewritten (`deploy/rewrite.py`), in float32 and
int8. Weights and statistics are random, which does not change the time. Each network
has a floor, the time of its dense convolutions alone: each distinct convolution is
timed in a separate file, and counts as often as it occurs. Each result is a JSON line.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import cdnet_tf  # isort: skip  # noqa: F401  (quiets TensorFlow)
import numpy as np
import tensorflow as tf
from absl import app, flags, logging

from cdnet_tf import shared_flags
from cdnet_tf.data import preprocess
from cdnet_tf.deploy import folding, rewrite, tflite, tflite_file
from cdnet_tf.nn import networks

_NETWORKS = flags.DEFINE_list(
    "networks", ["cdnet", "cnet", "osnet", "mobilenet_v2"], "Networks to time."
)
_VARIANTS = flags.DEFINE_list("variants", ["float32", "int8"], "Kinds of file.")
_STEPS = flags.DEFINE_integer("steps", 40, "Timed runs of every file.", 3)
_STEP_BY_STEP = flags.DEFINE_bool(
    "step_by_step", False, "Also time each step of the rewrite alone."
)
_LITERT_PYTHON = flags.DEFINE_string(
    "litert_python",
    ".compat/ai-edge-litert-2.3.0/bin/python",
    "Python that has ai-edge-litert; tools/compat.py makes the default one.",
)

_REFERENCE = "osnet"
_AS_IS = "as it is"
_SERVER = pathlib.Path(__file__).with_name("time_tflite.py")

# File of a convolution -> how often the convolution occurs in a network.
_Counts = dict[str, int]


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    logging.set_verbosity(logging.WARNING)
    forms: dict[str, tuple[str, ...] | None] = {
        _AS_IS: None,
        "rewritten": ("pool", "stem", "shortcut"),  # `mean` is for an NPU.
    }
    if _STEP_BY_STEP.value:
        forms |= {f"{step} alone": (step,) for step in rewrite.STEPS}
        forms["without stem"] = ("pool", "shortcut")
    with tempfile.TemporaryDirectory() as folder:
        writer = _Writer(pathlib.Path(folder))
        for name in dict.fromkeys([*_NETWORKS.value, _REFERENCE]):
            for variant in _VARIANTS.value:
                for form, steps in forms.items():
                    writer.add(name, variant, form, steps)
        for python in _pythons():
            _measure(python, writer)


def _pythons() -> list[str]:
    pythons = [sys.executable]
    if os.path.exists(_LITERT_PYTHON.value):
        return [*pythons, _LITERT_PYTHON.value]
    print(
        f"LiteRT is left out, because litert_python={_LITERT_PYTHON.value} does not "
        "exist; tools/compat.py makes it.",
        file=sys.stderr,
    )
    return pythons


class _Writer:
    """Writes files of networks, and of each distinct dense convolution in them.

    Attributes:
      files: paths by name, in the order of their timing.
      cases: (network, variant, form) -> (its file, its convolutions' files).
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._networks: dict[str, tf.keras.Model] = {}
        self.files: dict[str, str] = {}
        self.cases: dict[tuple[str, str, str], tuple[str, _Counts]] = {}

    def add(self, name: str, variant: str, form: str, steps) -> None:
        if name not in self._networks:
            self._networks[name] = _network(name)
        network = self._networks[name]
        written = rewrite.rewrite(network, steps) if steps else network
        case = (name, variant, form)
        self._write("|".join(case), written, variant)
        # The floor is that of the original network in all forms.
        floor: _Counts = collections.Counter()
        for key in _dense(folding.fold(network)):
            file = f"{variant}|{key}"
            if file not in self.files:
                self._write(file, _convolution(*key), variant)
            floor[file] += 1
        self.cases[case] = "|".join(case), floor

    def _write(self, name: str, network: tf.keras.Model, variant: str) -> None:
        images = None
        if tflite_file.is_integer(variant):
            images = _images(4, network.input_shape[1:])
        path = self._folder / f"{len(self.files)}.tflite"
        path.write_bytes(_converted(network, variant, images))
        self.files[name] = str(path)


def _converted(network: tf.keras.Model, variant: str, images) -> bytes:
    """Converts a network, or a lone convolution, which is calibrated on noise."""
    if network.input_shape[-1] == 3:
        return tflite.convert(network, variant, images=images)
    made = tflite.converter(network, variant)
    if images is not None:
        made.optimizations = [tf.lite.Optimize.DEFAULT]
        noise = (images / 255).astype(np.float32)
        made.representative_dataset = lambda: ([each[None]] for each in noise)
        made.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        made.inference_input_type = made.inference_output_type = tf.int8
    return made.convert()


def _network(name: str) -> tf.keras.Model:
    """Builds a network of the flags' size with random weights."""
    tf.keras.utils.set_random_seed(0)
    shape = shared_flags.HEIGHT.value, shared_flags.WIDTH.value, 3
    network = networks.build_named(
        name, input_shape=shape, width_multiplier=shared_flags.WIDTH_MULTIPLIER.value
    )
    networks.imitate_training(network, preprocess.normalise(_images(8, shape)))
    return network


def _images(count: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def _dense(network: tf.keras.Model):
    """Yields input shape, channels, kernel, stride and padding of all Conv2D calls.

    Convolutions in gates, whose input is one pixel, are left out.
    """
    for layer in network.layers:
        if type(layer) is tf.keras.layers.Conv2D:
            for i in range(len(layer.inbound_nodes)):
                shape = tuple(layer.get_input_shape_at(i)[1:])
                if shape[:2] != (1, 1):
                    size = layer.kernel_size, layer.strides, layer.padding
                    yield (shape, layer.filters, *size)


def _convolution(shape, filters, kernel, strides, padding) -> tf.keras.Model:
    image = tf.keras.Input(shape)
    conv = tf.keras.layers.Conv2D(filters, kernel, strides, padding, activation="relu")
    return tf.keras.Model(image, conv(image), name="convolution")


def _measure(python: str, writer: _Writer) -> None:
    """Runs all files in turn, and prints a line for each network."""
    with _server(python, list(writer.files.values())) as ask:
        runtime = ask(None)
        turns = [ask("turn") for _ in range(_STEPS.value + 2)][2:]
    took = {name: np.array(each) for name, each in zip(writer.files, zip(*turns))}
    for (name, variant, form), (file, floor) in writer.cases.items():
        own = took[file]
        parts = [count * took[part] for part, count in floor.items()]
        least = np.sum(parts, axis=0)
        reference = took[f"{_REFERENCE}|{variant}|{_AS_IS}"]
        alike = took[f"{_REFERENCE}|{variant}|{form}"]
        result = {
            "network": name,
            "variant": variant,
            "form": form,
            "runtime": runtime,
            "cpu": tflite.processor(),
            "cpu_ms": round(statistics.median(own), 2),
            "over_osnet": _ratio(own, reference),
            "over_osnet_in_this_form": _ratio(own, alike),
            "over_itself_as_it_is": _ratio(own, took[f"{name}|{variant}|{_AS_IS}"]),
            "floor_ms": round(statistics.median(least), 2),
            "over_floor": _ratio(own, least),
            "turns": len(own),
        }
        print(json.dumps(result), flush=True)


def _ratio(first: np.ndarray, second: np.ndarray) -> float:
    return round(float(np.median(first / second)), 3)


@contextlib.contextmanager
def _server(python: str, paths: list[str]):
    """Starts a process that loads the files; yields a function that asks it."""
    # The other Python must not find the packages of this one.
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    process = subprocess.Popen(
        [python, str(_SERVER), *paths],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=clean,
    )
    answers = process.stdout
    assert answers is not None

    def ask(request: str | None):
        if request:
            print(request, file=process.stdin, flush=True)
        line = answers.readline()
        if not line:
            raise RuntimeError(
                f"{python} {_SERVER} ended early; is a TFLite runtime installed there?"
            )
        return json.loads(line)

    try:
        yield ask
    finally:
        process.communicate()


if __name__ == "__main__":
    app.run(main)
