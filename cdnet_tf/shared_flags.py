"""Flags that the programs share, and the data set and devices that they stand for."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

# A program imports this first, so that the seconds of importing TensorFlow count.
LAUNCHED = time.perf_counter()

import tensorflow as tf  # noqa: E402
from absl import app, flags  # noqa: E402

from cdnet_tf.data import classification, datasets, holdout, own_data  # noqa: E402
from cdnet_tf.learn import devices, precision  # noqa: E402
from cdnet_tf.pedestrians import writer  # noqa: E402
from cdnet_tf.settings import RunSettings  # noqa: E402

DATASET = flags.DEFINE_enum(
    "dataset",
    "market1501",
    [*datasets.NAMES, *own_data.NAMES, "pedestrians", *classification.NAMES],
    "Data set in --data_dir. `folders` and `csv` are your own images (see "
    "docs/own_data.md). `pedestrians` are drawn by a generator if they are missing. "
    "The last two show classes instead of people, and can only be trained on.",
)
DATA_DIR = flags.DEFINE_string(
    "data_dir", "data", "Folder of the data set, or the folder above it."
)
TRAIN_IDENTITIES = flags.DEFINE_integer(
    "train_identities",
    200,
    "Number of people to train on; used by --dataset=pedestrians.",
    2,
)
# None instead of 0, so that runs older than these two flags can be resumed.
HOLDOUT_IDENTITIES = flags.DEFINE_integer(
    "holdout_identities",
    None,
    "How many people to take out of training and evaluate on instead of the test "
    "images. Default: none. Generated pedestrians are taken out in whole families of "
    "look-alikes, so the number may be rounded up.",
    0,
)
HOLDOUT_SEED = flags.DEFINE_integer(
    "holdout_seed", None, "Seed of the draw of --holdout_identities. Default: 0.", 0
)
RUN_DIR = flags.DEFINE_string(
    "run_dir", None, "Folder of the results. The same command resumes a killed run."
)
SEED = flags.DEFINE_integer(
    "seed", RunSettings.seed, "Seed of everything that is drawn at random.", 0
)
HEIGHT = flags.DEFINE_integer(
    "height", RunSettings.height, "Input height, pixels; divisible by 16.", 16
)
WIDTH = flags.DEFINE_integer(
    "width", RunSettings.width, "Input width, pixels; divisible by 16.", 16
)
WIDTH_MULTIPLIER = flags.DEFINE_float(
    "width_multiplier",
    RunSettings.width_multiplier,
    "Factor of the number of channels of every layer.",
    0.0,
)
EPOCHS = flags.DEFINE_integer("epochs", RunSettings.epochs, "Epochs to run.", 1)
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", RunSettings.batch_size, "Images in a batch: P people x K images.", 4
)
IMAGES_PER_ID = flags.DEFINE_integer(
    "images_per_id", RunSettings.images_per_id, "K, the images of each person.", 2
)
flags.DEFINE_float(
    "random_erasing",
    RunSettings.random_erasing,
    "Probability that a part of a training image is erased; used for people only. A "
    "search also erases in the images that alpha learns from.",
    0.0,
    1.0,
)
# None instead of 10, because the default depends on the height.
flags.DEFINE_integer(
    "crop_padding",
    None,
    "Pixels by which a training image may shift in each direction; black fills the "
    "gap. Used for people only. Default: 10 at --height=256, in proportion at others.",
    0,
)
flags.DEFINE_float(
    "momentum", RunSettings.momentum, "Momentum of the weights' SGD.", 0.0, 1.0
)
flags.DEFINE_float("margin", RunSettings.margin, "Margin of the triplet loss.", 0.0)
flags.DEFINE_float(
    "dropout", RunSettings.dropout, "Dropout rate before triplet features.", 0.0, 1.0
)
flags.DEFINE_boolean(
    "zero_init_residual",
    RunSettings.zero_init_residual,
    "Start with every CBlock passing its input through, by setting the scale of its "
    "last batch normalisation to 0. Deep networks learn faster so in short trainings.",
)
CACHE_MB = flags.DEFINE_integer(
    "cache_mb",
    None,
    "Megabytes to keep decoded images in; if they need more, they are decoded again in "
    "every epoch. Default: a quarter of the free memory.",
    0,
)
STRATEGY = flags.DEFINE_enum(
    "strategy",
    "auto",
    devices.STRATEGIES,
    "`mirrored` trains on all GPUs (or --logical_cpus) at once, and `auto` does so if "
    "there are several. `multi_worker` trains on all machines of TF_CONFIG or of a "
    "Slurm step; each of them runs this same command.",
)
RESTARTS = flags.DEFINE_integer(
    "restarts",
    0,
    "How often a worker that has lost another one may restart and wait for it; used by "
    "--strategy=multi_worker.",
    0,
)
WAIT_MINUTES = flags.DEFINE_float(
    "wait_minutes",
    60.0,
    "How long a worker waits for the others, at the start and after each restart. It "
    "then ends, and names the missing ones. Used by --strategy=multi_worker.",
    0.0,
)
LOGICAL_CPUS = flags.DEFINE_integer(
    "logical_cpus",
    1,
    "Number of logical devices to split the CPU into, to try --strategy=mirrored.",
    1,
)
PRECISION = flags.DEFINE_enum(
    "precision",
    RunSettings.precision,
    precision.KINDS,
    "Keras policy; mixed_float16 scales the loss. `auto` measures at the start whether "
    "mixed_bfloat16 is faster than float32 on this processor, and prints its choice.",
)

# Flags that change where or how fast a run goes, but not its result.
HARMLESS = ("cache_mb", "data_dir", "restarts", "run_dir", "wait_minutes")


def connect() -> tf.distribute.Strategy:
    """Sets up threads and devices as the flags say. Call once, before any tensor."""
    return devices.connect(STRATEGY.value, LOGICAL_CPUS.value, 60 * WAIT_MINUTES.value)


def values(kind: type[RunSettings]) -> dict[str, Any]:
    """Returns the flags that have the names of a settings class's attributes."""
    return {
        field.name: flags.FLAGS[field.name].value for field in dataclasses.fields(kind)
    }


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Turns errors of a check into absl's usage error, which shows no traceback."""
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        raise app.UsageError(str(error)) from error


def register_epochs(name: str) -> None:
    """Makes absl refuse values of a list flag that are not epochs."""
    flags.register_validator(
        name,
        lambda epochs: all(each.isdecimal() for each in epochs or ()),
        f"must be epochs, as in --{name}=80,160, or nothing for a constant rate",
    )


def has_classes() -> bool:
    """Whether the data set that the flags name shows classes instead of people."""
    return DATASET.value in classification.NAMES


def refuse_classes() -> None:
    """Raises ValueError where the flags name a data set that shows no people."""
    if has_classes():
        raise ValueError(
            f"dataset={DATASET.value} shows classes, not people, and can only be "
            f"trained on; use one of {', '.join((*datasets.NAMES, *own_data.NAMES))} "
            "or pedestrians."
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


def read_data(needed: Iterable[str] = datasets.SPLITS) -> datasets.ReidDataset:
    """Reads, or generates, the data set of people that the flags name.

    With --holdout_identities, query and gallery are people of the training split.

    Args:
      needed: splits that the program cannot do without, of `datasets.SPLITS`.

    Raises:
      SystemExit: the data set shows classes, is not where the flags say, or cannot
        spare the identities. The program ends with this message, and shows neither a
        traceback nor its flags.
    """
    try:
        refuse_classes()
        if not HOLDOUT_IDENTITIES.value:
            return _read_people(needed)
        data = _read_people(["train"])
        return holdout.hold_out(data, HOLDOUT_IDENTITIES.value, HOLDOUT_SEED.value or 0)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error


def read_groups(
    train: int, select: int, test: int, seed: int
) -> tuple[datasets.ReidDataset, datasets.ReidDataset]:
    """Reads the training split that the flags name, divided by `holdout.divide`.

    Raises:
      SystemExit: as `read_data`, or there are too few people.
    """
    data = read_data(["train"])
    try:
        return holdout.divide(data, train, select, test, seed)
    except ValueError as error:
        raise SystemExit(str(error)) from error


def _read_people(needed: Iterable[str]) -> datasets.ReidDataset:
    name, data_dir = DATASET.value, DATA_DIR.value
    if name in own_data.NAMES:
        return own_data.read(name, data_dir, needed)
    if name == "pedestrians":
        _write_pedestrians(data_dir)
    data = datasets.read(name, data_dir, needed)
    families = writer.families(data.root)
    # Generated people may be read as market1501, because their files have its names.
    name = "pedestrians" if families else name
    return dataclasses.replace(data, name=name, families=families)


def _write_pedestrians(data_dir: str) -> None:
    try:
        writer.write_pedestrians(
            data_dir,
            train_identities=TRAIN_IDENTITIES.value,
            test_identities=TRAIN_IDENTITIES.value // 2,
        )
    except FileExistsError:
        raise
    except OSError as error:
        raise OSError(
            f"data_dir={data_dir}: the pedestrians cannot be written there ({error}); "
            "name a folder that can be written."
        ) from error


def flag_values(program: str) -> dict[str, Any]:
    """Returns the flags that decide the result: the shared ones and a program's own.

    Flags of other programs that happen to be imported, as in a test, are left out.

    Args:
      program: `__name__` of the program. absl knows `__main__` by its command's name.
    """
    owners = (__name__, sys.argv[0] if program == "__main__" else program)
    modules = flags.FLAGS.flags_by_module_dict()
    own = [
        flag
        for module, members in modules.items()
        for flag in members
        if module in owners
    ]
    return {flag.name: flag.value for flag in own if flag.name not in HARMLESS}
