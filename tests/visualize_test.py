"""tools/visualize.py: which layers it finds, and what it draws."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.keras import layers

from cdnet_tf.data import preprocess
from cdnet_tf.nn import genotype, networks
from cdnet_tf.pedestrians import writer
from cdnet_tf.retrieval import pictures
from cdnet_tf.strategies import candidates

_ROOT = pathlib.Path(__file__).parent.parent
_HEIGHT, _WIDTH = 64, 32

# Other programs have flags of the same names, so this one gets a process; one for all
# cases, since TensorFlow's start takes longer than they do.
_EACH = """
import json, sys
from absl import flags
from absl.testing import flagsaver
from tools import visualize
for arguments in json.load(sys.stdin):
    with flagsaver.flagsaver():
        flags.FLAGS(["visualize", *arguments])
        try:
            visualize.main(["visualize"])
        except (OSError, ValueError) as error:
            print(str(error).replace(chr(10), " "))
"""


@pytest.fixture(scope="module")
def network():
    tf.keras.utils.set_random_seed(0)
    shallow = genotype.Genotype((genotype.Branch(3, 5, 1),) * 6)
    return networks.build(shallow, (_HEIGHT, _WIDTH, 3), 0.25)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, network):
    """Networks, a data set, and the sheets `runs` draws."""
    folder = tmp_path_factory.mktemp("visualize")
    network.save(folder / "model.keras")
    image = tf.keras.Input((_HEIGHT, _WIDTH, 3))
    x = layers.ReLU(name="bright")(image)
    x = layers.AveragePooling2D(2, name="halves")(x)
    x = layers.Dense(4)(layers.GlobalAveragePooling2D()(x))
    tf.keras.Model(image, x).save(folder / "other.keras")
    writer.write_pedestrians(
        folder / "data",
        train_identities=2,
        test_identities=2,
        distractors=0,
        junk=0,
        height=_HEIGHT,
        width=_WIDTH,
    )
    return folder


@pytest.fixture(scope="module")
def queries(folder):
    return sorted(str(file) for file in (folder / "data" / "query").iterdir())


@pytest.fixture(scope="module")
def runs(folder, queries):
    """Case -> the line that it printed, or its error."""
    model, other = (
        f"--model={folder / f'{name}.keras'}" for name in ("model", "other")
    )
    judged = zip((0.25, 0.5, 0.125), genotype.CS)
    candidates.write(
        folder / "candidates.csv",
        [
            candidates.Candidate(genotype.Genotype((branch,) * 6), 1.0, score, 1, 2)
            for score, branch in judged
        ],
    )
    everything = [f"--data_dir={folder / 'data'}", f"--output_dir={folder / 'all'}"]
    cases = {
        "queries": [model, f"--data_dir={folder / 'data'}", "--count=3"],
        "layers": [other, f"--images={queries[1]}", "--layers=bright,halves"],
        "no stages": [other, f"--images={queries[1]}"],
        "unknown layer": [model, f"--images={queries[1]}", "--layers=stage9"],
        "no image": [model, f"--images={folder / 'none.jpg'}"],
        "no model": [f"--model={folder / 'none.keras'}", f"--images={queries[1]}"],
        "all": [model, *everything, f"--search_dir={folder}"],
        "no search": [model, *everything, f"--search_dir={folder / 'data'}"],
    }
    arguments = [
        [*case, f"--output={folder / f'{name}.png'}"] for name, case in cases.items()
    ]
    process = subprocess.run(
        [sys.executable, "-c", _EACH],
        cwd=_ROOT,
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return dict(zip(cases, process.stdout.splitlines()))


def _rows(files, maps):
    """Rows of the sheet; `maps` takes one normalised image and gives feature maps."""
    for file in files:
        data = tf.io.read_file(file)
        image = preprocess.decode_and_resize(data, _HEIGHT, _WIDTH).numpy()
        features = maps(preprocess.normalise(image[None]).numpy())
        heats = [pictures.activation_map(each[0]) for each in features]
        yield [image, *(pictures.overlay(image, heat) for heat in heats)]


def _expect(folder, names, rows):
    title = (
        "Where layers are active: red most, blue least. Each map has its own scale, "
    )
    title += "so compare places, not strengths."
    pictures.image_sheet(folder / "expected.png", title, names, rows)


def _same_picture(file, other):
    # Strengths that differ in the last bit may round to the next of 256 colours.
    pixels, expected = (
        np.asarray(Image.open(path)).astype(int) for path in (file, other)
    )
    return pixels.shape == expected.shape and np.abs(pixels - expected).max() <= 3


def test_stages_are_drawn_over_the_first_queries(folder, queries, runs, network):
    names = ["stage1", "stage2", "stage3"]
    assert runs["queries"].endswith(f"queries.png: 3 images, {', '.join(names)}.")
    blocks = [f"stage{i}/block{2 * i}/cblock1/relu" for i in (1, 2, 3)]
    outputs = [network.get_layer(name).output for name in blocks]
    maps = tf.keras.Model(network.input, outputs)
    rows = list(_rows(queries[:3], lambda image: [x.numpy() for x in maps(image)]))
    _expect(folder, ["origin", *names], rows)
    assert _same_picture(folder / "queries.png", folder / "expected.png")


def test_named_layers_are_drawn_over_a_given_image(folder, queries, runs):
    def maps(image):
        bright = np.maximum(image, 0)
        halves = bright.reshape(1, _HEIGHT // 2, 2, _WIDTH // 2, 2, 3).mean((2, 4))
        return bright, halves

    assert runs["layers"].endswith("layers.png: 1 images, bright, halves.")
    rows = list(_rows(queries[1:2], maps))
    _expect(folder, ["origin", "bright", "halves"], rows)
    assert _same_picture(folder / "layers.png", folder / "expected.png")


def test_everything_is_drawn_into_a_folder(folder, runs):
    assert "all/activation_maps.jpg: 6 images, stage1" in runs["all"]
    assert {
        file.name: Image.open(file).format for file in (folder / "all").iterdir()
    } == {
        **dict.fromkeys(("activation_maps.jpg", "ranked_lists.jpg"), "JPEG"),
        **dict.fromkeys(("candidates.png", "cmc.png", "distances.png"), "PNG"),
        **dict.fromkeys(("network.png", "search_step.png"), "PNG"),
    }


@pytest.mark.parametrize(
    "case, message",
    [
        ("no stages", "no layers named stage1, stage2, stage3; name some with --lay"),
        ("no stages", "for example bright, halves."),
        ("unknown layer", "no feature maps named stage9; it has, among others,"),
        ("unknown layer", "stage2/block4/cblock1/relu"),
        ("no image", "1 of 1 images cannot be read"),
        ("no model", "none.keras does not exist; pass a run's model.keras, or"),
        ("no search", "data has neither alpha.png nor candidates.csv; name the run"),
    ],
)
def test_faults_are_named_and_nothing_is_written(folder, runs, case, message):
    assert message in runs[case]
    assert not list(folder.glob(f"{case}.png*"))
