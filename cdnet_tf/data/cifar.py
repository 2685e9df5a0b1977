"""Reads CIFAR-100's files: the pickles that Python 2 wrote, and the plain records.

Both hold the same images in the same order and read into equal arrays. A pickle can
run any program when it is loaded. Here all names in a pickle lead to one class that
only stores its arguments, and never to code of NumPy or others.
"""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

# Numbers of fine and of coarse classes.
CLASSES, _GROUPS = 100, 20
_SIDE = 32
_PIXELS = 3 * _SIDE**2
_RECORD = 2 + _PIXELS
_IMAGES = {"train": 50_000, "test": 10_000}

# Images (n, 32, 32, 3) uint8, RGB, and fine labels (n,) int32.
Arrays = tuple[np.ndarray, np.ndarray]


def read_python(root: str) -> tuple[tuple[str, ...], dict[str, Arrays]]:
    """Reads the pickles train, test and meta.

    Args:
      root: the folder cifar-100-python.

    Returns:
      Names of the fine classes, and the arrays of train and test.

    Raises:
      ValueError: a file is damaged, or would run a program.
    """
    splits = {}
    for split, images in _IMAGES.items():
        path = os.path.join(root, split)
        # The file also holds labels and names, so it is larger than the pixels.
        pixels, labels = _unpickled(path, ["data", "fine_labels"], images * _PIXELS)
        if not isinstance(pixels, np.ndarray) or not _all_are(int, labels):
            raise ValueError(
                f"{path}: data is no array, or fine_labels is no list of numbers; "
                "unpack CIFAR-100 again."
            )
        splits[split] = _arrays(path, split, pixels, labels)
    path = os.path.join(root, "meta")
    (names,) = _unpickled(path, ["fine_label_names"], 0)
    if not _all_are(bytes, names):
        raise ValueError(f"{path} has no names of classes; unpack CIFAR-100 again.")
    return _class_names(path, [name.decode() for name in names]), splits


def read_binary(root: str) -> tuple[tuple[str, ...], dict[str, Arrays]]:
    """Reads train.bin, test.bin and fine_label_names.txt; otherwise as `read_python`.

    A record is a byte of the coarse class, a byte of the fine class, and 3 x 32 x 32
    bytes of pixels.
    """
    splits = {}
    for split in _IMAGES:
        path = os.path.join(root, f"{split}.bin")
        # (n, 1 + 1 + 3072)
        records = _records(path, _IMAGES[split])
        _check_range(path, "coarse label", records[:, 0], _GROUPS)
        splits[split] = _arrays(path, split, records[:, 2:], records[:, 1])
    path = os.path.join(root, "fine_label_names.txt")
    with open(path, encoding="utf-8") as file:
        return _class_names(path, file.read().split()), splits


def _records(path: str, images: int) -> np.ndarray:
    data = np.fromfile(path, np.uint8)
    if not len(data) or len(data) % _RECORD:
        raise ValueError(
            f"{path} is truncated or damaged: its {len(data):,} bytes are not whole "
            f"records of {_RECORD:,}, and the original has {images * _RECORD:,}. "
            "Unpack CIFAR-100 again."
        )
    return data.reshape(-1, _RECORD)


def _arrays(
    path: str, split: str, pixels: np.ndarray, labels: Sequence[int] | np.ndarray
) -> Arrays:
    """Turns (n, 3072) bytes, one channel after the other, into images."""
    if not len(labels) or pixels.shape != (len(labels), _PIXELS):
        raise ValueError(
            f"{path} is damaged: it has {len(labels)} labels, and pixels of shape "
            f"{pixels.shape} instead of ({len(labels) or 'n'}, {_PIXELS}). Unpack "
            "CIFAR-100 again."
        )
    _check_range(path, "fine label", labels, CLASSES)
    if len(labels) != _IMAGES[split]:
        warnings.warn(
            f"{path} holds {len(labels)} images, and the original {_IMAGES[split]}, so "
            "results cannot be compared with published ones.",
            stacklevel=4,
        )
    images = pixels.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.array(labels, np.int32)


def _check_range(
    path: str, what: str, labels: Sequence[int] | np.ndarray, classes: int
) -> None:
    labels = np.asarray(labels)
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise ValueError(
            f"{path}: {len(wrong)} of {len(labels)} images have a {what} outside "
            f"0..{classes - 1}; the first is image {wrong[0]} (from 0) with "
            f"{labels[wrong[0]]}. Check that this is CIFAR-100, and unpack it again."
        )


def _class_names(path: str, names: list[str]) -> tuple[str, ...]:
    if len(names) != CLASSES:
        raise ValueError(
            f"{path} names {len(names)} classes instead of {CLASSES}; unpack CIFAR-100 "
            "again."
        )
    return tuple(names)


def _unpickled(path: str, keys: list[str], whole: int) -> list[Any]:
    """Reads entries of a pickled dictionary.

    Args:
      path: of the file.
      keys: of the entries.
      whole: bytes that an undamaged file exceeds, for the message.

    Raises:
      ValueError: the file is damaged in any way.
    """
    try:
        with open(path, "rb") as file:
            # Python 2 wrote keys and names as bytes.
            entries = _Unpickler(file, encoding="bytes").load()
        return [_array(entries[key.encode()]) for key in keys]
    # A pickle is a list of instructions, so damaged bytes can raise any error.
    except Exception as error:
        raise ValueError(
            f"{path} ({os.path.getsize(path):,} bytes; the original has more than "
            f"{whole:,}) cannot be read: {type(error).__name__}: {error}. Unpack "
            "CIFAR-100 again, from a source you trust."
        ) from error


class _StandIn:
    """Stands for an array, its type and its constructor; keeps the array's state."""

    state: Any = None

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Reads containers, numbers, strings and bytes, and arrays as `_StandIn`.

    A pickle must name whatever it calls, and every name passes through here.
    """

    def find_class(self, module: str, name: str) -> Any:
        known = ("numpy.core.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype")
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which no file of CIFAR-100 does; that may "
                "be a program, and was not run"
            )
        return _StandIn


def _array(value: Any) -> Any:
    """Makes an array of a stand-in; returns other values as they are."""
    if not isinstance(value, _StandIn):
        return value
    _, shape, _, by_columns, data = value.state
    return np.frombuffer(data, np.uint8).reshape(
        shape, order="F" if by_columns else "C"
    )


def _all_are(kind: type, values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is kind for value in values)
