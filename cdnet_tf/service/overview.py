"""Counts a gallery's rows by camera and over time."""

from __future__ import annotations

import collections
import datetime
import threading
import time

import numpy as np

from cdnet_tf.gallery.gallery import Gallery
from cdnet_tf.service.messages import Histogram

# The gallery is read again after this time, since other programs may add rows, too.
_KEPT_S = 30.0


class Contents:
    """Keeps the cameras and times of all rows, 10 bytes of memory a row."""

    def __init__(self, gallery: Gallery):
        self._gallery = gallery
        self._lock = threading.Lock()
        self._read_at = -np.inf
        self._names: list[str] = []
        self._cameras = np.zeros(0, np.int16)
        self._times = np.zeros(0, np.int64)  # microseconds since 1970, UTC

    def forget(self) -> None:
        """Makes the next call read the gallery again."""
        self._read_at = -np.inf

    def rows(self) -> int:
        """Counts all rows."""
        return len(self._read()[2])

    def cameras(self) -> dict[str, int]:
        """Counts rows by camera, in the order of the cameras' names."""
        names, cameras, _ = self._read()
        counts = np.bincount(cameras, minlength=len(names))
        return {names[i]: int(counts[i]) for i in np.argsort(names)}

    def histogram(self, chosen: list[str], bins: int) -> Histogram:
        """Counts the rows of some cameras (all, if none is named) over time.

        The span is that of the whole gallery, so that histograms can be compared.
        """
        names, cameras, times = self._read()
        if not len(times):
            return Histogram(None, None, [])
        first, last = int(times.min()), int(times.max())
        if chosen:
            numbers = [i for i, name in enumerate(names) if name in chosen]
            times = times[np.isin(cameras, numbers)]
        span = (first, max(last, first + 1))
        counts, _ = np.histogram(times, bins, span)
        return Histogram(_moment(first), _moment(last), counts.tolist())

    def _read(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        with self._lock:
            if time.monotonic() - self._read_at > _KEPT_S:
                began = time.monotonic()
                self._names, self._cameras, self._times = _scan(self._gallery)
                self._read_at = began
            return self._names, self._cameras, self._times


def _scan(gallery: Gallery) -> tuple[list[str], np.ndarray, np.ndarray]:
    numbers: dict[str, int] = collections.defaultdict(lambda: len(numbers))
    cameras, times = [np.zeros(0, np.int16)], [np.zeros(0, np.int64)]
    for table in gallery.scan(["camera", "time"]):
        encoded = table["camera"].combine_chunks().dictionary_encode()
        local = [numbers[name] for name in encoded.dictionary.to_pylist()]
        cameras.append(np.array(local, np.int16)[encoded.indices.to_numpy()])
        times.append(table["time"].to_numpy().astype("datetime64[us]").astype(np.int64))
    return [*numbers], np.concatenate(cameras), np.concatenate(times)


def _moment(microseconds: int) -> datetime.datetime:
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return epoch + datetime.timedelta(microseconds=microseconds)
