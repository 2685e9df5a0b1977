"""Writes files whole or not at all, so that a killed program leaves no half file.

Every writer of the package goes through here. The text goes to a temporary name in the
same folder first, and a rename puts the finished file in its place.
"""

from __future__ import annotations

import contextlib
import csv
import os
import pathlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_ABANDONED_S = 3600.0


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`, which takes its name at the end.

    The temporary name keeps the suffix, by which Keras, Pillow and matplotlib know the
    format. Where the body raises, the temporary file is removed and `path` stays as it
    was. A program that is killed meanwhile leaves its temporary file behind; the next
    writer of the same file removes it once it is an hour old.

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
    _remove_abandoned(path)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _remove_abandoned(path: pathlib.Path) -> None:
    start, end = f".{path.stem}.", f".part{path.suffix}"
    with contextlib.suppress(OSError):  # Another writer may be quicker.
        for each in path.parent.iterdir():
            if each.name.startswith(start) and each.name.endswith(end):
                if time.time() - each.stat().st_mtime > _ABANDONED_S:
                    each.unlink()


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` to `path` in UTF-8, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_csv(
    path: str | os.PathLike, columns: Sequence[str], lines: Iterable[Mapping[str, Any]]
) -> None:
    """Writes a CSV file with a header, whole or not at all.

    Args:
      path: of the file.
      columns: in their order.
      lines: values by column; those of other columns are left out.
    """
    with replacing(path) as partial:
        with open(partial, "w", newline="") as file:
            writer = csv.DictWriter(
                file, columns, extrasaction="ignore", lineterminator="\n"
            )
            writer.writeheader()
            writer.writerows(lines)
