"""Says which pairs of images the Market-1501 protocol counts; NumPy only.

A gallery image with the query's identity and another camera is a match. One with the
query's identity and camera is ignored, and junk (identity -1) is dropped. All other
images, including distractors (identity 0), are impostors. If the cameras are unknown,
each file counts as a separate camera (below 0), so a query ignores only its own file.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from cdnet_tf.data import datasets


class Labels(Protocol):
    """The identity and the camera of each image, as `datasets.Images` holds them.

    If there is also an attribute `paths`, errors name the files.
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
        """Returns the gallery indices of a query's matches, and of ignored images."""
        if identity == datasets.JUNK:
            return self.junk[:0], self.junk
        start, stop = np.searchsorted(self._sorted, [identity, identity + 1])
        same = self._order[start:stop]
        ignored = self._cameras[same] == camera
        return same[~ignored], same[ignored]


def check(images: int, labels: Labels, name: str) -> None:
    """Checks that there are images, and a label for each.

    Args:
      images: their number.
      labels: of the images.
      name: of the split, for the message.

    Raises:
      ValueError: there are no images, or not as many labels.
    """
    if not images:
        raise ValueError(f"the {name} holds no images; check the data set's folders.")
    counts = images, len(labels.identities), len(labels.cameras)
    if len(set(counts)) != 1:
        raise ValueError(
            f"{name}: {counts[0]} images, {counts[1]} identities and {counts[2]} "
            "cameras; pass one label for each image, in the same order."
        )


def named(indices: np.ndarray, labels: Labels | None) -> str:
    """Names the first of some images, by index and, if known, by file."""
    paths = getattr(labels, "paths", None)
    return datasets.named(f"{i} ({paths[i]})" if paths else i for i in indices)
