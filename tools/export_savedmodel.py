"""Exports a trained network as a version that TensorFlow Serving can load.

The last two folders of --output_dir are the served model's name and its version.

python tools/export_savedmodel.py --model=RUN/model.keras --output_dir=serving/cdnet/1

Beside the model's folder, `models.config` lists versions and labels for the server.
docs/serving.md shows how to run a server and send requests.
"""

from __future__ import annotations

import pathlib

import cdnet_tf  # isort: skip  # noqa: F401  (quiets TensorFlow)
import tensorflow as tf
from absl import app, flags, logging

from cdnet_tf import shipped
from cdnet_tf.deploy import (
    embedders,
    measurements,
    network_file,
    serving,
    versions,
)

_MODEL = flags.DEFINE_string(
    "model",
    None,
    "A training's model.keras, or shipped weights, such as market1501/cdnet_x0_25.",
)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder to make, .../NAME/NUMBER; it must not exist."
)
_LABEL = flags.DEFINE_string(
    "label",
    "",
    "Label of this version in models.config. Default: `stable` for a model without "
    "labels, else `canary`.",
)
_WARMUP_BATCHES = flags.DEFINE_multi_integer(
    "warmup_batches", [1, 8], "Numbers of images in a server's warm-up requests.", 1
)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    # TensorFlow lists every weight of every signature that it saves.
    logging.set_verbosity(logging.WARNING)
    tf.get_logger().setLevel("WARNING")
    source = shipped.resolve(_MODEL.value, "a training's model.keras")
    target = pathlib.Path(_OUTPUT_DIR.value).absolute()
    name, config = target.parent.name, target.parents[1] / "models.config"
    # Both are checked before the work.
    versions.check_free(target)
    versions.read_config(config)
    network = embedders.load_network(source)
    measured, origin = measurements.of_network(source)
    with versions.new_version(target) as folder:
        serving.export(
            network,
            folder,
            name=name,
            warmup_batches=_WARMUP_BATCHES.value,
            record={"sha256": measurements.sha256(source), **measured},
            normalisation=network_file.normalisation(source),
        )
    versions.set_label(config, name, int(target.name), _LABEL.value)
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    rows = {
        "version": f"{target}, {size / 1e6:.1f} MB",
        "signatures": ", ".join(serving.SIGNATURES),
        "thresholds": origin,
        "configuration": config,
    }
    for row, value in rows.items():
        print(f"{row:<15}{value}")
    print("\ndocs/serving.md says how to run a server with it, and send requests.")


if __name__ == "__main__":
    flags.mark_flags_as_required(["model", "output_dir"])
    app.run(main)
