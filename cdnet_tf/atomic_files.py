"""Writes files whole or not at all, so that a killed program leaves no half file.

Every writer of the package goes through here. The text goes to a temporary name in the
same folder first, and a rename puts the finished file in its place.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`, which takes its name at the end.

    The temporary name keeps the suffix, by which Keras, Pillow and matplotlib know the
    format. Where the body raises, the temporary file is removed and `path` stays as it
    was.

        with atomic_files.replacing("model.keras") as partial:
            model.save(partial)

    Args:
      path: of the file to write; its folder must exist.

    Raises:
      OSError: the folder is missing, full or not writable.
    """
    path = pathlib.Path(path)
    # Two programs that write the same file must not share the temporary one.
    partial = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` to `path` in UTF-8, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
