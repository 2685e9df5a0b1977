"""Reads which image shows whom, and through which camera, without decoding images.

One parser serves every published data set; `layouts` describes how they differ, and
`own_data` reads a user's own images. TensorFlow is not imported, so that a wrong folder
is reported at once and not after a slow import.
"""

from __future__ import annotations

import dataclasses
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cdnet_tf.data import layouts

SPLITS = layouts.SPLITS
JUNK = -1  # the identity of crops that show nobody well
NAMED_AT_MOST = 20


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """Images of one split; entry i of all three fields belongs to image i.

    Attributes:
      paths: n file names.
      identities: (n,) int32, as numbered by the data set, not 0..C-1.
      cameras: (n,) int32, as numbered by the data set. A number below 0 stands for an
        unknown camera and differs for each file. The protocol ignores images of the
        query's camera, which then is nothing but the query's own file.
    """

    paths: tuple[str, ...]
    identities: np.ndarray
    cameras: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, chosen: np.ndarray) -> Images:
        """Returns some of the images, by a mask or by their numbers."""
        numbers = np.arange(len(self))[chosen]
        paths = tuple(self.paths[i] for i in numbers)
        return Images(paths, self.identities[numbers], self.cameras[numbers])

    def joined(self, others: Images) -> Images:
        """Returns these images and then the others."""
        return Images(
            self.paths + others.paths,
            np.concatenate([self.identities, others.identities]),
            np.concatenate([self.cameras, others.cameras]),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class ReidDataset:
    """A data set on disk.

    In MSMT17, and only there, the same identity is one person in the train split and
    another person in the test splits.

    Attributes:
      families: identity -> number, from 0, of its family of look-alikes; empty if none
        are known. `holdout` keeps families together.
      absent: splits that are missing on disk; they are empty here.
      people, camera_names: number -> name, if the data set has names instead of
        numbers.
    """

    name: str
    root: str
    train: Images
    query: Images
    gallery: Images
    families: Mapping[int, int] = dataclasses.field(default_factory=dict)
    absent: tuple[str, ...] = ()
    people: Mapping[int, str] = dataclasses.field(default_factory=dict)
    camera_names: Mapping[int, str] = dataclasses.field(default_factory=dict)

    def counts(self) -> dict[str, dict[str, int]]:
        """Counts images, identities and cameras of each split, for the record of a run.

        Distractors (identity 0000 of Market-1501's gallery) count as one identity, and
        unknown cameras do not count.
        """
        return {split: _counts(getattr(self, split)) for split in SPLITS}

    @property
    def camera_numbers(self) -> range | None:
        """The numbers that a camera may have; None if any number is valid."""
        layout = self._layout
        return range(1, layout.cameras + 1) if layout else None

    @property
    def numbers_people_once(self) -> bool:
        """Whether a number stands for the same person in train and test."""
        layout = self._layout
        return layout.numbers_people_once if layout else True

    @property
    def published(self) -> Mapping[str, int]:
        """Split -> number of images as published; empty if any number is valid."""
        layout = self._layout
        return layout.published if layout else {}

    @property
    def _layout(self) -> layouts.Layout | None:
        return layouts.LAYOUTS[self.name][0] if self.name in layouts.LAYOUTS else None


NAMES = tuple(name for name in layouts.LAYOUTS if name != "pedestrians")
_LIST_LINE = re.compile(r"(?P<path>\S+)\s+(?P<identity>\d+)")


def read(name: str, data_dir: str, needed: Iterable[str] = SPLITS) -> ReidDataset:
    """Reads the file lists of a data set.

    Junk (identity -1) is dropped. Distractors (0000) stay in the gallery, where they
    make retrieval harder, as the protocol demands. A train identity that only one
    camera saw causes a warning and no error, because the data set may be a subset.

    Args:
      name: one of `NAMES`, or `pedestrians` for generated people.
      data_dir: the folder that holds the unpacked data set, or the unpacked folder.
      needed: splits that must exist; the others are read if they exist.

    Raises:
      ValueError: `name` is unknown, no file name fits the pattern, or a list file's
        line does not parse.
      OSError: folders, list files or listed images are missing, or cannot be read.
    """
    if name not in layouts.LAYOUTS:
        raise ValueError(f"dataset={name!r} is unknown; use one of {', '.join(NAMES)}.")
    root, layout = layouts.locate(name, data_dir, needed)
    absent = tuple(split for split in SPLITS if split not in layout.present(root))
    train, query, gallery = (
        to_images(() if split in absent else _read_split(root, layout, split))
        for split in SPLITS
    )
    warn_of_single_cameras(train)
    return ReidDataset(name, root, train, query, gallery, absent=absent)


def to_images(rows: Iterable[tuple[str, int, int]]) -> Images:
    """Makes a split of (path, identity, camera), without junk."""
    rows = [row for row in rows if row[1] != JUNK]
    paths, identities, cameras = zip(*rows) if rows else ((), (), ())
    return Images(
        tuple(paths), np.array(identities, np.int32), np.array(cameras, np.int32)
    )


def to_labels(identities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers identities 0..C-1, in ascending order of their raw number.

    Args:
      identities: (n,) raw numbers.

    Returns:
      labels (n,) int32, and raw (C,) with `raw[labels]` equal to `identities`.
    """
    raw, labels = np.unique(identities, return_inverse=True)
    return labels.astype(np.int32), raw


def single_camera_identities(images: Images) -> np.ndarray:
    """Returns the identities, ascending, that only one camera saw."""
    pairs = np.stack([images.identities, images.cameras], axis=1)
    identities, cameras = np.unique(np.unique(pairs, axis=0)[:, 0], return_counts=True)
    return identities[cameras == 1]


def named(items: Iterable, limit: int = NAMED_AT_MOST) -> str:
    """Joins items for a message, at most `limit` of them, and counts the others."""
    items = [str(item) for item in items]
    more = f", and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def check_listed(list_file: str, paths: Sequence[str], remedy: str) -> None:
    """Raises FileNotFoundError, with `remedy`, if images of a list are missing."""
    absent = [path for path in paths if not os.path.isfile(path)]
    if absent:
        raise FileNotFoundError(
            f"{list_file}: {len(absent)} of {len(paths)} listed images are missing. "
            f"{remedy} Missing: {named(absent)}."
        )


def warn_of_single_cameras(
    train: Images, names: Mapping[int, str] | None = None
) -> None:
    """Warns of train identities that one camera saw; `names` has names for numbers."""
    alone = single_camera_identities(train).tolist()
    if alone:
        warnings.warn(
            f"{len(alone)} of {len(np.unique(train.identities))} train identities were "
            f"seen by one camera only, so they teach nothing about a change of camera: "
            f"{named((names or {}).get(i, i) for i in alone)}. Check the cameras if "
            "you did not expect this.",
            stacklevel=3,
        )


def _read_split(
    root: str, layout: layouts.Layout, split: str
) -> list[tuple[str, int, int]]:
    pattern = re.compile(layout.pattern, re.IGNORECASE)
    rows = []
    for folder, list_file in layout.sources[split]:
        folder = os.path.join(root, folder)
        if list_file:
            rows += _read_list(os.path.join(root, list_file), folder, pattern)
        else:
            rows += _read_folder(folder, pattern)
    return rows


def _read_folder(folder: str, pattern: re.Pattern) -> list[tuple[str, int, int]]:
    files = sorted(file for file in os.listdir(folder) if not file.startswith("."))
    matches = {file: pattern.fullmatch(file) for file in files}
    strangers = [file for file in files if not matches[file]]
    if len(strangers) == len(files):
        found = f"for example {strangers[0]!r}" if strangers else "the folder is empty"
        raise ValueError(
            f"{folder}: no file name matches {pattern.pattern!r} ({found}); check that "
            "this is the named data set and that its images lie directly in the folder."
        )
    strangers = [
        file for file in strangers if file.lower().endswith(layouts.IMAGE_ENDINGS)
    ]
    if strangers:
        warnings.warn(
            f"{folder}: skipped {len(strangers)} images whose names do not match "
            f"{pattern.pattern!r}: {named(strangers)}.",
            stacklevel=2,
        )
    return [
        (os.path.join(folder, file), int(match["identity"]), int(match["camera"]))
        for file, match in matches.items()
        if match
    ]


def _read_list(
    list_file: str, folder: str, pattern: re.Pattern
) -> list[tuple[str, int, int]]:
    rows = []
    with open(list_file, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                rows.append(_parse_line(line.strip(), f"{list_file}:{number}", pattern))
    rows = [
        (os.path.join(folder, path), identity, camera)
        for path, identity, camera in rows
    ]
    if not rows:
        raise ValueError(f"{list_file} names no image; unpack the data set again.")
    check_listed(list_file, [row[0] for row in rows], "Unpack the data set again.")
    return rows


def _parse_line(line: str, place: str, pattern: re.Pattern) -> tuple[str, int, int]:
    fields = _LIST_LINE.fullmatch(line)
    name = fields and pattern.fullmatch(os.path.basename(fields["path"]))
    if not fields or not name:
        raise ValueError(
            f"{place}: cannot read {line!r}; expected an image and its identity, as in "
            "'0000/0000_000_01_0303morning_0008_0.jpg 0'."
        )
    return fields["path"], int(fields["identity"]), int(name["camera"])


def _counts(images: Images) -> dict[str, int]:
    return {
        "images": len(images),
        "identities": len(np.unique(images.identities)),
        "cameras": len(np.unique(images.cameras[images.cameras >= 0])),
    }
