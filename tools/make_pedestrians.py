"""Writes generated pedestrians in Market-1501's layout, and measures how hard they are.

--baselines scores raw pixels and colour histograms, which learn nothing.

python tools/make_pedestrians.py --output_dir=data/pedestrians --baselines
python tools/make_pedestrians.py --contact_sheet=docs/pedestrians.jpg
"""

from __future__ import annotations

import json

import numpy as np
from absl import app, flags

from cdnet_tf.data import datasets
from cdnet_tf.pedestrians import writer
from cdnet_tf.retrieval import baselines, ranking

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to make.")
_TRAIN = flags.DEFINE_integer("train_identities", 200, "People to train on.", 0)
_TEST = flags.DEFINE_integer("test_identities", 100, "Other people, to test on.", 0)
_CAMERAS = flags.DEFINE_integer("cameras", 6, "Number of cameras, 2 to 9.")
_IMAGES = flags.DEFINE_integer(
    "images_per_camera", 2, "Images that each camera takes of a person, at least 2."
)
_HEIGHT = flags.DEFINE_integer("height", 128, "Height of an image, pixels.")
_WIDTH = flags.DEFINE_integer("width", 64, "Width of an image, pixels.")
_SEED = flags.DEFINE_integer("seed", 0, "The same seed gives the same bytes.", 0)
_SHEET = flags.DEFINE_string(
    "contact_sheet", None, "Picture to write, with a row for each person."
)
_BASELINES = flags.DEFINE_boolean(
    "baselines", False, "Print the scores of retrieval without learning."
)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    if not (_OUTPUT_DIR.value or _SHEET.value):
        raise app.UsageError("Name --output_dir, --contact_sheet or both.")
    if _SHEET.value:
        writer.contact_sheet(seed=_SEED.value).save(_SHEET.value, quality=85)
    if not _OUTPUT_DIR.value:
        return
    counts = writer.write_pedestrians(
        _OUTPUT_DIR.value,
        train_identities=_TRAIN.value,
        test_identities=_TEST.value,
        cameras=_CAMERAS.value,
        images_per_camera=_IMAGES.value,
        height=_HEIGHT.value,
        width=_WIDTH.value,
        seed=_SEED.value,
    )
    print(json.dumps(counts))
    if _BASELINES.value:
        print_baselines(datasets.read("market1501", _OUTPUT_DIR.value))


def print_baselines(data: datasets.ReidDataset) -> None:
    """Prints rank-1 and mAP of chance, raw pixels and colour histograms."""
    print(f"{'':<20}{'rank-1':>8}{'mAP':>8}")
    for name, embed in baselines.BASELINES.items():
        query, gallery = (
            np.stack([embed(path) for path in images.paths])
            for images in (data.query, data.gallery)
        )
        scores = ranking.evaluate(query, data.query, gallery, data.gallery)
        print(f"{name:<20}{scores.rank1:>8.1%}{scores.mean_ap:>8.1%}")


if __name__ == "__main__":
    app.run(main)
