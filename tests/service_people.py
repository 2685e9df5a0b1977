"""A service on a small gallery, with a stub for the network."""

from __future__ import annotations

import datetime
import hashlib
import io

import numpy as np
import PIL.Image

from cdnet_tf.deploy.identity import Network
from cdnet_tf.gallery.gallery import Gallery
from cdnet_tf.retrieval import verification
from cdnet_tf.service.audit import Audit
from cdnet_tf.service.service import Service
from cdnet_tf.service.tokens import Tokens

NETWORK = Network("stub", hashlib.sha256(b"stub").hexdigest())
TOKEN = "a token of the tests"
TOKENS = Tokens.of(tester=TOKEN)
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
START = datetime.datetime(2026, 3, 1, tzinfo=datetime.timezone.utc)
CAMERAS = ("door", "hall", "yard")
COLOURS = ("red", "lime", "blue", "yellow")


class MeanColour:
    """Embeds a picture as its mean colour, so that a reader can tell what is near."""

    network = NETWORK

    def __call__(self, images: PIL.Image.Image, *, progress: bool = True) -> np.ndarray:
        mean = np.asarray(images, np.float32).mean((0, 1))[np.newaxis] + 1
        return mean / np.linalg.norm(mean)

    def threshold(self, false_accept_rate: float = 0.001):
        return verification.Threshold(0.2, false_accept_rate, 0.9)


def picture(colour: str, kind: str = "PNG", size=(32, 64)) -> bytes:
    """A file of one colour."""
    file = io.BytesIO()
    PIL.Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


def fill(gallery: Gallery) -> None:
    """Adds each colour once a camera, an hour apart: row `red 0` at 0:00 in `door`."""
    reid = MeanColour()
    colours = [colour for colour in COLOURS for _ in CAMERAS]
    files = [picture(colour, "JPEG") for colour in colours]
    opened = [PIL.Image.open(io.BytesIO(file)) for file in files]
    gallery.add(
        np.concatenate([reid(each) for each in opened]),
        [*CAMERAS] * len(COLOURS),
        [START + datetime.timedelta(hours=i) for i in range(len(colours))],
        keys=[f"{colour} {i % len(CAMERAS)}" for i, colour in enumerate(colours)],
        tracks=colours,
        pictures=files,
    )


def service(folder, pictures_dir=None, place=None) -> Service:
    """A service on a filled gallery in `folder`, which has its audit, too.

    Args:
      place: the URL of the gallery, if it is elsewhere.
    """
    gallery = Gallery(place or folder / "gallery", network=NETWORK)
    fill(gallery)
    audit = Audit(folder / "audit.jsonl")
    return Service(gallery, MeanColour(), audit, pictures_dir)
