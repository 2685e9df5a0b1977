"""The table of trained networks of the search space CDS, with a line per training.

TensorFlow is not imported, so that a search strategy can be tried in seconds.
"""

from __future__ import annotations

import csv
import os
import pathlib
import typing
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from cdnet_tf.nn import genotype
from cdnet_tf.nn.genotype import Genotype

# The table that comes with the package.
SHIPPED = pathlib.Path(__file__).with_name("space.csv")


class Entry(NamedTuple):
    """One training, which is a line of the table.

    Attributes:
      genotype: the network's genotype.
      seed: the training's seed.
      epochs: length of the training; each length has its own learning-rate schedule.
      people: number of people trained on.
      depth: number of CBlocks, 6 to 12.
      parameters, macs: those of the network without its training heads, for one image.
      minutes: duration of the training on one core; NaN if it ran on a GPU.
      select_rank1, select_mAP: % on the people by whom a search may choose.
      test_rank1, test_mAP: % on the people by whom the choice is judged.
      train_accuracy: % of the training images in the last epoch.
      flags: the training's flags, without the data set's folder.
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


class Conditions(NamedTuple):
    """The conditions that trainings must share if their scores are to be compared."""

    flags: str
    people: int
    epochs: int


def load(path: str | os.PathLike | None = None) -> list[Entry]:
    """Reads a table.

    Args:
      path: CSV file that tools/bench_space.py wrote; by default the package's own.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file has other columns, or a value cannot be read.
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


def by_conditions(entries: Iterable[Entry]) -> dict[Conditions, list[Entry]]:
    """Groups entries that may be compared, by their conditions in ascending order."""
    groups: dict[Conditions, list[Entry]] = {}
    for entry in entries:
        conditions = Conditions(entry.flags, entry.people, entry.epochs)
        groups.setdefault(conditions, []).append(entry)
    return dict(sorted(groups.items()))


def longest(entries: Iterable[Entry]) -> list[Entry]:
    """Returns the longest trainings that may be compared; of equals the most.

    Raises:
      ValueError: there are no entries.
    """
    groups = by_conditions(entries).values()
    if not groups:
        raise ValueError("The table has no trainings; tools/bench_space.py adds some.")
    return max(groups, key=lambda group: (group[0].epochs, len(group)))


def matrix(
    entries: Sequence[Entry], column: str = "test_mAP"
) -> tuple[list[Genotype], np.ndarray]:
    """Returns the genotypes, and a column of the table with a row for each of them.

    Args:
      entries: trained under the same conditions.
      column: a column of numbers, such as `test_mAP`.

    Returns:
      g genotypes in the table's order, and (g, s) floats, a column for each seed in
      ascending order; NaN if a genotype lacks a seed.

    Raises:
      ValueError: there are no entries, or they were trained under several conditions.
    """
    if len(found := by_conditions(entries)) != 1:
        raise ValueError(
            f"The entries are of {len(found)} conditions {list(found)}, and only those "
            "of one can be compared; take one value of table.by_conditions(entries)."
        )
    genotypes = list(dict.fromkeys(entry.genotype for entry in entries))
    seeds = sorted({entry.seed for entry in entries})
    values = np.full((len(genotypes), len(seeds)), np.nan)
    for entry in entries:
        place = genotypes.index(entry.genotype), seeds.index(entry.seed)
        values[place] = getattr(entry, column)
    return genotypes, values


def means(entries: Sequence[Entry], column: str = "test_mAP") -> dict[Genotype, float]:
    """Returns each genotype's mean over its seeds; arguments are those of `matrix`."""
    genotypes, values = matrix(entries, column)
    return dict(zip(genotypes, np.nanmean(values, axis=1).tolist()))
