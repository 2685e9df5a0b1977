"""Embeds crops of people beside a camera, and sends the embeddings to a gallery.

Images stay with the camera; the gallery gets embeddings and, unless --nopictures is
given, small pictures.

CDNET_GALLERY_TOKEN=... python tools/camera.py --input=crops --camera=door \
    --model=market1501/cdnet_x0_25_int8 --service=http://127.0.0.1:8321/

The crops are image files in a folder, which is looked at again and again with
--watch_s, or the frames of a video. A .tflite file runs in LiteRT (`pip install
ai-edge-litert`), without TensorFlow. Rows wait in the file --queue while the service is
away, and what is in the file or has been sent is not embedded again.
"""

from __future__ import annotations

import itertools
import math
import os
import pathlib
import sys
import time

from absl import app, flags

import cdnet_tf
from cdnet_tf import shipped
from cdnet_tf.deploy import lite
from cdnet_tf.service import crops
from cdnet_tf.service.outbox import Outbox
from cdnet_tf.service.sending import Background, RefusedError, Sender

_INPUT = flags.DEFINE_string(
    "input", None, "A folder of crops, each of one person, or a video of crops."
)
_CAMERA = flags.DEFINE_string("camera", None, "The camera's name in the gallery.")
_MODEL = flags.DEFINE_string(
    "model",
    None,
    "A .tflite file, or whatever else cdnet_tf.load takes, which needs TensorFlow; the "
    "network of the gallery.",
)
_SERVICE = flags.DEFINE_string(
    "service", "http://127.0.0.1:8321/", "Where cdnet_tf.serve_gallery listens."
)
_QUEUE = flags.DEFINE_string(
    "queue", "camera_queue.sqlite", "File of the rows that the service does not have."
)
_PICTURES = flags.DEFINE_boolean("pictures", True, "Send small pictures, too.")
_WATCH_S = flags.DEFINE_float(
    "watch_s", 0.0, "Look for new files every so many seconds, for ever; 0: once.", 0.0
)
_WAIT_S = flags.DEFINE_float(
    "wait_s", 60.0, "How long to wait at the end for a service that is away.", 0.0
)
_FRAMES_PER_S = flags.DEFINE_float(
    "frames_per_s", 2.0, "Frames of a video to take, of each second.", 0.01
)
_VARIABLE = "CDNET_GALLERY_TOKEN"
_BATCH = 32
_SETTLED_S = 1.0  # a file that was written just now may be half written
# Rows that were sent are known until their images have been gone for a day.
_FORGET_AFTER_S, _FORGET_EVERY_S = 86_400.0, 3_600.0


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    token, source = os.environ.get(_VARIABLE), pathlib.Path(_INPUT.value)
    if not token:
        sys.exit(f"Put the token of the service into the variable {_VARIABLE}.")
    if not source.exists():
        sys.exit(f"--input={source} does not exist; name a folder or a video.")
    try:
        left = _work(source, token)
    except (RefusedError, ImportError, OSError, ValueError) as error:
        sys.exit(str(error))
    if left:
        sys.exit(f"{left} rows wait in {_QUEUE.value}; start again to send them.")
    _say("The service has all rows.")


def _work(source: pathlib.Path, token: str) -> int:
    """Embeds and sends; returns how many rows still wait at the end."""
    camera = _CAMERA.value
    outbox = Outbox(_QUEUE.value)
    sender = Sender(_SERVICE.value, token, outbox, _say)
    reid = _opened(_MODEL.value)
    folder = crops.Folder(source, camera, _say, _SETTLED_S if _WATCH_S.value else 0.0)
    sending = Background(sender, outbox)
    forget_at = -math.inf
    while True:
        if time.monotonic() >= forget_at:
            _forget(source, folder, outbox)
            forget_at = time.monotonic() + _FORGET_EVERY_S
        if source.is_dir():
            new = folder.new(outbox.knows)
        else:
            new = crops.frames(source, camera, _FRAMES_PER_S.value, outbox.knows)
        while batch := list(itertools.islice(new, _BATCH)):
            rows = crops.rows(reid, batch, camera, _PICTURES.value)
            outbox.put(reid.network._asdict(), rows)
            sending.check()
        if not _WATCH_S.value:
            break
        time.sleep(_WATCH_S.value)
        sending.check()
    sending.stop()
    return sender.drain(_WAIT_S.value)


def _forget(source: pathlib.Path, folder: crops.Folder, outbox: Outbox) -> None:
    """Lets the queue's file forget what it need not know any more."""
    if source.is_dir():
        is_there: crops.Known = folder.holds
    else:
        beginning = crops.video_keys(source, _CAMERA.value)
        is_there = lambda key: key.startswith(beginning)  # noqa: E731
    outbox.forget(_CAMERA.value, is_there, _FORGET_AFTER_S)


def _opened(model: str) -> cdnet_tf.Reid | lite.LiteReid:
    """The network; that of a .tflite file needs no TensorFlow."""
    if not model.startswith(("http://", "https://")):
        if lite.is_lite(path := shipped.resolve(model, "a .tflite file")):
            return lite.LiteReid(path)
    return cdnet_tf.load(model)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    flags.mark_flags_as_required(["input", "camera", "model"])
    app.run(main)
