"""A network's .keras file, which says how its images are normalised.

A network is trained on images normalised in one way and is good for no other. So the
archive holds, beside what Keras writes and reads, `preprocessing.json` with mean and
deviation; Keras passes over it. A file without it, as older versions and plain
`model.save` write, is taken to expect ImageNet's.
"""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile

import tensorflow as tf

from cdnet_tf import atomic_files
from cdnet_tf.data import preprocess

_MEMBER = "preprocessing.json"


def save(
    network: tf.keras.Model,
    path: str | os.PathLike,
    normalisation: preprocess.Normalisation,
) -> None:
    """Writes a network and what it expects of its images, whole or not at all.

    Args:
      network: normalised (b, h, w, 3) images in.
      path: ends in .keras; its folder must exist.
      normalisation: of the images that the network was trained on.
    """
    with atomic_files.replacing(path) as partial:
        network.save(partial)
        with zipfile.ZipFile(partial, "a") as archive:
            text = json.dumps(dataclasses.asdict(normalisation), indent=1)
            archive.writestr(_MEMBER, text)


def normalisation(path: str | os.PathLike) -> preprocess.Normalisation:
    """Returns what the network in a .keras file expects of its images.

    Raises:
      ValueError: the file says something that is no normalisation.
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
