"""Which pairs of images the Market-1501 protocol counts; NumPy only.

A gallery image with the query's identity under another camera is a match; with its
identity and its camera it is ignored; junk (identity -1) is dropped. Everything else,
distractors (identity 0) too, is an impostor. Where nobody knows the cameras, each file
counts as a camera of its own (below 0), so a query ignores nothing but its own file.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from cdnet_tf.data import datasets


class Labels(Protocol):
    """Who is on each image and which camera took it, as `datasets.Images` holds it.

    Where there is also `paths`, errors name the files.
    """

    @property
    def identities(self) -> np.ndarray: ...

    @property
    def cameras(self) -> np.ndarray: ...


class Lookup:
    """Finds the gallery images of an identity without a pass over the gallery.

    Attributes:
      junk: indices of the gallery images of identity -1, ascending.
    """

    def __init__(self, gallery: Labels):
        identities = np.asarray(gallery.identities)
        self._cameras = np.asarray(gallery.cameras)
        self._order = np.argsort(identities, kind="stable")
        self._sorted = identities[self._order]
        self.junk = np.flatnonzero(identities == datasets.JUNK)

    def find(self, identity: int, camera: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the gallery indices to be found and those to be ignored."""
        if identity == datasets.JUNK:
            return self.junk[:0], self.junk
        start, stop = np.searchsorted(self._sorted, [identity, identity + 1])
        same = self._order[start:stop]
        ignored = self._cameras[same] == camera
        return same[~ignored], same[ignored]


def check(images: int, labels: Labels, name: str) -> None:
    """Checks that there are images, and a label for each.

    Args:
      images: how many there are.
      labels: theirs.
      name: of the split, for the message.

    Raises:
      ValueError: none, or labels that do not agree.
    """
    if not images:
        raise ValueError(f"the {name} holds no images; check the data set's folders.")
    counts = images, len(labels.identities), len(labels.cameras)
    if len(set(counts)) != 1:
        raise ValueError(
            f"{name}: {counts[0]} images, {counts[1]} identities and {counts[2]} "
            "cameras; pass one label an image, in the same order."
        )


def named(indices: np.ndarray, labels: Labels | None) -> str:
    """Joins the first of the images, by index and, where known, by file."""
    paths = getattr(labels, "paths", None)
    return datasets.named(f"{i} ({paths[i]})" if paths else i for i in indices)
