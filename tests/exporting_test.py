"""The export of one file: its name, and what happens if it passes or fails."""

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.data import preprocess
from cdnet_tf.deploy import exporting, tflite_file
from cdnet_tf.deploy.exporting import Form


@pytest.mark.parametrize(
    "form, name",
    [
        (Form("int8", rewrite=["shortcut", "pool"]), "cdnet_int8.tflite"),
        (Form("int8", rewrite=["pool", "shortcut", "mean"]), "cdnet_int8.tflite"),
        (Form("int8"), "cdnet_int8_plain.tflite"),
        (Form("int8", rewrite=["pool"]), "cdnet_int8_fast.tflite"),
        (Form("int8", marks=["qat"]), "cdnet_int8_qat.tflite"),
        (Form("float32"), "cdnet_float32.tflite"),
        (Form("float32", rewrite=["pool"]), "cdnet_float32_fast.tflite"),
        (Form("float32", dynamic_batch=True), "cdnet_float32_batch.tflite"),
        (
            Form("int8", "nchw", True, keep_float=["stem"]),
            "cdnet_int8_selective_nchw_batch.tflite",
        ),
    ],
)
def test_a_name_tells_the_form(form, name):
    assert form.file_name("cdnet") == name


class _Judge:
    """A judge with a fixed verdict."""

    reference = {"mean_ap": 0.5}

    def __init__(self, map_drop):
        self.map_drop, self.judged = map_drop, b""

    def judge(self, path):
        self.judged = path.read_bytes()
        return {"map_drop": self.map_drop}

    def macs(self, variant):
        return 7


@pytest.fixture(scope="module")
def network():
    images = tf.keras.Input((8, 8, 3))
    pooled = tf.keras.layers.GlobalAveragePooling2D()(images)
    return tf.keras.Model(images, pooled, name="colour")


def _export(network, folder, judge, form=None, **options):
    return exporting.export(
        network,
        form or Form("float32"),
        folder,
        images=np.zeros((1, 8, 8, 3), np.uint8),
        judge=judge,
        max_map_drop=1.0,
        **options,
    )


def test_a_file_that_passes_is_the_one_that_was_judged(network, tmp_path):
    judge = _Judge(1.0)
    row = _export(network, tmp_path, judge)
    assert row["failure"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["colour_float32.tflite"]
    assert (tmp_path / row["file"]).read_bytes() == judge.judged
    assert row["bytes"] == len(judge.judged) and row["macs"] == 7
    assert set(row["seconds"]) == {"convert", "check", "gate"}


def test_a_file_keeps_the_networks_normalisation(network, tmp_path):
    options = {"normalisation": preprocess.CIFAR}
    row = _export(network, tmp_path, _Judge(0.0), **options)
    record = tflite_file.describe((tmp_path / row["file"]).read_bytes())
    assert record["input"]["mean"] == pytest.approx([129.3, 124.1, 112.4])


def test_a_file_that_fails_destroys_nothing(network, tmp_path):
    (tmp_path / "colour_float32.tflite").write_bytes(b"earlier")
    row = _export(network, tmp_path, _Judge(1.5))
    assert row["failure"].startswith("loses 1.50 points of mAP, more than max_map_dr")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"earlier"]


def test_a_file_that_fails_may_be_kept(network, tmp_path, monkeypatch):
    def refuse(*_):
        raise tflite_file.RefusedError("no")

    monkeypatch.setattr(tflite_file, "check", refuse)
    row = _export(network, tmp_path, _Judge(0.0), keep_failed=True)
    assert row["failure"] == "no" and "map_drop" not in row
    assert row["file"] == "colour_float32.failed.tflite"
    assert [path.name for path in tmp_path.iterdir()] == [row["file"]]


@pytest.mark.parametrize("or_plain", [True, False])
def test_a_file_that_fails_rewritten_is_made_as_it_is(
    network, tmp_path, monkeypatch, or_plain
):
    rewritten = []
    monkeypatch.setattr(
        exporting.rewrite, "rewrite", lambda *given: rewritten.append(given) or network
    )
    verdicts = iter([1.5, 0.0])
    judge = _Judge(0.0)
    monkeypatch.setattr(judge, "judge", lambda path: {"map_drop": next(verdicts)})
    form = Form("float32", rewrite=["pool"])
    row = _export(
        network, tmp_path, judge, form, or_plain=or_plain, keep_failed=not or_plain
    )
    assert rewritten == [(network, ["pool"])]
    names = [path.name for path in tmp_path.iterdir()]
    if or_plain:
        assert names == ["colour_float32.tflite"] and row["rewrite"] == []
        assert row["failure"] is None
        assert row["rewritten_failure"].startswith("loses 1.50 points of mAP")
    else:
        assert names == ["colour_float32_fast.failed.tflite"]
        assert row["failure"].startswith("loses 1.50") and row["rewrite"] == ["pool"]
        assert row["rewritten_failure"] is None
