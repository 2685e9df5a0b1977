"""Serves a gallery over HTTP, with a page on which one searches for a person.

The first start prints a token, which the page and every client has to send.

python -m cdnet_tf.serve_gallery --gallery=people --model=market1501/cdnet_x0_25

docs/gallery_service.md says what to set before there are real people in the gallery.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys

import numpy as np
import uvicorn
from absl import app, flags

import cdnet_tf
from cdnet_tf import recipes
from cdnet_tf.gallery import store
from cdnet_tf.gallery.gallery import Gallery
from cdnet_tf.service.app import create
from cdnet_tf.service.audit import Audit
from cdnet_tf.service.guard import Guard, Limits
from cdnet_tf.service.retaining import retaining
from cdnet_tf.service.service import Service
from cdnet_tf.service.tokens import Tokens

_GALLERY = flags.DEFINE_string(
    "gallery", None, "Folder of the gallery, or postgresql://USER@HOST/DATABASE."
)
_MODEL = flags.DEFINE_string(
    "model",
    None,
    "The network that made the embeddings: whatever cdnet_tf.load takes, such as "
    "market1501/cdnet_x0_25.",
)
_HOST = flags.DEFINE_string(
    "host", "127.0.0.1", "Address to listen on. Others than this one need TLS."
)
_PORT = flags.DEFINE_integer("port", 8321, "Port to listen on; 0 for a free one.", 0)
_TOKEN = flags.DEFINE_string(
    "token",
    None,
    "The only token that is accepted. Other users of the machine see the flags of a "
    "program, so the variable CDNET_GALLERY_TOKEN is safer. Default: the tokens in "
    "--state_dir, one of which is generated at the first start.",
)
_NEW_TOKEN = flags.DEFINE_string(
    "new_token",
    None,
    "Generate a token of this name, by which the audit calls its user, print the "
    "token, and serve.",
)
_STATE_DIR = flags.DEFINE_string(
    "state_dir",
    None,
    "Folder of tokens.json (checksums of the tokens) and audit.jsonl. Default: the "
    "gallery's folder with _service after its name; of a database: gallery_service.",
)
_PICTURES_DIR = flags.DEFINE_string(
    "pictures_dir",
    None,
    "Pictures that the gallery holds by their paths are shown if they are below this "
    "folder. Without it none of them is.",
)
_FALSE_ACCEPT_RATE = flags.DEFINE_float(
    "false_accept_rate",
    0.001,
    "Share of pairs of two people that may be marked as the same person.",
)
_RATE = flags.DEFINE_string(
    "rate", Limits.rate, "Requests that one token may make from one address."
)
_MAX_BODY_MB = flags.DEFINE_integer(
    "max_body_mb", Limits.body_bytes >> 20, "Largest request, MiB.", 1
)
_MEMORY_MB = flags.DEFINE_integer(
    "memory_mb",
    store.MEMORY_MB,
    "Memory for a copy of a folder's embeddings, which makes searches quick, MiB.",
    0,
)
_KEEP_DAYS = flags.DEFINE_integer(
    "keep_days",
    None,
    "Set the gallery's retention: images older than so many days are deleted and "
    "erased from the disk. Default: what was set before.",
    1,
)
_RETAIN_HOURS = flags.DEFINE_float(
    "retain_hours",
    24.0,
    "Every so many hours images older than the gallery's retention are deleted, and "
    "deleted images are erased from the disk.",
    0.01,
)
_CERTIFICATE = flags.DEFINE_string("certificate", None, "PEM file, for TLS.")
_CERTIFICATE_KEY = flags.DEFINE_string("certificate_key", None, "Its private key.")

_VARIABLE = "CDNET_GALLERY_TOKEN"
_LOCAL = ("127.0.0.1", "localhost", "::1")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    state = pathlib.Path(_STATE_DIR.value or _beside(_GALLERY.value))
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        tokens = _tokens(state / "tokens.json")
        reid = cdnet_tf.load(_MODEL.value)
        gallery = Gallery(
            _GALLERY.value, network=reid.network, memory_mb=_MEMORY_MB.value
        )
        if _KEEP_DAYS.value is not None:
            gallery.keep(_KEEP_DAYS.value)
        gallery.prepare()
        # The first image takes a network seconds, and nobody should wait for it.
        reid(np.full(reid.input_shape, 128, np.uint8), progress=False)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(str(error))
    audit = Audit(state / "audit.jsonl")
    with gallery, contextlib.closing(audit):
        pictures = _PICTURES_DIR.value and pathlib.Path(_PICTURES_DIR.value)
        rate = _FALSE_ACCEPT_RATE.value
        service = Service(gallery, reid, audit, pictures or None, rate)
        print(_retention(gallery.settings.retention_days), flush=True)
        if service.no_threshold:
            print(f"No same-person marks: {service.no_threshold}", flush=True)
        limits = Limits(_MAX_BODY_MB.value << 20, _RATE.value)
        with retaining(service, _RETAIN_HOURS.value):
            _serve(create(service, tokens, limits))


def _beside(gallery: str) -> str:
    return "gallery_service" if "://" in gallery else f"{gallery.rstrip('/')}_service"


def _retention(days: int | None) -> str:
    if days is None:
        return "Images stay for ever; --keep_days=30 sets a retention of 30 days."
    return f"Images are deleted and erased after {days} days."


def _tokens(path: pathlib.Path) -> Tokens:
    """The tokens to accept; prints one that is generated."""
    chosen = _TOKEN.value or os.environ.get(_VARIABLE)
    if chosen:
        return Tokens.of(chosen=chosen)
    tokens = Tokens.read(path)
    name = _NEW_TOKEN.value or ("first" if not len(tokens) else None)
    if name:
        print(f"Token of {name!r}, shown only now: {tokens.generate(name, path)}")
    else:
        print(f"Tokens are those of {path}; --new_token=NAME makes another one.")
    return tokens


def _serve(application: Guard) -> None:
    secure = bool(_CERTIFICATE.value)
    config = uvicorn.Config(
        application,
        _HOST.value,
        _PORT.value,
        log_level="warning",
        access_log=False,  # the audit says more
        server_header=False,
        limit_concurrency=128,
        timeout_keep_alive=10,
        ssl_certfile=_CERTIFICATE.value,
        ssl_keyfile=_CERTIFICATE_KEY.value,
    )
    listening = config.bind_socket()
    listening.listen(config.backlog)  # who reads the address may come at once
    host, port = listening.getsockname()[:2]
    if not secure and _HOST.value not in _LOCAL:
        print(f"{host} is served without TLS: others can read the token and pictures.")
    print(f"The page: http{'s' * secure}://{host}:{port}/", flush=True)
    print(f"The HTTP interface: http{'s' * secure}://{host}:{port}/docs", flush=True)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    flags.mark_flags_as_required(["gallery", "model"])
    app.run(main, flags_parser=recipes.parse)
