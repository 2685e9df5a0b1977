"""README.txt's text; its Python program is run in export_tflite_test."""

import shutil
import subprocess

import pytest

from cdnet_tf.deploy import readme

RECORD = {
    "input": {
        "dtype": "uint8",
        "layout": "nhwc",
        "shape": [1, 64, 32, 3],
        "values": "pixels 0..255",
        "scale": 1.0,
        "zero_point": 0,
    },
    "output": {"dtype": "int8", "dimensions": 48, "scale": 0.25, "zero_point": -3},
}
EVALUATION = {
    "thresholds": {
        "rates": [0.001, 0.01],
        "at_rates": [
            {"distance": None, "true_accept_rate": None},
            {"distance": 0.51239, "true_accept_rate": 0.9},
        ],
    }
}


def test_names_every_file_with_its_numbers():
    text = readme.readme({"a.tflite": RECORD}, "LINES")
    assert "a.tflite\n    in:  uint8 nhwc 1x64x32x3, pixels 0..255, scale 1," in text
    assert "out: int8 1x48, not L2-normalised, scale 0.25, zero_point -3" in text
    assert "Same person\n\nLINES\n" in text
    assert all(title in text for title in readme.PROGRAMS)


def test_says_the_thresholds_that_are_known():
    assert readme.thresholds(EVALUATION).splitlines()[1:] == [
        "  distance < 0.5124: 1.00% false accepts, 90.0% true ones"
    ]


@pytest.mark.parametrize("evaluation", [None, {}, {"scores": {}}])
def test_says_that_no_threshold_is_known(evaluation):
    assert "No threshold is known" in readme.thresholds(evaluation)


# The names and types that TensorFlow documents for tensorflow/lite/c/c_api.h. The
# header does not come with the Python package, so this is the check that is possible.
C_API = """
#pragma once
#include <cstddef>
#include <cstdint>
extern "C" {
struct TfLiteModel;
struct TfLiteInterpreter;
struct TfLiteInterpreterOptions;
struct TfLiteTensor;
enum TfLiteStatus { kTfLiteOk, kTfLiteError };
struct TfLiteQuantizationParams { float scale; int32_t zero_point; };
TfLiteModel* TfLiteModelCreateFromFile(const char*);
TfLiteInterpreterOptions* TfLiteInterpreterOptionsCreate();
TfLiteInterpreter* TfLiteInterpreterCreate(
    const TfLiteModel*, const TfLiteInterpreterOptions*);
TfLiteStatus TfLiteInterpreterAllocateTensors(TfLiteInterpreter*);
TfLiteTensor* TfLiteInterpreterGetInputTensor(const TfLiteInterpreter*, int32_t);
const TfLiteTensor* TfLiteInterpreterGetOutputTensor(const TfLiteInterpreter*, int32_t);
TfLiteStatus TfLiteInterpreterInvoke(TfLiteInterpreter*);
size_t TfLiteTensorByteSize(const TfLiteTensor*);
TfLiteStatus TfLiteTensorCopyFromBuffer(TfLiteTensor*, const void*, size_t);
TfLiteStatus TfLiteTensorCopyToBuffer(const TfLiteTensor*, void*, size_t);
TfLiteQuantizationParams TfLiteTensorQuantizationParams(const TfLiteTensor*);
}
"""


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
def test_the_cpp_program_compiles(tmp_path):
    header = tmp_path / "tensorflow/lite/c/c_api.h"
    header.parent.mkdir(parents=True)
    header.write_text(C_API)
    source = tmp_path / "program.cc"
    source.write_text(
        next(text for title, text in readme.PROGRAMS.items() if "C++" in title)
    )
    subprocess.run(
        ["g++", "-std=c++17", "-fsyntax-only", "-Wall", "-Werror", "-I", tmp_path]
        + [source],
        check=True,
    )
