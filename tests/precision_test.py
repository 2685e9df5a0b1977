"""`auto` takes bfloat16 if it is supported and faster, and keeps its decision."""

import pytest
import tensorflow as tf

from cdnet_tf.learn import precision

_SIZE = {"input_shape": (64, 32, 3), "width_multiplier": 0.25, "batch_size": 4}


@pytest.mark.parametrize(
    ("is_computed", "times", "policy"),
    [
        (False, 9.0, "float32"),
        (True, 1.02, "float32"),
        (True, 0.3, "float32"),
        (True, 1.6, "mixed_bfloat16"),
    ],
)
def test_bfloat16_is_taken_where_it_is_faster(is_computed, times, policy):
    assert precision.choose(is_computed, lambda: times)[0] == policy


def test_nothing_is_measured_where_the_processor_cannot():
    found, why = precision.choose(False, lambda: pytest.fail("measured"))
    assert found == "float32" and "no instructions" in why


@pytest.mark.parametrize(
    ("words", "computes"),
    [("fma avx2", False), ("avx512f avx512_bf16", True), ("amx_bf16 amx_tile", True)],
)
def test_instructions_are_read(tmp_path, monkeypatch, words, computes):
    file = tmp_path / "cpuinfo"
    file.write_text(f"flags : {words}\n")
    monkeypatch.setattr(precision, "_CPU_INFO", file)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert precision.computes_bfloat16() is computes


def test_both_are_timed_and_the_policy_stays():
    assert precision.gain(2, 8, 4, 64, pairs=1) > 0
    assert tf.keras.mixed_precision.global_policy().name == "float32"


def test_a_run_keeps_to_what_was_decided(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(precision, "computes_bfloat16", lambda: True)
    monkeypatch.setattr(precision, "gain", lambda *features: 2.0)
    assert precision.of_run("auto", tmp_path, **_SIZE) == "mixed_bfloat16"
    assert "2.00 times" in capsys.readouterr().out
    monkeypatch.setattr(precision, "gain", lambda *features: 0.5)
    assert precision.of_run("auto", tmp_path, **_SIZE) == "mixed_bfloat16"
    assert precision.of_run("float32", tmp_path, **_SIZE) == "float32"


def test_several_machines_name_one(tmp_path):
    with pytest.raises(ValueError, match="precision=auto.*2.*float32"):
        precision.of_run("auto", tmp_path, workers=2, **_SIZE)
