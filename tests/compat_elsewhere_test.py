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
    "inputs": np.full((2, 1, 4, 2, 3), -7, np.float32),
}


def test_runs_a_case_on_the_people_of_the_files_size(tmp_path, monkeypatch, capsys):
    stored = {
        "pictures": _PEOPLE["pictures"],
        "images_4x2": _PEOPLE["images"],
        "images_8x4": np.zeros((2, 8, 4, 3), np.uint8),
        "calibration_4x2": _PEOPLE["calibration"],
    }
    np.savez(tmp_path / "people.npz", **stored)
    np.savez(tmp_path / "inputs.npz", **{"below/a.tflite": _PEOPLE["inputs"]})

    def run(file, people):
        assert file == "/exports/below/a.tflite"
        assert {name: each.shape for name, each in people.items()} == {
            name: each.shape for name, each in _PEOPLE.items()
        }
        return np.ones((2, 1, 5))

    monkeypatch.setitem(compat_elsewhere.CASES, "own crops", run)
    output = tmp_path / "output.npy"
    words = ["own crops", "/exports", "below/a.tflite", "4x2"]
    monkeypatch.setattr(sys, "argv", ["", *words, str(tmp_path), str(output)])
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
        # Of a file of integers, RKNN gives integers as floats.
        return [np.full((1, 5), number + inputs[0].min(), np.float32)]


@pytest.mark.parametrize(
    "case, taken, value, dtype",
    [
        ("RK3588, 16-bit floats", np.float32, 16, np.float32),
        ("RV1106, own integers", np.float32, 8, np.float32),
        ("RK3588, our integers", np.int8, 16 - 7, np.int8),
    ],
)
def test_rockchips_steps_are_taken_in_turn(case, taken, value, dtype, monkeypatch):
    monkeypatch.setitem(sys.modules, "rknn.api", types.SimpleNamespace(RKNN=_Rknn))
    people = _PEOPLE | {"inputs": _PEOPLE["inputs"].astype(taken)}
    found = compat_elsewhere.CASES[case]("a.tflite", people)
    assert found.tolist() == [[value] * 5] * 2 and found.dtype == dtype


def test_a_step_of_rockchips_that_fails_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rknn.api", types.SimpleNamespace(RKNN=_Rknn))
    monkeypatch.setattr(_Rknn, "failing", "build")
    with pytest.raises(RuntimeError, match="RKNN's step 2 fails"):
        compat_elsewhere.CASES["RV1106, own integers"]("a.tflite", _PEOPLE)


class _Nncase:
    """Kendryte's converter and simulator, which answers 8 for all images."""

    CompileOptions = ImportOptions = types.SimpleNamespace
    RuntimeTensor = types.SimpleNamespace(from_numpy=lambda image: image)

    def __init__(self):
        self.calibrated, self.embedded = [], 0

    def PTQTensorOptions(self):
        return types.SimpleNamespace(set_tensor_data=self.calibrated.append)

    def Compiler(self, options):
        assert options.target == "k230"
        return types.SimpleNamespace(
            import_tflite=lambda content, options: None,
            use_ptq=lambda rounding: None,
            compile=lambda: None,
            gencode_tobytes=lambda: b"code",
        )

    def Simulator(self):
        def set_input_tensor(number, image):
            assert image.shape == (1, 4, 2, 3) and image.dtype == np.float32
            self.embedded += 1

        output = types.SimpleNamespace(to_numpy=lambda: np.full((1, 5), 8))
        return types.SimpleNamespace(
            load_model=lambda code: None,
            set_input_tensor=set_input_tensor,
            run=lambda: None,
            get_output_tensor=lambda number: output,
        )


def test_the_slow_simulator_embeds_the_first_images(tmp_path, monkeypatch):
    nncase = _Nncase()
    monkeypatch.setitem(sys.modules, "nncase", nncase)
    monkeypatch.setattr(compat_elsewhere, "_find_dotnet", lambda: None)
    monkeypatch.setattr(compat_elsewhere, "_K230_CALIBRATION", 2)
    monkeypatch.setattr(compat_elsewhere, "_K230_EMBEDDED", 3)
    file = tmp_path / "a.tflite"
    file.write_bytes(b"TFL3")
    people = {name: np.zeros((4, 4, 2, 3), np.uint8) for name in _PEOPLE}
    found = compat_elsewhere.CASES["K230, own integers"](str(file), people)
    assert found.tolist() == [[8] * 5] * 3 and nncase.embedded == 3
    ((samples,),) = nncase.calibrated
    assert [sample.shape for sample in samples] == [(1, 4, 2, 3)] * 2
