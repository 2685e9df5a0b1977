"""Times TFLite files in the one runtime that this Python has; for benchmark_inference.

    python tools/time_tflite.py FILE...

Answers a line on stdin with a line on stdout: every file run in turn on one image and
one thread, a JSON list of milliseconds. Needs NumPy beside the runtime and nothing of
this project, which is not installed where it runs.

Time is that of the thread on the CPU: other processes that interrupt it do not count.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from importlib import metadata

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> None:
    make, runtime = _runtime()
    interpreters = [_loaded(make, path) for path in sys.argv[1:]]
    print(json.dumps(runtime), flush=True)
    for _ in sys.stdin:
        print(json.dumps([_timed(each) for each in interpreters]), flush=True)


def _runtime():
    """(Interpreter, name and version)."""
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
    """The better of two runs: the first finds another file's data in the caches."""
    times = []
    for _ in range(2):
        started = time.thread_time()
        interpreter.invoke()
        times.append(time.thread_time() - started)
    return 1000 * min(times)


if __name__ == "__main__":
    main()
