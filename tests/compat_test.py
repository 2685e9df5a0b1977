"""The comparison of runtimes, with this runtime alone."""

import json
import os
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.deploy import serving
from tools import compat, compat_check

_ROWS = np.array([[3.0, 4.0], [0.0, 10.0]])  # of lengths 5 and 10
_VERSIONS = {"tensorflow": "2.15.1"}


def _result(outputs, kind="float", failures=()):
    kinds = dict.fromkeys(outputs, kind)
    return compat.Result(outputs, dict(failures), kinds, _VERSIONS)


@pytest.mark.parametrize(
    "kind, case, change, verdict",
    [
        ("float", "default kernels", 4e-4, (True, "8.0e-05")),  # of 5
        ("float", "default kernels", 6e-4, (False, "1.2e-04")),
        ("float", "from_jpeg", 6e-4, (False, "1.2e-04")),
        ("integer", "built-in kernels", 0, (True, "equal")),
        ("integer", "built-in kernels", 1, (False, "1 steps")),
        # (3, 4) to (3, 5): 29 / (5 sqrt(34)) = 0.99469
        ("integer", "default kernels", 1, (False, "cosine 0.99469")),
        ("mixed", "default kernels", 0.05, (True, "cosine 0.99998")),
        ("mixed", "built-in kernels", 0.05, (False, "1.0e-02")),
        ("dynamic", "built-in kernels", 0.05, (True, "cosine 0.99998")),
        ("dynamic", "built-in kernels", 1, (False, "cosine 0.99469")),
    ],
)
def test_judge(kind, case, change, verdict):
    key = f"a.tflite|{case}"
    other = _ROWS + [[0, change], [0, 0]]
    judged = compat.judge(key, _result({key: _ROWS}, kind), _result({key: other}))
    assert judged == verdict


@pytest.mark.parametrize(
    "kind, change, verdict",
    [
        ("float", 6e-4, (False, "1.2e-04")),
        ("float", 4e-4, (True, "8.0e-05")),
        # (3, 4) to (3, 4.3): 26.2 / (5 sqrt(27.49)) = 0.99941
        ("integer", 0.3, (True, "cosine 0.99941")),
        ("integer", 1, (False, "cosine 0.99469")),
        ("mixed", 0.3, (True, "cosine 0.99941")),
    ],
)
@pytest.mark.parametrize("case", ["default kernels", "built-in kernels"])
def test_runtimes_with_kernels_of_their_own_round_otherwise(
    case, kind, change, verdict
):
    key = f"a.tflite|{case}"
    other = compat.Result(
        {key: _ROWS + [[0, change], [0, 0]]}, {}, {}, {"openvino": "2026.4"}
    )
    assert compat.judge(key, _result({key: _ROWS}, kind), other) == verdict
    assert other.title() == "OpenVINO 2026.4"


@pytest.mark.parametrize(
    "kind, good", [("float", True), ("dynamic", True), ("integer", False)]
)
def test_a_microcontroller_may_lack_kernels_for_floats_alone(kind, good):
    key = "a.tflite|built-in kernels"
    said = {key: f"{compat_check.NO_KERNELS}: Hybrid models are not supported"}
    other = compat.Result({}, said, {}, {"tflite-micro": "0"})
    assert compat.judge(key, _result({key: _ROWS}, kind), other).good is good
    broken = compat.Result({}, {key: "no memory"}, {}, {"tflite-micro": "0"})
    assert not compat.judge(key, _result({key: _ROWS}, kind), broken).good


def test_what_a_runtime_prints_from_below_is_read():
    assert "12 bytes" in compat_check._printed(lambda: os.write(2, b"12 bytes\n"))


@pytest.mark.parametrize(
    "target, others, kind",
    [
        ("i1", "i1 f4", "integer"),
        ("f4", "f4 f4", "float"),
        ("f4", "f4 i1 i1 i4", "mixed"),
        ("f4", "f4 f4 f4 i1", "dynamic"),
    ],
)
def test_kind(target, others, kind):
    details = [{"dtype": np.dtype(name).type} for name in [target, *others.split()]]
    interpreter = types.SimpleNamespace(get_tensor_details=lambda: details)
    assert compat_check._kind(interpreter, details[0]) == kind


def test_failures_are_reported_and_files_without_a_runtime_are_not(capsys):
    tflite, saved = "a.tflite|default kernels", "b|from_jpeg"
    reference = _result({tflite: _ROWS, saved: _ROWS})
    fine = _result({tflite: _ROWS})
    assert compat.report(reference, [fine])
    assert not compat.report(reference, [_result({}, failures={tflite: "no such op"})])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[-1] == "-"  # a SavedModel, in a TFLite runtime
    assert "FAILS" in lines[-3]
    assert lines[-1] == f"TensorFlow 2.15.1: {tflite}: no such op"


def test_check_runs_files_and_keeps_the_inputs(tmp_path, monkeypatch):
    images = tf.keras.Input((4, 4, 3))
    rows = tf.keras.layers.GlobalAveragePooling2D()(images)
    network = tf.keras.Model(images, rows)
    serving.export(network, tmp_path / "saved")
    content = tf.lite.TFLiteConverter.from_keras_model(network).convert()
    (tmp_path / "float.tflite").write_bytes(content)
    (tmp_path / "broken.tflite").write_bytes(b"TFL3")
    files = ["broken.tflite", "float.tflite", "saved"]
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        monkeypatch.setattr(sys, "argv", ["", str(tmp_path), name, *files])
        compat_check.main()
    one, two = (np.load(tmp_path / f"{name}.npz") for name in ("one", "two"))
    assert set(one) == {
        *(f"float.tflite|{kernels} kernels" for kernels in ("default", "built-in")),
        *(f"saved|{signature}" for signature in serving.SIGNATURES),
    }
    for key in one:
        np.testing.assert_array_equal(one[key], two[key])
    inputs = np.load(tmp_path / "inputs.npz")
    np.testing.assert_allclose(
        one["float.tflite|default kernels"],
        inputs["float.tflite"].mean(axis=(1, 2, 3)),
        atol=1e-6,
    )
    record = json.loads((tmp_path / "two.json").read_text())
    assert set(record["failures"]) == {
        f"broken.tflite|{kernels} kernels" for kernels in ("default", "built-in")
    }
    assert record["versions"]["tensorflow"] == tf.__version__
