"""The real training program on generated images, small enough for seconds."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.data import datasets, preprocess
from cdnet_tf.deploy import embedders, measurements, network_file
from cdnet_tf.learn import training_log
from cdnet_tf.nn import counting, genotype
from cdnet_tf.pedestrians import writer
from cdnet_tf.retrieval import ranking
from tests import tiny

_ROOT = pathlib.Path(__file__).parent.parent
_SIZE = {"height": 64, "width": 32, "width_multiplier": 0.05, "batch_size": 8}

# Other programs have flags of the same names, so this one gets a process; one for all
# cases, since TensorFlow's start takes longer than they do.
_EACH = """
import contextlib, io, json, pathlib, sys
from absl import app, flags
from absl.testing import flagsaver
from cdnet_tf import train
results = {}
run_dir = pathlib.Path(sys.argv[1])
for name, arguments in json.load(sys.stdin).items():
    if name == "late":
        (run_dir / "evaluation.json").rename(run_dir / "first.json")
        (run_dir / "model.keras").rename(run_dir / "first.keras")
    output = io.StringIO()
    with flagsaver.flagsaver(), contextlib.redirect_stdout(output):
        try:
            flags.FLAGS(["train", *arguments])
            train.main(["train"])
        except (OSError, ValueError, app.UsageError, flags.Error) as error:
            print(f"{type(error).__name__}: {error}")
    results[name] = output.getvalue()
print(json.dumps(results))
"""


def _flags(folder, run, **more):
    values = {
        **_SIZE,
        "genotype": folder / "shallow.json" if folder.exists() else "cdnet",
        "data_dir": folder / "data",
        "epochs": 2,
        "run_dir": folder / run,
        **more,
    }
    return [f"--{name}={value}" for name, value in values.items()]


def _write_cifar(root):
    """Writes CIFAR-100's binary form: coarse and fine label, red, green and blue."""
    root.mkdir()
    random = np.random.default_rng(0)
    for name, count in (("train.bin", 16), ("test.bin", 12)):
        records = random.integers(0, 256, (count, 3074), np.uint8)
        records[:, 0], records[:, 1] = 0, np.arange(count) % 100
        (root / name).write_bytes(records.tobytes())
    names = [f"class_{i}" for i in range(100)]
    (root / "fine_label_names.txt").write_text("\n".join(names) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    writer.write_pedestrians(
        folder / "data", train_identities=4, test_identities=4, height=64, width=32
    )
    _write_cifar(folder / "cifar-100-binary")
    shallow = genotype.Genotype((genotype.CS[0],) * 6)
    (folder / "shallow.json").write_text(shallow.to_json())
    return folder


@pytest.fixture(scope="module")
def outputs(folder):
    """Returns the output of each case, whose files are in the folder of its name."""
    start = {"init_from": folder / "whole", "epochs": 1}
    recipe = {"schedule": "cosine", "lr_warmup_epochs": 2, "label_smoothing": 0.1}
    recipe |= {"neck": "bn", "random_erasing": 0}
    pictures = {"dataset": "cifar100", "data_dir": folder, "stem": "cifar"}
    pictures |= {"height": 32, "neck": "bl", "schedule": "exponential"}
    pictures |= {"lr_decay": 0.5}
    nowhere = folder / "nowhere"  # no data: flags are checked before they are read
    cases = {
        "whole": _flags(folder, "whole"),
        "again": _flags(folder, "whole"),
        "bn": _flags(folder, "bn", **start, **recipe),
        "cifar": _flags(folder, "cifar", **pictures),
        "late": _flags(folder, "whole"),
        "milestones": _flags(nowhere, "m", milestones="150,ten"),
        "beyond": _flags(nowhere, "m", milestones="1,2"),
        "genotype": _flags(nowhere, "m", genotype=folder / "nothing"),
        "nothing": _flags(nowhere, "m", init_from=folder / "nothing"),
        "size": _flags(nowhere, "m", height=60),
    }
    process = subprocess.run(
        [sys.executable, "-c", _EACH, str(folder / "whole")],
        input=json.dumps({name: list(map(str, case)) for name, case in cases.items()}),
        cwd=_ROOT,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def _embed(network, images):
    return network.predict(tiny.normalised(images.paths, 64, 32), verbose=0)


def test_model_is_evaluated_as_it_was_saved(outputs, folder):
    network = tf.keras.models.load_model(folder / "whole/model.keras", compile=False)
    data = datasets.read("market1501", str(folder / "data"))
    query, gallery = (_embed(network, part) for part in (data.query, data.gallery))
    expected = ranking.evaluate(query, data.query, gallery, data.gallery)
    record = json.loads((folder / "whole/evaluation.json").read_text())
    assert record["scores"]["mean_ap"] == pytest.approx(expected.mean_ap)
    assert record["scores"]["rank1"] == pytest.approx(expected.rank1)
    assert record["parameters"] == counting.parameters(network)
    assert record["macs"] == counting.macs(network)
    assert record["thresholds"]["rates"] == [0.01, 0.001]
    assert record["provenance"]["flags"]["genotype"].endswith("shallow.json")
    # So that an export of this file may ship the thresholds.
    shipped, _ = measurements.of_network(folder / "whole/model.keras")
    assert shipped["thresholds"] == record["thresholds"]
    assert f"{expected.rank1:>9.1%}" in outputs["whole"]


def test_heads_stand_apart(outputs, folder):
    network = tf.keras.models.load_model(folder / "whole/model.keras", compile=False)
    heads = tf.keras.models.load_model(folder / "whole/heads.keras", compile=False)
    # Each half of the embedding is a feature of a triplet loss.
    embedding = network(tf.zeros((2, 64, 32, 3)))
    logits = heads([embedding[:, :32], embedding[:, 32:]])
    assert [z.shape for z in logits] == [(2, 4), (2, 4)]


def test_history_and_curves(outputs, folder):
    rows = training_log.read_history(folder / "whole/history.csv")
    assert [row["epoch"] for row in rows] == [1, 2]
    assert {"loss", "triplet", "accuracy", "images_per_s"} < set(rows[0])
    assert (folder / "whole/curves.png").read_bytes()[:4] == b"\x89PNG"
    assert not list((folder / "whole").glob("*.part*"))


def test_finished_run_is_left_alone(outputs):
    assert "holds a finished training" in outputs["again"]


def test_run_killed_before_its_results_writes_them_at_once(outputs, folder):
    assert "has had its 2 epochs" in outputs["late"]
    assert "Epoch" not in outputs["late"]
    first, late = (
        json.loads((folder / "whole" / name).read_text())
        for name in ("first.json", "evaluation.json")
    )
    # A network's file holds the time at which it was written.
    assert first.pop("model") != late.pop("model")
    assert first == late


def test_start_from_another_run_with_another_neck(outputs, folder):
    report = (folder / "bn/init_from.txt").read_text()
    assert report in outputs["bn"].replace("From ", "").replace(": took", "\ntook", 1)
    assert "missing (1): neck/bn" in report
    assert "unused (1): neck/squeeze" in report


@pytest.mark.parametrize(
    "case, rates",
    [
        ("whole", [0.065, 0.065 / 1000]),  # one epoch is left for all three drops
        ("bn", [0.065 / 2]),  # the first epoch of a ramp of two
        ("cifar", [0.065, 0.065 / 2]),
    ],
)
def test_schedules(outputs, folder, case, rates):
    rows = training_log.read_history(folder / case / "history.csv")
    assert [row["learning_rate"] for row in rows] == pytest.approx(rates)


def test_a_network_is_embedded_with_the_normalisation_that_it_was_trained_with(
    outputs, folder
):
    path = folder / "cifar" / "model.keras"
    assert network_file.normalisation(path) == preprocess.CIFAR
    assert network_file.normalisation(folder / "whole/model.keras") == (
        preprocess.IMAGENET
    )
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    network = tf.keras.models.load_model(path, compile=False)
    values = (images - [129.3, 124.1, 112.4]) / [68.2, 65.4, 70.4]
    found = embedders.open_model(path).embed(images)
    np.testing.assert_allclose(found, network(values).numpy(), rtol=1e-4, atol=1e-5)


def test_classes(outputs, folder):
    record = json.loads((folder / "cifar/evaluation.json").read_text())
    # 12 test images, so twelfths; an image not among the first 5 is not the first.
    first, fifth = (record["errors"][f"top-{k} error"] for k in (1, 5))
    assert 12 * first == pytest.approx(round(12 * first))
    assert 0 <= fifth <= first <= 1
    assert f"{first:.2%}" in outputs["cifar"]
    rows = training_log.read_history(folder / "cifar/history.csv")
    assert [row["triplet"] for row in rows] == [0, 0]


@pytest.mark.parametrize(
    "case, message",
    [
        ("milestones", r"milestones=.*ten.*must be epochs, as in --milestones="),
        ("beyond", "UsageError: milestones=1,2 does not fit epochs=2"),
        ("genotype", "UsageError: No genotype '.*nothing'"),
        ("nothing", "UsageError: .*nothing does not exist"),
        ("size", "UsageError: Input 60x32 is not divisible by 16"),
    ],
)
def test_errors_say_what_to_do(outputs, case, message):
    assert re.search(message, outputs[case]), outputs[case]


def test_killed_training_resumes_to_the_same_bits(outputs, folder):
    command = [sys.executable, "-m", "cdnet_tf.train", *_flags(folder, "killed")]
    process = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("Epoch 1/2"):
            os.kill(process.pid, signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "killed/evaluation.json").exists()
    output = subprocess.run(
        command, cwd=_ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "Going on after epoch 1" in output
    whole, killed = (
        tf.keras.models.load_model(folder / run / "model.keras", compile=False)
        for run in ("whole", "killed")
    )
    for first, second in zip(whole.get_weights(), killed.get_weights()):
        np.testing.assert_array_equal(first, second)
    both = [
        [{k: v for k, v in row.items() if k != "images_per_s"} for row in rows]
        for rows in (
            training_log.read_history(folder / run / "history.csv")
            for run in ("whole", "killed")
        )
    ]
    assert both[0] == both[1]
