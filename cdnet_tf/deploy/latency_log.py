"""Measured times, a line each as they come, so that a killed run goes on.

The first line has the conditions; times of other conditions are not mixed in.
"""

from __future__ import annotations

import json
import pathlib
import statistics
from collections.abc import Iterable, Mapping
from typing import Any


class Log:
    """Times of files, kept in a JSON-lines file.

    Args:
      path: of the log; it is made if it is not there.
      conditions: what the times hold for, ready for JSON.

    Raises:
      ValueError: the log is of other conditions, or is no log.
    """

    def __init__(self, path: pathlib.Path, conditions: Mapping[str, Any]) -> None:
        self._path = path
        self._times: dict[str, list[float]] = {}
        lines = _whole_lines(path)
        if not lines:
            path.write_text(json.dumps({"conditions": conditions}) + "\n", "utf-8")
            return
        try:
            found = json.loads(lines[0])["conditions"]
            for line in lines[1:]:
                row = json.loads(line)
                self._times.setdefault(row["file"], []).append(float(row["ms"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no log of times ({error!r}).") from error
        if found != json.loads(json.dumps(conditions)):
            raise ValueError(
                f"{path} has times of other conditions, {found} and not {conditions}; "
                "use another --output, or delete the log."
            )

    def append(self, file: str, milliseconds: float) -> None:
        """Adds a time of a file."""
        self._times.setdefault(file, []).append(milliseconds)
        with self._path.open("a", encoding="utf-8") as log:
            log.write(json.dumps({"file": file, "ms": milliseconds}) + "\n")

    def missing(self, files: Iterable[str], runs: int = 1) -> dict[str, int]:
        """How many runs each file lacks, of those that lack any."""
        lack = {file: runs - len(self._times.get(file, ())) for file in files}
        return {file: number for file, number in lack.items() if number > 0}

    def median(self, file: str) -> float:
        """Returns the median of a file's times; raises KeyError if there is none."""
        return statistics.median(self._times[file])


def _whole_lines(path: pathlib.Path) -> list[str]:
    """The lines of a log; one that was broken off is cut out of the file."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with path.open("r+b") as log:
            log.truncate(len(whole))
    return whole.decode().splitlines()
