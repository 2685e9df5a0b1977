"""The table of trained networks of the search space CDS: a line each training.

Imports no TensorFlow, so that a search strategy is tried in seconds.
"""

from __future__ import annotations

import csv
import os
import pathlib
import typing
from typing import NamedTuple

from cdnet_tf.nn import genotype
from cdnet_tf.nn.genotype import Genotype

# Where the package's own table lies.
SHIPPED = pathlib.Path(__file__).with_name("space.csv")


class Entry(NamedTuple):
    """One training, as a line of the table has it.

    Attributes:
      genotype: of the network.
      seed: of the training.
      epochs: its length; each length has a learning-rate schedule of its own.
      people: trained on.
      depth: CBlocks in a row, 6 to 12.
      parameters, macs: of the network without its training heads, for one image.
      minutes: of the training on one core.
      select_rank1, select_mAP: % on the people by whom a search may choose.
      test_rank1, test_mAP: % on the people by whom the choice is judged.
      train_accuracy: % of the training images in the last epoch.
      flags: of the training, the data set's folder excepted.
    """

    genotype: Genotype
    seed: int
    epochs: int
    people: int
    depth: int
    parameters: int
    macs: int
    minutes: float
    select_rank1: float
    select_mAP: float
    test_rank1: float
    test_mAP: float
    train_accuracy: float
    flags: str


COLUMNS = Entry._fields


def load(path: str | os.PathLike | None = None) -> list[Entry]:
    """Reads a table.

    Args:
      path: CSV file that tools/bench_space.py wrote; by default the package's own.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it has other columns, or a value cannot be read.
    """
    path = pathlib.Path(path or SHIPPED)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no table {path}; name another, or make one with "
            "tools/bench_space.py."
        )
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(
                f"{path} has the columns {reader.fieldnames}; a table has "
                f"{', '.join(COLUMNS)}."
            )
        return [_entry(line, f"{path}:{reader.line_num}") for line in reader]


def _entry(line: dict[str, str], place: str) -> Entry:
    kinds = typing.get_type_hints(Entry) | {"genotype": genotype.load}
    try:
        return Entry(**{name: kinds[name](line[name]) for name in COLUMNS})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place} cannot be read: {error}") from error
