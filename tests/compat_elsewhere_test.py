"""How files are handed to runtimes that are not installed here."""

import json
import pathlib
import sys
import types

import numpy as np
import pytest

from tools import compat_elsewhere

_PEOPLE = {
    "pictures": np.full((2, 6, 3, 3), [10, 20, 30], np.uint8),
    "images": np.zeros((2, 4, 2, 3), np.uint8),
    "calibration": np.ones((3, 4, 2, 3), np.uint8),
}


def test_runs_a_case_on_the_people_of_the_files_size(tmp_path, monkeypatch, capsys):
    stored = {
        "pictures": _PEOPLE["pictures"],
        "images_4x2": _PEOPLE["images"],
        "images_8x4": np.zeros((2, 8, 4, 3), np.uint8),
        "calibration_4x2": _PEOPLE["calibration"],
    }
    np.savez(tmp_path / "people.npz", **stored)

    def run(file, people):
        assert file == str(tmp_path / "a.tflite")
        assert {name: each.shape for name, each in people.items()} == {
            name: each.shape for name, each in _PEOPLE.items()
        }
        return np.ones((2, 1, 5))

    monkeypatch.setitem(compat_elsewhere.CASES, "own crops", run)
    output = tmp_path / "output.npy"
    words = ["own crops", str(tmp_path / "a.tflite"), "4x2", str(tmp_path), str(output)]
    monkeypatch.setattr(sys, "argv", ["", *words])
    compat_elsewhere.main()
    assert np.load(output).shape == (2, 5)
    said = json.loads(capsys.readouterr().out)
    assert said["numpy"] == np.__version__ and "boxmot" not in said


def test_boxmot_crops_people_out_of_frames(tmp_path, monkeypatch):
    file = tmp_path / "a.tflite"
    beside = tmp_path / "a.tflite.metadata.json"

    class ReID:
        def __init__(self, path):
            assert path == str(file)
            said = json.loads(beside.read_text())
            assert said["model_kwargs"] == {"img_size": [4, 2]}

        def __call__(self, frame, boxes):
            ((left, top, right, bottom),) = boxes.astype(int)
            crop = frame[top:bottom, left:right]
            assert crop.shape == (6, 3, 3) and (crop == [30, 20, 10]).all()  # BGR
            assert (frame[:top] == 127).all() and (frame[:, right:] == 127).all()
            return np.ones((1, 5))

    runtime = types.SimpleNamespace(ReID=ReID)
    monkeypatch.setitem(sys.modules, "boxmot.reid.core.runtime", runtime)
    assert compat_elsewhere.CASES["own crops"](str(file), _PEOPLE).shape == (2, 5)
    assert not beside.exists()


class _Rknn:
    """Rockchip's converter, which says by a number that a step has failed."""

    failing = None

    def __init__(self, verbose):
        self.calls = {}

    def _step(self, name, *given):
        self.calls[name] = given
        return -1 if name == self.failing else 0

    def config(self, mean, std, target_platform, disable_rules):
        return self._step("config", target_platform)

    def load_tflite(self, file):
        return self._step("load", file)

    def build(self, integers, dataset):
        if dataset:
            paths = pathlib.Path(dataset).read_text().split()
            assert [np.load(path).shape for path in paths] == [(1, 3, 4, 2)] * 3
        return self._step("build", integers)

    def export_rknn(self, path):
        return self._step("export")

    def init_runtime(self):
        return self._step("init")

    def inference(self, inputs, data_format):
        assert data_format == ["nhwc"] and inputs[0].shape == (1, 4, 2, 3)
        number = 8 if self.calls["build"] == (True,) else 16
        return [np.full((1, 5), number)]


@pytest.mark.parametrize(
    "case, bits", [("RK3588, 16-bit floats", 16), ("RV1106, own integers", 8)]
)
def test_rockchips_steps_are_taken_in_turn(case, bits, monkeypatch):
    monkeypatch.setitem(sys.modules, "rknn.api", types.SimpleNamespace(RKNN=_Rknn))
    found = compat_elsewhere.CASES[case]("a.tflite", _PEOPLE)
    assert found.tolist() == [[bits] * 5] * 2


def test_a_step_of_rockchips_that_fails_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rknn.api", types.SimpleNamespace(RKNN=_Rknn))
    monkeypatch.setattr(_Rknn, "failing", "build")
    with pytest.raises(RuntimeError, match="RKNN's step 2 fails"):
        compat_elsewhere.CASES["RV1106, own integers"]("a.tflite", _PEOPLE)
