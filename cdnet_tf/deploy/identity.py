"""Which network a file holds: a name for people and a checksum for programs.

Embeddings of two networks have nothing to do with each other, so whoever keeps
embeddings keeps the network's checksum beside them, and compares checksums before
comparing embeddings. Imports no TensorFlow.
"""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any, NamedTuple

from cdnet_tf import shipped
from cdnet_tf.deploy import measurements

# What a SavedModel of ours says of itself, below its directory.
RECORD = "assets.extra/model.json"


class Network(NamedTuple):
    """Which network embeddings come from.

    Attributes:
      name: for people to read: a shipped name, a file and its folder, or a served model
        and its version. Two copies of one network may have two names.
      checksum: SHA-256 in hexadecimal digits. Embeddings may be compared if, and only
        if, the checksums of their networks are equal.
    """

    name: str
    checksum: str


def of_file(path: str | os.PathLike) -> Network:
    """Returns the network of a model.keras, a .tflite file or a SavedModel directory.

    The checksum is the file's. A SavedModel that was exported by this package computes
    what its model.keras computes, so it has the checksum of that file, which its record
    names; any other SavedModel has a checksum of all its files.
    """
    path = pathlib.Path(path).resolve()
    name = shipped.name_of(path) or "/".join(path.parts[-2:])
    checksum = record(path).get("sha256") or measurements.sha256(path)
    return Network(name, checksum)


def record(path: pathlib.Path) -> dict[str, Any]:
    """Returns what a SavedModel says of itself; empty for any other file.

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
