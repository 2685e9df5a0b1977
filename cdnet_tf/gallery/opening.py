"""Finds the database for a path or URL, and says what to install for it."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cdnet_tf.gallery.store import Store

_SCHEMES = ("postgresql://", "postgres://")


def open_store(path_or_url: str | os.PathLike, memory_mb: int) -> tuple[str, Store]:
    """Opens the database; returns its place without a password, and the store.

    Args:
      path_or_url: a folder, or the URL of a server.
      memory_mb: how much memory a copy of a folder's embeddings may take, in MiB.

    Raises:
      ImportError: its packages are not installed.
      ValueError: a URL of another kind, or less than no memory.
    """
    if memory_mb < 0:
        raise ValueError(f"memory_mb={memory_mb} is below 0; 0 keeps no copy.")
    place = os.fspath(path_or_url)
    if place.startswith(_SCHEMES):
        return re.sub(r"//([^:@/]*):[^@/]*@", r"//\1@", place), _postgres(place)
    if re.match(r"[a-zA-Z][\w+.-]+://", place):
        raise ValueError(
            f"{place.partition('://')[0]}:// is no kind of gallery; pass a folder, or "
            "postgresql://USER:PASSWORD@HOST/DATABASE."
        )
    return place, _lance(place, memory_mb)


def _lance(path: str, memory_mb: int) -> Store:
    try:
        from cdnet_tf.gallery.lance_store import LanceStore
    except ImportError as error:
        raise ImportError(_remedy("in a folder", "gallery", error)) from error
    return LanceStore(path, memory_bytes=memory_mb * 2**20)


def _postgres(url: str) -> Store:
    try:
        from cdnet_tf.gallery.postgres_store import PostgresStore
    except ImportError as error:
        raise ImportError(_remedy("in PostgreSQL", "postgres", error)) from error
    return PostgresStore(url)


def _remedy(kind: str, extra: str, error: ImportError) -> str:
    return (
        f"A gallery {kind} needs packages that are not installed ({error}): "
        f"pip install 'cdnet_tf[{extra}]'."
    )
