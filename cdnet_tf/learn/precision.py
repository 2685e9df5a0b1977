"""Chooses the precision of a training: `auto` measures whether bfloat16 is faster.

bfloat16 has the range of float32, so the loss needs no scaling, and 8 significant bits.
Processors without instructions for it compute it far more slowly than float32.
"""

from __future__ import annotations

import pathlib
import statistics
import time
from collections.abc import Callable

import tensorflow as tf

from cdnet_tf import atomic_files
from cdnet_tf.learn import devices
from cdnet_tf.nn import blocks, networks

POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")
AUTO = "auto"
KINDS = (*POLICIES, AUTO)
_BFLOAT16 = "mixed_bfloat16"
_CPU_INFO = pathlib.Path("/proc/cpuinfo")
_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")
_CAPABILITY = (8, 0)  # Ampere's
_WORTH_IT = 1.1  # A smaller gain may be the noise of the measurement.
_FILE = "precision.txt"


def of_run(
    precision: str,
    run_dir: pathlib.Path,
    *,
    input_shape: tuple[int, int, int],
    width_multiplier: float,
    batch_size: int,
    workers: int = 1,
) -> str:
    """Returns the Keras policy of a run; with `auto` a resumed run keeps its policy.

    Args:
      precision: one of `KINDS`.
      run_dir: existing folder of the run, where `precision.txt` keeps the decision.
      input_shape: height, width and channels of the images.
      width_multiplier: of the network.
      batch_size: images that one device computes in a step.
      workers: number of machines that train together.

    Raises:
      ValueError: `auto` is used on several machines, which might decide differently.
    """
    if precision != AUTO:
        return precision
    if workers > 1:
        raise ValueError(
            f"precision=auto depends on what one machine measures, and {workers} train "
            f"together; name one of {', '.join(POLICIES)}."
        )
    decided = run_dir / _FILE
    if decided.exists():
        return decided.read_text().strip()
    features = _features(input_shape, width_multiplier, batch_size)
    policy, why = choose(computes_bfloat16(), lambda: gain(*features))
    atomic_files.write_text(decided, f"{policy}\n")
    print(f"Precision: {policy}; {why}.", flush=True)
    return policy


def choose(is_computed: bool, measure: Callable[[], float]) -> tuple[str, str]:
    """Returns the policy for this machine, and why, in words.

    Args:
      is_computed: whether the processor has instructions for bfloat16.
      measure: returns how many times as fast as float32 bfloat16 is.
    """
    if not is_computed:
        return "float32", "this processor has no instructions for bfloat16"
    times = measure()
    why = f"bfloat16 is {times:.2f} times as fast as float32 here"
    return (_BFLOAT16 if times >= _WORTH_IT else "float32"), why


def computes_bfloat16() -> bool:
    """Whether the GPU, or without one the CPU, has instructions for bfloat16."""
    for gpu in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(gpu)
        return details.get("compute_capability", (0, 0)) >= _CAPABILITY
    try:
        words = _CPU_INFO.read_text().split()
    except OSError:  # Only Linux has the file.
        return False
    return any(name in words for name in _INSTRUCTIONS)


def _features(
    input_shape: tuple[int, int, int], width_multiplier: float, batch_size: int
) -> tuple[int, int, int, int]:
    """Shape (batch, height, width, channels) of the features in stage 1's block 2."""
    height, width, _ = input_shape
    channels = networks.scaled_channels(width_multiplier)[1]
    return batch_size, height // 4, width // 4, channels


@devices.unrewritten()
def gain(batch: int, height: int, width: int, channels: int, pairs: int = 5) -> float:
    """Times a CBlock's forward and backward pass, alternately in float32 and bfloat16.

    Args:
      batch, height, width, channels: of the block's input.
      pairs: how often each of the two is timed.

    Returns:
      How many times as fast as float32 bfloat16 is: the median of the pairs' ratios.
    """
    before = tf.keras.mixed_precision.global_policy()
    try:
        steps = [
            _step(policy, (batch, height, width, channels))
            for policy in ("float32", _BFLOAT16)
        ]
    finally:
        tf.keras.mixed_precision.set_global_policy(before)
    ratios = []
    for _ in range(pairs + 1):
        one, other = (_seconds(step) for step in steps)
        ratios.append(one / other)
    return statistics.median(ratios[1:])  # The first pair traces.


def _step(policy: str, shape: tuple[int, int, int, int]) -> Callable[[], tf.Tensor]:
    tf.keras.mixed_precision.set_global_policy(policy)
    features = tf.keras.Input(shape[1:], shape[0])
    block = tf.keras.Model(features, blocks.cblock(features, shape[3], (5, 7), "block"))
    images = tf.ones(shape)

    @tf.function(autograph=False)
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(block(images, training=True))
        gradients = tape.gradient(loss, block.trainable_variables)
        return tf.add_n([tf.reduce_sum(gradient) for gradient in gradients])

    return step


def _seconds(step: Callable[[], tf.Tensor]) -> float:
    began = time.perf_counter()
    float(step())
    return time.perf_counter() - began
