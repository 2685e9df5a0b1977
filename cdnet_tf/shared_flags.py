"""Flags that every program has: device, data, run directory."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

LAUNCHED = time.perf_counter()

# Before TensorFlow is imported: its remarks on start-up are no user's business.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf  # noqa: E402
from absl import app, flags  # noqa: E402

from cdnet_tf.data import classification, datasets, holdout  # noqa: E402
from cdnet_tf.learn import devices, distributed, schedules  # noqa: E402
from cdnet_tf.pedestrians import writer  # noqa: E402

DATASET = flags.DEFINE_enum(
    "dataset",
    "market1501",
    [*datasets.NAMES, "pedestrians", *classification.NAMES],
    "Data set under --data_dir. `pedestrians` are generated there if they are missing; "
    "the last two show classes, not people, and are for training alone.",
)
DATA_DIR = flags.DEFINE_string(
    "data_dir", "data", "Folder of the data set, or the folder above it."
)
TRAIN_IDENTITIES = flags.DEFINE_integer(
    "train_identities", 200, "Identities to train on, of --dataset=pedestrians.", 2
)
# None and not 0, so that runs begun before there were these flags can go on.
HOLDOUT_IDENTITIES = flags.DEFINE_integer(
    "holdout_identities",
    None,
    "Identities taken out of training, to evaluate on instead of the test images; 0 "
    "or nothing: none. Of generated pedestrians whole families of look-alikes go, so "
    "that a number that is not whole families is rounded up.",
    0,
)
HOLDOUT_SEED = flags.DEFINE_integer(
    "holdout_seed", None, "Seed of the draw of --holdout_identities. Default: 0.", 0
)
RUN_DIR = flags.DEFINE_string(
    "run_dir", None, "Folder of the results. A run that was killed goes on from there."
)
SEED = flags.DEFINE_integer("seed", 0, "Seed of everything that is drawn.", 0)
HEIGHT = flags.DEFINE_integer(
    "height", 256, "Input height, pixels; divisible by 16.", 16
)
WIDTH = flags.DEFINE_integer("width", 128, "Input width, pixels; divisible by 16.", 16)
WIDTH_MULTIPLIER = flags.DEFINE_float(
    "width_multiplier", 1.0, "Scales the channels of every layer.", 0.0
)
EPOCHS = flags.DEFINE_integer("epochs", 240, "Epochs.", 1)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images in a batch (P x K).", 4)
IMAGES_PER_ID = flags.DEFINE_integer("images_per_id", 4, "K of the P x K batch.", 2)
RANDOM_ERASING = flags.DEFINE_float(
    "random_erasing",
    0.5,
    "Probability that a part of a training image is erased; people only. A search "
    "erases in the images of alpha, too.",
    0.0,
    1.0,
)
# None and not 10, because it depends on the height.
CROP_PADDING = flags.DEFINE_integer(
    "crop_padding",
    None,
    "Pixels by which a training image may shift in each direction, black moving in; "
    "people only. Default: 10 at --height=256, as large a part of other heights.",
    0,
)
CACHE_MB = flags.DEFINE_integer(
    "cache_mb",
    None,
    "Memory for decoded images; if they need more, they are decoded in every epoch. "
    "Default: a quarter of the free memory.",
    0,
)
STRATEGY = flags.DEFINE_enum(
    "strategy",
    "auto",
    ["auto", "one_device", "mirrored", "multi_worker"],
    "`mirrored` trains on all GPUs (or --logical_cpus) at once; `auto` does if there "
    "is more than one. `multi_worker` trains on all machines of TF_CONFIG or of a "
    "Slurm step, each of which runs this same command.",
)
RESTARTS = flags.DEFINE_integer(
    "restarts",
    0,
    "Of multi_worker: how often a worker that loses another starts itself again, and "
    "waits for that one to be started.",
    0,
)
LOGICAL_CPUS = flags.DEFINE_integer(
    "logical_cpus", 1, "Splits the CPU into logical devices, to try `mirrored`.", 1
)
PRECISION = flags.DEFINE_enum(
    "precision",
    "float32",
    ["float32", "mixed_float16", "mixed_bfloat16"],
    "Keras policy; mixed_float16 scales the loss.",
)

Data = datasets.ReidDataset | classification.ClassificationDataset

# Flags that change where or how fast a run goes, but not what comes out.
HARMLESS = ("cache_mb", "data_dir", "restarts", "run_dir")


def set_up() -> tf.distribute.Strategy:
    """Applies seed, precision, threads and device flags. Call once, before any tensor.

    Raises:
      ValueError: if a batch does not divide into identities or over the replicas.
    """
    tf.keras.utils.set_random_seed(SEED.value)
    # Dropout then draws from a generator that a checkpoint can hold, so that a resumed
    # run goes on where it stopped.
    tf.keras.backend.experimental.enable_tf_random_generator()
    tf.keras.mixed_precision.set_global_policy(PRECISION.value)
    set_threads()
    if LOGICAL_CPUS.value > 1:
        configuration = tf.config.LogicalDeviceConfiguration()
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [configuration] * LOGICAL_CPUS.value,
        )
    strategy = (
        distributed.connect() if STRATEGY.value == "multi_worker" else _strategy()
    )
    images_per_id = 1 if has_classes() else IMAGES_PER_ID.value
    devices.check_batch(BATCH_SIZE.value, images_per_id, strategy.num_replicas_in_sync)
    return strategy


def set_threads() -> None:
    """A CPU does better with one small op per core than with one op on many cores."""
    if tf.config.list_physical_devices("GPU"):
        return
    cores = os.cpu_count() or 1
    try:
        tf.config.threading.set_inter_op_parallelism_threads(cores)
        tf.config.threading.set_intra_op_parallelism_threads(max(1, cores // 4))
    except RuntimeError:
        pass  # TensorFlow is running already, as in a notebook; speed alone differs.


@contextlib.contextmanager
def unrewritten() -> Iterator[None]:
    """On a CPU, graphs run as they are written: for training steps, not for inference.

    TensorFlow would rewrite them before the first step, which takes as long as a third
    of it and makes the later ones no faster. Nor would the order in which gradients are
    added be that of the same replicas on several machines.
    """
    if tf.config.list_physical_devices("GPU"):
        yield
        return
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})


def _strategy() -> tf.distribute.Strategy:
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    if STRATEGY.value == "one_device" or len(devices) == 1 and STRATEGY.value == "auto":
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy(devices)


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Turns an error of a check into absl's usage error, which shows no traceback."""
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        raise app.UsageError(str(error)) from error


def register_epochs(name: str) -> None:
    """Has absl refuse a list flag that does not hold epochs."""
    flags.register_validator(
        name,
        lambda epochs: all(each.isdecimal() for each in epochs or ()),
        f"must be epochs, as in --{name}=80,160, or nothing for a constant rate",
    )


def epochs_or_shares(
    texts: list[str] | None, recipe: tuple[int, ...], whole: int
) -> list[int]:
    """Milestones as a flag names them, or else the recipe's at the same shares.

    Args:
      texts: of the flag, None where it is left out.
      recipe: milestones of the authors' code, for `whole` epochs.
    """
    if texts is None:
        return schedules.at_same_shares(recipe, whole, EPOCHS.value)
    return [int(each) for each in texts]


def has_classes() -> bool:
    """Whether the data set that the flags name shows classes instead of people."""
    return DATASET.value in classification.NAMES


def refuse_classes() -> None:
    """Raises ValueError where the flags name a data set that shows no people."""
    if has_classes():
        raise ValueError(
            f"dataset={DATASET.value} shows classes, not people, and can only be "
            f"trained on; use one of {', '.join(datasets.NAMES)} or pedestrians."
        )


def read_classes() -> classification.ClassificationDataset:
    """Reads the data set of classes that the flags name.

    Raises:
      ValueError: if identities are to be held out.
    """
    if HOLDOUT_IDENTITIES.value:
        raise ValueError(
            f"holdout_identities={HOLDOUT_IDENTITIES.value}, but "
            f"dataset={DATASET.value} shows classes; leave the flag out."
        )
    return classification.read(DATASET.value, DATA_DIR.value)


def read_data() -> datasets.ReidDataset:
    """Reads, or generates, the data set of people that the flags name.

    With --holdout_identities, query and gallery are people of the training split.

    Raises:
      ValueError: if the data set shows classes, or cannot spare the identities.
    """
    refuse_classes()
    data = _read_people()
    if not HOLDOUT_IDENTITIES.value:
        return data
    return holdout.hold_out(data, HOLDOUT_IDENTITIES.value, HOLDOUT_SEED.value or 0)


def _read_people() -> datasets.ReidDataset:
    name = DATASET.value
    if name == "pedestrians":
        writer.write_pedestrians(
            DATA_DIR.value,
            train_identities=TRAIN_IDENTITIES.value,
            test_identities=TRAIN_IDENTITIES.value // 2,
        )
        name = "market1501"
    data = datasets.read(name, DATA_DIR.value)
    return dataclasses.replace(data, families=writer.families(data.root))


def batch_options(first_epoch: int) -> dict[str, Any]:
    """Arguments of the training batches that the data set needs.

    Args:
      first_epoch: at which the run begins, or goes on.
    """
    options = {
        "seed": SEED.value,
        "epochs": EPOCHS.value,
        "first_epoch": first_epoch,
        "height": HEIGHT.value,
        "width": WIDTH.value,
    }
    if has_classes():
        return {**options, "batch_size": BATCH_SIZE.value}
    return {
        **options,
        "identities_per_batch": BATCH_SIZE.value // IMAGES_PER_ID.value,
        "images_per_id": IMAGES_PER_ID.value,
        "erasing": RANDOM_ERASING.value,
        "pad": CROP_PADDING.value,
        "cache_bytes": None if CACHE_MB.value is None else CACHE_MB.value * 2**20,
    }


def flag_values() -> dict[str, Any]:
    """Flags of this package's programs that decide the result."""
    modules = flags.FLAGS.flags_by_module_dict()
    own = [
        flag
        for module, members in modules.items()
        for flag in members
        if module.startswith("cdnet_tf") or module == sys.argv[0]
    ]
    return {flag.name: flag.value for flag in own if flag.name not in HARMLESS}
