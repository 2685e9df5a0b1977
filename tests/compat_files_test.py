"""What is run everywhere: files, and people as each file takes them."""

import json

import numpy as np
import pytest

from tools import compat_files

_IMAGES = np.array([[[[100, 0, 255], [50, 9, 7]]]], np.uint8)  # (1, 1, 2, 3)


@pytest.mark.parametrize(
    "said, expected",
    [
        (
            {"mean": None, "dtype": "uint8", "layout": "nhwc"},
            [[[[100, 0, 255], [50, 9, 7]]]],
        ),
        # (100 - 50) / 25 = 2, (0 - 10) / 5 = -2, (255 - 5) / 100 = 2.5
        (
            {"mean": [50, 10, 5], "std": [25, 5, 100], "dtype": "float32"},
            [[[[2, 0]], [[-2, -0.2]], [[2.5, 0.02]]]],
        ),
        # 2 / 0.5 - 1 = 3, -2 / 0.5 - 1 = -5, 2.5 / 0.5 - 1 = 4
        (
            {"mean": [50, 10, 5], "std": [25, 5, 100], "dtype": "int8"}
            | {"scale": 0.5, "zero_point": -1, "layout": "nhwc"},
            [[[[3, -5, 4], [-1, -1, -1]]]],
        ),
    ],
)
def test_images_as_a_file_takes_them(said, expected):
    found = compat_files.fed(_IMAGES, {"layout": "nchw"} | said)
    assert found.dtype == said["dtype"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_integers_do_not_overflow():
    said = {"mean": [0, 0, 0], "std": [1, 1, 1], "dtype": "int8", "scale": 1.0}
    found = compat_files.fed(_IMAGES, said | {"zero_point": 0, "layout": "nhwc"})
    assert found[0, 0, 0].tolist() == [100, 0, 127]


def test_people_and_what_files_say(tmp_path):
    exports, work = tmp_path / "exports", tmp_path / "work"
    (exports / "served").mkdir(parents=True)
    (exports / "served/saved_model.pb").touch()
    (exports / "foreign.tflite").write_bytes(b"TFL3")
    (exports / "cdnet_int8_ethos-u65-256_vela.tflite").touch()
    work.mkdir()
    compat_files.make(work, "none", exports, test_identities=4, train_identities=4)
    assert json.loads((work / "files.json").read_text()) == {
        "foreign.tflite": None,
        "served": None,
    }
    people = np.load(work / "people.npz")
    # Four people, two images each from three cameras.
    assert people["pictures"].shape == (24, 192, 96, 3)
    once = [5, 5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8]
    assert people["identities"].tolist() == [*once, *once]
    assert people["cameras"].tolist() == 8 * [1, 2, 3]


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no .tflite file and no Saved"):
        compat_files.exports(tmp_path)
