"""The data doctor: says in words which faults of a data set would make scores wrong.

Faults that keep a data set from being read at all are reported by `datasets.read`.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import tensorflow as tf
from PIL import ExifTags, Image

from cdnet_tf.data import datasets, preprocess

ERROR, WARNING, REMARK = _SEVERITIES = "error", "warning", "remark"


@dataclasses.dataclass(frozen=True)
class Finding:
    """A fault that the doctor has found.

    Attributes:
      severity: `ERROR`, scores would be wrong; `WARNING`, they may not mean what one
        thinks; `REMARK`, good to know.
      problem: the fault and its consequence, in whole sentences.
      count: number of images or identities that have the fault, at least 1.
      names: the first `datasets.NAMED_AT_MOST` of them.
      remedy: what to do.
    """

    severity: str
    problem: str
    count: int
    names: tuple[str, ...]
    remedy: str

    @property
    def is_error(self) -> bool:
        return self.severity == ERROR

    def __str__(self) -> str:
        more = self.count - len(self.names)
        names = ", ".join(self.names) + (f", and {more:,} more" if more else "")
        head = f"{self.severity} ({self.count:,}): {self.problem} {self.remedy}"
        return f"{head}\n  {names}"


@dataclasses.dataclass(frozen=True)
class _Image:
    split: str
    path: str
    identity: int
    camera: int


def examine(data: datasets.ReidDataset, images_per_id: int = 4) -> list[Finding]:
    """Looks for all faults that the doctor knows; reads and decodes every image once.

    Args:
      data: a data set, as read.
      images_per_id: K, the images of each identity in a training batch.

    Returns:
      Findings, errors first; a sound data set has none.
    """
    images = [
        _Image(split, *image)
        for split in datasets.SPLITS
        for image in _each(getattr(data, split))
    ]
    unreadable = _those([image.path for image in images], _unreadable)
    bad = set(unreadable)
    readable = [image for image in images if image.path not in bad]
    findings = [
        *_splits(data),
        *_some(
            ERROR,
            "Images cannot be decoded.",
            unreadable,
            "Restore or remove them.",
            data.root,
        ),
        *_some(
            WARNING,
            "Images carry an EXIF note that they are to be turned. No decoder of "
            "training, TF Serving or TFLite does so, and people lie on their side.",
            _those([image.path for image in readable], _turned),
            "Turn the pixels themselves, as `exiftran -ai FILE` does.",
            data.root,
        ),
        *_queries(data),
        *_shared_identities(data),
        *_cameras(data, images),
        *_train_identities(data, images_per_id),
        *_duplicates(readable, data.root),
    ]
    return sorted(findings, key=lambda finding: _SEVERITIES.index(finding.severity))


def text(findings: Iterable[Finding]) -> str:
    """Renders findings for a console."""
    return "\n".join(str(each) for each in findings) or "The doctor finds nothing."


def _each(images: datasets.Images) -> Iterable[tuple[str, int, int]]:
    return zip(images.paths, images.identities.tolist(), images.cameras.tolist())


def _some(
    severity: str, problem: str, items: Sequence, remedy: str, root: str | None = None
) -> list[Finding]:
    """Makes a finding if there are items, which are named by their path from `root`."""
    if not items:
        return []
    names = [str(item) for item in items[: datasets.NAMED_AT_MOST]]
    if root:
        names = [os.path.relpath(name, root) for name in names]
    return [Finding(severity, problem, len(items), tuple(names), remedy)]


def _splits(data: datasets.ReidDataset) -> list[Finding]:
    there = {
        split: len(getattr(data, split))
        for split in datasets.SPLITS
        if split not in data.absent
    }
    fewer = [
        f"{split} ({there[split]:,} of {whole:,})"
        for split, whole in data.published.items()
        if 0 < there.get(split, whole) < whole
    ]
    return [
        *_some(
            ERROR,
            "Splits hold no image but junk (identity -1).",
            [split for split, images in there.items() if not images],
            "Unpack the data set again.",
        ),
        *_some(
            WARNING,
            "Splits are missing. Training needs train, and evaluation query and "
            "gallery.",
            data.absent,
            "Add them if you need them; held-out identities of train can stand in for "
            "query and gallery.",
        ),
        *_some(
            WARNING,
            "Splits hold fewer images than were published, so scores cannot be "
            "compared with those of others.",
            fewer,
            "Unpack the data set again, unless it is meant to be a part.",
        ),
    ]


def _those(paths: Sequence[str], are: Callable[[str], bool]) -> list[str]:
    """Returns the files of which `are` is true; checks several at the same time."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return [path for path, true in zip(paths, pool.map(are, paths)) if true]


def _unreadable(path: str) -> bool:
    """Whether the decoder of the training fails on a file, as in `check_images`."""
    try:
        preprocess.decode(tf.io.read_file(path))
    except tf.errors.OpError:
        return True
    return False


def _turned(path: str) -> bool:
    """Whether a file's EXIF orientation says that its pixels are not upright."""
    try:
        with Image.open(path) as image:
            return image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except OSError:  # A format that TensorFlow alone reads.
        return False


def _queries(data: datasets.ReidDataset) -> list[Finding]:
    """Finds queries that the protocol skips."""
    if {"query", "gallery"} & set(data.absent):
        return []
    cameras = collections.defaultdict(set)
    for _, identity, camera in _each(data.gallery):
        cameras[identity].add(camera)
    absent, hidden = [], []
    for path, identity, camera in _each(data.query):
        if identity not in cameras:
            absent.append(path)
        elif cameras[identity] == {camera}:
            hidden.append(path)
    return [
        *_some(
            WARNING,
            "Queries show someone who is not in the gallery. They are skipped, so "
            "scores are means over fewer queries than others report.",
            absent,
            "Check that query and gallery belong together.",
            data.root,
        ),
        *_some(
            WARNING,
            "Queries show someone whom the gallery holds under the same camera only. "
            "The protocol ignores such images, so these queries are skipped.",
            hidden,
            "Check the cameras.",
            data.root,
        ),
    ]


def _shared_identities(data: datasets.ReidDataset) -> list[Finding]:
    if not data.numbers_people_once:
        return []
    test = np.union1d(data.query.identities, data.gallery.identities)
    return _some(
        ERROR,
        "Identities are in both train and test. The network has seen people whom it is "
        "tested on, so its scores are too high.",
        _people(data, np.intersect1d(data.train.identities, test)),
        "Take them out of one of the two.",
    )


def _cameras(data: datasets.ReidDataset, images: Sequence[_Image]) -> list[Finding]:
    allowed = data.camera_numbers
    if allowed is None:
        return _some(
            WARNING,
            "Nobody knows the camera of these images, so the protocol ignores none of "
            "the same camera. Images taken a moment apart then count as matches and "
            "are easy to find: scores are higher than between cameras.",
            [image.path for image in images if image.camera < 0],
            "Name the cameras if you know them.",
            data.root,
        )
    return _some(
        WARNING,
        f"Images have a camera number that {data.name} does not have. The protocol "
        "relies on it: with a wrong number, a query finds images of its own camera.",
        [image.path for image in images if image.camera not in allowed],
        f"Check the file names; cameras are {allowed[0]} to {allowed[-1]}.",
        data.root,
    )


def _people(data: datasets.ReidDataset, identities: np.ndarray) -> list[str]:
    return [data.people.get(i, str(i)) for i in identities.tolist()]


def _train_identities(data: datasets.ReidDataset, images_per_id: int) -> list[Finding]:
    train = data.train
    # The gallery's are distractors, and `_queries` finds those of queries.
    alone = datasets.single_camera_identities(train) if len(train) else np.zeros(0)
    identities, counts = np.unique(train.identities, return_counts=True)
    return [
        *_some(
            WARNING,
            "Train identities were seen by one camera only. They teach nothing about a "
            "change of camera.",
            _people(data, alone),
            "Check the cameras if you did not expect this.",
        ),
        *_some(
            REMARK,
            f"Train identities have fewer than {images_per_id} images, as many as a "
            "batch takes of each. Their images repeat within a batch.",
            _people(data, identities[counts < images_per_id]),
            "Nothing needs to be done.",
        ),
    ]


def _duplicates(images: Sequence[_Image], root: str) -> list[Finding]:
    """Finds files of equal content, and sorts them by the harm that they do."""
    names = collections.defaultdict(list)
    for group in _equal_files(images):
        paths = [os.path.relpath(image.path, root) for image in group]
        names[_harm(group)].append(" = ".join(paths))
    return [
        *_some(
            ERROR,
            "Pictures are in both train and test. The network has seen images that it "
            "is tested on, so its scores are too high.",
            names["leak"],
            "Remove them from one of the two.",
        ),
        *_some(
            ERROR,
            "Pictures appear under different identities or cameras, and at most one of "
            "them is right.",
            names["contradiction"],
            "Remove the wrong ones.",
        ),
        *_some(
            ERROR,
            "Pictures are in both query and gallery as separate files without a "
            "camera. A query finds its copy, so scores are too high.",
            names["copy"],
            "Remove one of the two, or name the cameras.",
        ),
        *_some(
            REMARK,
            "Pictures appear more than once under the same identity and camera. Each "
            "copy counts.",
            names["repeat"],
            "Remove the copies if you did not put them there.",
        ),
    ]


def _harm(group: Sequence[_Image]) -> str:
    """Returns the worst harm that files of equal content do, a key of `_duplicates`."""
    if len({image.split == "train" for image in group}) > 1:
        return "leak"
    if len({(image.identity, max(image.camera, -1)) for image in group}) > 1:
        return "contradiction"
    if group[0].camera < 0 and _finds_copy(group):
        return "copy"
    return "repeat"


def _finds_copy(group: Sequence[_Image]) -> bool:
    """Whether a query is a copy of a gallery image, and not the same file."""
    query = {image.path for image in group if image.split == "query"}
    gallery = {image.path for image in group if image.split == "gallery"}
    return any(query - {path} for path in gallery)


def _equal_files(images: Sequence[_Image]) -> list[list[_Image]]:
    """Groups files of equal content; only files of equal size are read."""
    by_size = collections.defaultdict(list)
    for image in images:
        by_size[os.path.getsize(image.path)].append(image)
    by_content = collections.defaultdict(list)
    for group in by_size.values():
        for image in group if len(group) > 1 else ():
            content = pathlib.Path(image.path).read_bytes()
            by_content[hashlib.sha256(content).digest()].append(image)
    return [group for group in by_content.values() if len(group) > 1]
