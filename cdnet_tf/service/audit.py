"""Records who asked what, in a file of JSON lines that only grows."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
from typing import Any


class Audit:
    """Appends lines. Several threads and processes may write to one file."""

    def __init__(self, path: str | os.PathLike):
        """Opens the file; a new one may be read by its owner alone.

        Raises:
          OSError: the file cannot be written.
        """
        self.path = pathlib.Path(path)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._descriptor = os.open(self.path, flags, 0o600)

    def write(self, who: str, kind: str, **details: Any) -> None:
        """Appends one line: time (UTC), who, kind, and details that JSON can hold.

        The line is on the disk when the call returns.

        Raises:
          OSError: the line is not on the disk, for instance because that is full. The
            caller must not answer the request then.
        """
        time = datetime.datetime.now(datetime.timezone.utc).isoformat()
        line = {"time": time, "who": who, "kind": kind, **details}
        data = (json.dumps(line, default=str) + "\n").encode()
        # In several calls, the lines of two processes might be mixed.
        if os.write(self._descriptor, data) != len(data):
            raise OSError(
                f"Only a part of a line was written to {self.path}; make room on the "
                "disk."
            )
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)
