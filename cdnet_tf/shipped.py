"""Weights that come with the package: their names, and the files behind the names.

A name is a data set and a network, such as `market1501/cdnet_x0_25` for Keras weights
and `market1501/cdnet_x0_25_int8` for a TFLite file. Beside its files, each network has
a record (`NAME.json`), whose `files` holds their checksums, and a model card
(`NAME.md`). No other module knows where they are.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from typing import Any

FOLDER = pathlib.Path(__file__).resolve().parent / "weights"
_REMEDY = "install cdnet_tf again, or restore the file in your checkout"


def names(folder: pathlib.Path | None = None) -> list[str]:
    """Returns the names that `locate` knows, in order; none where nothing is shipped.

    Args:
      folder: of the shipped files; by default the package's own, as in all of this
        module.

    Raises:
      ValueError: a record cannot be read.
    """
    return sorted(_files(folder))


def locate(name: str, folder: pathlib.Path | None = None) -> pathlib.Path:
    """Returns the file of a name, whose checksum has been verified.

    Raises:
      FileNotFoundError: the name is unknown, or its file is missing.
      ValueError: the file or its record is broken.
    """
    files = _files(folder)
    if name not in files:
        raise FileNotFoundError(
            f"No weights named {name!r} are shipped. {_listed(sorted(files))}"
        )
    file, expected = files[name]
    if not file.is_file():
        raise FileNotFoundError(f"{file}, the file of {name}, is missing; {_REMEDY}.")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != expected:
        raise ValueError(
            f"{file}, the file of {name}, is broken: its SHA-256 is {found} and should "
            f"be {expected}; {_REMEDY}."
        )
    return file


def resolve(
    model: str | os.PathLike, wanted: str, folder: pathlib.Path | None = None
) -> pathlib.Path:
    """Returns the path of a model that a user gave as a path or as a shipped name.

    A path that exists takes precedence over a shipped name that is spelled the same.

    Args:
      model: the path or the name.
      wanted: what kind of path is accepted, for the error: `a model.keras`.
      folder: see `names`.

    Raises:
      FileNotFoundError: there is neither such a path nor such a name.
      ValueError: as `locate`.
    """
    path = pathlib.Path(model)
    if path.exists():
        return path
    known = names(folder)
    if str(model) in known:
        return locate(str(model), folder)
    raise FileNotFoundError(
        f"{model} does not exist; pass {wanted}, or the name of shipped weights. "
        f"{_listed(known)}"
    )


def name_of(path: str | os.PathLike, folder: pathlib.Path | None = None) -> str | None:
    """Returns the name of a shipped file, None for any other."""
    within, path = (folder or FOLDER).resolve(), pathlib.Path(path).resolve()
    if not path.is_relative_to(within):
        return None
    return path.relative_to(within).with_suffix("").as_posix()


def spelled(path: str | os.PathLike, folder: pathlib.Path | None = None) -> str:
    """Returns how a user would name a file: its shipped name, else its path."""
    return name_of(path, folder) or str(path)


def results_dir(
    path: str | os.PathLike, folder: pathlib.Path | None = None
) -> pathlib.Path:
    """Returns where results of a file belong: its own folder, or `runs/DATASET_NAME`.

    Nothing is written into the package, so results of a shipped file go below the
    working directory.
    """
    name = name_of(path, folder)
    if name is None:
        return pathlib.Path(path).parent
    return pathlib.Path("runs", name.replace("/", "_"))


def record(path: pathlib.Path) -> dict[str, Any]:
    """Reads a record, a network's `NAME.json`.

    Raises:
      ValueError: the record cannot be read, or does not name its files.
    """
    try:
        read = json.loads(path.read_text("utf-8"))
        for said in read["files"].values():
            said["sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}, a record of shipped weights, is broken ({error!r}); {_REMEDY}."
        ) from error
    return read


def _files(folder: pathlib.Path | None) -> dict[str, tuple[pathlib.Path, str]]:
    """Returns the file and the checksum of each name."""
    return {
        f"{path.parent.name}/{pathlib.PurePath(file).stem}": (
            path.parent / file,
            said["sha256"],
        )
        for path in sorted((folder or FOLDER).glob("*/*.json"))
        for file, said in record(path)["files"].items()
    }


def _listed(known: list[str]) -> str:
    if not known:
        return "This version ships no weights."
    return f"The shipped weights are {', '.join(known)}."
