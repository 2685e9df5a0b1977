"""Times files on a phone or a board with TensorFlow's program `benchmark_model`.

The user runs that program by adb: `script` writes the commands, and `read` reads what
they print. This follows the documentation of the program's output (TensorFlow,
lite/g3doc/performance/measurement.md), and was never run on a device.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_FOLDER = "/data/local/tmp/cdnet_tf"
_MARK = "cdnet_tf file: "
_LINE = re.compile(r"Inference timings in us:.*Inference \(avg\): ([\d.]+(?:e\+?\d+)?)")


def script(files: Sequence[str], rounds: int, folder: str, log: str) -> str:
    """Returns a shell script that times files on the device that adb finds.

    All files run in turn, round after round, so that a device that grows warm slows
    them all alike.

    Args:
      files: names of the files.
      rounds: how often each of them is run.
      folder: folder of the files on this machine.
      log: file for what the device prints.
    """
    run = (
        f"{_FOLDER}/benchmark_model --graph={_FOLDER}/$file --num_threads=1 "
        "--warmup_runs=5 --num_runs=30"
    )
    return "\n".join(
        [
            "#!/bin/sh",
            "# Needs adb, and benchmark_model for the device's processor beside this",
            "# script: TensorFlow, lite/tools/benchmark. Never run by its authors.",
            "set -e",
            f"adb shell mkdir -p {_FOLDER}",
            f"adb push benchmark_model {_FOLDER}/",
            f"adb shell chmod +x {_FOLDER}/benchmark_model",
            f"cat > {log}.files <<'FILES'",
            *files,
            "FILES",
            f'while read -r file; do adb push "{folder}/$file" {_FOLDER}/ </dev/null; '
            f"done < {log}.files",
            f": > {log}",
            f"for round in $(seq {rounds}); do",
            "  while read -r file; do",
            f'    echo "{_MARK}$file" >> {log}',
            f'    adb shell "{run}" </dev/null >> {log} 2>&1',
            f"  done < {log}.files",
            "done",
            "",
        ]
    )


def read(text: str) -> Iterator[tuple[str, float]]:
    """Yields file and average milliseconds of each run in the script's log.

    Raises:
      ValueError: a run printed no times; the error names the file and shows the last
        line that was printed.
    """
    _, *parts = text.split(_MARK)
    if not parts:
        raise ValueError(f"The log has no line {_MARK!r}; our script did not write it.")
    for part in parts:
        file, _, said = part.partition("\n")
        found = _LINE.search(said)
        if found is None:
            last = said.strip().splitlines()[-1:] or ["nothing"]
            raise ValueError(
                f"benchmark_model printed no times for {file.strip()}, but {last[0]!r}."
            )
        yield file.strip(), float(found[1]) / 1000
