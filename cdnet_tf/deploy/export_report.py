"""Reports an export's files: export_report.json, README.txt and a table.

A folder may hold files of several exports; its report and README.txt describe them all.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from cdnet_tf import atomic_files
from cdnet_tf.deploy import measurements, npu, readme, tflite_file

NAME = "export_report.json"
README = "README.txt"


def write(
    directory: pathlib.Path,
    rows: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
) -> list[str]:
    """Writes the report and README.txt.

    Rows of earlier exports are kept if their files are still there and unchanged.

    Args:
      directory: of the files.
      rows: of this export, as `exporting.export` returns them.
      settings: of this export; they are added to each of its rows as `export`.

    Returns:
      A sentence for each .tflite file in the folder that README.txt leaves out.
    """
    now = {row["file"] for row in rows}
    others = [row for row in _earlier(directory) if row["file"] not in now]
    ours = [{**row, "export": settings} for row in rows]
    passed = [row for row in ours if not row["failure"]]
    failed = [row for row in ours if row["failure"]]
    record = {"files": [*others, *passed], "failed": failed}
    atomic_files.write_text(directory / NAME, json.dumps(record, indent=1))
    return _write_readme(directory, [*record["files"], *failed])


def _earlier(directory: pathlib.Path) -> list[dict[str, Any]]:
    path = directory / NAME
    before = json.loads(path.read_text("utf-8"))["files"] if path.exists() else []
    return [row for row in before if _describes(row, directory / row["file"])]


def _describes(row: Mapping[str, Any], path: pathlib.Path) -> bool:
    """Whether a row was measured on the file that now has its name."""
    measured = row.get("measured", {}).get("sha256")
    return path.exists() and measured == measurements.sha256(path)


def _write_readme(directory: pathlib.Path, rows: list[dict[str, Any]]) -> list[str]:
    files, left_out = {}, []
    measured = {
        row["file"]: row for row in rows if _describes(row, directory / row["file"])
    }
    for_chips = _for_chips(directory, list(measured.values()))
    for path in sorted(directory.glob("*.tflite")):
        try:
            if not npu.is_compiled(path.name):
                files[path.name] = tflite_file.describe(path.read_bytes())
            elif path.name not in for_chips:
                raise ValueError(
                    "it was not compiled from the file that is there now; export with "
                    "--npu again, or delete it."
                )
        except ValueError as error:
            left_out.append(f"{README} leaves out {path.name}: {error}")
    text = readme.compose(files, measured, for_chips)
    atomic_files.write_text(directory / README, text)
    return left_out


def compiled(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the reports of `npu.compile_beside` in all rows."""
    return [report for row in rows for report in row.get("npu", ())]


def _for_chips(
    directory: pathlib.Path, rows: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """Returns source and chip of each compiled file that a row describes, by name."""
    found = {}
    for row in rows:
        for report in row.get("npu", ()):
            path = directory / str(report["file"])
            if path.exists() and measurements.sha256(path) == report["sha256"]:
                found[path.name] = f"{row['file']}, for {report['accelerator']}"
    return found


def table(rows: Sequence[Mapping[str, Any]], reference: Mapping[str, Any]) -> str:
    """Renders the report for a console: the float network, then a line for each file.

    Args:
      rows: as `exporting.export` returns them.
      reference: `reference` of a `gate.Gate`, which describes the float network.
    """
    width = max(len(row["file"]) for row in rows)
    lines = [
        f"{'':<{width}}{'rank-1':>8}{'mAP':>8}{'cosine':>9}{'least':>9}{'MB':>7}"
        f"{'MMAC':>8}{'ms':>8}",
        f"{'float Keras':<{width}}{reference['rank1']:>8.1%}"
        f"{reference['mean_ap']:>8.1%}{'':>18}{reference['bytes'] / 1e6:>7.2f}"
        f"{reference['macs'] / 1e6:>8.1f}",
    ]
    for row in rows:
        if "mean_ap" in row:
            lines.append(
                f"{row['file']:<{width}}{row['rank1']:>8.1%}{row['mean_ap']:>8.1%}"
                f"{row['cosine_mean']:>9.5f}{row['cosine_min']:>9.5f}"
                f"{row['bytes'] / 1e6:>7.2f}{row['macs'] / 1e6:>8.1f}"
                f"{row['latency_ms']:>8.2f}"
            )
        if row["failure"]:
            lines.append(f"FAILED  {row['file']}: {row['failure']}")
    runtimes = {f"{row['runtime']}, {row['cpu']}" for row in rows if "cpu" in row}
    lines += [f"ms: median of one image, {each}." for each in sorted(runtimes)]
    if reports := compiled(rows):
        lines += ["", npu.table(reports)]
    return "\n".join(lines)
