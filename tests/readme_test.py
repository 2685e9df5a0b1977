"""README.txt's text; its Python program is run in export_tflite_test."""

import shutil
import subprocess

import pytest

from cdnet_tf.deploy import measurements, readme

RECORD = {
    "input": {
        "dtype": "uint8",
        "layout": "nhwc",
        "shape": [1, 64, 32, 3],
        "values": "pixels 0..255",
        "mean": None,
        "std": None,
        "scale": 1.0,
        "zero_point": 0,
    },
    "output": {"dtype": "int8", "dimensions": 48, "scale": 0.25, "zero_point": -3},
}
ROW = {
    "thresholds": {
        "rates": [0.001, 0.01],
        "genuine_pairs": 30,
        "impostor_pairs": 500,
        "at_rates": [
            {"distance": None, "note": "500 impostor pairs cannot tell it."},
            {
                "distance": 0.51239,
                "false_accept_rate": 0.008,
                "true_accept_rate": 0.9,
            },
        ],
    },
    "measured": measurements.conditions("1234", "msmt17", 20, 1000, 0, "a part"),
}


def test_names_every_file_with_its_numbers():
    text = readme.compose({"a.tflite": RECORD}, {})
    assert "a.tflite\n    in:  uint8 nhwc 1x64x32x3, pixels 0..255, scale 1," in text
    assert "out: int8 1x48, not L2-normalised, scale 0.25, zero_point -3" in text
    assert all(title in text for title in readme.PROGRAMS)


def test_says_thresholds_and_what_they_were_measured_on():
    text = readme.compose({"a.tflite": RECORD, "b.tflite": RECORD}, {"a.tflite": ROW})
    start = text.index("  a.tflite\n    sha256")
    assert text[start:].splitlines()[:9] == [
        "  a.tflite",
        "    sha256 1234",
        "    measured on msmt17, a part:",
        "    20 query and 1,000 gallery images, 0 distractors among them;",
        "    30 pairs of one person and 500 of two",
        "    at 0.10% false accepts: none; 500 impostor pairs cannot tell it.",
        "    distance < 0.5124 at 1.00% false accepts (measured 0.800%): 90.0% true "
        "ones",
        "  b.tflite",
        "    No threshold was measured on this file: python -m cdnet_tf.evaluate "
        "--model=b.tflite measures one.",
    ]


def test_each_file_says_how_its_colours_are_normalised():
    source = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
    source = RECORD["input"] | source
    text = readme.compose(
        {"a.tflite": RECORD, "b.tflite": RECORD | {"input": source}}, {}
    )
    assert text.count("    mean ") == 1
    assert "scale 1, zero_point 0\n         mean 123.675 116.28 103.53, std 58." in text


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
def test_the_cpp_program_compiles(tmp_path):
    source = tmp_path / "program.cc"
    source.write_text(readme.CPP)
    command = ["g++", "-std=c++17", "-fsyntax-only", "-Wall", "-Werror", str(source)]
    subprocess.run(command, check=True)
