"""Lists the images to embed, each with its key, camera, time and track."""

from __future__ import annotations

import dataclasses
import datetime
import os
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cdnet_tf.bulk import files
from cdnet_tf.data import datasets, layouts, own_data
from cdnet_tf.gallery import rows

LAYOUTS = (*layouts.LAYOUTS, *own_data.NAMES)
_GROUPS = {"camera", "time", "track"}
# `0001_c3s1_000151_01.jpg` is of camera 3.
_MARKET = layouts.LAYOUTS["market1501"][0].pattern


class Image(NamedTuple):
    """An image to embed.

    Attributes:
      key: of its row in a gallery, the same whenever the image is listed again.
      path: from the root, or with the file system's name.
      camera: text.
      time: with a time zone.
      track: text or None.
    """

    key: str
    path: str
    camera: str
    time: datetime.datetime
    track: str | None


@dataclasses.dataclass(frozen=True)
class Labels:
    """Where camera, time and track of an image come from.

    Attributes:
      camera: of all images. Without one it is the data set's, or the pattern's.
      time: of all images, with a time zone. Without one it is the pattern's, or that of
        the file's last change.
      pattern: regular expression, searched for in an image's path below the folder. Its
        groups `camera`, `time` and `track`, as far as it has them, are those of the
        image. Without a pattern and a camera, names are those of Market-1501.
      time_format: of the group `time`, as `datetime.strptime` has it; a time without a
        zone is in UTC.
      key_prefix: begins the keys, before the path below the folder. Without one it is
        the folder, so that a key is a path.
    """

    camera: str | None = None
    time: datetime.datetime | None = None
    pattern: str | None = None
    time_format: str | None = None
    key_prefix: str | None = None


class _File(NamedTuple):
    """A file, when it was changed (seconds since 1970), and its camera if known."""

    path: str
    seconds: float
    camera: str | None = None


def of_files(where: str, labels: Labels) -> list[Image]:
    """Lists the images of a folder, or those that a pattern of Beam's matches.

    Hidden files and folders within the folder are left out.

    Args:
      where: a folder, whose .jpg, .jpeg and .png files at any depth are meant; or a
        pattern, in which `*` stands for characters without a slash and `**` for any. A
        folder on a remote file system ends in a slash.
      labels: how to tell camera, time and track.

    Raises:
      ValueError: there is no image, an image has no camera, or `labels` is wrong.
      OSError: the files cannot be listed.
    """
    place = files.absolute(where)
    is_folder = where.endswith("/") if files.is_remote(place) else os.path.isdir(place)
    if is_folder:
        folder = place.rstrip("/")
        listed = files.below(folder, "**")
    else:
        before = re.match(r"[^*?[]*", place)
        folder = before[0].rpartition("/")[0] if before else ""
        listed = files.matching(place)
    found = [
        _File(file.path, file.last_updated_in_seconds)
        for file in listed
        if file.path.lower().endswith(layouts.IMAGE_ENDINGS)
        and "/." not in file.path[len(folder) :]
    ]
    if not found:
        raise ValueError(
            f"{where} holds no image; name a folder of files that end in "
            f"{', '.join(layouts.IMAGE_ENDINGS)}, or a pattern in quotes that matches "
            f"some, such as '{folder}/**.jpg'."
        )
    if labels.camera is None and labels.pattern is None:
        labels = dataclasses.replace(labels, pattern=f"(?i){_MARKET}")
    return _described(found, folder, labels)


def of_data_set(
    name: str, data_dir: str, splits: Sequence[str], labels: Labels
) -> list[Image]:
    """Lists the images of a data set on disk, which says the cameras; without junk.

    Args:
      name: of `LAYOUTS`.
      data_dir: the folder of the data set, or the folder above it.
      splits: which to list, of `datasets.SPLITS`.
      labels: how to tell time and track, and the camera where the data set does not.

    Raises:
      ValueError, OSError: as `datasets.read` and `own_data.read`, an image has no
        camera, or `labels` is wrong.
    """
    read = own_data.read if name in own_data.NAMES else datasets.read
    data = read(name, data_dir, splits)
    names = data.camera_names
    # A file may be in two splits of own data.
    found = {
        path: str(names.get(number, number)) if number >= 0 else None
        for split in splits
        for path, number in zip(
            getattr(data, split).paths, getattr(data, split).cameras.tolist()
        )
    }
    listed = [
        _File(files.absolute(path), os.path.getmtime(path), camera)
        for path, camera in found.items()
    ]
    return _described(listed, files.absolute(data.root), labels)


def _described(found: Iterable[_File], folder: str, labels: Labels) -> list[Image]:
    """Images in the order of their paths."""
    prefix = f"{folder}/" if labels.key_prefix is None else labels.key_prefix
    pattern = None if labels.pattern is None else _compiled(labels)
    images, wrong = [], []
    for file in sorted(found):
        # Files that a data set lists may lie elsewhere.
        inside = file.path.startswith(f"{folder}/")
        name = file.path[len(folder) + 1 :] if inside else file.path
        try:
            said = {} if pattern is None else _said(pattern, name)
            camera = labels.camera or file.camera or said.get("camera")
            if camera is None:
                raise ValueError("no camera")
            changed = datetime.datetime.fromtimestamp(
                file.seconds, datetime.timezone.utc
            )
            time = labels.time or _time(said.get("time"), labels) or changed
            key = rows.text(f"{prefix}{name}" if inside else name, "key")
            track = said.get("track")
            images.append(
                Image(key, file.path, rows.text(camera, "camera"), time, track)
            )
        except ValueError as error:
            wrong.append(f"{name!r} ({error})")
    if wrong:
        raise ValueError(
            f"The camera, time or key of {len(wrong)} of {len(wrong) + len(images)} "
            "images cannot be found; name one camera for all images, or a pattern that "
            f"fits their names: {datasets.named(wrong, 5)}."
        )
    return images


def _compiled(labels: Labels) -> re.Pattern:
    try:
        pattern = re.compile(labels.pattern or "")
    except re.error as error:
        raise ValueError(
            f"The pattern {labels.pattern!r} is no regular expression: {error}."
        ) from error
    named = set(pattern.groupindex) & _GROUPS
    if not named:
        raise ValueError(
            f"The pattern {labels.pattern!r} has no group camera, time or track; write "
            "them as in (?P<camera>[a-z]+)."
        )
    if ("time" in named) != bool(labels.time_format):
        raise ValueError(
            f"The pattern {labels.pattern!r} and the time format "
            f"{labels.time_format!r} need each other: a group time, and how it is "
            "written, such as %Y%m%d%H%M%S."
        )
    return pattern


def _said(pattern: re.Pattern, name: str) -> dict[str, str]:
    match = pattern.search(name)
    if match is None:
        raise ValueError("the pattern does not fit")
    return {group: text for group, text in match.groupdict().items() if text}


def _time(text: str | None, labels: Labels) -> datetime.datetime | None:
    if text is None or labels.time_format is None:
        return None
    time = datetime.datetime.strptime(text, labels.time_format)
    return time if time.tzinfo else time.replace(tzinfo=datetime.timezone.utc)
