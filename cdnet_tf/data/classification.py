"""Reads which image belongs to which class: CIFAR-100 and ImageNet.

CIFAR-100 is read into memory. Of ImageNet, or of any images in class folders, only the
file names are read. TensorFlow is not imported, so that a wrong folder is reported at
once and not after a slow import.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from cdnet_tf.data import cifar, datasets

# Class names, and (images, labels) of train and test, as `Samples` holds them.
_Contents = tuple[tuple[str, ...], dict[str, tuple[Any, np.ndarray]]]

_IMAGE_ENDINGS = (".jpeg", ".jpg", ".png")


@dataclasses.dataclass(frozen=True, eq=False)
class Samples:
    """Images of one split; entry i of both fields belongs to image i.

    Attributes:
      images: (n, height, width, 3) uint8 array, RGB, or n file names.
      labels: (n,) int32, 0..C-1.
    """

    images: np.ndarray | tuple[str, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True, eq=False)
class ClassificationDataset:
    """A data set of images of C classes; `class_names[label]` is a class's name."""

    name: str
    root: str
    num_classes: int
    class_names: tuple[str, ...]
    train: Samples
    test: Samples

    def counts(self) -> dict[str, dict[str, int]]:
        """Counts images and classes of each split, for the record of a run.

        The form is that of `datasets.ReidDataset.counts`.
        """
        return {
            name: {"images": len(split), "classes": len(np.unique(split.labels))}
            for name, split in (("train", self.train), ("test", self.test))
        }


@dataclasses.dataclass(frozen=True)
class _Layout:
    """One way in which a data set lies on disk.

    Attributes:
      folders: names under which it is usually unpacked.
      needed: entries of a complete folder.
      read: reads class names, and the images and labels of train and test, from a root.
    """

    folders: tuple[str, ...]
    needed: tuple[str, ...]
    read: Callable[[str], _Contents]


def read(name: str, data_dir: str) -> ClassificationDataset:
    """Reads images, or the names of image files, and their classes.

    Args:
      name: one of `NAMES`.
      data_dir: the folder that holds the unpacked data set, or the unpacked folder.

    Raises:
      ValueError: `name` is unknown, a file is damaged, or the class folders are wrong.
      FileNotFoundError: no complete data set is there.
    """
    if name not in _LAYOUTS:
        raise ValueError(f"dataset={name!r} is unknown; use one of {', '.join(NAMES)}.")
    places = [
        (os.path.normpath(os.path.join(data_dir, folder)), layout)
        for layout in _LAYOUTS[name]
        for folder in (*layout.folders, "")
    ]
    for root, layout in places:
        if not _absent(root, layout):
            names, splits = layout.read(root)
            samples = {split: Samples(*pair) for split, pair in splits.items()}
            return ClassificationDataset(name, root, len(names), names, **samples)
    root, layout = min(places, key=lambda place: len(_absent(*place)))
    raise FileNotFoundError(
        f"{name}: {root} lacks {', '.join(_absent(root, layout))}. Looked in "
        f"{', '.join(dict.fromkeys(root for root, _ in places))}. "
        + _UNPACK[name].format(data_dir=data_dir)
    )


def _absent(root: str, layout: _Layout) -> list[str]:
    return [
        entry
        for entry in layout.needed
        if not os.path.exists(os.path.join(root, entry))
    ]


def _read_imagenet(root: str) -> _Contents:
    train, val = (os.path.join(root, folder) for folder in ("train", "val"))
    classes = _class_folders(train)
    differing = sorted(set(classes) ^ set(_class_folders(val)))
    if differing:
        raise ValueError(
            f"{train} and {val} must hold the same class folders, and only one of them "
            f"has {datasets.named(differing)}. Unpack what is missing there, or remove "
            "the others."
        )
    splits = {"train": _files(train, classes), "test": _files(val, classes)}
    return tuple(classes), splits


def _class_folders(folder: str) -> list[str]:
    """Lists the class folders; a class's number is its place in the list."""
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    folders = sorted(entry.name for entry in visible if entry.is_dir())
    flat = sorted(entry.name for entry in visible if _is_image(entry.name))
    if flat:
        raise ValueError(
            f"{folder}: {len(flat)} images lie flat, as in the original archive of val "
            f"(the first is {flat[0]}), so their class is unknown. Move each into the "
            f"folder of its class, {folder}/<wnid>/; flags/imagenet.cfg shows how."
        )
    if not folders:
        found = datasets.named(sorted(entry.name for entry in visible), 3)
        raise ValueError(
            f"{folder} holds no class folders ({found or 'it is empty'}); unpack each "
            f"class into {folder}/<wnid>/; flags/imagenet.cfg shows how."
        )
    return folders


def _files(folder: str, classes: list[str]) -> tuple[tuple[str, ...], np.ndarray]:
    files = [_image_files(os.path.join(folder, each)) for each in classes]
    empty = [each for each, found in zip(classes, files) if not found]
    if empty:
        raise ValueError(
            f"{folder}: no .JPEG file in {datasets.named(empty)}; unpack these classes "
            "again, or remove their folders from train and val."
        )
    labels = np.repeat(np.arange(len(classes)), [len(found) for found in files])
    return tuple(itertools.chain(*files)), labels.astype(np.int32)


def _image_files(folder: str) -> list[str]:
    return [
        os.path.join(folder, file)
        for file in sorted(os.listdir(folder))
        if _is_image(file) and not file.startswith(".")
    ]


def _is_image(file: str) -> bool:
    return file.lower().endswith(_IMAGE_ENDINGS)


_LAYOUTS = {
    "cifar100": (
        _Layout(("cifar-100-python",), ("train", "test", "meta"), cifar.read_python),
        _Layout(
            ("cifar-100-binary",),
            ("train.bin", "test.bin", "fine_label_names.txt"),
            cifar.read_binary,
        ),
    ),
    "imagenet": (
        _Layout(
            ("imagenet", "ImageNet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC"),
            ("train", "val"),
            _read_imagenet,
        ),
    ),
}
_UNPACK = {
    "cifar100": (
        "Unpack one of its two forms: tar -xzf cifar-100-python.tar.gz -C {data_dir} "
        "or tar -xzf cifar-100-binary.tar.gz -C {data_dir}."
    ),
    "imagenet": (
        "Unpack its images into {data_dir}/imagenet/train/<wnid>/*.JPEG and "
        "{data_dir}/imagenet/val/<wnid>/*.JPEG; flags/imagenet.cfg shows "
        "how."
    ),
}
NAMES = tuple(_LAYOUTS)
