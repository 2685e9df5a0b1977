"""Opens the database of a path or URL, or says what to install for it."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cdnet_tf.gallery.store import Store

_SCHEMES = ("postgresql://", "postgres://")


def open_store(path_or_url: str | os.PathLike, memory_mb: int) -> tuple[str, Store]:
    """Opens the database of a gallery.

    Args:
      path_or_url: a folder, or the URL of a server.
      memory_mb: MiB of memory that a copy of a folder's embeddings may use.

    Returns:
      The path, or the URL without its password; and the store.

    Raises:
      ImportError: the packages of this kind of gallery are not installed.
      ValueError: the URL is of another kind, or `memory_mb` is below 0.
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
        f"run pip install '.[{extra}]' in the checkout."
    )
