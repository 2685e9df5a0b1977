r"""Makes shipped weights from a finished training and its int8 export.

This writes NAME.keras, NAME_int8.tflite, NAME.json with all measurements, and the model
card NAME.md.

python tools/ship_weights.py --run_dir=runs/half --name=market1501/cdnet_x0_5
python tools/ship_weights.py --run_dir=runs/half --name=market1501/cdnet_x0_5 \
    --data_dir=data

The first command uses what the training and the export have measured. The second embeds
query and gallery again with both files, which takes minutes, and adds the int8 file's
scores by pair of cameras.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

import cdnet_tf  # isort: skip  # noqa: F401  (quiets TensorFlow)
from absl import app, flags

from cdnet_tf import atomic_files, evaluate, shared_flags, shipped
from cdnet_tf.data import datasets
from cdnet_tf.deploy import model_card, shipping
from cdnet_tf.learn import devices

for shared in ("run_dir", "dataset", "data_dir"):
    flags.declare_key_flag(shared)
_NAME = flags.DEFINE_string(
    "name", None, "Name to ship under, DATASET/NETWORK: market1501/cdnet_x0_25."
)
_EXPORT_DIR = flags.DEFINE_string(
    "export_dir",
    None,
    "Folder that cdnet_tf.export_tflite filled. Default: `tflite` in --run_dir.",
)
_INT8 = flags.DEFINE_string(
    "int8",
    None,
    "File name of the int8 export, if --export_dir has several, such as "
    "cdnet_int8_qat.tflite.",
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder of all shipped files. Default: the package's own."
)
_REWRITE_CARDS = flags.DEFINE_boolean(
    "rewrite_cards",
    False,
    "Write the model cards in --output again from their records, and ship nothing.",
)
_TOLERANCE = 0.002  # of mAP, as kernels for other batch sizes round differently


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    output = pathlib.Path(_OUTPUT.value or shipped.FOLDER)
    if _REWRITE_CARDS.value:
        return _rewrite_cards(output)
    if not (_NAME.value and shared_flags.RUN_DIR.value):
        raise app.UsageError("Name the --run_dir of a finished training, and a --name.")
    devices.set_threads()
    run_dir = pathlib.Path(shared_flags.RUN_DIR.value)
    export_dir = pathlib.Path(_EXPORT_DIR.value or run_dir / "tflite")
    with shared_flags.refusing():
        found = shipping.training(run_dir)
        row = shipping.int8_row(export_dir, run_dir / "model.keras", _INT8.value)
    int8 = export_dir / row["file"]
    evaluated = None
    if shared_flags.DATA_DIR.present:
        data = shared_flags.read_data(["query", "gallery"])
        _evaluate_again(run_dir / "model.keras", data, found["scores"]["mean_ap"])
        evaluated = _evaluate_again(int8, data, row["mean_ap"])
    with shared_flags.refusing():
        record = shipping.ship(
            _NAME.value,
            output,
            run_dir,
            int8,
            found,
            shipping.measured_int8(row, evaluated),
        )
    print(json.dumps(record["files"], indent=1))
    total = sum(file.stat().st_size for file in output.rglob("*") if file.is_file())
    print(f"{record['name']} is in {output}, which now holds {total / 1e6:.1f} MB.")


def _evaluate_again(
    path: pathlib.Path, data: datasets.ReidDataset, then: float
) -> dict[str, Any]:
    """Evaluates a file, and checks that its mAP is still the same."""
    found = evaluate.evaluate(path, data)
    now = found["scores"]["mean_ap"]
    print(f"{path}: mAP {now:.2%}, recorded {then:.2%}", flush=True)
    if abs(now - then) > _TOLERANCE:
        raise ValueError(
            f"{path} has {now:.2%} mAP on these images and {then:.2%} on record; is "
            f"--data_dir={shared_flags.DATA_DIR.value} the data set of the training?"
        )
    return found


def _rewrite_cards(output: pathlib.Path) -> None:
    for path in sorted(output.glob("*/*.json")):
        card = path.with_suffix(".md")
        atomic_files.write_text(card, model_card.compose(shipped.record(path)))
        print(card)


if __name__ == "__main__":
    app.run(main)
