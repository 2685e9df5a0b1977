"""Reads a user's own images: a folder for each person, or lists in CSV files.

    folders                             csv
    DIR/train/anna/1.jpg                DIR/train.csv:  path,identity,camera
    DIR/train/anna/2.jpg                                a/1.jpg,anna,entrance
    DIR/query/bert/entrance/3.jpg       DIR/query.csv
    DIR/gallery/bert/hall/4.jpg         DIR/gallery.csv

Identities and cameras are any text. A folder inside a person's folder is the camera.
Without it, or with an empty field, the camera is unknown, and the protocol ignores no
image but the query's own file. docs/own_data.md says more. TensorFlow is not imported.
"""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping

from cdnet_tf.data import datasets, layouts

NAMES = ("folders", "csv")
_COLUMNS = ("path", "identity")  # and `camera`, which may be missing
_OTHER_IMAGES = (".bmp", ".gif", ".heic", ".tif", ".tiff", ".webp")
_JUNK = str(datasets.JUNK)
_Row = tuple[str, str, str]  # path, identity, camera or ""


def read(
    name: str, data_dir: str, needed: Iterable[str] = datasets.SPLITS
) -> datasets.ReidDataset:
    """Reads the file lists of a user's own images.

    An identity is the same person in all splits. If all identities are whole numbers,
    they are kept; otherwise identities are numbered from 1 in the order of their names.
    The same holds for cameras. Identity -1 is junk and dropped, as in Market-1501.

    Args:
      name: `folders` or `csv`.
      data_dir: the folder with `train`, `query` and `gallery`, or with `train.csv`,
        `query.csv` and `gallery.csv`.
      needed: splits that must exist; the others are read if they exist.

    Raises:
      ValueError: `name` is unknown, or a folder or a line names no identity.
      OSError: splits or listed images are missing, or cannot be read.
    """
    if name not in NAMES:
        raise ValueError(f"dataset={name!r} is unknown; use one of {', '.join(NAMES)}.")
    root = os.path.normpath(data_dir)
    ending = ".csv" if name == "csv" else ""
    absent = _absent(root, ending)
    _check_splits(name, data_dir, ending, absent, list(needed))
    read_split = _listed if name == "csv" else _in_folders
    rows = {
        split: read_split(os.path.join(root, split + ending))
        for split in datasets.SPLITS
        if split not in absent
    }
    return _dataset(name, root, rows, absent)


def _dataset(
    name: str, root: str, rows: Mapping[str, list[_Row]], absent: tuple[str, ...]
) -> datasets.ReidDataset:
    everything = [row for split in rows.values() for row in split if row[1] != _JUNK]
    identities = _numbers({identity for _, identity, _ in everything})
    cameras = _numbers({camera for _, _, camera in everything if camera})
    files = {
        path: -1 - i for i, path in enumerate(dict.fromkeys(r[0] for r in everything))
    }
    splits = {
        split: datasets.to_images(
            (path, identities[identity], cameras[camera] if camera else files[path])
            for path, identity, camera in rows.get(split, ())
            if identity != _JUNK
        )
        for split in datasets.SPLITS
    }
    people = _names(identities)
    datasets.warn_of_single_cameras(splits["train"], people)
    return datasets.ReidDataset(
        name,
        root,
        splits["train"],
        splits["query"],
        splits["gallery"],
        absent=absent,
        people=people,
        camera_names=_names(cameras),
    )


def _numbers(texts: set[str]) -> dict[str, int]:
    """Numbers texts: by their own numbers if all are numbers, else from 1 in order."""
    if all(text.isascii() and text.isdecimal() and len(text) < 10 for text in texts):
        if len({int(text) for text in texts}) == len(texts):  # no 7 beside 007
            return {text: int(text) for text in texts}
    return {text: number for number, text in enumerate(sorted(texts), 1)}


def _names(numbers: Mapping[str, int]) -> dict[int, str]:
    """Returns number -> text; empty if the texts are the numbers themselves."""
    names = {number: text for text, number in numbers.items()}
    return {} if all(t.isdecimal() and int(t) == n for n, t in names.items()) else names


def _absent(root: str, ending: str) -> tuple[str, ...]:
    exists = os.path.isfile if ending else os.path.isdir
    return tuple(
        split
        for split in datasets.SPLITS
        if not exists(os.path.join(root, split + ending))
    )


def _check_splits(
    name: str, data_dir: str, ending: str, absent: tuple[str, ...], needed: list[str]
) -> None:
    layouts.check_data_dir(data_dir)
    wanted = needed or (datasets.SPLITS if len(absent) == len(datasets.SPLITS) else ())
    lacking = [split for split in wanted if split in absent]
    if not lacking:
        return
    lacks = ", ".join(split + (ending or os.sep) for split in lacking)
    places = [os.path.join(data_dir, each) for each in layouts.subfolders(data_dir)]
    places.append(os.path.dirname(os.path.abspath(data_dir)))
    better = [p for p in places if not set(wanted) & set(_absent(p, ending))]
    if better:
        remedy = f"Pass data_dir={better[0]}, which has all of them."
    elif "train" not in absent and set(lacking) <= {"query", "gallery"}:
        remedy = (
            "Add them, or hold people out of training, of whom query and gallery are "
            "then made: holdout_identities=N."
        )
    elif name == "csv":
        remedy = (
            "Write them: a first line `path,identity,camera`, then a line for each "
            "image, with its path from the file's folder."
        )
    else:
        remedy = (
            "Make them, with a folder for each person in them, and the person's images "
            f"in that: {os.path.join(data_dir, lacking[0], 'anna', '1.jpg')}."
        )
    raise FileNotFoundError(f"{name}: {data_dir} lacks {lacks}. {remedy}")


def _in_folders(split: str) -> list[_Row]:
    """Reads SPLIT/PERSON/IMAGE and SPLIT/PERSON/CAMERA/IMAGE."""
    people = layouts.subfolders(split)
    if people == [os.path.basename(split)]:
        raise ValueError(
            f"{split} holds nothing but a folder of the same name; move its contents "
            "one folder up."
        )
    images, skipped = _files(split)
    skipped += images  # These show an unknown person.
    rows: list[_Row] = []
    for person in people:
        folder = os.path.join(split, person)
        own, others = _of_person(folder, person)
        rows += own
        skipped += others if own or others else [folder]
    if not rows:
        raise ValueError(
            f"{split}: no person's folder holds an image; name them as in "
            f"{os.path.join(split, 'anna', '1.jpg')}. Images end in "
            f"{', '.join(layouts.IMAGE_ENDINGS)}."
        )
    if skipped:
        warnings.warn(
            f"{split}: skipped what is no image in a person's or a camera's folder, or "
            f"ends in none of {', '.join(layouts.IMAGE_ENDINGS)} ({len(skipped)}): "
            f"{datasets.named(skipped)}.",
            stacklevel=3,
        )
    return rows


def _of_person(folder: str, person: str) -> tuple[list[_Row], list[str]]:
    """Lists the images of a person's folder and its cameras, and skipped files."""
    rows: list[_Row] = []
    images, skipped = _files(folder)
    rows += [(image, person, "") for image in images]
    for camera in layouts.subfolders(folder):
        place = os.path.join(folder, camera)
        images, others = _files(place)
        rows += [(image, person, camera) for image in images]
        deeper = [os.path.join(place, name) for name in layouts.subfolders(place)]
        skipped += others + deeper
    return rows, skipped


def _files(folder: str) -> tuple[list[str], list[str]]:
    """Lists the images directly in a folder, and those of other, unreadable formats."""
    files = sorted(file for file in os.listdir(folder) if not file.startswith("."))
    images, others = (
        [os.path.join(folder, file) for file in files if file.lower().endswith(endings)]
        for endings in (layouts.IMAGE_ENDINGS, _OTHER_IMAGES)
    )
    return images, others


def _listed(file: str) -> list[_Row]:
    """Reads a CSV file, whose paths are relative to its folder."""
    folder = os.path.dirname(file)
    rows = [
        (os.path.normpath(os.path.join(folder, path)), identity, camera)
        for path, identity, camera in _lines(file)
    ]
    if not rows:
        raise ValueError(f"{file} names no image; write a line for each.")
    odd = [
        path for path, *_ in rows if not path.lower().endswith(layouts.IMAGE_ENDINGS)
    ]
    if odd:
        raise ValueError(
            f"{file}: {len(odd)} of {len(rows)} files end in none of "
            f"{', '.join(layouts.IMAGE_ENDINGS)}; convert them: {datasets.named(odd)}."
        )
    paths = [path for path, *_ in rows]
    datasets.check_listed(file, paths, f"Paths are counted from {folder}.")
    return rows


def _lines(file: str) -> Iterator[_Row]:
    """Yields path, identity and camera of each line after the header."""
    # Excel puts a mark before UTF-8, and separates fields by the system's separator.
    with open(file, encoding="utf-8-sig", newline="") as text:
        try:
            lines = list(text)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{file} is not UTF-8 ({error}); save it as such."
            ) from None
    first = lines[0] if lines else ""
    reader = csv.reader(lines, delimiter=max(",;\t", key=first.count))
    columns = [name.strip().lower() for name in next(reader, [])]
    if not set(_COLUMNS) <= set(columns):
        raise ValueError(
            f"{file}:1: the first line is {first.strip()!r}, but has to name the "
            "columns `path,identity,camera`, of which camera may be missing."
        )
    for fields in reader:
        if not any(field.strip() for field in fields):
            continue
        row = dict(zip(columns, (field.strip() for field in fields)))
        if len(fields) != len(columns) or not all(row[name] for name in _COLUMNS):
            raise ValueError(
                f"{file}:{reader.line_num}: cannot read {fields!r}; expected "
                f"{len(columns)} fields as in the first line, with a path and an "
                "identity."
            )
        yield row["path"].replace("\\", "/"), row["identity"], row.get("camera", "")
