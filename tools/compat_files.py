"""Makes what tools/compat.py runs everywhere: files, people and what each file takes.

All of it lies in one folder, so that each runtime's own environment can read it.

    python tools/compat_files.py DIR MODEL [EXPORTS]

Without EXPORTS, DIR/exports gets a SavedModel and TFLite files of MODEL. Then

- DIR/inputs.npz: generated people as each TFLite file takes them, (n, 1, ...) by file;
- DIR/people.npz: the same people as `pictures`, and at each file's size as
  `images_HEIGHTxWIDTH`, others as `calibration_HEIGHTxWIDTH`, all uint8 RGB; and who
  they are, as `identities` and `cameras`. Person by person, there is first one image of
  each camera, and after them the rest, so that the first few images can be ranked too;
- DIR/files.json: what each TFLite file says of itself; null for all others.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import cdnet_tf  # isort: skip  # noqa: F401  (quiets TensorFlow)
import absl.logging
import numpy as np
import tensorflow as tf

from cdnet_tf.data import datasets, image_files
from cdnet_tf.deploy import (
    embedders,
    exporting,
    npu,
    rewrite,
    serving,
    tflite,
    tflite_file,
)
from cdnet_tf.pedestrians import writer

# Pictures are larger than files take them, so that they have to be resized.
_PICTURES = {"cameras": 3, "junk": 0, "distractors": 0, "height": 192, "width": 96}
_CALIBRATION = 64  # images
_FORMS = [(variant, "nhwc") for variant in tflite.VARIANTS]
_FORMS += [("float32", "nchw"), ("int8_float_io", "nchw")]


def main() -> None:
    tf.get_logger().setLevel("WARNING")
    absl.logging.set_verbosity(absl.logging.WARNING)
    work, model, *exports = sys.argv[1:]
    make(pathlib.Path(work), model, *map(pathlib.Path, exports))


def make(
    work: pathlib.Path,
    model: str,
    folder: pathlib.Path | None = None,
    *,
    test_identities: int = 24,
    train_identities: int = 16,
) -> None:
    """Makes everything.

    Args:
      work: folder for what is made.
      model: network to export where there is no `folder`.
      folder: of exports.
      test_identities, train_identities: how many people are embedded, and how many
        others calibrate.
    """
    people = {"test_identities": test_identities, "train_identities": train_identities}
    writer.write_pedestrians(work / "people", **people, **_PICTURES)
    data = datasets.read("market1501", str(work / "people"))
    calibration = list(data.train.paths[:_CALIBRATION])
    if folder is None:
        folder = work / "exports"
        _export(embedders.load_network(model), folder, calibration)
    records = {file: described(folder / file) for file in exports(folder)}
    (work / "files.json").write_text(json.dumps(records, indent=1))
    _write(work, data, calibration, records)


def _export(
    network: tf.keras.Model, folder: pathlib.Path, calibration: Sequence[str]
) -> None:
    serving.export(network, folder / "savedmodel")
    images = _decoded(calibration, *network.input_shape[1:3])
    faster = rewrite.rewrite(network, exporting.usual_rewrite("int8"))
    for variant, layout in _FORMS:
        source = faster if exporting.usual_rewrite(variant) else network
        content = tflite.convert(source, variant, images=images, layout=layout)
        end = "_nchw" if layout == "nchw" else ""
        (folder / f"{variant}{end}.tflite").write_bytes(content)


def exports(folder: pathlib.Path) -> list[str]:
    """Returns the paths of TFLite files and SavedModels below a folder.

    Raises:
      FileNotFoundError: there is none that could run here.
    """
    found = [*folder.rglob("*.tflite")]
    found = [file for file in found if not npu.is_compiled(file.name)]
    found += [file.parent for file in folder.rglob("saved_model.pb")]
    if not found:
        raise FileNotFoundError(
            f"export_dir={folder} holds no .tflite file and no SavedModel; name the "
            "--output_dir of an export, or leave the flag out."
        )
    return sorted(str(path.relative_to(folder)) for path in found)


def described(path: pathlib.Path) -> dict[str, Any] | None:
    """Returns what a TFLite file of ours says of itself; None for all others."""
    if path.suffix != ".tflite":
        return None
    try:
        return tflite_file.describe(path.read_bytes())
    except Exception:  # None of ours, or no TFLite file: the parser has many kinds.
        return None


def _write(
    work: pathlib.Path,
    data: datasets.ReidDataset,
    calibration: Sequence[str],
    records: Mapping[str, Mapping[str, Any] | None],
) -> None:
    """Writes inputs.npz and people.npz."""
    pictures = [*data.query.paths, *data.gallery.paths]
    people = {"pictures": _decoded(pictures, _PICTURES["height"], _PICTURES["width"])}
    for name in ("identities", "cameras"):
        both = [getattr(split, name) for split in (data.query, data.gallery)]
        people[name] = np.concatenate(both)
    inputs = {}
    for file, record in records.items():
        if record:
            said = record["input"]
            size = said["height"], said["width"]
            images = f"images_{size[0]}x{size[1]}"
            if images not in people:
                people[images] = _decoded(pictures, *size)
                others = images.replace("images", "calibration")
                people[others] = _decoded(calibration, *size)
            inputs[file] = fed(people[images], said)[:, None]
    np.savez(work / "inputs.npz", **inputs)
    np.savez(work / "people.npz", **people)


def fed(images: np.ndarray, said: Mapping[str, Any]) -> np.ndarray:
    """Returns images as a file takes them.

    Args:
      images: (n, h, w, 3) uint8.
      said: `input` of the file's description.
    """
    values = images
    if said["mean"] is not None:
        values = (images - np.float32(said["mean"])) / np.float32(said["std"])
    if said["dtype"] == "int8":
        values = np.round(values / said["scale"]) + said["zero_point"]
        values = np.clip(values, -128, 127)
    values = values.astype(said["dtype"])
    return values.transpose(0, 3, 1, 2) if said["layout"] == "nchw" else values


def _decoded(paths: Sequence[str], height: int, width: int) -> np.ndarray:
    return np.concatenate(list(image_files.ImageBatches(list(paths), height, width)))


if __name__ == "__main__":
    main()
