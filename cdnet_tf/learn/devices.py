"""The devices of a training: threads, replicas, precision, and whether a batch fits."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import tensorflow as tf

from cdnet_tf.learn import distributed

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker")


def connect(
    strategy: str = "auto", logical_cpus: int = 1, limit_s: float = 3600.0
) -> tf.distribute.Strategy:
    """Sets the threads and returns the strategy. Call once, before any tensor.

    Args:
      strategy: one of `STRATEGIES`. `mirrored` uses all GPUs, or the logical CPUs;
        `auto` does the same if there are several; `multi_worker` uses all machines of
        `TF_CONFIG` or of a Slurm step.
      logical_cpus: into how many logical devices the CPU is split.
      limit_s: seconds that `multi_worker` waits for the other machines.
    """
    # On level INFO TensorFlow logs every sum over replicas, and absl prints it again.
    tf.get_logger().setLevel("WARNING")
    tf.get_logger().propagate = False
    set_threads()
    if logical_cpus > 1:
        configuration = tf.config.LogicalDeviceConfiguration()
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [configuration] * logical_cpus
        )
    if strategy == "multi_worker":
        return distributed.connect(limit_s)
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    names = [device.name for device in tf.config.list_logical_devices(kind)]
    if strategy == "one_device" or len(names) == 1 and strategy == "auto":
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy(names)


def begin(seed: int, precision: str) -> None:
    """Seeds everything that is drawn and sets Keras' precision, for one run.

    Dropout then draws from a generator that a checkpoint can hold, so that a resumed
    run goes on where it stopped.
    """
    tf.keras.utils.set_random_seed(seed)
    tf.keras.backend.experimental.enable_tf_random_generator()
    tf.keras.mixed_precision.set_global_policy(precision)


def set_threads() -> None:
    """Runs several ops at a time on few cores each, instead of each op on all cores."""
    if tf.config.list_physical_devices("GPU"):
        return
    cores = _cores()
    try:
        tf.config.threading.set_inter_op_parallelism_threads(cores)
        tf.config.threading.set_intra_op_parallelism_threads(max(1, cores // 4))
    except RuntimeError:
        pass  # TensorFlow runs already, as in a notebook. This costs nothing but speed.


def _cores() -> int:
    """Number of cores this process may use; `taskset` and Slurm restrict it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def unrewritten() -> Iterator[None]:
    """Turns off TensorFlow's graph rewriting on a CPU, for training steps.

    Rewriting takes as long as a third of the first step, and makes the later steps no
    faster. It also changes the order in which gradients are added, so that two replicas
    on one machine would no longer equal two machines. Inference is better off with it.
    """
    if tf.config.list_physical_devices("GPU"):
        yield
        return
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})


def check_batch(batch_size: int, images_per_id: int, replicas: int) -> None:
    """Raises ValueError unless every replica gets two or more whole identities.

    Each replica mines triplets among its own images. With a single identity there, no
    image has a negative, so the triplet loss is the margin and has no gradient.

    Args:
      batch_size: images of all replicas together, P x K.
      images_per_id: K; 1 for a data set of classes.
      replicas: number of devices, over all machines.
    """
    unit = images_per_id * replicas
    if batch_size % unit or batch_size < 2 * unit:
        lower = max(batch_size // unit, 2) * unit
        raise ValueError(
            f"batch_size={batch_size} does not give each of {replicas} replica(s) the "
            f"same number of whole identities, two or more, with {images_per_id} "
            f"image(s) of each; use {lower} or {lower + unit}."
        )
