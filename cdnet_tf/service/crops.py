"""Reads a camera's crops of people from a folder or video, and makes rows of them."""

from __future__ import annotations

import base64
import datetime
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import PIL.Image

from cdnet_tf.data import layouts
from cdnet_tf.service import photos

Known = Callable[[str], bool]  # says whether the row of a key has been made before


class Crop(NamedTuple):
    """An image of one person: its key in the gallery, its time (UTC), its pixels."""

    key: str
    time: datetime.datetime
    image: PIL.Image.Image


class Embeds(Protocol):
    """What is needed of the object that `cdnet_tf.load` returns."""

    def __call__(
        self, images: list[PIL.Image.Image], *, progress: bool = True
    ) -> np.ndarray: ...


class Folder:
    """A folder into which something writes crops as image files.

    A file that changes counts as a new image. The time of an image is the time of the
    file's last change.
    """

    def __init__(
        self,
        path: pathlib.Path,
        camera: str,
        say: Callable[[str], None],
        settled_s: float = 0.0,
    ):
        """Reads nothing yet.

        Args:
          path: the folder; its subfolders are read, too.
          camera: name of the camera, with which the keys begin.
          say: is called with a message, once for each file that cannot be read.
          settled_s: seconds since the last change of a file. Younger files may be half
            written, and are left for a later call.
        """
        self._path, self._camera = path, camera
        self._say, self._settled_s = say, settled_s
        self._bad: set[str] = set()

    def holds(self, key: str) -> bool:
        """Says whether the image of a key is there and unchanged."""
        name, _, seconds = key.removeprefix(f"{self._camera}/").rpartition("/")
        try:
            return f"{(self._path / name).stat().st_mtime:.6f}" == seconds
        except OSError:
            return False

    def new(self, known: Known) -> Iterator[Crop]:
        """Yields the crops that are not known, the oldest first."""
        changed = {
            path: path.stat().st_mtime
            for path in self._path.rglob("*")
            if path.suffix.lower() in layouts.IMAGE_ENDINGS
        }
        latest = time.time() - self._settled_s
        for path, seconds in sorted(changed.items(), key=lambda item: item[::-1]):
            key = f"{self._camera}/{path.relative_to(self._path)}/{seconds:.6f}"
            if seconds > latest or key in self._bad or known(key):
                continue
            try:
                yield Crop(key, _moment(seconds), photos.decode(path.read_bytes()))
            except (OSError, photos.PhotoError) as error:
                self._bad.add(key)
                self._say(f"{path} is left out: {error}")


def video_keys(video: pathlib.Path, camera: str) -> str:
    """Returns how the keys of a video's frames begin."""
    return f"{camera}/{video.name}/{video.stat().st_mtime:.6f}/"


def frames(
    video: pathlib.Path, camera: str, per_s: float, known: Known
) -> Iterator[Crop]:
    """Yields `per_s` frames of each second of a video, without those that are known.

    The time of the file's last change is taken for the end of the video.

    Raises:
      ImportError: PyAV is not installed.
      ValueError: the file cannot be read as a video.
    """
    try:
        import av
    except ImportError as error:
        raise ImportError("Videos need PyAV: pip install av.") from error
    keys, ended, taken = video_keys(video, camera), video.stat().st_mtime, -1
    try:
        with av.open(str(video)) as opened:
            began = ended - float(opened.duration or 0) / av.time_base
            for frame in opened.decode(video=0):
                seconds = frame.time or 0.0
                place = int(seconds * per_s)
                key = f"{keys}{place}"
                if place == taken or known(key):
                    continue
                taken = place
                yield Crop(key, _moment(began + seconds), frame.to_image())
    except av.FFmpegError as error:
        raise ValueError(f"{video} cannot be read as a video ({error}).") from error


def rows(
    embeds: Embeds, crops: Sequence[Crop], camera: str, pictures: bool
) -> list[dict[str, Any]]:
    """Embeds crops, and returns a `messages.NewRow` for each, ready for JSON."""
    found = embeds([crop.image for crop in crops], progress=False)
    return [
        {
            "key": crop.key,
            "camera": camera,
            "time": crop.time.isoformat(),
            # Nine digits are enough to get the same float32 back.
            "embedding": [float(f"{each:.9g}") for each in embedding],
            "picture": _small(crop.image) if pictures else None,
        }
        for crop, embedding in zip(crops, found)
    ]


def _small(image: PIL.Image.Image) -> str:
    return base64.b64encode(photos.thumbnail(image)).decode()


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
