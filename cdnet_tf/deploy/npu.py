"""Compiles integer files for Arm's Ethos-U, the microNPU of smart cameras.

This uses Arm's compiler, Vela (the extra `npu`). Vela needs no device, is
deterministic, and estimates how many cycles a file will take. This module knows no
networks: it turns a file into a compiled file and a report.
"""

from __future__ import annotations

import configparser
import contextlib
import csv
import hashlib
import importlib
import importlib.metadata
import importlib.util
import io
import pathlib
import re
import sys
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

from cdnet_tf import atomic_files
from cdnet_tf.deploy import tflite_file

ACCELERATORS = (
    *(f"ethos-u55-{macs}" for macs in (32, 64, 128, 256)),
    *(f"ethos-u65-{macs}" for macs in (256, 512)),
    *(f"ethos-u85-{macs}" for macs in (128, 256, 512, 1024, 2048)),
)
# System configuration and memory mode of each family. These are Vela's defaults; they
# are named so that another version of Vela uses the same.
_DEFAULTS = {
    "ethos-u55": ("Ethos_U55_High_End_Embedded", "Shared_Sram"),
    "ethos-u65": ("Ethos_U65_Client_Server", "Dedicated_Sram_384KB"),
    "ethos-u85": ("Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB"),
}
# Variants that run on the NPU from the input to the output.
VARIANTS = ("int8", "uint8")
_SUFFIX = "_vela.tflite"
_FLASH = ("on_chip_flash_memory_used", "off_chip_flash_memory_used")
_CPU_OPERATION = re.compile(r"^ +CPU: \S+ = (.*) \(outputs .*\)$", re.MULTILINE)
_COUNT = re.compile(r"^(CPU|NPU) operators = (\d+)", re.MULTILINE)


class NpuError(ValueError):
    """Vela is missing, does not know a name, or cannot compile a file."""


class Target(NamedTuple):
    """A chip to compile for.

    Attributes:
      accelerator: one of `ACCELERATORS`; the last number is its multiply-accumulates
        per cycle.
      system_config: clock and memories of the NPU, a section of Vela's vela.ini.
      memory_mode: memories that hold weights and activations, a section as well.
    """

    accelerator: str
    system_config: str
    memory_mode: str


def version() -> str:
    """Returns Vela's version.

    Raises:
      NpuError: Vela is not installed.
    """
    _package()
    return importlib.metadata.version("ethos-u-vela")


def targets(
    accelerators: Sequence[str],
    system_config: str | None = None,
    memory_mode: str | None = None,
) -> list[Target]:
    """Returns the chips to compile for, after a check of all names.

    Args:
      accelerators: some of `ACCELERATORS`.
      system_config, memory_mode: for all of them; by default those of each family.

    Raises:
      NpuError: Vela is not installed, or a name is unknown.
    """
    _check("npu", accelerators, ACCELERATORS)
    known = _configurations()
    for kind, value in (("System_Config", system_config), ("Memory_Mode", memory_mode)):
        if value is not None:
            _check(f"npu_{kind.lower()}", [value], known[kind])
    for each in accelerators if system_config else ():
        family = f"Ethos_U{each.split('-')[1][1:]}"
        if not str(system_config).startswith(family):
            raise NpuError(
                f"npu_system_config={system_config} does not fit {each}; use one that "
                f"begins with {family}, or compile for one family at a time."
            )
    return [_target(each, system_config, memory_mode) for each in accelerators]


def _target(
    accelerator: str, system_config: str | None, memory_mode: str | None
) -> Target:
    system, memory = _DEFAULTS[accelerator.rpartition("-")[0]]
    return Target(accelerator, system_config or system, memory_mode or memory)


def is_compiled(name: str) -> bool:
    """Whether a file's name says that it is compiled for an NPU."""
    return name.endswith(_SUFFIX)


def compile_beside(path: pathlib.Path, wanted: Sequence[Target]) -> list[dict]:
    """Compiles an integer file for each target, and writes the files beside it.

    If an operator does not run on the NPU, no compiled file is written.

    Args:
      path: of the integer file, NAME.tflite; NAME_ACCELERATOR_vela.tflite is written.
      wanted: the targets.

    Returns:
      A report for each target, as from `compiled`, with `file` and its `sha256`. Both
      are None if there is no file; `failure` then says why.
    """
    reports = []
    for target in wanted:
        report: dict[str, Any] = {"accelerator": target.accelerator}
        report |= {"file": None, "sha256": None, "failure": None}
        try:
            content, found = compiled(path, target)
            report |= found
            refuse_cpu(found, path)
        except NpuError as error:
            report["failure"] = str(error)
        else:
            report["file"] = f"{path.stem}_{target.accelerator}{_SUFFIX}"
            report["sha256"] = hashlib.sha256(content).hexdigest()
            with atomic_files.replacing(path.with_name(report["file"])) as partial:
                partial.write_bytes(content)
        reports.append(report)
    return reports


def compiled(path: pathlib.Path, target: Target) -> tuple[bytes, dict[str, Any]]:
    """Compiles a file.

    Args:
      path: of an integer TFLite file.
      target: the chip.

    Returns:
      The compiled file, and Vela's report: `cycles` of one image and `milliseconds` at
      the clock of the system configuration (both are estimates, not measurements);
      `sram_kib`, `dram_kib` and `flash_kib` of memory used; the number of
      `npu_operators`; and `cpu_operators`, a list of the operations that the CPU has to
      run and the tensors that they write.

    Raises:
      NpuError: Vela is not installed, or fails.
    """
    said = version()
    with tempfile.TemporaryDirectory() as scratch:
        text = _run(path, target, scratch)
        (summary,) = pathlib.Path(scratch).glob("*_summary_*.csv")
        (row,) = csv.DictReader(summary.read_text("utf-8").splitlines())
        content = pathlib.Path(scratch, f"{path.stem}{_SUFFIX}").read_bytes()
    counts = {where: int(number) for where, number in _COUNT.findall(text)}
    return content, {
        "accelerator": target.accelerator,
        "vela": said,
        "system_config": row["system_config"],
        "memory_mode": row["memory_mode"],
        "clock_mhz": float(row["core_clock"]) / 1e6,
        "cycles": int(float(row["cycles_total"])),
        "milliseconds": 1e3 * float(row["inference_time"]),
        "sram_kib": float(row["sram_memory_used"]),
        "dram_kib": float(row["dram_memory_used"]),
        "flash_kib": sum(float(row[name]) for name in _FLASH),
        "npu_operators": counts["NPU"],
        "cpu_operators": _on_cpu(text, path, counts["CPU"]),
    }


def refuse_cpu(report: dict[str, Any], path: pathlib.Path) -> None:
    """Raises NpuError if an operator of a compiled file falls back to the CPU."""
    operators = report["cpu_operators"]
    if operators:
        shown = "; ".join(operators[:3]) + ("; ..." if len(operators) > 3 else "")
        total = len(operators) + report["npu_operators"]
        raise NpuError(
            f"{path.name}: {len(operators)} of {total} operators fall back to the CPU "
            f"on {report['accelerator']}: {shown}. Export another variant "
            f"({' or '.join(VARIANTS)}, nhwc), or change the layers they come from."
        )


def table(reports: Sequence[dict[str, Any]]) -> str:
    """Renders reports of `compile_beside` for a console, one in each line."""
    width = max(len(each["file"] or "") for each in reports)
    lines = [
        f"{'':<{width}}{'NPU ops':>9}{'CPU':>5}{'kcycles':>10}{'ms':>8}"
        f"{'SRAM KiB':>10}{'DRAM KiB':>10}{'flash KiB':>11}"
    ]
    for each in reports:
        if each["failure"]:
            lines.append(f"FAILED  {each['failure']}")
            continue
        lines.append(
            f"{each['file']:<{width}}{each['npu_operators']:>9}"
            f"{len(each['cpu_operators']):>5}{each['cycles'] / 1e3:>10.1f}"
            f"{each['milliseconds']:>8.2f}{each['sram_kib']:>10.1f}"
            f"{each['dram_kib']:>10.1f}{each['flash_kib']:>11.1f}"
        )
    made = {conditions(each) for each in reports if not each["failure"]}
    return "\n".join([*lines, *sorted(made)])


def conditions(report: dict[str, Any]) -> str:
    """Says under which conditions the time of a report holds."""
    return (
        f"ms: one image, estimated by Vela {report['vela']} for "
        f"{report['accelerator']}, {report['system_config']} "
        f"({report['clock_mhz']:g} MHz), {report['memory_mode']}."
    )


def _run(path: pathlib.Path, target: Target, folder: str) -> str:
    """Runs Vela in this process, and returns what it prints.

    Importing Vela in a new process would take longer than compiling a file.
    """
    options = ["--output-dir", folder, "--accelerator-config", target.accelerator]
    options += ["--system-config", target.system_config]
    options += ["--memory-mode", target.memory_mode, "--show-cpu-operations"]
    vela = importlib.import_module("ethosu.vela.vela")
    depth = sys.getrecursionlimit()  # Vela sets its own.
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            code = vela.main([*options, str(path)])
    except (Exception, SystemExit) as error:  # Vela has no common class of errors.
        raise NpuError(
            f"Vela does not compile {path} for {target.accelerator}: {error}"
        ) from error
    finally:
        sys.setrecursionlimit(depth)
    if code:
        last = printed.getvalue().strip().splitlines()[-1:]
        raise NpuError(
            f"Vela does not compile {path} for {target.accelerator}: {''.join(last)}"
        )
    return printed.getvalue()


def _on_cpu(text: str, path: pathlib.Path, count: int) -> list[str]:
    """Lists the operators that the CPU runs, by operation and the tensor they write.

    Vela names only the tensors. For an operator that Vela added, that is all.
    """
    if not count:
        return []
    operations = tflite_file.writers(path.read_bytes())
    names = _CPU_OPERATION.findall(text)
    names += ["an operator that Vela does not name"] * (count - len(names))
    return [
        f"{operations[name]}, which writes {name!r}" if name in operations else name
        for name in names
    ]


def _package() -> pathlib.Path:
    """Returns the folder of the installed package."""
    spec = importlib.util.find_spec("ethosu")
    if spec is None or not spec.submodule_search_locations:
        raise NpuError(
            "Vela, Arm's compiler for the Ethos-U, is not installed; run pip install "
            "'.[npu]' in the checkout, or pip install ethos-u-vela."
        )
    return pathlib.Path(spec.submodule_search_locations[0])


def _configurations() -> dict[str, list[str]]:
    """Reads the names in Vela's file of configurations, by kind."""
    parser = configparser.ConfigParser()
    file = _package() / "config_files" / "Arm" / "vela.ini"
    parser.read_string(file.read_text("utf-8"))
    found: dict[str, list[str]] = {"System_Config": [], "Memory_Mode": []}
    for section in parser.sections():
        kind, _, name = section.partition(".")
        found.setdefault(kind, []).append(name)
    return found


def _check(flag: str, values: Sequence[str], known: Sequence[str]) -> None:
    unknown = [value for value in values if value not in known]
    if unknown or not values:
        raise NpuError(f"{flag}={','.join(unknown)}: use {', '.join(known)}.")
