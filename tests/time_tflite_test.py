"""The program times files by hand; other tools' tests use it as a server."""

import pathlib
import re
import subprocess
import sys

from cdnet_tf import shipped

_PROGRAM = pathlib.Path(__file__).parents[1] / "tools" / "time_tflite.py"


def test_prints_the_milliseconds_of_each_file():
    path = str(shipped.locate("market1501/cdnet_x0_25_int8"))
    command = [sys.executable, str(_PROGRAM), "--rounds=2", path, path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    title, *lines = done.stdout.splitlines()
    assert re.fullmatch(r"(LiteRT|TensorFlow) \S+, median of 2 rounds", title)
    assert [line.split()[1:] for line in lines] == [["ms", path]] * 2
    assert all(float(line.split()[0]) > 0 for line in lines)
