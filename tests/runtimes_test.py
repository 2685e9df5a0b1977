"""How far outputs are apart, by arithmetic that fits in a comment."""

import numpy as np
import pytest

from cdnet_tf.deploy import runtimes

_ROWS = np.array([[3.0, 4.0], [0.0, 10.0]])  # of lengths 5 and 10
_OURS, _LITERT = {"tensorflow": "2.15.1"}, {"ai-edge-litert": "2.3"}


def _result(outputs, kind="float", failures=(), versions=None):
    kinds = dict.fromkeys(outputs, kind)
    return runtimes.Result(outputs, dict(failures), kinds, versions or _OURS)


def _judged(case, kind, change, versions):
    key = f"a.tflite|{case}"
    other = _result({key: _ROWS + [[0, change], [0, 0]]}, versions=versions)
    return runtimes.judge(key, _result({key: _ROWS}, kind), other)


@pytest.mark.parametrize(
    "kind, case, change, verdict",
    [
        ("float", "default kernels", 4e-4, (True, "8.0e-05")),  # of 5
        ("float", "default kernels", 6e-4, (False, "1.2e-04")),
        ("float", "from_jpeg", 6e-4, (False, "1.2e-04")),
        ("integer", "built-in kernels", 0, (True, "equal")),
        ("integer", "built-in kernels", 1, (False, "1 steps")),
        # (3, 4) to (3, 5): 29 / (5 sqrt(34)) = 0.99469; the other row's is 1.
        (
            *("integer", "default kernels", 1),
            (False, "cosine 0.99735, least 0.99469"),
        ),
        ("mixed", "default kernels", 0.05, (True, "cosine 0.99999, least 0.99998")),
        ("mixed", "built-in kernels", 0.05, (False, "1.0e-02")),
        ("dynamic", "built-in kernels", 0.05, (True, "cosine 0.99999, least 0.99998")),
        ("dynamic", "built-in kernels", 1, (False, "cosine 0.99735, least 0.99469")),
    ],
)
def test_judge(kind, case, change, verdict):
    assert _judged(case, kind, change, _LITERT) == verdict


@pytest.mark.parametrize(
    "kind, change, verdict",
    [
        ("float", 6e-4, (False, "1.2e-04")),
        ("float", 4e-4, (True, "8.0e-05")),
        ("integer", 1, (True, "cosine 0.99735, least 0.99469")),
        # (3, 4) to (3, 7): 37 / (5 sqrt(58)) = 0.97167
        ("integer", 3, (False, "cosine 0.98583, least 0.97167")),
        ("mixed", 1, (True, "cosine 0.99735, least 0.99469")),
    ],
)
@pytest.mark.parametrize("case", ["default kernels", "built-in kernels"])
@pytest.mark.parametrize("package", ["openvino", "tflite-micro"])
def test_runtimes_with_kernels_of_their_own_round_otherwise(
    package, case, kind, change, verdict
):
    assert _judged(case, kind, change, {package: "1"}) == verdict


@pytest.mark.parametrize("change, good", [(3, True), (6, False)])
def test_a_way_of_its_own_is_compared_with_our_run_of_the_file(change, good):
    """(3, 4) to (3, 10): 49 / (5 sqrt(109)) = 0.93867, and 0.96933 on average."""
    reference = _result({"a.tflite|default kernels": _ROWS}, "integer")
    key = "a.tflite|K230, own integers"
    other = _result({key: _ROWS + [[0, change], [0, 0]]}, versions={"nncase": "2"})
    assert runtimes.judge(key, reference, other).good is good
    assert runtimes.judge(key, reference, reference) == (True, "-")
    assert runtimes.judge(key, reference, _result({})) == (True, "-")
    assert runtimes.judge("b|x", reference, _result({"b|x": _ROWS})).good is False


@pytest.mark.parametrize(
    "kind, good", [("float", True), ("dynamic", True), ("integer", False)]
)
def test_a_microcontroller_may_lack_kernels_for_floats_alone(kind, good):
    key = "a.tflite|built-in kernels"
    said = {key: f"{runtimes.NO_KERNELS}: Hybrid models are not supported"}
    other = runtimes.Result({}, said, {}, {"tflite-micro": "0"})
    assert runtimes.judge(key, _result({key: _ROWS}, kind), other).good is good
    broken = runtimes.Result({}, {key: "no memory"}, {}, {"tflite-micro": "0"})
    assert not runtimes.judge(key, _result({key: _ROWS}, kind), broken).good


@pytest.mark.parametrize(
    "versions, title",
    [
        ({"openvino": "2026.4", "numpy": "2"}, "OpenVINO 2026.4"),
        ({"boxmot": "25", "ai-edge-litert": "2.3"}, "BoxMOT 25"),  # It runs on LiteRT.
    ],
)
def test_title(versions, title):
    assert _result({}, versions=versions).title() == title


def test_table_is_aligned():
    assert runtimes.table([["a", "bcd"], ["ef", ""]]) == "a   bcd\nef"
