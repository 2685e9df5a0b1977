"""Measures size and speed side by side, one JSON line a result.

  python tools/benchmark.py size --networks=cnet,cdnet,cdnet_std,cdnet_v35
  python tools/benchmark.py search                 # a process per space and k
  python tools/benchmark.py search --reference=FILE.py    # paired with another step
  python tools/benchmark.py train                  # a step against its floor
  python tools/benchmark.py rank                   # Market-1501's size, and re-ranking
  python tools/benchmark.py input --data_dir=DIR   # batches per second
  python tools/benchmark.py profile                # where a step's time goes
  python tools/benchmark.py inference              # TFLite files against OSNet's

A comparison alternates the two within one run and gives their ratio: on a noisy
machine absolute times mean little.
"""

from __future__ import annotations

import collections
import contextlib
import glob
import json
import os
import resource
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable

from cdnet_tf import run_flags  # isort: skip  (quiets TensorFlow)
import numpy as np
import tensorflow as tf
from absl import app, flags

from cdnet_tf.data import pipeline
from cdnet_tf.learn import bilevel, optimizers, training
from cdnet_tf.nn import branches, counting, genotype, networks, supernet
from cdnet_tf.retrieval import ranking, reranking

_NETWORKS = flags.DEFINE_list("networks", list(networks.NAMES), "Of `size`.")
_SPACES = flags.DEFINE_list("spaces", ["cs", "cds"], "Of `search`.")
_KS = flags.DEFINE_list("ks", ["1", "2", "3", "4", "all"], "Of `search`: top-k.")
_STEPS = flags.DEFINE_integer("steps", 9, "Timed steps of each kind.", 3)
_LITERT_PYTHON = flags.DEFINE_string(
    "litert_python",
    ".compat/ai-edge-litert-2.3.0/bin/python",
    "Of `inference`: a Python that has ai-edge-litert; tools/compat.py makes this one.",
)
_STEP_BY_STEP = flags.DEFINE_bool(
    "step_by_step", False, "Of `inference`: time each step of the rewrite alone, too."
)
_REWRITTEN = flags.DEFINE_bool(
    "rewritten",
    False,
    "Of `search`: pair CDS top-2 with itself, rewritten by grappler.",
)
_REFERENCE = flags.DEFINE_string(
    "reference",
    None,
    "Python file with a `Supernet(space, k)` and a space `CDS` to pair CDS top-2 with.",
)

# (height, width, batch) of a timed step, unless the flags say otherwise.
_STEP_SIZE = {"height": 128, "width": 64, "batch_size": 8}
# Height, width and channels of CDNet's DownSamples and of its stem's output.
_DENSE = ((64, 32, 256), (32, 16, 384), (64, 32, 64))
_TOP_2: dict = {"space": "cds", "k": 2}


def main(argv: list[str]) -> None:
    commands = {
        "size": size,
        "search": search,
        "train": train,
        "rank": rank,
        "input": feed,
        "profile": profile,
        "inference": inference,
        "serve": lambda: serve(json.loads(argv[2])),
    }
    if len(argv) < 2 or argv[1] not in commands:
        names = ", ".join(name for name in commands if name != "serve")
        raise app.UsageError(f"Name a benchmark: {names}.")
    commands[argv[1]]()


def size() -> None:
    """Parameters and multiply-accumulates of whole networks, neck included."""
    shape = run_flags.HEIGHT.value, run_flags.WIDTH.value, 3
    for name in _NETWORKS.value:
        network = networks.build_named(
            name,
            input_shape=shape,
            width_multiplier=run_flags.WIDTH_MULTIPLIER.value,
        )
        _emit(
            network=name,
            parameters=counting.parameters(network),
            macs=counting.macs(network),
        )


def search() -> None:
    """Start-up and step times of the search, a fresh process each."""
    if _REFERENCE.value:
        _compare({**_TOP_2, "reference": _REFERENCE.value}, _TOP_2, "same choices")
        return
    if _REWRITTEN.value:
        _compare({**_TOP_2, "rewritten": True}, _TOP_2, "rewriting")
        return
    for space in _SPACES.value:
        for k in _KS.value:
            with _Server({"space": space, "k": k}) as server:
                _emit(**server.ready, **server.ask("measure"))
        if {"2", "all"} <= set(_KS.value):
            _compare({"space": space, "k": "all"}, {"space": space, "k": "2"}, "k")


def _compare(first: dict, second: dict, what: str) -> None:
    """Times two kinds of step alternately; the ratio is the median of pairs."""
    with _Server(first) as one, _Server(second) as two:
        pairs = []
        for seed in range(_STEPS.value):
            # Each seed's first turn is not timed: it may meet a new structure.
            turns = [[s.ask("step", seed) for s in (one, two)] for _ in range(3)]
            pairs += turns[1:]
        _emit(
            what=what,
            first={**first, **one.ready},
            second={**second, **two.ready},
            first_ms=round(statistics.median(a for a, _ in pairs)),
            second_ms=round(statistics.median(b for _, b in pairs)),
            first_over_second=round(statistics.median(a / b for a, b in pairs), 3),
            pairs=len(pairs),
        )


class _Server:
    """A process that has built one kind of step and runs it on request."""

    def __init__(self, options: dict) -> None:
        command = [sys.executable, __file__, "serve", json.dumps(options)]
        command += [f"--{name}={value}" for name, value in _step_size().items()]
        command += [f"--steps={_STEPS.value}"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        started = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.ready = self._answer()
        self.ready["launch_to_first_step_s"] = round(time.perf_counter() - started, 1)

    def _answer(self):
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("The measured process ended early; see its error above.")
        return json.loads(line)

    def ask(self, *request):
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def __enter__(self) -> _Server:
        return self

    def __exit__(self, *_) -> None:
        self._process.communicate()


def serve(options: dict) -> None:
    """The measured process: builds a step, then answers requests on stdin."""
    rewritten = options.pop("rewritten", "reference" in options)
    with contextlib.nullcontext() if rewritten else run_flags.unrewritten():
        _serve(options)


def _serve(options: dict) -> None:
    started = run_flags.LAUNCHED
    imported = time.perf_counter()
    make = _reference_step if "reference" in options else _our_step
    set_alpha, step, trace = make(**options)
    built = time.perf_counter()
    trace()
    traced = time.perf_counter()
    step()
    first = time.perf_counter()
    _emit(
        **options,
        **_step_size(),
        import_s=round(imported - started, 1),
        build_s=round(built - imported, 1),
        trace_s=round(traced - built, 1),
        first_step_s=round(first - traced, 1),
    )
    for line in sys.stdin:
        request, *arguments = json.loads(line)
        if request == "step":
            set_alpha(*arguments)
            print(_milliseconds(step), flush=True)
        else:
            _emit(**_measure(set_alpha, step, options["k"]))


def _measure(set_alpha, step, k: int | str) -> dict:
    """Steps with the same choices and with fresh ones, alternating; memory."""
    for seed in range(2 if k == "all" else 24 // int(k)):  # meets every structure
        set_alpha(seed)
        step()
    same, fresh = [], []
    for seed in range(_STEPS.value):
        set_alpha(seed)
        fresh.append(_milliseconds(step))
        same.append(_milliseconds(step))
    images = 2 * _step_size()["batch_size"]  # D_train's and D_val's
    step_ms = statistics.median(same)
    result = {
        "step_ms": round(step_ms),
        "fresh_step_ms": round(statistics.median(fresh)),
        "fresh_over_same": round(
            statistics.median(f / s for f, s in zip(fresh, same)), 3
        ),
        "images_per_s": round(1000 * images / step_ms, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if str(k) == "2":
        # In the first hundred steps the allocator still meets new sizes.
        for steps in (100, 200):
            before = _resident_mb()
            for seed in range(steps):
                set_alpha(seed)
                step()
            result[f"growth_mb_over_{steps}_steps"] = round(_resident_mb() - before, 1)
    return result


def _our_step(space: str, k: int | str):
    run_flags.set_threads()
    members = genotype.SPACES[space]
    size = _step_size()
    net = supernet.Supernet(members, 10, (size["height"], size["width"], 3))
    model = bilevel.BilevelSearch(net, len(members) if k == "all" else int(k))
    model.compile(
        optimizers.CoupledSGD(0.025, 0.9, 3e-4),
        tf.keras.optimizers.legacy.Adam(3e-4, 0.5),
    )
    train_step = tf.function(model.train_step, autograph=False)
    batch = _random_batch()

    def trace() -> None:
        for shortcut in (True, False):
            branches.cblock_functions(shortcut, "float32")
        train_step.get_concrete_function((batch, batch))

    def step() -> None:
        float(train_step((batch, batch))["loss"])

    return lambda seed: net.alpha.assign(_alpha(seed, net.alpha.shape)), step, trace


def _reference_step(reference: str, space: str, k: int):
    module = types.SimpleNamespace(**runpy.run_path(reference))
    net = module.Supernet(getattr(module, space.upper()), k)
    net(tf.zeros([1, 64, 32, 3]))
    rates = (
        tf.keras.optimizers.legacy.SGD(0.025, 0.9),
        tf.keras.optimizers.legacy.Adam(3e-4, 0.5),
    )
    crossentropy = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    forward = tf.function(lambda x: net(x, training=True), autograph=False)
    x, y = _random_batch()

    @tf.function(autograph=False)
    def both_passes(x, y):
        values = []
        for optimizer, variables in zip(rates, (net.trainable_variables, [net.alpha])):
            with tf.GradientTape() as tape:
                tape.watch(net.alpha)
                values.append(crossentropy(y, forward(x)))
            gradients = tape.gradient(values[-1], variables)
            gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
            optimizer.apply_gradients(zip(gradients, variables))
        return values

    def step() -> None:
        [float(value) for value in both_passes(x, y)]

    def set_alpha(seed: int) -> None:
        net.alpha.assign(_alpha(seed, net.alpha.shape))

    return set_alpha, step, lambda: both_passes.get_concrete_function(x, y)


@run_flags.unrewritten()
def train() -> None:
    """CDNet's training step at 256x128, and how long its convolutions alone must take.

    The floor: the multiply-accumulates of the forward pass, three times (forward,
    gradients of inputs and of weights), at the best rate that a dense convolution of
    the network's own sizes reaches here. Both are timed in turn.
    """
    run_flags.set_threads()
    batch = flags.FLAGS.batch_size if flags.FLAGS["batch_size"].present else 8
    shape = run_flags.HEIGHT.value, run_flags.WIDTH.value, 3
    began = time.perf_counter()
    network = networks.build_named("cdnet", input_shape=shape, num_classes=751)
    model = training.ReidTraining(network)
    model.compile(optimizers.CoupledSGD(0.01, 0.9, 5e-4))
    step = tf.function(model.train_step, autograph=False)
    images = tf.random.stateless_normal((batch, *shape), (0, 0))
    data = images, tf.range(batch) // 2
    float(step(data)["loss"])
    started = time.perf_counter()
    convolutions = [_convolution(batch, *size) for size in _DENSE]
    pairs = []
    for turn in range(_STEPS.value + 2):
        took = _milliseconds(lambda: float(step(data)["loss"]))
        rate = max(macs / _milliseconds(run) for run, macs in convolutions)
        if turn > 1:
            pairs.append((took, 3 * batch * counting.macs(model.embedder()) / rate))
    _emit(
        network="cdnet",
        batch_size=batch,
        height=shape[0],
        width=shape[1],
        launch_to_first_step_s=round(started - run_flags.LAUNCHED, 1),
        of_these_build_trace_and_first_step_s=round(started - began, 1),
        step_ms=round(statistics.median(step for step, _ in pairs)),
        floor_ms=round(statistics.median(floor for _, floor in pairs)),
        step_over_floor=round(statistics.median(s / f for s, f in pairs), 2),
        pairs=len(pairs),
    )


def _convolution(batch: int, height: int, width: int, channels: int):
    """(function that runs a dense convolution 1x1 ten times, its MACs)."""
    x = tf.random.stateless_normal((batch, height, width, channels), (0, 0))
    kernel = tf.random.stateless_normal((1, 1, channels, channels), (0, 1))

    @tf.function
    def run():
        y = x
        for _ in range(10):
            y = tf.nn.conv2d(y, kernel, 1, "SAME") * 1e-2
        return tf.reduce_sum(y)

    run()
    return lambda: float(run()), 10 * batch * height * width * channels**2


def rank() -> None:
    """Ranking and re-ranking of Market-1501's size: 3,368 x 15,913, 768 dimensions."""
    draw = np.random.default_rng(0)
    people = draw.standard_normal((1501, 768), np.float32)
    splits = {}
    for name, count in (("query", 3368), ("gallery", 15913)):
        identities = draw.integers(1, 1501, count)
        noise = draw.standard_normal((count, 768), np.float32)
        labels = types.SimpleNamespace(
            identities=identities, cameras=draw.integers(1, 7, count)
        )
        splits[name] = people[identities] + 3 * noise, labels
    everything = *splits["query"], *splits["gallery"]
    kinds: dict[str, Callable[..., ranking.Scores]] = {
        "rank": ranking.evaluate,
        "re-rank": reranking.evaluate,
    }
    for name, evaluate in kinds.items():
        took = []
        for _ in range(3):
            began = time.perf_counter()
            scores = evaluate(*everything)
            took.append(time.perf_counter() - began)
        _emit(
            what=name,
            seconds=round(statistics.median(took), 2),
            mean_ap=round(scores.mean_ap, 4),
            peak_mb_of_the_process=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            // 1024,
        )


@run_flags.unrewritten()
def profile() -> None:
    """Time in each kind of op of a CDS top-2 step, summed over threads."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    set_alpha, step, _ = _our_step("cds", 2)
    for seed in range(24):
        set_alpha(seed)
        step()
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        for seed in range(_STEPS.value):
            set_alpha(seed)
            step()
        tf.profiler.experimental.stop()
        trace = xplane_pb2.XSpace()
        (path,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        with open(path, "rb") as file:
            trace.ParseFromString(file.read())
    spent: dict[str, float] = collections.defaultdict(float)
    calls: dict[str, float] = collections.defaultdict(float)
    for plane in trace.planes:
        names = plane.event_metadata
        for event in (event for line in plane.lines for event in line.events):
            _, separator, op = names[event.metadata_id].name.rpartition(":")
            if separator and plane.name == "/host:CPU":
                spent[op] += event.duration_ps / 1e9 / _STEPS.value
                calls[op] += 1 / _STEPS.value
    for op, milliseconds in sorted(spent.items(), key=lambda item: -item[1])[:20]:
        _emit(op=op, ms_per_step=round(milliseconds, 1), calls=round(calls[op]))


def feed() -> None:
    """Images per second that the input pipeline can give, cached and not."""
    data = run_flags.read_data()
    size = _step_size()
    for cache_bytes in (None, 0):
        batches = pipeline.search_batches(
            data.train,
            identities_per_batch=size["batch_size"] // run_flags.IMAGES_PER_ID.value,
            images_per_id=run_flags.IMAGES_PER_ID.value,
            seed=0,
            epochs=10**6,
            height=size["height"],
            width=size["width"],
            cache_bytes=cache_bytes,
        )
        iterator = iter(batches.dataset)
        for _ in range(50):
            next(iterator)
        started, steps = time.perf_counter(), 0
        while time.perf_counter() - started < 5:
            next(iterator)
            steps += 1
        rate = 2 * size["batch_size"] * steps / (time.perf_counter() - started)
        _emit(**size, cached=cache_bytes is None, images_per_s=round(rate))


def inference() -> None:
    """Latency of TFLite files; a program of its own, which takes the same flags."""
    program = os.path.join(os.path.dirname(__file__), "benchmark_inference.py")
    passed = ["networks", "litert_python", "step_by_step", "steps"]
    passed += ["height", "width", "width_multiplier"]
    renamed = {"steps": "turns"}
    command = [sys.executable, program]
    for name in passed:
        if flags.FLAGS[name].present:
            value = flags.FLAGS[name].value
            value = ",".join(value) if isinstance(value, list) else value
            command.append(f"--{renamed.get(name, name)}={value}")
    sys.exit(subprocess.run(command, check=False).returncode)


def _step_size() -> dict[str, int]:
    return {
        name: flags.FLAGS[name].value if flags.FLAGS[name].present else default
        for name, default in _STEP_SIZE.items()
    }


def _random_batch():
    size = _step_size()
    shape = size["batch_size"], size["height"], size["width"], 3
    labels = tf.range(size["batch_size"]) // 4
    return tf.random.stateless_normal(shape, (0, 0)), labels


def _alpha(seed: int, shape) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(tuple(shape))


def _milliseconds(step) -> float:
    started = time.perf_counter()
    step()
    return 1000 * (time.perf_counter() - started)


def _resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def _emit(**result) -> None:
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    app.run(main)
