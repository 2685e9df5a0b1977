"""Files on any file system that Beam knows: a local path, or gs://, s3:// or hdfs://.

Beam finds the file system by the path, where the package for it is installed.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from collections.abc import Iterator
from typing import BinaryIO

from apache_beam.io.filesystem import CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

_ABANDONED_S = 3600.0


def is_remote(path: str) -> bool:
    """Whether a path names its file system, as gs://bucket/people does."""
    return "://" in path


def absolute(path: str) -> str:
    """Returns a local path from the root, as workers need it; a remote one as it is."""
    return path if is_remote(path) else os.path.abspath(path)


def below(folder: str, pattern: str) -> list[FileMetadata]:
    """Lists the files of a folder whose path below it matches a pattern of Beam's.

    `*` stands for characters without a slash, `**` for any characters. A folder that
    does not exist has no files.
    """
    literal = re.sub(r"([*?[])", r"[\1]", folder)
    return matching(f"{literal}/{pattern}")


def matching(pattern: str) -> list[FileMetadata]:
    """Lists the files that a pattern of Beam's matches; see `below`."""
    return FileSystems.match([pattern])[0].metadata_list


def open_file(path: str) -> BinaryIO:
    """Opens a file for reading; whoever calls closes it.

    Raises:
      OSError: it cannot be opened.
    """
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


@contextlib.contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """Yields a file to write, which takes the name `path` when it is whole.

    As `atomic_files.replacing`, for any file system. Processes of several machines may
    write the same file at once: each has a temporary name of its own.

    Raises:
      OSError: it cannot be written.
    """
    folder, name = os.path.split(path)
    partial = FileSystems.join(folder, f".{name}.{uuid.uuid4().hex}.part")
    try:
        with FileSystems.create(
            partial, compression_type=CompressionTypes.UNCOMPRESSED
        ) as file:
            yield file
        FileSystems.rename([partial], [path])
    except BaseException:
        with contextlib.suppress(OSError):  # The first error tells more.
            FileSystems.delete([partial])
        raise


def remove_abandoned(folder: str) -> None:
    """Removes what writers that were killed left behind more than an hour ago."""
    latest = time.time() - _ABANDONED_S
    for file in below(folder, ".*.part"):
        if (file.last_updated_in_seconds or latest) < latest:
            with contextlib.suppress(OSError):  # Another job may be quicker.
                FileSystems.delete([file.path])
