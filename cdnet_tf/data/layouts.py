"""Describes how published data sets lie on disk, and finds the folder of one."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

SPLITS = ("train", "query", "gallery")
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")  # in lower or upper case
_ENDING = r"\.(?:jpe?g|png)"
_DEPTH = 2  # levels of folders below data_dir that are searched


@dataclasses.dataclass(frozen=True)
class Layout:
    """One way in which a data set lies on disk.

    Attributes:
      roots: names under which the data set is usually unpacked.
      pattern: of a file's name, in lower or upper case; it holds the groups `camera`
        and, if the names tell who is shown, `identity`.
      cameras: number of cameras, which are numbered from 1.
      numbers_people_once: whether train and test never number two people alike.
      sources: split -> (folder, list file) pairs; without a list file every image in
        the folder counts.
      published: split -> images of the whole data set without junk; empty if the data
        set has no fixed size.
    """

    roots: tuple[str, ...]
    pattern: str
    cameras: int
    numbers_people_once: bool
    sources: Mapping[str, tuple[tuple[str, str | None], ...]]
    published: Mapping[str, int]

    def entries(self, splits: Iterable[str] = SPLITS) -> list[str]:
        """Lists the folders, each with a slash, and the list files of some splits."""
        sources = [source for split in splits for source in self.sources[split]]
        names = [f"{folder}/" for folder, _ in sources]
        return list(dict.fromkeys(names + [file for _, file in sources if file]))

    def absent(self, root: str, splits: Iterable[str] = SPLITS) -> list[str]:
        """Lists the `entries` that are missing below `root`."""
        return [
            entry
            for entry in self.entries(splits)
            if not os.path.exists(os.path.join(root, entry))
        ]

    def present(self, root: str) -> tuple[str, ...]:
        """Returns the splits that are complete below `root`."""
        return tuple(split for split in SPLITS if not self.absent(root, [split]))


def _folders(cameras: int, roots: Sequence[str], published: Sequence[int]) -> Layout:
    return Layout(
        roots=tuple(roots),
        pattern=r"(?P<identity>-1|\d+)_c(?P<camera>\d+)\D.*" + _ENDING,
        cameras=cameras,
        numbers_people_once=True,
        sources={
            "train": (("bounding_box_train", None),),
            "query": (("query", None),),
            "gallery": (("bounding_box_test", None),),
        },
        published=dict(zip(SPLITS, published)),
    )


def _lists(train: str, test: str, *roots: str) -> Layout:
    return Layout(
        roots=roots,
        pattern=r"\d+_\d+_(?P<camera>\d+)_.*" + _ENDING,
        cameras=15,
        numbers_people_once=False,
        sources={
            "train": ((train, "list_train.txt"), (train, "list_val.txt")),
            "query": ((test, "list_query.txt"),),
            "gallery": ((test, "list_gallery.txt"),),
        },
        published=dict(zip(SPLITS, (32621, 11659, 82161))),
    )


LAYOUTS = {
    "market1501": (
        _folders(
            6,
            ("Market-1501-v15.09.15", "Market-1501", "market1501", "Market1501"),
            (12936, 3368, 15913),
        ),
    ),
    "dukemtmc": (
        _folders(
            8,
            ("DukeMTMC-reID", "dukemtmc-reid", "dukemtmc", "DukeMTMC"),
            (16522, 2228, 17661),
        ),
    ),
    "msmt17": (
        _lists("train", "test", "MSMT17_V1", "MSMT17", "msmt17"),
        _lists("mask_train_v2", "mask_test_v2", "MSMT17_V2", "MSMT17", "msmt17"),
    ),
    # Generated people lie on disk like Market-1501, and may have more cameras.
    "pedestrians": (_folders(9, (), ()),),
}


def locate(name: str, data_dir: str, needed: Iterable[str]) -> tuple[str, Layout]:
    """Finds the folder of a data set: `data_dir`, or one or two folders below it.

    A folder further below counts only if it, or a folder around it, has a usual name of
    the data set, because other data sets lie on disk in the same way.

    Args:
      name: of `LAYOUTS`.
      data_dir: where to look.
      needed: splits that must exist.

    Returns:
      The folder with the most splits, the nearest of several, and its layout.

    Raises:
      FileNotFoundError: no folder has the splits needed, or no folder has any split.
      ValueError: several folders further below have them.
    """
    needed = list(needed)
    check_data_dir(data_dir)
    near = [
        (os.path.normpath(os.path.join(data_dir, folder)), layout)
        for layout in LAYOUTS[name]
        for folder in (*layout.roots, "")
    ]
    if found := _complete(near, needed):
        return found[0]
    below = [(root, each) for each in LAYOUTS[name] for root in _below(data_dir, each)]
    found = _complete(below, needed)
    known = [place for place in found if _is_named(place[0], data_dir, place[1])]
    if len(roots := list(dict.fromkeys(root for root, _ in known))) > 1:
        raise ValueError(
            f"data_dir={data_dir} holds {name} more than once; pass one of "
            f"{', '.join(roots)}."
        )
    if known:
        return known[0]
    elsewhere = _elsewhere(name, data_dir, [root for root, _ in found], needed)
    raise FileNotFoundError(elsewhere or _complaint(name, data_dir, near, needed))


def check_data_dir(data_dir: str) -> None:
    """Checks that `data_dir` is a folder.

    Raises:
      FileNotFoundError: there is no such folder.
      NotADirectoryError: `data_dir` is a file, such as an archive.
    """
    if not os.path.exists(data_dir):
        raise FileNotFoundError(
            f"data_dir={data_dir} does not exist; pass the folder of the data set, or "
            "the folder above it. Without data, --flagfile=flags/demo.cfg runs on "
            "generated pedestrians."
        )
    if not os.path.isdir(data_dir):
        raise NotADirectoryError(
            f"data_dir={data_dir} is a file; unpack it, and pass the folder."
        )


def subfolders(folder: str) -> list[str]:
    """Lists the folders in a folder, ascending, without hidden ones and macOS' own."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
    except PermissionError:
        return []
    return sorted(n for n in names if not n.startswith(".") and n != "__MACOSX")


def _complete(
    places: Sequence[tuple[str, Layout]], needed: Sequence[str]
) -> list[tuple[str, Layout]]:
    """Returns the places that hold the needed splits, those with most splits first."""
    counts = {i: layout.present(root) for i, (root, layout) in enumerate(places)}
    good = [i for i, there in counts.items() if there and set(needed) <= set(there)]
    return [places[i] for i in sorted(good, key=lambda i: -len(counts[i]))]


def _below(folder: str, layout: Layout, depth: int = _DEPTH) -> Iterator[str]:
    """Yields the folders below a folder, without the folders of images."""
    own = {entry.rstrip("/") for entry in layout.entries()}
    for name in subfolders(folder):
        if name not in own:
            path = os.path.join(folder, name)
            yield path
            if depth > 1:
                yield from _below(path, layout, depth - 1)


def images_below(folder: pathlib.Path) -> list[pathlib.Path]:
    """Lists the image files of a folder and of all below it, in ascending order.

    Files and folders that begin with a dot do not count.

    Raises:
      ValueError: there is no image.
    """
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_ENDINGS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise ValueError(
            f"{folder} holds no image; pass a folder with {', '.join(IMAGE_ENDINGS)} "
            "files in it or below."
        )
    return found


def _is_named(root: str, data_dir: str, layout: Layout) -> bool:
    """Whether a folder, or one between it and data_dir, has the data set's name."""
    names = os.path.relpath(root, data_dir).lower().split(os.sep)
    return bool({name.lower() for name in layout.roots} & set(names))


def _elsewhere(
    name: str, data_dir: str, found: Sequence[str], needed: Sequence[str]
) -> str:
    """Says which other folder may be the data set; returns "" if there is none."""
    if found:
        return (
            f"{name}: data_dir={data_dir} holds no folder of that data set's name. If "
            f"it is in {' or '.join(found)}, pass that as data_dir."
        )
    parent = os.path.abspath(data_dir)
    for _ in range(_DEPTH):
        parent = os.path.dirname(parent)
        if _complete([(parent, layout) for layout in LAYOUTS[name]], needed):
            return f"data_dir={data_dir} is a part of a data set; pass {parent}."
    return ""


def _complaint(
    name: str,
    data_dir: str,
    places: Sequence[tuple[str, Layout]],
    needed: Sequence[str],
) -> str:
    """Says what the most complete place lacks, and what the user can do."""
    wanted = needed or SPLITS
    root, layout = min(places, key=lambda each: len(each[1].absent(each[0], wanted)))
    usual, *others = [*layout.roots, ""]
    others += [root for _, each in places for root in each.roots]
    others = [each for each in dict.fromkeys(others) if each not in ("", usual)]
    if "train" in layout.present(root):
        otherwise = (
            "Or hold people out of training, of whom query and gallery are then made: "
            "holdout_identities=N."
        )
    else:
        otherwise = (
            "Without the data, --flagfile=flags/demo.cfg runs on generated pedestrians."
        )
    return (
        f"{name}: {root} lacks {', '.join(layout.absent(root, wanted))}. Unpack the "
        f"data set so that {os.path.join(data_dir, usual)} holds "
        f"{', '.join(layout.entries(wanted))}; the folder may also be called "
        f"{', '.join(others)}, or be data_dir itself. {otherwise}"
    )
