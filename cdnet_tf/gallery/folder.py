"""A gallery's folder on disk: the file of its settings, and who may use it when.

    PATH/gallery.json    format, network, dimensions, retention
    PATH/rows.lance/     the rows, in LanceDB's format
    PATH/*.lock          empty files, which processes lock

The locks belong to the operating system (`flock`), so a killed process leaves none
behind. They hold among the processes and threads of one machine.
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
        """Checks the folder; makes nothing.

        Raises:
          ValueError: the path is a file, or a folder of something else.
          VersionError: a gallery of another version.
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
        """The settings as they are now; those of an empty gallery if there is none.

        Raises:
          VersionError: a gallery of another version.
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
        """Replaces some settings; call it within `writing`."""
        settings = dataclasses.replace(self.read(), **values)
        found = dataclasses.asdict(settings)
        # A named tuple would be written as a list.
        found["network"] = settings.network._asdict() if settings.network else None
        since = settings.unerased_since
        found["unerased_since"] = since.isoformat() if since else None
        text = json.dumps({"format": store.FORMAT, **found}, indent=1)
        atomic_files.write_text(self._file, text + "\n")
        return settings

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Waits until nobody else writes, and keeps others from writing."""
        self.path.mkdir(parents=True, exist_ok=True)
        with self._locked("writer", fcntl.LOCK_EX):
            yield

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Keeps the files of the version that is being read from being removed."""
        with contextlib.ExitStack() as held:
            # Whoever waits to remove files holds the gate, so that readers who come
            # later cannot keep it waiting for ever.
            with self._locked("gate", fcntl.LOCK_SH):
                held.enter_context(self._locked("readers", fcntl.LOCK_SH))
            yield

    @contextlib.contextmanager
    def removing(self, wait: bool = True) -> Iterator[bool]:
        """Keeps others from reading; yields whether nobody reads.

        Args:
          wait: until nobody reads; otherwise False is yielded while somebody does.
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
        # Opened anew each time: threads with one descriptor would share its lock.
        descriptor = os.open(self.path / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)
