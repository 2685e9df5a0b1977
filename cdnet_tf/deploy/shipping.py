"""Makes shipped weights from a finished training and its int8 export.

A network is shipped as Keras weights, an int8 TFLite file, a record and a model card.
The record holds only what was measured on these weights: the training's evaluation of
its `model.keras`, and the gate's measurements of the int8 file. `shipped` finds the
files by name.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from cdnet_tf import atomic_files
from cdnet_tf.deploy import (
    embedders,
    export_report,
    measurements,
    model_card,
    network_file,
)
from cdnet_tf.nn import genotype, networks

_OF_EVALUATION = ("scores", "thresholds", "camera_pairs")
_OF_SCORES = ("rank1", "rank5", "rank10", "mean_ap", "mean_inp", "queries", "skipped")


def training(run_dir: pathlib.Path) -> dict[str, Any]:
    """Returns the evaluation of a finished training's `model.keras`.

    Raises:
      FileNotFoundError: the training has not ended.
      ValueError: the evaluation is of another file, used mirrored images, or was made
        on people held out of training.
    """
    path, model = run_dir / "evaluation.json", run_dir / "model.keras"
    for file in (path, model):
        if not file.is_file():
            raise FileNotFoundError(
                f"{file} does not exist; name the --run_dir of a finished training."
            )
    found = json.loads(path.read_text("utf-8"))
    if found.get("model", {}).get("sha256") != measurements.sha256(model):
        raise ValueError(
            f"{path} was not measured on {model}, or does not say so; name a run that "
            "was trained with this version."
        )
    flags = found["provenance"]["flags"]
    if found["flip"] or flags.get("holdout_identities"):
        raise ValueError(
            f"{path} was made with --flip or --holdout_identities; ship weights that "
            "were measured on the plain test images."
        )
    return found


def int8_row(
    export_dir: pathlib.Path, model: pathlib.Path, file: str | None = None
) -> dict[str, Any]:
    """Returns the row of an int8 file in an export's report.

    Args:
      export_dir: folder that `export_tflite` filled.
      model: the `model.keras` that was exported.
      file: name of the file; needed only if there are several.

    Raises:
      FileNotFoundError: there is no report.
      ValueError: no such file passed the gate, or several did; the file was changed
        since, is of another network, or was judged on a part of the images.
    """
    report = export_dir / export_report.NAME
    if not report.is_file():
        raise FileNotFoundError(
            f"{report} does not exist; export with python -m cdnet_tf.export_tflite "
            f"--model={model} --variants=int8 --output_dir={export_dir}"
        )
    rows = {
        row["file"]: row
        for row in json.loads(report.read_text("utf-8"))["files"]
        if row["variant"] == "int8" and file in (None, row["file"])
    }
    if len(rows) != 1:
        raise ValueError(
            f"{report} has {len(rows)} int8 files{f' named {file}' if file else ''} "
            f"that passed: {', '.join(rows) or 'none'}; name one with --int8."
        )
    ((name, row),) = rows.items()
    path = export_dir / name
    if not path.is_file() or row["measured"]["sha256"] != measurements.sha256(path):
        raise ValueError(
            f"{path} is not the file that {report} describes; export again."
        )
    if row["export"].get("model_sha256") != measurements.sha256(model):
        raise ValueError(f"{path} was not exported from {model}; export that network.")
    if row["measured"]["subset"]:
        raise ValueError(
            f"{path} was judged on {row['measured']['subset']}; export it without "
            "--gate_images and --holdout_identities."
        )
    return row


def ship(
    name: str,
    folder: pathlib.Path,
    run_dir: pathlib.Path,
    int8: pathlib.Path,
    evaluation: Mapping[str, Any],
    int8_measured: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes weights, TFLite file, card and record of a network, all or none of them.

    The record gets its name last, because `shipped` recognises a network by it.

    Args:
      name: DATASET/NETWORK.
      folder: of all shipped files; the data set's folder in it is made.
      run_dir: of the training.
      int8: the exported file.
      evaluation: of the training's network, see `training`.
      int8_measured: of the exported file, see `measured_int8`.

    Returns:
      The record.

    Raises:
      ValueError: the name does not begin with the evaluation's data set, or the card
        does not know the terms of that data set.
    """
    model = run_dir / "model.keras"
    dataset, _, network = name.partition("/")
    trained_on = evaluation["provenance"]["dataset"]["name"]
    if dataset != trained_on or not network or "/" in network:
        raise ValueError(f"name={name} should be {trained_on}/NETWORK.")
    target = folder / dataset
    target.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as files:

        def writing(suffix: str) -> pathlib.Path:
            path = target / f"{network}{suffix}"
            return files.enter_context(atomic_files.replacing(path))

        # Files are renamed in reverse order, so the record comes last.
        written = {
            end: writing(end) for end in (".json", ".md", "_int8.tflite", ".keras")
        }
        network_file.shrink(model, written[".keras"])
        _check_same_weights(model, written[".keras"])
        written["_int8.tflite"].write_bytes(int8.read_bytes())
        record = {
            "name": name,
            "files": {
                f"{network}{end}": _identified(written[end])
                for end in (".keras", "_int8.tflite")
            },
            **_description(written[".keras"], evaluation),
            "int8": dict(int8_measured),
        }
        written[".md"].write_text(model_card.compose(record), "utf-8")
        written[".json"].write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    return record


def _identified(path: pathlib.Path) -> dict[str, Any]:
    return {"sha256": measurements.sha256(path), "bytes": path.stat().st_size}


def measured_int8(
    row: Mapping[str, Any], evaluation: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Returns a record's entries about an int8 file.

    Args:
      row: of the export's report.
      evaluation: of the file, if there is one; it adds the pairs of cameras.
    """
    said = {name: row[name] for name in ("bytes", "macs", "map_drop", "cosine_mean")}
    said |= {name: row[name] for name in ("cosine_min", "measured")}
    export = row["export"]
    said["export"] = {
        name: export[name] for name in ("calibration_images", "qat_epochs")
    }
    # The export's, in reports of a time when all files of an export had the same.
    said["export"]["rewrite"] = {**export, **row}["rewrite"]
    said["export"]["commit"] = export["provenance"]["commit"]
    if evaluation:
        return said | _plain(evaluation)
    scores = {name: row[name] for name in _OF_SCORES}
    return said | {"scores": scores, "thresholds": row["thresholds"]}


def _plain(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an evaluation's numbers without the CMC curve."""
    found = {name: evaluation[name] for name in _OF_EVALUATION}
    scores = {name: found["scores"][name] for name in _OF_SCORES}
    return found | {"scores": scores}


def _description(model: pathlib.Path, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a record's entries about the network; some keys are an evaluation's."""
    opened = embedders.open_model(model)
    provenance = evaluation["provenance"]
    flags = _portable(provenance["flags"])
    return {
        "height": opened.height,
        "width": opened.width,
        "dimensions": opened.dimensions,
        "width_multiplier": flags["width_multiplier"],
        "network": flags["genotype"],
        "genotype": _layers(flags["genotype"]),
        "parameters": evaluation["parameters"],
        "macs": evaluation["macs"],
        **_plain(evaluation),
        "flip": False,
        "model": {
            "sha256": measurements.sha256(model),
            "trained_as": evaluation["model"]["sha256"],
        },
        "provenance": {**provenance, "flags": flags},
    }


def _portable(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Takes paths out of flags, so that they mean the same on another machine."""
    changed = dict(flags)
    source = str(flags["genotype"])
    if source not in networks.NAMES:
        changed["genotype"] = str(genotype.load(source))
    start = flags.get("init_from")
    if start and pathlib.Path(start).exists():
        changed["init_from"] = pathlib.Path(start).name
    return changed


def _layers(network: str) -> list[list[int]] | None:
    """Returns the branches; None if the network has none, such as OSNet."""
    try:
        return [list(layer) for layer in genotype.load(network).layers]
    except FileNotFoundError:
        return None


def _check_same_weights(first: pathlib.Path, second: pathlib.Path) -> None:
    ours, theirs = (embedders.load_network(path) for path in (first, second))
    pairs = list(zip(ours.weights, theirs.weights, strict=True))
    if not all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs):
        raise ValueError(f"The small copy of {first} has other weights; report a bug.")
