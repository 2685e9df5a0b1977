"""A camera's crops of people, from a folder or a video, and the rows made of them."""

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

Known = Callable[[str], bool]  # whether the row of a key needs no embedding any more


class Crop(NamedTuple):
    """An image of one person: its key in the gallery, its time (UTC), its pixels."""

    key: str
    time: datetime.datetime
    image: PIL.Image.Image


class Embeds(Protocol):
    """What of `cdnet_tf.load` is needed."""

    def __call__(
        self, images: list[PIL.Image.Image], *, progress: bool = True
    ) -> np.ndarray: ...


class Folder:
    """A folder into which something writes crops as image files.

    A file that changes counts as a new image. The time of an image is that of the
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
          path: of the folder; its folders are looked into, too.
          camera: begins the keys.
          say: is told which files cannot be read, once each.
          settled_s: files that were changed later than so many seconds ago are left to
            the next time, as they may be half written.
        """
        self._path, self._camera = path, camera
        self._say, self._settled_s = say, settled_s
        self._bad: set[str] = set()

    def holds(self, key: str) -> bool:
        """Whether the image of a key is there, as it was."""
        name, _, seconds = key.removeprefix(f"{self._camera}/").rpartition("/")
        try:
            return f"{(self._path / name).stat().st_mtime:.6f}" == seconds
        except OSError:
            return False

    def new(self, known: Known) -> Iterator[Crop]:
        """Yields the crops that are not known, in the order of their times."""
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
    """How the keys of a video's frames begin."""
    return f"{camera}/{video.name}/{video.stat().st_mtime:.6f}/"


def frames(
    video: pathlib.Path, camera: str, per_s: float, known: Known
) -> Iterator[Crop]:
    """Yields the frames of a video, `per_s` of each second, that are not known.

    The video is taken to have ended when its file was changed last.

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
    """Embeds crops, and returns a `messages.NewRow` of each, ready for JSON."""
    found = embeds([crop.image for crop in crops], progress=False)
    return [
        {
            "key": crop.key,
            "camera": camera,
            "time": crop.time.isoformat(),
            # Nine digits give the same float32 again.
            "embedding": [float(f"{each:.9g}") for each in embedding],
            "picture": _small(crop.image) if pictures else None,
        }
        for crop, embedding in zip(crops, found)
    ]


def _small(image: PIL.Image.Image) -> str:
    return base64.b64encode(photos.thumbnail(image)).decode()


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
