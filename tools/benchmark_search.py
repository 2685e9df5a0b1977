"""Times a step of the search; `benchmark.py search` and `profile` run it.

Steps that are compared run in turn, each in its own process. Each result is a JSON
line.

  python tools/benchmark_search.py                     # a process per space and k
  python tools/benchmark_search.py --reference=FILE.py # paired with another step
  python tools/benchmark_search.py --rewritten         # paired with itself, rewritten
  python tools/benchmark_search.py --precision=mixed_bfloat16  # paired with float32
  python tools/benchmark_search.py --height=256 --width=128    # the paper's own size
  python tools/benchmark_search.py profile             # where a step's time goes
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import runpy
import statistics
import subprocess
import sys
import time
import types

import cdnet_tf  # isort: skip  # noqa: F401  (quiets TensorFlow)
import numpy as np
import tensorflow as tf
from absl import app, flags

from cdnet_tf import shared_flags
from cdnet_tf.learn import bilevel, devices, optimizers, profiling, single_path
from cdnet_tf.nn import genotype
from cdnet_tf.supernet import branches, supernet

_SPACES = flags.DEFINE_list("spaces", ["cs", "cds"], "Search spaces.")
_KS = flags.DEFINE_list(
    "ks",
    ["path", "1", "2", "3", "4", "all"],
    "Values of --top_k; `path` is a step of --search_strategy=single_path.",
)
_STEPS = flags.DEFINE_integer("steps", 9, "Timed steps of each kind.", 3)
_REWRITTEN = flags.DEFINE_bool(
    "rewritten",
    False,
    "Pair CDS top-2 with itself, rewritten by grappler.",
)
_REFERENCE = flags.DEFINE_string(
    "reference",
    None,
    "Python file with a `Supernet(space, k)` and a space `CDS` to pair CDS top-2 with.",
)

# Size of a timed step, unless the flags say otherwise.
_STEP_SIZE = {"height": 128, "width": 64, "batch_size": 8}
_TOP_2: dict = {"space": "cds", "k": 2}


def main(argv: list[str]) -> None:
    commands = {
        "search": search,
        "profile": profile,
        "serve": lambda: serve(json.loads(argv[2])),
    }
    command = argv[1] if len(argv) > 1 else "search"
    if command not in commands:
        raise app.UsageError(f"{command!r} is unknown; use search or profile.")
    commands[command]()


def search() -> None:
    """Times start-up and steps of the search, each kind in a fresh process."""
    if _REFERENCE.value:
        _compare({**_TOP_2, "reference": _REFERENCE.value}, _TOP_2, "same choices")
        return
    if _REWRITTEN.value:
        _compare({**_TOP_2, "rewritten": True}, _TOP_2, "rewriting")
        return
    if shared_flags.PRECISION.value != "float32":
        other = {**_TOP_2, "precision": shared_flags.PRECISION.value}
        _compare(_TOP_2, other, "precision")
        return
    for space in _SPACES.value:
        for k in _KS.value:
            with _Server({"space": space, "k": k}) as server:
                _emit(**server.ready, **server.ask("measure"))
        for k in sorted({"all", "path"} & set(_KS.value)) if "2" in _KS.value else ():
            _compare({"space": space, "k": k}, {"space": space, "k": "2"}, "k")


def _compare(first: dict, second: dict, what: str) -> None:
    """Times two kinds of step alternately; the ratio is the median of pairs."""
    with _Server(first) as one, _Server(second) as two:
        pairs = []
        for seed in range(_STEPS.value):
            # The first turn of a seed does not count, as it may meet a new structure.
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
    """Builds a step in the measured process, then answers requests on stdin."""
    rewritten = options.pop("rewritten", "reference" in options)
    with contextlib.nullcontext() if rewritten else devices.unrewritten():
        _serve(options)


def _serve(options: dict) -> None:
    started = shared_flags.LAUNCHED
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
    """Times steps with fresh and with the same choices in turn, and measures memory."""
    ran = {"all": 12, "path": 1}.get(str(k)) or int(k)
    for seed in range(24 // ran):  # meets every structure
        set_alpha(seed)
        step()
    same, fresh = [], []
    for seed in range(_STEPS.value):
        set_alpha(seed)
        fresh.append(_milliseconds(step))
        same.append(_milliseconds(step))
    # Images of D_train and D_val; a single path has no D_val.
    images = (1 if k == "path" else 2) * _step_size()["batch_size"]
    step_ms = statistics.median(same)
    result: dict = {
        "step_ms": round(step_ms),
        "fresh_step_ms": round(statistics.median(fresh)),
        "fresh_over_same": round(
            statistics.median(f / s for f, s in zip(fresh, same)), 3
        ),
        "images_per_s": round(1000 * images / step_ms, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if str(k) == "2":
        # Measured twice, as the allocator still meets new sizes in the first 300 steps.
        for steps in (300, 300):
            before = _resident_mb()
            for seed in range(steps):
                set_alpha(seed)
                step()
            grown = round(_resident_mb() - before, 1)
            result.setdefault("growth_mb_over_300_steps", []).append(grown)
    return result


def _our_step(space: str, k: int | str, precision: str = "float32"):
    devices.set_threads()
    tf.keras.mixed_precision.set_global_policy(precision)
    members = genotype.SPACES[space]
    size = _step_size()
    net = supernet.Supernet(members, 10, (size["height"], size["width"], 3))
    model: tf.keras.Model
    w_optimizer = optimizers.for_policy(optimizers.CoupledSGD(0.025, 0.9, 3e-4))
    data = batch = _random_batch()
    if k == "path":
        model = single_path.SinglePathTraining(net)
        model.compile(w_optimizer)
    else:
        model = bilevel.BilevelSearch(net, len(members) if k == "all" else int(k))
        model.compile(w_optimizer, tf.keras.optimizers.legacy.Adam(3e-4, 0.5))
        data = batch, batch
    train_step = tf.function(model.train_step, autograph=False)

    def trace() -> None:
        for shortcut in (True, False):
            branches.cblock_functions(shortcut, net.compute_dtype)
        train_step.get_concrete_function(data)

    def step() -> None:
        float(train_step(data)["loss"])

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


@devices.unrewritten()
def profile() -> None:
    """Prints the time in each kind of op of a CDS top-2 step, summed over threads."""
    set_alpha, step, _ = _our_step("cds", 2, shared_flags.PRECISION.value)

    def run(seed: int) -> None:
        set_alpha(seed)
        step()

    for seed in range(24):
        run(seed)
    spent = profiling.by_op(run, _STEPS.value)
    for op, (milliseconds, calls) in list(spent.items())[:20]:
        _emit(op=op, ms_per_step=round(milliseconds, 1), calls=round(calls))
    products = sum(spent[op].milliseconds for op in spent if profiling.is_product(op))
    total = sum(each.milliseconds for each in spent.values())
    _emit(
        op="all",
        ms_per_step=round(total, 1),
        matrix_products_and_convolutions_ms=round(products, 1),
        their_share=round(products / total, 3),
    )


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
