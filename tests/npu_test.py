"""Compiling for the Ethos-U: the compiler's report, and refused files.

Arm's compiler really runs, on files of a network so small that it takes a second.
"""

import importlib.util
import json

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.deploy import npu, tflite, tflite_file

_U55 = npu.Target("ethos-u55-32", "Ethos_U55_High_End_Embedded", "Shared_Sram")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Writes an int8 file, and a file with float input and output, which NPUs lack."""
    pixels = tf.keras.Input((16, 16, 3), name="images")
    x = tf.keras.layers.Conv2D(8, 3, activation="relu", name="stem/conv")(pixels)
    x = tf.keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    network = tf.keras.Model(pixels, tf.keras.layers.Flatten()(x), name="small")
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    folder = tmp_path_factory.mktemp("files")
    for variant in ("int8", "int8_float_io"):
        content = tflite.convert(network, variant, images=images)
        (folder / f"{variant}.tflite").write_bytes(content)
    return folder


def test_writes_a_file_for_the_chip_and_reports_what_it_takes(folder):
    (report,) = npu.compile_beside(folder / "int8.tflite", [_U55])
    assert report["file"] == "int8_ethos-u55-32_vela.tflite"
    assert npu.is_compiled(report["file"])
    content = (folder / report["file"]).read_bytes()
    assert set(tflite_file.op_counts(content)) <= {"CUSTOM", "RESHAPE"}
    assert tflite_file.describe(content)["network"] == "small"
    assert report["failure"] is None and report["cpu_operators"] == []
    assert report["npu_operators"] > 0 and report["vela"] == npu.version()
    # 14 x 14 positions of a 3 x 3 x 3 kernel with 8 outputs, 32 products a cycle.
    assert report["cycles"] >= 14 * 14 * 27 * 8 / 32
    seconds = report["cycles"] / (1e6 * report["clock_mhz"])
    assert report["milliseconds"] == pytest.approx(1e3 * seconds)
    assert report["clock_mhz"] == 500 and report["memory_mode"] == "Shared_Sram"
    # The input and what the convolution gives lie there at the same time.
    assert report["sram_kib"] >= (16 * 16 * 3 + 14 * 14 * 8) / 1024
    assert report["flash_kib"] > 0 and report["dram_kib"] == 0
    table = npu.table([report])
    assert "for ethos-u55-32, Ethos_U55_High_End_Embedded (500 MHz), Shared" in table
    json.dumps(report)


def test_each_family_has_a_system_and_a_memory_of_its_own():
    assert npu.targets(["ethos-u55-32", "ethos-u85-256"]) == [
        _U55,
        npu.Target("ethos-u85-256", "Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB"),
    ]


def test_system_and_memory_are_the_ones_asked_for(folder):
    (target,) = npu.targets(
        ["ethos-u65-256"], "Ethos_U65_High_End", "Dedicated_Sram_512KB"
    )
    _, report = npu.compiled(folder / "int8.tflite", target)
    assert report["system_config"] == "Ethos_U65_High_End"
    assert report["memory_mode"] == "Dedicated_Sram_512KB"
    assert report["clock_mhz"] == 1000 and report["dram_kib"] > 0


def test_names_the_operators_that_fall_back_and_writes_no_file(folder):
    (report,) = npu.compile_beside(folder / "int8_float_io.tflite", [_U55])
    assert report["file"] is None
    assert not list(folder.glob("int8_float_io_*"))
    first, last = report["cpu_operators"]
    assert first.startswith("QUANTIZE, which writes '")
    assert last == "DEQUANTIZE, which writes 'embedding'"
    assert (
        f"operators fall back to the CPU on ethos-u55-32: {first}; "
        in (report["failure"])
    )
    assert npu.table([report]).splitlines()[1].startswith("FAILED  int8_float_io.tfl")


def test_says_which_file_the_compiler_does_not_take(tmp_path):
    path = tmp_path / "broken.tflite"
    path.write_bytes(bytes(64))
    (report,) = npu.compile_beside(path, [_U55])
    assert f"Vela does not compile {path} for ethos-u55-32: " in report["failure"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ((["ethos-u85-3"],), "npu=ethos-u85-3: use ethos-u55-32, "),
        (([],), "npu=: use ethos-u55-32, "),
        ((["ethos-u65-256"], "Fast"), "npu_system_config=Fast: use Ethos_U55_"),
        ((["ethos-u65-256"], None, "RAM"), "npu_memory_mode=RAM: use Sram_Only, "),
        (
            (["ethos-u65-256", "ethos-u85-256"], "Ethos_U65_High_End"),
            "Ethos_U65_High_End does not fit ethos-u85-256; use one that begins with "
            "Ethos_U85, or compile for one family at a time",
        ),
    ],
)
def test_refuses_names_that_the_compiler_does_not_know(arguments, complaint):
    with pytest.raises(npu.NpuError, match=complaint):
        npu.targets(*arguments)


def test_says_how_to_install_the_compiler(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(npu.NpuError, match=r"run pip install '\.\[npu\]'"):
        npu.targets(["ethos-u65-256"])
