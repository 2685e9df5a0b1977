"""The script for a phone, run with a fake adb, and the output that is documented."""

import os
import subprocess

import pytest

from cdnet_tf.deploy import benchmark_model

# As TensorFlow's lite/tools/benchmark/README.md and
# lite/g3doc/performance/measurement.md show it, between other lines.
_SAID = """\
STARTING!
Log parameter values verbosely: [0]
Graph: [/data/local/tmp/cdnet_tf/{file}]
Loaded model /data/local/tmp/cdnet_tf/{file}
INFO: Initialized TensorFlow Lite runtime.
The input model file size (MB): 1.5
Initialized session in 5.685ms.
count=30 first=18535 curr=14538 min=14199 max=18535 avg={micro} std=96
Inference timings in us: Init: 5685, First inference: 18535, Warmup (avg): 14462.3, \
Inference (avg): {micro}
Note: as the benchmark tool itself affects memory footprint, the following is only \
APPROXIMATE to the actual memory footprint of the model at runtime.
"""


def _log(*runs):
    return "".join(
        f"cdnet_tf file: {file}\n{_SAID.format(file=file, micro=micro)}"
        for file, micro in runs
    )


def test_reads_the_average_of_each_run():
    log = _log(("a.tflite", "14575.2"), ("b.tflite", "1.23e+06"), ("a.tflite", "9000"))
    assert list(benchmark_model.read(log)) == [
        ("a.tflite", pytest.approx(14.5752)),
        ("b.tflite", pytest.approx(1230)),
        ("a.tflite", pytest.approx(9)),
    ]


def test_names_the_file_that_has_no_times():
    log = (
        _log(("a.tflite", "14575.2"))
        + "cdnet_tf file: b.tflite\nBenchmarking failed.\n"
    )
    with pytest.raises(ValueError, match="for b.tflite, but 'Benchmarking failed.'"):
        list(benchmark_model.read(log))
    with pytest.raises(ValueError, match="our script did not write it"):
        list(benchmark_model.read("Inference timings in us: Inference (avg): 1"))


def test_the_script_runs_every_file_in_every_round(tmp_path):
    """A fake adb prints its arguments, in place of a device."""
    adb = tmp_path / "bin" / "adb"
    adb.parent.mkdir()
    said = _SAID.format(file="$2", micro="2500")
    adb.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n'
        f'case "$*" in *graph=*) cat <<END\n{said}END\nesac\n'
    )
    adb.chmod(0o755)
    script = tmp_path / "run.sh"
    script.write_text(
        benchmark_model.script(["a.tflite", "b.tflite"], 2, "/my files", "times.log")
    )
    environment = {**os.environ, "PATH": f"{adb.parent}:{os.environ['PATH']}"}
    subprocess.run(["sh", str(script)], cwd=tmp_path, env=environment, check=True)
    found = list(benchmark_model.read((tmp_path / "times.log").read_text()))
    assert found == [("a.tflite", 2.5), ("b.tflite", 2.5)] * 2
    asked = (tmp_path / "asked").read_text().splitlines()
    assert "push /my files/b.tflite /data/local/tmp/cdnet_tf/" in asked
    runs = [line for line in asked if "--graph" in line]
    assert len(runs) == 4 and all("--num_threads=1" in line for line in runs)
