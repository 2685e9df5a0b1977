"""A network's .keras file, which says how its images are normalised.

A network works only with images that are normalised as in its training. So the archive
also holds `preprocessing.json` with mean and deviation, which Keras ignores. Files of
older versions or of `model.save` have none, and are taken to expect ImageNet's values.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pathlib
import zipfile
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

from cdnet_tf import atomic_files
from cdnet_tf.data import preprocess

_MEMBER = "preprocessing.json"
_WEIGHTS = "model.weights.h5"  # Keras' name
_COMPRESSED_FROM = 1024  # bytes; compression costs a few hundred


def save(
    network: tf.keras.Model,
    path: str | os.PathLike,
    normalisation: preprocess.Normalisation,
) -> None:
    """Writes a network and its normalisation, whole or not at all.

    Args:
      network: takes normalised (b, h, w, 3) images.
      path: ends in .keras; its folder must exist.
      normalisation: of the images that the network was trained on.
    """
    with atomic_files.replacing(path) as partial:
        network.save(partial)
        with zipfile.ZipFile(partial, "a") as archive:
            text = json.dumps(dataclasses.asdict(normalisation), indent=1)
            archive.writestr(_MEMBER, text)


def normalisation(path: str | os.PathLike) -> preprocess.Normalisation:
    """Returns the normalisation that the network in a .keras file expects.

    Raises:
      ValueError: the file holds a broken normalisation.
    """
    with zipfile.ZipFile(path) as archive:
        if _MEMBER not in archive.namelist():
            return preprocess.IMAGENET
        text = archive.read(_MEMBER)
    try:
        record = json.loads(text)
        mean, std = (tuple(map(float, record[name])) for name in ("mean", "std"))
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"mean {mean}, std {std}")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: {_MEMBER} in it holds no mean and deviation of three colours "
            f"({error}); save the network again."
        ) from error
    return preprocess.Normalisation(mean, std)


def shrink(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Writes a network's file in fewer bytes, with exactly the same weights.

    Keras gives every layer a group in its HDF5 file, even layers without weights, and
    compresses nothing. Here only weights have groups, and each larger weight is
    compressed by itself, so that it is read without seeking. Full-width CDNet takes 6.4
    MB instead of 8.4, and is read faster. An optimizer's state and the time are left
    out, so the same network always makes the same bytes.

    Args:
      source: a .keras file.
      target: the path to write; its folder must exist.

    Raises:
      ValueError: the source is no .keras file.
    """
    try:
        with (
            zipfile.ZipFile(source) as archive,
            zipfile.ZipFile(target, "w") as small,
        ):
            weights = _shrunk(archive.read(_WEIGHTS))
            # If it were compressed again, every seek would read it from its start.
            small.writestr(zipfile.ZipInfo(_WEIGHTS), weights, zipfile.ZIP_STORED)
            for name in archive.namelist():
                if name != _WEIGHTS:
                    small.writestr(
                        zipfile.ZipInfo(name), archive.read(name), zipfile.ZIP_DEFLATED
                    )
    except (KeyError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{source} cannot be read as a .keras file ({error}); pass the model.keras "
            "of a finished training."
        ) from error


def _shrunk(content: bytes) -> bytes:
    """Copies an HDF5 file of Keras, with groups of weights only."""
    result = io.BytesIO()
    with (
        h5py.File(io.BytesIO(content)) as source,
        h5py.File(result, "w", libver="latest") as target,
    ):

        def take(name: str, entry: h5py.Dataset | h5py.Group) -> None:
            if isinstance(entry, h5py.Group) or name.startswith("optimizer/"):
                return
            values = entry[()]
            target.create_dataset(name, data=values, **_compression(values))
            layer = name.rpartition("/vars/")[0]
            for group in (layer, *map(str, pathlib.PurePosixPath(layer).parents)):
                # Keras looks for `vars` in every group.
                target.require_group(f"{group}/vars")

        source.visititems(take)
    return result.getvalue()


def _compression(values: np.ndarray) -> dict[str, Any]:
    if values.nbytes < _COMPRESSED_FROM:
        return {}
    # Shuffling puts like bytes of all floats together; their exponents are similar.
    return {
        "chunks": values.shape,
        "compression": "gzip",
        "compression_opts": 9,
        "shuffle": True,
    }
