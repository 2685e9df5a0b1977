"""Identifies the network in a file: a name for people and a checksum for programs.

Embeddings of two networks have nothing to do with each other. So a program that stores
embeddings stores the network's checksum with them, and compares checksums before it
compares embeddings. TensorFlow is not imported.
"""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any, NamedTuple

from cdnet_tf import shipped
from cdnet_tf.deploy import measurements

# The record in a SavedModel that this package has exported.
RECORD = "assets.extra/model.json"
KINDS = (
    "a model.keras, a SavedModel directory, a .tflite file, a training's run directory"
)


class Network(NamedTuple):
    """The network that embeddings come from.

    Attributes:
      name: for people to read: a shipped name, a file and its folder, or a served model
        and its version. Copies of one network may have different names.
      checksum: SHA-256 in hexadecimal digits. Embeddings may be compared if, and only
        if, the checksums of their networks are equal.
    """

    name: str
    checksum: str


def find(model: str | os.PathLike, wanted: str = KINDS) -> pathlib.Path:
    """Returns the file, or the SavedModel's directory, that a user means.

    Args:
      model: a path, of which the run directory of a training means its model.keras; or
        a name of shipped weights.
      wanted: what could be passed, for the error.

    Raises:
      FileNotFoundError, ValueError: as `shipped.resolve`.
    """
    path = shipped.resolve(model, wanted)
    return path / "model.keras" if (path / "model.keras").is_file() else path


def of_file(path: str | os.PathLike) -> Network:
    """Returns the network of a model.keras, a .tflite file or a SavedModel directory.

    The checksum is the file's. A SavedModel of this package computes the same as its
    model.keras, so it has that file's checksum, which its record holds. The checksum of
    any other SavedModel covers all its files.
    """
    path = pathlib.Path(path).resolve()
    name = shipped.name_of(path) or "/".join(path.parts[-2:])
    checksum = record(path).get("sha256") or measurements.sha256(path)
    return Network(name, checksum)


def record(path: pathlib.Path) -> dict[str, Any]:
    """Returns the record in a SavedModel; empty for any other file.

    Raises:
      ValueError: the record is no JSON.
    """
    file = path / RECORD
    if not file.is_file():
        return {}
    try:
        return dict(json.loads(file.read_text("utf-8")))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{file}, the record of a SavedModel, is broken ({error}); export the "
            "network again."
        ) from error
