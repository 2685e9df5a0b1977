"""Reads which image shows whom, and through which camera; decodes nothing.

One parser and a table serve every data set, because they differ in folder names and
in where the two numbers stand, and in nothing else. No TensorFlow is imported, so
that a wrong folder is reported at once and not after a slow import.
"""

from __future__ import annotations

import dataclasses
import os
import re
import warnings
from collections.abc import Iterable, Mapping

import numpy as np

JUNK = -1  # the identity of a crop that shows nobody well
NAMED_AT_MOST = 20


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """Images of one split; the three fields run in step.

    Attributes:
      paths: n file names.
      identities: (n,) int32, as numbered by the data set, not 0..C-1.
      cameras: (n,) int32, as numbered by the data set.
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


@dataclasses.dataclass(frozen=True, eq=False)
class ReidDataset:
    """A data set on disk.

    Only MSMT17's train identities share numbers with its test identities, and there
    the same number is another person.

    Attributes:
      families: identity -> number, from 0, of the family of look-alikes that it belongs
        to; empty where nobody knows of any. `holdout` keeps families together.
    """

    name: str
    root: str
    train: Images
    query: Images
    gallery: Images
    families: Mapping[int, int] = dataclasses.field(default_factory=dict)

    def counts(self) -> dict[str, dict[str, int]]:
        """Counts images, identities and cameras of each split, for the record of a run.

        Distractors (identity 0000 of Market-1501's gallery) count as one identity.
        """
        return {split: _counts(getattr(self, split)) for split in _SPLITS}

    @property
    def camera_numbers(self) -> range:
        """The numbers that a camera may have."""
        return range(1, _LAYOUTS[self.name][0].cameras + 1)

    @property
    def numbers_people_once(self) -> bool:
        """Whether a number stands for the same person in train and test."""
        return _LAYOUTS[self.name][0].numbers_people_once


_SPLITS = ("train", "query", "gallery")


@dataclasses.dataclass(frozen=True)
class _Layout:
    """One way a data set lies on disk.

    Attributes:
      roots: names under which the data set is usually unpacked.
      pattern: of a file's name; holds the groups `camera` and, where the names say who
        it is, `identity`.
      cameras: how many there are, numbered from 1.
      numbers_people_once: whether train and test count on from each other.
      train, query, gallery: (folder, list file) pairs; without a list file every .jpg
        in the folder counts.
    """

    roots: tuple[str, ...]
    pattern: str
    cameras: int
    numbers_people_once: bool
    train: tuple[tuple[str, str | None], ...]
    query: tuple[tuple[str, str | None], ...]
    gallery: tuple[tuple[str, str | None], ...]

    def needed(self) -> list[str]:
        """Lists the folders and list files a complete root holds."""
        sources = self.train + self.query + self.gallery
        names = [f"{folder}/" for folder, _ in sources]
        return list(dict.fromkeys(names + [file for _, file in sources if file]))


def _folders(cameras: int, *roots: str) -> _Layout:
    return _Layout(
        roots=roots,
        pattern=r"(?P<identity>-1|\d+)_c(?P<camera>\d+)\D.*\.jpg",
        cameras=cameras,
        numbers_people_once=True,
        train=(("bounding_box_train", None),),
        query=(("query", None),),
        gallery=(("bounding_box_test", None),),
    )


def _lists(train: str, test: str, *roots: str) -> _Layout:
    return _Layout(
        roots=roots,
        pattern=r"\d+_\d+_(?P<camera>\d+)_.*\.jpg",
        cameras=15,
        numbers_people_once=False,
        train=((train, "list_train.txt"), (train, "list_val.txt")),
        query=((test, "list_query.txt"),),
        gallery=((test, "list_gallery.txt"),),
    )


_LAYOUTS = {
    "market1501": (
        _folders(6, "Market-1501-v15.09.15", "Market-1501", "market1501", "Market1501"),
    ),
    "dukemtmc": (
        _folders(8, "DukeMTMC-reID", "dukemtmc-reid", "dukemtmc", "DukeMTMC"),
    ),
    "msmt17": (
        _lists("train", "test", "MSMT17_V1", "MSMT17", "msmt17"),
        _lists("mask_train_v2", "mask_test_v2", "MSMT17_V2", "MSMT17", "msmt17"),
    ),
}
NAMES = tuple(_LAYOUTS)
_LIST_LINE = re.compile(r"(?P<path>\S+)\s+(?P<identity>\d+)")


def read(name: str, data_dir: str) -> ReidDataset:
    """Reads the file lists of a data set.

    Junk (identity -1) is dropped; distractors (0000) stay in the gallery, where they
    make retrieval harder, as the protocol wants. A train identity that only one camera
    saw is worth a warning, not an error: the data set may be a subset.

    Args:
      name: one of `NAMES`.
      data_dir: the folder that holds the unpacked data set, or the unpacked folder.

    Raises:
      ValueError: `name` is unknown, no file name fits the pattern, or a list file's
        line does not parse.
      FileNotFoundError: folders, list files or listed images are missing.
    """
    if name not in _LAYOUTS:
        raise ValueError(f"dataset={name!r} is unknown; use one of {', '.join(NAMES)}.")
    root, layout = _locate(name, data_dir)
    train, query, gallery = (_read_split(root, layout, split) for split in _SPLITS)
    _warn_of_single_cameras(train)
    return ReidDataset(name, root, train, query, gallery)


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


def _locate(name: str, data_dir: str) -> tuple[str, _Layout]:
    """Finds the first complete root; else complains about the most complete one."""
    places = []
    for layout in _LAYOUTS[name]:
        for folder in (*layout.roots, ""):
            root = os.path.normpath(os.path.join(data_dir, folder))
            absent = [
                entry
                for entry in layout.needed()
                if not os.path.exists(os.path.join(root, entry))
            ]
            if not absent:
                return root, layout
            places.append((len(absent), root, layout, absent))
    _, root, layout, absent = min(places, key=lambda place: place[0])
    usual = layout.roots[0]
    others = dict.fromkeys(sum((each.roots for _, _, each, _ in places), ()))
    raise FileNotFoundError(
        f"{name}: {root} lacks {named(absent)}. Unpack the data set so that "
        f"{os.path.join(data_dir, usual)} holds {named(layout.needed())}; the folder "
        f"may also be called {named(each for each in others if each != usual)}, or be "
        "data_dir itself. Without the data, --flagfile=flags/demo.cfg runs on "
        "generated pedestrians."
    )


def _read_split(root: str, layout: _Layout, split: str) -> Images:
    pattern = re.compile(layout.pattern)
    rows = []
    for folder, list_file in getattr(layout, split):
        folder = os.path.join(root, folder)
        if list_file:
            rows += _read_list(os.path.join(root, list_file), folder, pattern)
        else:
            rows += _read_folder(folder, pattern)
    rows = [row for row in rows if row[1] != JUNK]
    paths, identities, cameras = zip(*rows) if rows else ((), (), ())
    return Images(
        tuple(paths), np.array(identities, np.int32), np.array(cameras, np.int32)
    )


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
    strangers = [file for file in strangers if file.lower().endswith(".jpg")]
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
        raise ValueError(f"{list_file}: names no image; unpack the data set again.")
    absent = [path for path, *_ in rows if not os.path.isfile(path)]
    if absent:
        raise FileNotFoundError(
            f"{list_file}: {len(absent)} of {len(rows)} listed images are missing; "
            f"unpack the data set again. Missing: {named(absent)}."
        )
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
        "cameras": len(np.unique(images.cameras)),
    }


def _warn_of_single_cameras(train: Images) -> None:
    alone = single_camera_identities(train)
    if len(alone):
        warnings.warn(
            f"{len(alone)} of {len(np.unique(train.identities))} train identities were "
            f"seen by one camera only, so they teach nothing about a change of camera: "
            f"{named(alone)}. Check the camera numbers in the file names if you did "
            "not expect this.",
            stacklevel=3,
        )
