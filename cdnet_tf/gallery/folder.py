"""Keeps a gallery's settings in its folder, and locks the folder.

    PATH/gallery.json    format, network, dimensions, retention
    PATH/rows.lance/     the rows, in LanceDB's format
    PATH/*.lock          empty files, which processes lock

The operating system holds the locks (`flock`), and frees those of a process that is
killed. They work between the processes and threads of one machine only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from cdnet_tf import atomic_files
from cdnet_tf.deploy.identity import Network
from cdnet_tf.gallery import store
from cdnet_tf.gallery.records import Settings

_SETTINGS = "gallery.json"


class Folder:
    """Reads and writes the settings, and hands out the locks."""

    def __init__(self, path: str | os.PathLike):
        """Checks the folder, and creates nothing.

        Raises:
          ValueError: the path is a file, or a folder that holds something else.
          VersionError: another version of this package wrote the gallery.
        """
        self.path = pathlib.Path(path)
        self._file = self.path / _SETTINGS
        if self.path.exists() and not self._file.exists():
            if not self.path.is_dir() or any(
                each.suffix not in (".lock", ".json") for each in self.path.iterdir()
            ):
                raise ValueError(
                    f"{self.path} exists and is no gallery; pass the path of a gallery "
                    "or of a folder that does not exist yet."
                )
        self.read()

    def read(self) -> Settings:
        """Returns the settings as they are now, or the defaults if there is no gallery.

        Raises:
          VersionError: another version of this package wrote the gallery.
        """
        try:
            found = json.loads(self._file.read_text("utf-8"))
        except FileNotFoundError:
            return Settings()
        store.check_format(found["format"], str(self.path))
        since = found["unerased_since"]
        return Settings(
            network=Network(**found["network"]) if found["network"] else None,
            dimensions=found["dimensions"],
            retention_days=found["retention_days"],
            unerased_since=datetime.datetime.fromisoformat(since) if since else None,
        )

    def change(self, **values: Any) -> Settings:
        """Replaces some settings. The caller must be inside `writing`."""
        settings = dataclasses.replace(self.read(), **values)
        found = dataclasses.asdict(settings)
        # JSON would write a named tuple as a list.
        found["network"] = settings.network._asdict() if settings.network else None
        since = settings.unerased_since
        found["unerased_since"] = since.isoformat() if since else None
        text = json.dumps({"format": store.FORMAT, **found}, indent=1)
        atomic_files.write_text(self._file, text + "\n")
        return settings

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Waits until nobody else writes, and locks out other writers."""
        self.path.mkdir(parents=True, exist_ok=True)
        with self._locked("writer", fcntl.LOCK_EX):
            yield

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Protects the files that are being read from removal."""
        with contextlib.ExitStack() as held:
            # A process that waits to remove files holds the gate. Readers that come
            # later stop there, so that they cannot delay the removal for ever.
            with self._locked("gate", fcntl.LOCK_SH):
                held.enter_context(self._locked("readers", fcntl.LOCK_SH))
            yield

    @contextlib.contextmanager
    def removing(self, wait: bool = True) -> Iterator[bool]:
        """Locks out readers, and yields True if nobody reads.

        Args:
          wait: whether to wait until nobody reads. Without waiting, False is yielded
            if somebody reads.
        """
        how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
        with contextlib.ExitStack() as held:
            alone = True
            try:
                held.enter_context(self._locked("gate", how))
                held.enter_context(self._locked("readers", how))
            except BlockingIOError:
                held.close()
                alone = False
            yield alone

    @contextlib.contextmanager
    def _locked(self, name: str, how: int) -> Iterator[None]:
        # The file is opened anew each time, because threads with one descriptor would
        # share its lock.
        descriptor = os.open(self.path / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)
