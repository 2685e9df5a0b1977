"""Measures size and speed side by side, and prints a JSON line for each result.

A comparison alternates the two within one run and prints their ratio, because absolute
times mean little on a noisy machine.

  python tools/benchmark.py size --networks=cnet,cdnet,cdnet_std,cdnet_v35
  python tools/benchmark.py search                 # a process per space and k
  python tools/benchmark.py search --reference=FILE.py    # paired with another step
  python tools/benchmark.py train                  # a step against its floor
  python tools/benchmark.py train --precision=mixed_bfloat16    # and against float32
  python tools/benchmark.py rank                   # Market-1501's size, and re-ranking
  python tools/benchmark.py input --data_dir=DIR   # batches per second
  python tools/benchmark.py embed --data_dir=DIR   # a gallery, against Keras
  python tools/benchmark.py embed_bulk --data_dir=DIR    # Beam against a bare loop
  python tools/benchmark.py gallery                # search, filters and recall
  python tools/benchmark.py service                # the same over HTTP
  python tools/benchmark.py profile                # where a step's time goes
  python tools/benchmark.py inference              # TFLite files against OSNet's
"""

from __future__ import annotations

import json
import pathlib
import resource
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable

import cdnet_tf  # isort: skip  # noqa: F401  (quiets TensorFlow)
import numpy as np
import tensorflow as tf
from absl import app, flags

from cdnet_tf import shared_flags
from cdnet_tf.learn import devices, optimizers, training
from cdnet_tf.nn import counting, networks
from cdnet_tf.retrieval import ranking, reranking

_NETWORKS = flags.DEFINE_list(
    "networks", list(networks.NAMES), "Networks that `size` measures."
)
_STEPS = flags.DEFINE_integer("steps", 9, "Timed steps of each kind.", 3)

# Height, width and channels of CDNet's DownSamples and of its stem's output.
_DENSE = ((64, 32, 256), (32, 16, 384), (64, 32, 64))
# Separate programs with separate flags.
_PROGRAMS = {
    "search": ["benchmark_search.py", "search"],
    "profile": ["benchmark_search.py", "profile"],
    "input": ["benchmark_input.py"],
    "embed": ["benchmark_embedding.py"],
    "embed_bulk": ["benchmark_bulk.py"],
    "gallery": ["benchmark_gallery.py"],
    "service": ["benchmark_service.py"],
    "inference": ["benchmark_inference.py"],
}


def main(argv: list[str]) -> None:
    commands = {"size": size, "train": train, "rank": rank}
    if len(argv) < 2 or argv[1] not in commands:
        names = ", ".join([*commands, *_PROGRAMS])
        raise app.UsageError(f"Name a benchmark: {names}.")
    commands[argv[1]]()


def size() -> None:
    """Counts parameters and multiply-accumulates of whole networks with their necks."""
    shape = shared_flags.HEIGHT.value, shared_flags.WIDTH.value, 3
    for name in _NETWORKS.value:
        network = networks.build_named(
            name,
            input_shape=shape,
            width_multiplier=shared_flags.WIDTH_MULTIPLIER.value,
        )
        _emit(
            network=name,
            parameters=counting.parameters(network),
            macs=counting.macs(network),
        )


@devices.unrewritten()
def train() -> None:
    """Times CDNet's training step, and how long its convolutions alone must take.

    This floor is three times the multiply-accumulates of the forward pass (forward,
    gradients of inputs and of weights), at the best rate that a dense convolution of
    the network's sizes reaches here in float32. Step and floor are timed in turn, and
    with --precision also a step of that precision.
    """
    devices.set_threads()
    batch = flags.FLAGS.batch_size if flags.FLAGS["batch_size"].present else 8
    shape = shared_flags.HEIGHT.value, shared_flags.WIDTH.value, 3
    began = time.perf_counter()
    step, macs = _training_step("float32", batch, shape)
    started = time.perf_counter()
    other = shared_flags.PRECISION.value
    other_step = _training_step(other, batch, shape)[0] if other != "float32" else None
    convolutions = [_convolution(batch, *size) for size in _DENSE]
    turns = []
    for _ in range(_STEPS.value + 2):
        took = _milliseconds(step)
        rate = max(done / _milliseconds(run) for run, done in convolutions)
        others = _milliseconds(other_step) if other_step else took
        turns.append((took, 3 * batch * macs / rate, others))
    turns = turns[2:]
    _emit(
        network="cdnet",
        batch_size=batch,
        height=shape[0],
        width=shape[1],
        width_multiplier=shared_flags.WIDTH_MULTIPLIER.value,
        launch_to_first_step_s=round(started - shared_flags.LAUNCHED, 1),
        of_these_build_trace_and_first_step_s=round(started - began, 1),
        step_ms=round(statistics.median(step for step, _, _ in turns)),
        floor_ms=round(statistics.median(floor for _, floor, _ in turns)),
        step_over_floor=round(statistics.median(s / f for s, f, _ in turns), 2),
        **(_against(other, turns) if other_step else {}),
        turns=len(turns),
    )


def _against(precision: str, turns: list[tuple[float, float, float]]) -> dict:
    """Compares a step of another precision with the float32 step."""
    return {
        f"{precision}_step_ms": round(statistics.median(o for _, _, o in turns)),
        "float32_over_it": round(statistics.median(s / o for s, _, o in turns), 2),
    }


def _training_step(
    policy: str, batch: int, shape: tuple[int, int, int]
) -> tuple[Callable[[], float], int]:
    """Returns a function that trains CDNet for one step, and MACs for one image."""
    tf.keras.mixed_precision.set_global_policy(policy)
    network = networks.build_named(
        "cdnet",
        input_shape=shape,
        width_multiplier=shared_flags.WIDTH_MULTIPLIER.value,
        num_classes=751,
    )
    model = training.ReidTraining(network)
    model.compile(optimizers.for_policy(optimizers.CoupledSGD(0.01, 0.9, 5e-4)))
    step = tf.function(model.train_step, autograph=False)
    images = tf.random.stateless_normal((batch, *shape), (0, 0))
    data = images, tf.range(batch) // 2
    float(step(data)["loss"])
    tf.keras.mixed_precision.set_global_policy("float32")
    return lambda: float(step(data)["loss"]), counting.macs(model.embedder())


def _convolution(batch: int, height: int, width: int, channels: int):
    """Returns a function that runs a dense 1x1 convolution ten times, and its MACs."""
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
    """Times ranking and re-ranking at Market-1501's size, 3,368 x 15,913, 768 wide."""
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


def _milliseconds(step) -> float:
    started = time.perf_counter()
    step()
    return 1000 * (time.perf_counter() - started)


def _emit(**result) -> None:
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    own, *arguments = _PROGRAMS.get("".join(sys.argv[1:2]), [""])
    if own:
        path = pathlib.Path(__file__).with_name(own)
        command = [sys.executable, str(path), *arguments, *sys.argv[2:]]
        sys.exit(subprocess.run(command, check=False).returncode)
    app.run(main)
