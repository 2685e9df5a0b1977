"""Exports a network as TFLite files, as `python -m cdnet_tf.export_tflite` does.

It is the same program, for a checkout; docs/export.md describes it.

python tools/export_tflite.py --model=RUN/model.keras --data_dir=... --output_dir=...
"""

from __future__ import annotations

from absl import app, flags

from cdnet_tf import export_tflite, recipes

# --help then lists them.
flags.adopt_module_key_flags(export_tflite)


def main(argv: list[str]) -> int:
    return export_tflite.main(argv)


if __name__ == "__main__":
    flags.mark_flag_as_required("model")
    app.run(main, flags_parser=recipes.parse)
