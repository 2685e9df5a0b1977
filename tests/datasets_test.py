"""Every data set's layout is read from disk, and errors say what is wrong."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from cdnet_tf.data import datasets

_MARKET = {
    "bounding_box_train": [
        "0002_c1s1_000451_03.jpg",
        "0002_c2s1_000301_01.jpg",
        "0007_c1s6_028546_01.jpg",
        "0007_c3s3_077419_03.jpg",
        "Thumbs.db",
    ],
    "query": ["0001_c1s1_001051_00.jpg"],
    "bounding_box_test": [
        "-1_c1s1_000401_03.jpg",
        "0000_c6s1_000151_01.jpg",
        "0001_c4s6_000810_00.jpg",
    ],
}
_DUKE = {
    "bounding_box_train": ["0001_c2_f0046182.jpg", "0001_c5_f0051341.jpg"],
    "query": ["0005_c2_f0046985.jpg"],
    "bounding_box_test": ["0005_c8_f0053589.jpg"],
}
_MSMT_LISTS = {
    "list_train.txt": [
        "0000/0000_000_01_0303morning_0008_0.jpg 0",
        "0000/0000_001_14_0303noon_0010_1.jpg 0",
    ],
    "list_val.txt": [
        "0004/0004_006_02_0303morning_0130_0.jpg 4",
        "0004/0004_007_03_0303morning_0131_0.jpg 4",
    ],
    "list_query.txt": ["0000/0000_015_05_0113noon_0006_0.jpg 0"],
    "list_gallery.txt": ["0000/0000_016_09_0113noon_0007_0.jpg 0"],
}


def _write_folders(root, folders):
    for folder, files in folders.items():
        (root / folder).mkdir(parents=True)
        for file in files:
            (root / folder / file).touch()


def _write_msmt(root, train="train", test="test"):
    root.mkdir(parents=True)
    for name, lines in _MSMT_LISTS.items():
        (root / name).write_text("\n".join(lines) + "\n")
        folder = root / (train if name in ("list_train.txt", "list_val.txt") else test)
        for line in lines:
            image = folder / line.split()[0]
            image.parent.mkdir(parents=True, exist_ok=True)
            image.touch()


@pytest.mark.parametrize("folder", ["Market-1501-v15.09.15", "."])
def test_market_drops_junk_and_keeps_distractors(tmp_path, folder):
    _write_folders(tmp_path / folder, _MARKET)
    data = datasets.read("market1501", str(tmp_path))
    np.testing.assert_array_equal(data.train.identities, [2, 2, 7, 7])
    np.testing.assert_array_equal(data.train.cameras, [1, 2, 1, 3])
    np.testing.assert_array_equal(data.gallery.identities, [0, 1])
    np.testing.assert_array_equal(data.gallery.cameras, [6, 4])
    assert data.gallery.identities.dtype == data.gallery.cameras.dtype == np.int32
    assert data.query.paths[0].endswith("/query/0001_c1s1_001051_00.jpg")
    assert data.counts() == {
        "train": {"images": 4, "identities": 2, "cameras": 3},
        "query": {"images": 1, "identities": 1, "cameras": 1},
        "gallery": {"images": 2, "identities": 2, "cameras": 2},
    }


def test_duke(tmp_path):
    _write_folders(tmp_path / "DukeMTMC-reID", _DUKE)
    data = datasets.read("dukemtmc", str(tmp_path))
    np.testing.assert_array_equal(data.train.identities, [1, 1])
    np.testing.assert_array_equal(data.train.cameras, [2, 5])
    np.testing.assert_array_equal(data.gallery.cameras, [8])


@pytest.mark.parametrize(
    "root, train, test",
    [
        ("MSMT17_V1", "train", "test"),
        ("MSMT17_V2", "mask_train_v2", "mask_test_v2"),
        ("MSMT17", "mask_train_v2", "mask_test_v2"),
    ],
)
def test_msmt17_train_is_train_and_val(tmp_path, root, train, test):
    _write_msmt(tmp_path / root, train, test)
    data = datasets.read("msmt17", str(tmp_path))
    np.testing.assert_array_equal(data.train.identities, [0, 0, 4, 4])
    np.testing.assert_array_equal(data.train.cameras, [1, 14, 2, 3])
    np.testing.assert_array_equal(data.query.cameras, [5])
    assert f"/{test}/0000/" in data.gallery.paths[0]


@pytest.mark.parametrize("chosen", [[2, 0], [True, False, True]])
def test_some_images_keep_who_and_where(chosen):
    images = datasets.Images(("a", "b", "c"), np.array([1, 2, 3]), np.array([4, 5, 6]))
    some = images.take(np.array(chosen))
    rows = set(zip(some.paths, some.identities.tolist(), some.cameras.tolist()))
    assert rows == {("a", 1, 4), ("c", 3, 6)}


def test_labels_are_dense_and_raw_numbers_come_back():
    labels, raw = datasets.to_labels(np.array([7, 2, 7, 1500], np.int32))
    np.testing.assert_array_equal(labels, [1, 0, 1, 2])
    np.testing.assert_array_equal(raw, [2, 7, 1500])
    assert labels.dtype == np.int32


def test_unknown_name():
    with pytest.raises(ValueError, match="'market'.*market1501, dukemtmc, msmt17"):
        datasets.read("market", "/nowhere")


def test_missing_folder_says_how_to_lay_the_data_out(tmp_path):
    folders = {"query": [], "bounding_box_test": []}
    _write_folders(tmp_path / "Market-1501", folders)
    with pytest.raises(FileNotFoundError) as error:
        datasets.read("market1501", str(tmp_path))
    message = str(error.value)
    assert f"{tmp_path}/Market-1501 lacks bounding_box_train/." in message
    assert f"{tmp_path}/Market-1501-v15.09.15 holds bounding_box_train/" in message
    assert "--flagfile=flags/demo.cfg" in message


def test_train_alone_may_lend_the_others(tmp_path):
    _write_folders(tmp_path / "market1501", {"bounding_box_train": ["1_c1_.jpg"]})
    with pytest.raises(FileNotFoundError, match="lacks query/.*holdout_identities=N"):
        datasets.read("market1501", str(tmp_path))


@pytest.mark.parametrize("needed", [["query", "gallery"], []])
def test_test_images_are_read_without_train(tmp_path, needed):
    folders = {name: _MARKET[name] for name in ("query", "bounding_box_test")}
    _write_folders(tmp_path, folders)
    data = datasets.read("market1501", str(tmp_path), needed)
    assert data.absent == ("train",)
    assert (len(data.train), len(data.query), len(data.gallery)) == (0, 1, 2)
    assert data.counts()["train"] == {"images": 0, "identities": 0, "cameras": 0}


@pytest.mark.parametrize("place", ["Market-1501/Market-1501", "zip/market-1501/x"])
def test_unpacked_too_deep(tmp_path, place):
    (tmp_path / "__MACOSX" / "Market-1501" / "query").mkdir(parents=True)
    _write_folders(tmp_path / "data" / place, _MARKET)
    folder = tmp_path / "data" / ("zip" if "zip" in place else "")
    assert len(datasets.read("market1501", str(folder)).train) == 4


def test_the_same_data_set_twice(tmp_path):
    for place in ("a", "b"):
        _write_folders(tmp_path / place / "Market-1501", _MARKET)
    with pytest.raises(ValueError, match="than once; pass one of .*a/M.*, .*b/M"):
        datasets.read("market1501", str(tmp_path))


def test_folder_of_another_name_may_be_another_data_set(tmp_path):
    _write_folders(tmp_path / "people", _MARKET)
    with pytest.raises(FileNotFoundError, match="If it is in .*/people, pass that"):
        datasets.read("market1501", str(tmp_path))


@pytest.mark.parametrize("inside", ["query", "gt_bbox"])
def test_folder_inside_the_data_set(tmp_path, inside):
    _write_folders(tmp_path, _MARKET | {"gt_bbox": ["0002_c1s1_000451_00.jpg"]})
    with pytest.raises(FileNotFoundError, match=f"is a part .*; pass {tmp_path}\\."):
        datasets.read("market1501", str(tmp_path / inside))


def test_no_folder_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match="data_dir=.*/no does not exist"):
        datasets.read("market1501", str(tmp_path / "no"))
    (tmp_path / "market.zip").touch()
    with pytest.raises(NotADirectoryError, match="market.zip is a file; unpack it"):
        datasets.read("market1501", str(tmp_path / "market.zip"))


def test_endings_of_images(tmp_path):
    files = ["1_c1_a.JPG", "1_c2_b.jpeg", "2_c1_c.Png", "2_c2_d.jpg", "._1_c1_a.JPG"]
    folders = _MARKET | {"bounding_box_train": [*files, "Thumbs.db", "readme.txt"]}
    _write_folders(tmp_path, folders)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = datasets.read("market1501", str(tmp_path))
    np.testing.assert_array_equal(data.train.cameras, [1, 2, 1, 2])


def test_no_name_matches(tmp_path):
    folders = dict(_MARKET, bounding_box_train=["person_1.png", "person_2.png"])
    _write_folders(tmp_path / "Market-1501", folders)
    with pytest.raises(ValueError, match="bounding_box_train: no .*'person_1.png'"):
        datasets.read("market1501", str(tmp_path))


def test_some_names_do_not_match(tmp_path):
    files = _MARKET["bounding_box_train"] + ["copy of 0002_c1s1_000451_03.jpg"]
    _write_folders(tmp_path / "Market-1501", dict(_MARKET, bounding_box_train=files))
    with pytest.warns(UserWarning, match="skipped 1 images.*copy of"):
        data = datasets.read("market1501", str(tmp_path))
    assert len(data.train) == 4


@pytest.mark.parametrize("line", ["0004/0004_006_02_a.jpg", "0004/portrait.jpg 4"])
def test_list_line_does_not_parse(tmp_path, line):
    _write_msmt(tmp_path / "MSMT17_V1")
    with open(tmp_path / "MSMT17_V1" / "list_val.txt", "a") as lines:
        lines.write(line + "\n")
    with pytest.raises(ValueError, match=f"list_val.txt:3: cannot read '{line}'"):
        datasets.read("msmt17", str(tmp_path))


def test_listed_images_are_missing(tmp_path):
    _write_msmt(tmp_path / "MSMT17_V1")
    with open(tmp_path / "MSMT17_V1" / "list_gallery.txt", "a") as lines:
        lines.writelines(f"0009/0009_{i:03}_01_x.jpg 9\n" for i in range(30))
    with pytest.raises(FileNotFoundError) as error:
        datasets.read("msmt17", str(tmp_path))
    assert "list_gallery.txt: 30 of 31 listed images" in str(error.value)
    assert "0009_019_01_x.jpg, and 10 more." in str(error.value)
    assert "0009_020_01_x.jpg" not in str(error.value)


def test_identity_of_a_single_camera_is_a_warning(tmp_path):
    files = _MARKET["bounding_box_train"] + ["0011_c2s1_1_1.jpg", "0011_c2s1_2_1.jpg"]
    _write_folders(tmp_path / "Market-1501", dict(_MARKET, bounding_box_train=files))
    with pytest.warns(UserWarning, match="1 of 3 train identities.*camera: 11"):
        data = datasets.read("market1501", str(tmp_path))
    np.testing.assert_array_equal(datasets.single_camera_identities(data.train), [11])
