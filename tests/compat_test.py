"""The comparison of runtimes, with this runtime alone."""

import json
import os
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.deploy import environments, runtimes, serving
from tools import compat, compat_check

_OURS = {"tensorflow": "2.15.1"}
_KEY = "a.tflite|default kernels"
_RECORD = {
    "variant": "int8",
    "input": {"layout": "nhwc", "shape": [1, 4, 2, 3], "height": 4, "width": 2},
    "output": {"zero_point": -3},
}
# Two people, once each before two cameras.
_PEOPLE = compat.Labels(np.array([1, 2, 2, 1]), np.array([2, 2, 1, 1]))
_ROWS = np.array([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0], [1.0, 0.2]])


def _result(outputs, kind="float", failures=(), versions=None):
    kinds = dict.fromkeys(outputs, kind)
    return runtimes.Result(outputs, dict(failures), kinds, versions or _OURS)


def _work(tmp_path, **files):
    named = {f"{name}.tflite": record for name, record in files.items()}
    return compat.Work(tmp_path, tmp_path, named, _PEOPLE)


def test_report_says_how_files_agree_and_retrieve(tmp_path, capsys):
    work = _work(tmp_path, a=_RECORD)
    reference = _result({_KEY: _ROWS, "b|from_jpeg": _ROWS[:3]})
    converted = "a.tflite|K230, own integers"
    # The first query, now (1, 2), finds the other person first: a precision of 1/2
    # instead of 1. Its cosine to (1, 0) is 1 / sqrt(5).
    other = {converted: _ROWS + [[0, 2], [0, 0], [0, 0], [0, 0]]}
    others = [_result({_KEY: _ROWS}), _result(other, versions={"nncase": "2"})]
    assert not compat.report(reference, others, work)
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    titles = ["TensorFlow 2.15.1", "TensorFlow 2.15.1", "nncase 2"]
    assert cells[0] == ["file", "run with", *titles]
    assert cells[1][1:5] == [
        *("K230, own integers", "-", "-"),
        "cosine 0.86180, least 0.44721",
    ]
    assert cells[2] == ["a.tflite", "default kernels", "float", "0.0e+00", "-"]
    assert cells[3] == ["b", "from_jpeg", "float", "-", "-"]
    assert cells[5][2:] == ["4", "100.0% / 100.0%", "-", "50.0% / 75.0%"]
    assert cells[6][2:] == ["4", "100.0% / 100.0%", "100.0% / 100.0%", "-"]
    assert len(cells) == 7  # The SavedModel had other images.


def test_a_slow_runtime_is_judged_on_the_images_that_it_embedded(tmp_path):
    people = compat.Labels(np.array([1, 1, 2, 2, 1, 2]), np.array([1, 2, 1, 2, 1, 2]))
    # The second and the fourth image are looked for among the first and the third. The
    # second finds the wrong person first, a precision of 1/2. Of all six images, there
    # would be three queries.
    rows = np.array([[1, 0], [0, 1], [0.1, 1], [0, 1], [0, 1], [0, 1]])
    reference = _result({_KEY: rows})
    slow = "a.tflite|K230, own integers"
    other = _result({slow: rows[:4] + [[0, 0], [2, 0], [0, 0], [0, 0]]})
    work = _work(tmp_path, a=_RECORD)._replace(people=people)
    assert list(compat._retrieval(slow, [reference, other], work)) == [
        *("4", "50.0% / 75.0%", "100.0% / 100.0%"),
    ]
    assert runtimes.judge(slow, reference, other).text == (
        "cosine 0.86180, least 0.44721"
    )


def test_failures_are_reported(tmp_path, capsys):
    reference = _result({_KEY: _ROWS})
    work = _work(tmp_path, a=_RECORD)
    assert compat.report(reference, [_result({_KEY: _ROWS})], work)
    failed = _result({}, failures={_KEY: "no such op"})
    assert not compat.report(reference, [failed], work)
    assert f"TensorFlow 2.15.1: {_KEY}: no such op" in capsys.readouterr().out


def test_integers_are_taken_less_their_zero_point(tmp_path):
    work = _work(tmp_path, a=_RECORD, b=None)
    values = np.array([[-128, 127]], np.int8)
    assert compat._centred("a.tflite|x", values, work).tolist() == [[-125, 130]]
    assert compat._centred("b.tflite|x", values, work) is values
    assert compat._centred("a.tflite|x", _ROWS, work) is _ROWS


@pytest.mark.parametrize(
    "variant, layout, cases",
    [
        (
            *("float32", "nhwc"),
            {"K230, own integers", "RK3588, 16-bit floats", "RV1106, own integers"},
        ),
        ("int8", "nhwc", {"RK3588, our integers"}),
        ("int8_float_io", "nhwc", {"RK3588, our integers"}),
        ("float32", "nchw", {"own crops"}),
        ("int8_float_io", "nchw", {"own crops"}),
        ("uint8", "nhwc", {"C++ of README.txt", "RK3588, our integers"}),
        ("int8", "nchw", set()),
    ],
)
def test_which_files_a_way_of_its_own_takes(variant, layout, cases):
    record = {"variant": variant, "input": {"layout": layout, "shape": [1, 4, 2, 3]}}
    known = [*compat._ELSEWHERE, compat._CPP]
    assert {case for case in known if compat.takes(case, record)} == cases


def test_a_way_of_its_own_runs_in_its_own_environment(tmp_path, monkeypatch):
    record = _RECORD | {"variant": "float32"}
    work = _work(tmp_path, a=record, b=record, c=_RECORD, d=None)

    def command(words, **options):
        python, _, case, exports, file, size, folder, output = words
        assert (python, case, size) == ("/env/python", "K230, own integers", "4x2")
        assert exports == folder == str(options["cwd"]) == str(tmp_path)
        if file == "b.tflite":
            raise RuntimeError("no\n.NET")
        np.save(output, np.array([[-3, 0]], np.int8))
        return 'warnings\n{"nncase": "2.11.0", "numpy": "2"}\n'

    monkeypatch.setattr(environments, "command", command)
    found = compat._run_cases(
        "/env/python", "nncase==2.11.0", ["K230, own integers"], work
    )
    assert found.versions == {"nncase": "2.11.0", "numpy": "2"}
    ((key, rows),) = found.outputs.items()
    # Less the zero point, -3.
    assert key == "a.tflite|K230, own integers" and rows.tolist() == [[0, 3]]
    assert found.failures == {"b.tflite|K230, own integers": "no .NET"}


# As much of LiteRT's library as the program asks for: an embedding is the image's first
# two bytes, less 128.
_LIBRARY = """
#include <cstdint>
#include <cstdlib>
#include <cstring>
static uint8_t image[24];
static int8_t embedding[2];
extern "C" {
int LiteRtCreateEnvironment(int, const void*, void**) { return 0; }
int LiteRtCreateModelFromFile(void*, const char*, void**) { return 0; }
int LiteRtCreateOptions(void**) { return 0; }
int LiteRtSetOptionsHardwareAccelerators(void*, int) { return 0; }
int LiteRtCreateCompiledModel(void*, void*, void*, void**) { return 0; }
int LiteRtGetModelSubgraph(void*, size_t, void**) { return 0; }
int LiteRtGetSubgraphInput(void*, size_t, void** t) { *t = image; return 0; }
int LiteRtGetSubgraphOutput(void*, size_t, void** t) { *t = embedding; return 0; }
int LiteRtGetRankedTensorType(void*, void*) { return 0; }
struct Rounding { float scale; int64_t zero_point; };
int LiteRtGetPerTensorQuantization(void*, Rounding* r) { *r = {1, -3}; return 0; }
int LiteRtGetCompiledModelInputBufferRequirements(void*, size_t, size_t, void** n) {
  *n = image; return 0; }
int LiteRtGetCompiledModelOutputBufferRequirements(void*, size_t, size_t, void** n) {
  *n = embedding; return 0; }
int LiteRtCreateManagedTensorBufferFromRequirements(void*, const void*, void* n,
                                                    void** b) { *b = n; return 0; }
int LiteRtGetTensorBufferPackedSize(void* b, size_t* bytes) {
  *bytes = b == image ? sizeof image : sizeof embedding; return 0; }
int LiteRtLockTensorBuffer(void* b, void** memory, int) { *memory = b; return 0; }
int LiteRtUnlockTensorBuffer(void*) { return 0; }
int LiteRtRunCompiledModel(void*, size_t, size_t, void** from, size_t, void**) {
  for (int i = 0; i < 2; ++i) embedding[i] = ((uint8_t*)from[0])[i] - 128;
  return 0; }
}
"""


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
def test_the_readmes_program_is_linked_and_run(tmp_path):
    (tmp_path / "library.cc").write_text(_LIBRARY)
    package = tmp_path / "ai_edge_litert"
    package.mkdir()
    words = ["g++", "-shared", "-fPIC", str(tmp_path / "library.cc")]
    subprocess.run([*words, "-o", str(package / "libLiteRt.so")], check=True)
    (package / "__init__.py").touch()
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncd {tmp_path}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    images = np.zeros((2, 1, 4, 2, 3), np.uint8)
    images[0, 0, 0, 0, :2] = 128, 129  # 0 + 3 and 1 + 3: of length 5
    images[1, 0, 0, 0, :2] = 125, 133  # -3 + 3 and 5 + 3
    np.savez(tmp_path / "inputs.npz", **{"a.tflite": images})
    found = compat._run_cpp(str(python), "a.tflite", _work(tmp_path, a=_RECORD))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 1]], rtol=1e-6)


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
