"""Embeds image files of any file system, and says which files cannot be read."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cdnet_tf.api import image_sources
from cdnet_tf.bulk import files
from cdnet_tf.deploy import embedders, identity, parallel

_BATCH = 64  # images that are decoded before they are embedded
_opening = threading.Lock()


class Embedded(NamedTuple):
    """Embeddings and errors of some files, in the order of the files.

    Attributes:
      embeddings: (n, d) float32, of length 1; zeros where there is an error.
      errors: n texts or None.
    """

    embeddings: np.ndarray
    errors: list[str | None]


class FileEmbedder:
    """A network's file, opened to embed images.

    Attributes:
      network: its name and checksum.
      dimensions: d of an embedding.
    """

    def __init__(self, model: str, threads: int | None):
        """Opens the file.

        Args:
          model: as `cdnet_tf.load` takes it, but no URL.
          threads: batches that are read and embedded at once; None for one a core.

        Raises:
          FileNotFoundError, ValueError: as `cdnet_tf.load`.
        """
        path = identity.find(model)
        self.network = identity.of_file(path)
        self._embedder = embedders.open_model(path)
        self.dimensions = self._embedder.dimensions
        self._threads = threads or parallel.threads()
        size = self._embedder.height, self._embedder.width
        self._reader = image_sources.Reader(*size)

    def embed(self, paths: Sequence[str]) -> Embedded:
        """Embeds files, as `cdnet_tf.load(...)` would.

        Raises:
          OSError: no file can be opened, so the file system is probably not mounted.
        """
        batches = [paths[i : i + _BATCH] for i in range(0, len(paths), _BATCH)]
        found = list(parallel.in_order(self._batch, batches, self._threads))
        closed = [error for part in found for error in part.closed]
        if paths and len(closed) == len(paths):
            raise OSError(
                f"None of {len(paths)} images can be opened; can this machine see "
                f"their folder? The first is {closed[0]}."
            ) from closed[0]
        return Embedded(
            np.concatenate([part.rows for part in found]),
            [error for part in found for error in part.errors],
        )

    def _batch(self, paths: Sequence[str]) -> _Batch:
        pixels, errors, closed = [], dict.fromkeys(range(len(paths))), []
        for place, path in enumerate(paths):
            try:
                with files.open_file(path) as file:
                    content = file.read()
                pixels.append(self._reader.decode(path, content))
            except image_sources.UnreadableError as error:
                errors[place] = str(error)
            except OSError as error:
                errors[place] = f"{path} ({error.strerror or error})"
                closed.append(error)
        rows = np.zeros((len(paths), self.dimensions), np.float32)
        if pixels:
            good = [place for place, error in errors.items() if error is None]
            rows[good] = self._embedder.embed(np.stack(pixels))
        return _finite(rows, paths, list(errors.values()), closed)


class _Batch(NamedTuple):
    rows: np.ndarray
    errors: list[str | None]
    closed: list[OSError]  # of files that could not be opened


def _finite(rows, paths, errors, closed) -> _Batch:
    """Rows of length 1, and an error for each row that has no direction."""
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    lost = ~np.isfinite(lengths) | (lengths == 0)
    for place in np.flatnonzero(lost):
        errors[place] = errors[place] or f"{paths[place]} (embedded as NaN or zeros)"
    lengths[lost] = np.inf
    rows[lost] = 0
    return _Batch((rows / lengths[:, None]).astype(np.float32), errors, closed)


def opened(model: str, threads: int | None) -> FileEmbedder:
    """Returns the network, which a process opens once for all of its threads.

    Raises:
      FileNotFoundError, ValueError: as `FileEmbedder`.
    """
    with _opening:
        return _opened(os.fspath(model), threads)


_opened = functools.lru_cache(maxsize=1)(FileEmbedder)
