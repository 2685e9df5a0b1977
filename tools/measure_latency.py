"""Measures untrained networks on a device, and learns how long each branch takes there.

Random genotypes are exported to int8 and timed as whole files. A regression then gives
a time to each branch of each block, and is judged on files that it has not seen.

    python tools/measure_latency.py --device=ethos-u65-256 --output=u65.json

The result is written to OUTPUT, which `cdnet_tf.deploy.latency` reads. The same name
with .png shows predicted against measured times, and with .jsonl keeps every single
time, so that a killed run can be resumed. The exit status is 1 if the regression is not
accurate enough. docs/latency.md says more.

There are three kinds of devices: every Ethos-U, by Arm's compiler; `litert`, this
machine on one thread, in the runtime of --litert_python; and `benchmark_model`, a phone
or board. For a phone, the first call writes a script that times the files by adb, and
the second call reads what the script has printed from --benchmark_log.
"""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import cdnet_tf  # isort: skip  # noqa: F401  (quiets TensorFlow)
import matplotlib.figure
from absl import app, flags, logging

from cdnet_tf import atomic_files, device_flags, file_flags, shared_flags
from cdnet_tf.deploy import (
    benchmark_model,
    exporting,
    latency,
    latency_files,
    latency_fit,
    latency_log,
    npu,
    rewrite,
    tflite,
)
from cdnet_tf.nn import networks
from cdnet_tf.nn.genotype import Genotype

flags.adopt_module_key_flags(file_flags)  # --help lists them, too.
flags.adopt_module_key_flags(device_flags)
_DEVICE = device_flags.DEVICE
_PHONE, _HERE = "benchmark_model", "litert"
_OUTPUT = flags.DEFINE_string("output", None, "File for the result, NAME.json.")
_FILES = flags.DEFINE_integer("files", 100, "Files to learn from, in each setting.", 20)
_UNSEEN = flags.DEFINE_integer("unseen", 30, "Files to judge by, in each setting.", 2)
_SIZES = flags.DEFINE_list(
    "sizes", ["256x128"], "Input sizes to measure at each width, HEIGHTxWIDTH."
)
_FOLDER = flags.DEFINE_string(
    "files_dir",
    None,
    "Folder of the files, which several devices can share. Default: OUTPUT_files.",
)
_ROUNDS = flags.DEFINE_integer(
    "rounds", 15, "How often each file runs on litert and benchmark_model.", 1
)
_PYTHON = flags.DEFINE_string(
    "litert_python", sys.executable, "Python that has ai-edge-litert, or TensorFlow."
)
_NAME = flags.DEFINE_string(
    "name", None, "Name of the device in OUTPUT. Default: --device."
)
_LOG = flags.DEFINE_string(
    "benchmark_log", None, "File that the script of --device=benchmark_model has made."
)
_TIMER = pathlib.Path(__file__).with_name("time_tflite.py")


class Sample(NamedTuple):
    """The genotypes of one setting, and their files."""

    setting: latency.Setting
    fitted: dict[Genotype, pathlib.Path]
    unseen: dict[Genotype, pathlib.Path]

    def files(self) -> list[pathlib.Path]:
        """Returns all files, the unseen ones first."""
        return [*self.unseen.values(), *self.fitted.values()]


class Result(NamedTuple):
    """Times that were measured in one setting, in milliseconds, and the regression."""

    setting: latency.Setting
    fitted: dict[Genotype, float]
    unseen: dict[Genotype, float]
    model: latency.Additive
    judgement: latency_fit.Judgement

    def to_json(self) -> dict[str, Any]:
        """The setting's part of OUTPUT."""
        return {
            **self.setting._asdict(),
            "judgement": self.judgement._asdict(),
            "model": self.model.to_json(),
            "fitted": latency.rounded({str(g): t for g, t in self.fitted.items()}),
            "unseen": latency.rounded({str(g): t for g, t in self.unseen.items()}),
        }


def main(argv: list[str]) -> int:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    logging.set_verbosity(logging.WARNING)
    output = pathlib.Path(_OUTPUT.value)
    with shared_flags.refusing():
        settings = _settings()
        conditions = _conditions()
        log = latency_log.Log(output.with_suffix(".jsonl"), conditions)
    samples = [_sample(setting, output) for setting in settings]
    files = [file for sample in samples for file in sample.files()]
    with shared_flags.refusing():
        waits = _measure(files, log)
    if waits:
        print(waits)
        return 0
    results = [_judged(sample, log) for sample in samples]
    name = _NAME.value or _DEVICE.value
    record = {"device": name, "conditions": conditions}
    record["settings"] = [each.to_json() for each in results]
    atomic_files.write_text(output, json.dumps(record, indent=1) + "\n")
    _draw(results, name, output.with_suffix(".png"))
    print(f"\n{_table(results)}\nResult: {output}")
    return int(not all(each.judgement.accepted for each in results))


def _settings() -> list[latency.Setting]:
    """Returns the settings of the flags; raises ValueError if they are wrong."""
    known = [*npu.ACCELERATORS, _HERE, _PHONE]
    if _DEVICE.value not in known:
        raise ValueError(f"device={_DEVICE.value}: use one of {', '.join(known)}.")
    unknown = sorted(set(_rewrite()) - set(rewrite.STEPS))
    if unknown:
        steps = ", ".join(rewrite.STEPS)
        raise ValueError(f"rewrite={','.join(unknown)}: use some of {steps}.")
    return [
        latency.Setting(width, *size)
        for size in map(_size, _SIZES.value)
        for width in map(_width, device_flags.WIDTH_MULTIPLIERS.value or ["1"])
    ]


def _rewrite() -> list[str]:
    """The steps; by default those by which the exporter rewrites a file."""
    if file_flags.REWRITE.value is not None:
        return file_flags.REWRITE.value
    for_npu = _DEVICE.value in npu.ACCELERATORS
    return [*exporting.usual_rewrite("int8", for_npu)]


def _width(text: str) -> float:
    try:
        width = float(text)
    except ValueError as error:
        raise ValueError(
            f"width_multipliers={text}: use numbers, as in 0.5,1."
        ) from error
    networks.scaled_channels(width)
    return width


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if not found:
        raise ValueError(f"sizes={text}: use HEIGHTxWIDTH, as in 256x128,128x64.")
    height, width = map(int, found.groups())
    networks.check_input_shape((height, width, 3), "reid")
    return height, width


def _conditions() -> dict[str, Any]:
    """Returns the conditions under which the times hold."""
    found: dict[str, Any] = {
        "rewrite": _rewrite(),
        "variant": "int8",
        "images": 1,
    }
    if _DEVICE.value in npu.ACCELERATORS:
        (target,) = npu.targets(
            [_DEVICE.value],
            file_flags.NPU_SYSTEM_CONFIG.value,
            file_flags.NPU_MEMORY_MODE.value,
        )
        return found | {
            "accelerator": target.accelerator,
            "time": f"estimated by Vela {npu.version()}",
            "system_config": target.system_config,
            "memory_mode": target.memory_mode,
        }
    how = {"threads": 1, "rounds": _ROUNDS.value}
    if _DEVICE.value == _PHONE:
        return found | how | {"time": "average of 30 runs, median of the rounds"}
    return (
        found
        | how
        | {
            "time": "of the thread, median of the rounds",
            "cpu": tflite.processor(),
            "python": _PYTHON.value,
        }
    )


def _sample(setting: latency.Setting, output: pathlib.Path) -> Sample:
    """Draws and exports the files of a setting."""
    folder = pathlib.Path(_FOLDER.value or f"{output.with_suffix('')}_files")
    folder.mkdir(parents=True, exist_ok=True)
    exporter = latency_files.Exporter(setting, _rewrite())
    seed = shared_flags.SEED.value
    fitted = latency_files.balanced(_FILES.value, seed)
    unseen = latency_files.uniform(_UNSEEN.value, seed + 1, fitted)
    print(f"{setting}: {len(fitted) + len(unseen)} files in {folder}", flush=True)
    return Sample(
        setting,
        {each: exporter.written(folder, each) for each in fitted},
        {each: exporter.written(folder, each) for each in unseen},
    )


def _measure(files: Sequence[pathlib.Path], log: latency_log.Log) -> str:
    """Times files that the log lacks; returns what the user must do first, or ""."""
    if _DEVICE.value == _PHONE:
        return _measure_phone(files, log)
    if _DEVICE.value == _HERE:
        _measure_here(files, log)
        return ""
    (target,) = npu.targets(
        [_DEVICE.value],
        file_flags.NPU_SYSTEM_CONFIG.value,
        file_flags.NPU_MEMORY_MODE.value,
    )
    missing = log.missing(file.name for file in files)
    for file in files:
        if file.name in missing:
            _, report = npu.compiled(file, target)
            npu.refuse_cpu(report, file)
            log.append(file.name, report["milliseconds"])
    return ""


def _measure_here(files: Sequence[pathlib.Path], log: latency_log.Log) -> None:
    """Runs all files in turn, round after round; a killed round is run again."""
    missing = log.missing((file.name for file in files), _ROUNDS.value)
    lacking = [file for file in files if file.name in missing]
    if not lacking:
        return
    with subprocess.Popen(
        [_PYTHON.value, str(_TIMER), *map(str, lacking)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as worker:
        assert worker.stdin and worker.stdout
        print(f"Runtime: {json.loads(worker.stdout.readline())}", flush=True)
        for _ in range(max(missing.values())):
            print("go", file=worker.stdin, flush=True)
            for file, time in zip(lacking, json.loads(worker.stdout.readline())):
                log.append(file.name, time)
        worker.stdin.close()


def _measure_phone(files: Sequence[pathlib.Path], log: latency_log.Log) -> str:
    """Reads the times of --benchmark_log, or writes the script that makes them."""
    names = [file.name for file in files]
    if log.missing(names, _ROUNDS.value) and _LOG.value:
        known = set(names)
        for name, time in benchmark_model.read(pathlib.Path(_LOG.value).read_text()):
            if name in known:
                log.append(name, time)
    missing = list(log.missing(names, _ROUNDS.value))
    if not missing:
        return ""
    script = pathlib.Path(_OUTPUT.value).with_suffix(".sh")
    printed = pathlib.Path(_OUTPUT.value).with_suffix(".log")
    folder = str(files[0].parent.resolve())
    text = benchmark_model.script(missing, _ROUNDS.value, folder, str(printed))
    atomic_files.write_text(script, text)
    return (
        f"{len(missing)} files have no times yet. Connect the device, run sh {script}, "
        f"and then this command again with --benchmark_log={printed}."
    )


def _judged(sample: Sample, log: latency_log.Log) -> Result:
    """Fits and judges the model of a setting."""
    fitted, unseen = (
        {genotype: log.median(file.name) for genotype, file in each.items()}
        for each in (sample.fitted, sample.unseen)
    )
    model = latency_fit.fit(list(fitted), list(fitted.values()))
    judgement = latency_fit.judge(model, list(unseen), list(unseen.values()))
    return Result(sample.setting, fitted, unseen, model, judgement)


def _table(results: Sequence[Result]) -> str:
    lines = ["setting        files  within 10 %    tau  mean error  largest"]
    for each in results:
        said = each.judgement
        lines.append(
            f"{each.setting!s:<13}{said.files:>7}{said.within_10_percent:>13.1%}"
            f"{said.kendall_tau:>7.3f}{said.mean_error:>12.3%}"
            f"{said.largest_error:>9.3%}  {'accepted' if said.accepted else 'REFUSED'}"
        )
    return "\n".join(lines)


def _draw(results: Sequence[Result], title: str, path: pathlib.Path) -> None:
    """Draws predicted against measured times; dotted lines are 10 % off."""
    figure = matplotlib.figure.Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    ends: list[float] = []
    for each in results:
        for kind, times, marker in (
            ("fitted", each.fitted, "."),
            ("unseen", each.unseen, "x"),
        ):
            predicted = [each.model.milliseconds(genotype) for genotype in times]
            label = f"{each.setting}, {kind}"
            axes.plot(list(times.values()), predicted, marker, label=label)
            ends += times.values()
    line = [min(ends), max(ends)]
    axes.plot(line, line, "k-", linewidth=0.5)
    for factor in (1 - latency_fit.WITHIN, 1 + latency_fit.WITHIN):
        axes.plot(line, [factor * end for end in line], "k:", linewidth=0.5)
    estimated = _DEVICE.value in npu.ACCELERATORS
    axes.set(
        xlabel="Vela's estimate, ms" if estimated else "measured, ms",
        ylabel="predicted, ms",
        title=title,
    )
    axes.legend()
    with atomic_files.replacing(path) as partial:
        figure.savefig(partial, dpi=100)


if __name__ == "__main__":
    flags.mark_flags_as_required(["device", "output"])
    app.run(main)
