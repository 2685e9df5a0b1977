"""Times TFLite files on one image and one thread, in the runtime that this Python has.

It needs NumPy and ai-edge-litert, or TensorFlow, and nothing of this package, so that
one may copy it to any board with Python.

    python tools/time_tflite.py --rounds=25 FILE...

prints the median milliseconds of each file, all files run in turn. Without --rounds the
program serves other tools: for each line on stdin, every file is run, and a JSON list
of milliseconds is written to stdout.

Times are those of the thread on the CPU, so interruptions by other processes do not
count.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import sys
import time
from importlib import metadata

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--rounds", type=int, help="how often each file runs")
    said = parser.parse_args()
    make, runtime = _runtime()
    interpreters = [_loaded(make, path) for path in said.files]
    if said.rounds:
        rounds = [[_timed(each) for each in interpreters] for _ in range(said.rounds)]
        print(f"{runtime}, median of {said.rounds} rounds")
        for path, times in zip(said.files, zip(*rounds)):
            print(f"{statistics.median(times):9.3f} ms  {path}")
        return
    print(json.dumps(runtime), flush=True)
    for _ in sys.stdin:
        print(json.dumps([_timed(each) for each in interpreters]), flush=True)


def _runtime():
    """Returns the class Interpreter, and the runtime's name and version."""
    try:
        module = importlib.import_module("ai_edge_litert.interpreter")
    except ImportError:
        lite = importlib.import_module("tensorflow").lite
        return lite.Interpreter, f"TensorFlow {metadata.version('tensorflow')}"
    return module.Interpreter, f"LiteRT {metadata.version('ai-edge-litert')}"


def _loaded(make, path: str):
    interpreter = make(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    values = np.random.default_rng(0).normal(0, 1, source["shape"])
    if source["dtype"] != np.float32:
        values = np.clip(40 * values, -128, 127)
    interpreter.set_tensor(source["index"], values.astype(source["dtype"]))
    interpreter.invoke()
    return interpreter


def _timed(interpreter) -> float:
    """Returns the better of two runs; the first one still finds others' data cached."""
    times = []
    for _ in range(2):
        started = time.thread_time()
        interpreter.invoke()
        times.append(time.thread_time() - started)
    return 1000 * min(times)


if __name__ == "__main__":
    main()
