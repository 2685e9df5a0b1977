"""Fills a gallery with the gallery images of a data set, to try searching in it.

Data sets say which camera took an image but not when. So the times are made up: each
person walks past the cameras, one after the other, at some hour of yesterday (UTC), so
that a retention may be tried, too.

python tools/fill_gallery.py --flagfile=flags/demo.cfg --gallery=runs/demo/gallery \
    --model=runs/demo/train/model.keras
"""

from __future__ import annotations

import datetime
import pathlib

import numpy as np
from absl import app, flags

import cdnet_tf
from cdnet_tf import recipes, shared_flags
from cdnet_tf.data import datasets
from cdnet_tf.gallery.gallery import Gallery

_MODEL = flags.DEFINE_string("model", None, "Whatever cdnet_tf.load takes.")
_GALLERY = flags.DEFINE_string(
    "gallery", None, "Folder of the gallery, or postgresql://USER@HOST/DATABASE."
)
_MORNING = datetime.time(7, tzinfo=datetime.timezone.utc)
_DAY_S = 12 * 3600
_NEXT_CAMERA_S, _NEXT_IMAGE_S = 150, 2
_ROWS = 1000  # that are read and added at once


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    images = shared_flags.read_data(["gallery"]).gallery
    reid = cdnet_tf.load(_MODEL.value)
    with Gallery(_GALLERY.value, network=reid.network) as gallery:
        added = fill(gallery, reid, images)
        print(f"{_GALLERY.value}: {added} images added, {gallery.count()} in all.")


def fill(gallery: Gallery, reid: cdnet_tf.Reid, images: datasets.Images) -> int:
    """Adds the images that are no junk, with their files; returns how many were new.

    The name of a file is its key, so that images may be added again.
    """
    today = datetime.datetime.now(datetime.timezone.utc).date()
    times = made_up_times(images, today - datetime.timedelta(days=1))
    wanted = np.flatnonzero(images.identities >= 0)
    added = 0
    for begin in range(0, len(wanted), _ROWS):
        chosen = wanted[begin : begin + _ROWS]
        paths = [pathlib.Path(images.paths[i]) for i in chosen]
        added += gallery.add(
            reid(paths, progress=False),
            images.cameras[chosen],
            [times[i] for i in chosen],
            keys=[path.name for path in paths],
            pictures=[path.read_bytes() for path in paths],
        )
    return added


def made_up_times(
    images: datasets.Images, day: datetime.date
) -> list[datetime.datetime]:
    """A time of a day for each image (UTC), the same for the same images."""
    draw = np.random.default_rng(0)
    # Identity 0 stands for many people, each of whom has an hour of their own.
    begin = draw.uniform(0, _DAY_S, int(images.identities.max(initial=0)) + 1)
    alone = draw.uniform(0, _DAY_S, len(images))
    seconds = np.where(images.identities > 0, begin[images.identities], alone)
    seconds += _NEXT_CAMERA_S * images.cameras
    seconds += _NEXT_IMAGE_S * (np.arange(len(images)) % 10)
    morning = datetime.datetime.combine(day, _MORNING)
    return [morning + datetime.timedelta(seconds=float(each)) for each in seconds]


if __name__ == "__main__":
    flags.mark_flags_as_required(["gallery", "model"])
    app.run(main, flags_parser=recipes.parse)
