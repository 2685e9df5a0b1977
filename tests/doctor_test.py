"""The doctor on generated data that are broken on purpose, one fault at a time."""

from __future__ import annotations

import pathlib
import shutil

import numpy as np
import pytest
from PIL import ExifTags, Image

from cdnet_tf.data import datasets, doctor, image_files
from cdnet_tf.pedestrians import writer

# 3 people to train on and 2 to test on, 3 cameras, 2 images of each.
_PEOPLE = {
    "train_identities": 3,
    "test_identities": 2,
    "cameras": 3,
    "distractors": 3,
    "junk": 2,
    "height": 32,
    "width": 16,
}
_TRAIN, _QUERY, _GALLERY = "bounding_box_train", "query", "bounding_box_test"


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    root = tmp_path_factory.mktemp("doctor") / "clean"
    writer.write_pedestrians(root, **_PEOPLE)
    return root


@pytest.fixture
def root(clean, tmp_path):
    """Copies the data set, so that a test can break it."""
    shutil.copytree(clean, tmp_path / "data")
    return tmp_path / "data"


def _file(root, folder, pattern):
    """Returns the first file that matches."""
    return min((root / folder).glob(pattern))


def _picture(path, seed=0):
    """Makes a picture that is not in the data set."""
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 16, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def _examine(root, **options):
    return doctor.examine(datasets.read("pedestrians", str(root)), **options)


def _only(findings):
    (finding,) = findings
    assert finding.remedy
    assert finding.is_error == (finding.severity == "error")
    return finding


def test_nothing_is_wrong_with_clean_data(clean):
    assert _examine(clean) == []
    assert doctor.text([]) == "The doctor finds nothing."


def test_query_of_someone_not_in_the_gallery(root):
    for file in (root / _GALLERY).glob("0004_*"):
        file.unlink()
    finding = _only(_examine(root))
    assert (finding.severity, finding.count) == ("warning", 3)
    assert "not in the gallery" in finding.problem
    assert finding.names[0].startswith("query/0004_c1")


def test_query_of_someone_under_the_same_camera_only(root):
    for camera in (2, 3):
        _file(root, _GALLERY, f"0005_c{camera}*").unlink()
    finding = _only(_examine(root))
    # The queries of cameras 2 and 3 find the image of camera 1; that of 1 does not.
    assert (finding.severity, finding.count) == ("warning", 1)
    assert "same camera only" in finding.problem
    assert finding.names[0].startswith("query/0005_c1")


@pytest.mark.parametrize("folder", [_QUERY, _GALLERY])
def test_identity_in_train_and_test(root, folder):
    _picture(root / folder / "0002_c1s1_000000_77.jpg")
    if folder == _QUERY:
        _picture(root / _GALLERY / "0002_c2s1_000000_77.jpg", seed=1)
    finding = _only(_examine(root))
    assert (finding.severity, finding.count) == ("error", 1)
    assert "both train and test" in finding.problem
    assert finding.names == ("2",)


def test_identity_seen_by_one_camera(root):
    for seed in range(4):
        _picture(root / _TRAIN / f"0009_c2s1_000000_{seed}.jpg", seed)
    with pytest.warns(UserWarning, match="one camera only"):
        finding = _only(_examine(root))
    assert (finding.severity, finding.names) == ("warning", ("9",))
    assert "one camera only" in finding.problem


def test_distractors_and_others_in_the_gallery_may_be_seen_once(root):
    _picture(root / _GALLERY / "0009_c2s1_000000_00.jpg")
    assert _examine(root) == []


def test_identity_with_few_images(root):
    for camera in (1, 2, 3):
        _picture(root / _TRAIN / f"0009_c{camera}s1_000000_00.jpg", camera)
    finding = _only(_examine(root))
    assert (finding.severity, finding.names) == ("remark", ("9",))
    assert "fewer than 4 images" in finding.problem
    assert _examine(root, images_per_id=3) == []


@pytest.mark.parametrize("camera", [0, 10])
def test_camera_out_of_range(root, camera):
    _picture(root / _GALLERY / f"0004_c{camera}s1_000000_77.jpg")
    finding = _only(_examine(root))
    assert (finding.severity, finding.count) == ("warning", 1)
    assert finding.names == (f"{_GALLERY}/0004_c{camera}s1_000000_77.jpg",)
    assert "1 to 9" in finding.remedy


@pytest.mark.parametrize("folder", [_QUERY, _GALLERY])
def test_picture_in_train_and_test(root, folder):
    source = _file(root, _TRAIN, "0001_c2*")
    target = _file(root, folder, "0004_c2*")
    shutil.copy(source, target)
    finding = _only(_examine(root))
    assert (finding.severity, finding.count) == ("error", 1)
    assert "both train and test" in finding.problem
    assert finding.names == (f"{_TRAIN}/{source.name} = {folder}/{target.name}",)


@pytest.mark.parametrize(
    "source, target",
    [
        ((_TRAIN, "0001_c2*"), (_TRAIN, "0002_c2*")),
        ((_QUERY, "0004_c1*"), (_GALLERY, "0004_c2*")),
        ((_GALLERY, "0000_c1*"), (_GALLERY, "0005_c1*")),
    ],
)
def test_picture_with_two_labels(root, source, target):
    shutil.copy(_file(root, *source), _file(root, *target))
    finding = _only(_examine(root))
    assert (finding.severity, finding.count) == ("error", 1)
    assert "different identities or cameras" in finding.problem


@pytest.mark.parametrize(
    "source, target",
    [
        ((_TRAIN, "0001_c2*_00*"), (_TRAIN, "0001_c2*_01*")),
        ((_QUERY, "0004_c1*"), (_GALLERY, "0004_c1*")),
    ],
)
def test_picture_repeated(root, source, target):
    shutil.copy(_file(root, *source), _file(root, *target))
    finding = _only(_examine(root))
    assert (finding.severity, finding.count) == ("remark", 1)
    assert "more than once" in finding.problem


def test_files_of_equal_size_are_no_duplicates(root):
    file = _file(root, _TRAIN, "0001_c2*")
    content = bytearray(file.read_bytes())
    content[-10] ^= 1  # a bit of the picture
    _file(root, _TRAIN, "0002_c2*").write_bytes(content)
    assert _examine(root) == []


def _bad_files(root):
    """Breaks four images in four ways; two of them alike."""
    files = sorted((root / _GALLERY).glob("000[45]_*"))[:4]
    files[0].write_bytes(files[0].read_bytes()[:200])
    files[1].write_bytes(b"")
    files[2].write_bytes(b"no image")
    files[3].write_bytes(b"no image")
    return files


def test_unreadable_images(root):
    files = _bad_files(root)
    finding = _only(_examine(root))
    assert (finding.severity, finding.count) == ("error", 4)
    assert finding.names == tuple(f"{_GALLERY}/{file.name}" for file in files)


def test_unreadable_is_what_training_cannot_read(root):
    files = _bad_files(root)
    data = datasets.read("pedestrians", str(root))
    with pytest.raises(ValueError) as error:
        image_files.check_images(data.gallery.paths)
    assert "4 of 9 images cannot be read" in str(error.value)
    assert all(str(file) in str(error.value) for file in files)


def test_images_that_a_viewer_would_turn(root):
    file = _file(root, _GALLERY, "0004_*")
    with Image.open(file) as image:
        exif = image.getexif()
        exif[ExifTags.Base.Orientation] = 6  # by a quarter, clockwise
        image.copy().save(file, exif=exif)
    finding = _only(_examine(root))
    assert (finding.severity, finding.count) == ("warning", 1)
    assert finding.names == (f"{_GALLERY}/{file.name}",)


def test_an_image_that_vanished(root):
    data = datasets.read("pedestrians", str(root))
    file = _file(root, _GALLERY, "0004_*")
    file.unlink()
    finding = _only(doctor.examine(data))
    assert finding.names == (f"{_GALLERY}/{file.name}",)


def test_unpacking_that_was_interrupted(clean):
    finding = _only(doctor.examine(datasets.read("market1501", str(clean))))
    assert (finding.severity, finding.count) == ("warning", 3)
    assert "fewer images than were published" in finding.problem
    assert finding.names[1] == "query (6 of 3,368)"


def test_split_that_is_missing(root):
    shutil.rmtree(root / _GALLERY)
    finding = _only(doctor.examine(datasets.read("pedestrians", str(root), [])))
    assert (finding.severity, finding.names) == ("warning", ("gallery",))


def test_split_of_junk_only(root):
    for file in (root / _TRAIN).iterdir():
        file.rename(file.with_name(f"-1_{file.name[5:]}"))
    finding = _only(_examine(root))
    assert (finding.severity, finding.names) == ("error", ("train",))


def _msmt17(clean, root):
    """Writes the images in MSMT17's layout: train and test both count from 0."""
    for part in ("train", "test"):
        (root / part / "0000").mkdir(parents=True)
    folders = {"train": _TRAIN, "query": _QUERY, "gallery": _GALLERY}
    for name, folder in folders.items():
        part = "train" if name == "train" else "test"
        lines: list[str] = []
        for file in sorted((clean / folder).glob("000[1-9]_c*")):
            identity = int(file.name[:4]) - (1 if name == "train" else 4)
            camera = int(file.name[6])
            path = f"0000/{identity:04}_{len(lines):03}_{camera:02}_{name}.jpg"
            shutil.copy(file, root / part / path)
            lines.append(f"{path} {identity}\n")
        (root / f"list_{name}.txt").write_text("".join(lines[1:]))
        if name == "train":
            (root / "list_val.txt").write_text(lines[0])
    return root


def test_msmt17_numbers_train_and_test_people_alike(clean, tmp_path):
    data = datasets.read("msmt17", str(_msmt17(clean, tmp_path)))
    shared = set(data.train.identities) & set(data.gallery.identities)
    assert shared == {0, 1}
    finding = _only(doctor.examine(data))
    assert (finding.severity, finding.count) == ("warning", 3)
    assert finding.names[0] == "train (18 of 32,621)"


@pytest.mark.parametrize("name, cameras", [("dukemtmc", 8), ("msmt17", 15)])
def test_cameras_of_the_other_data_sets(name, cameras):
    one = datasets.Images(("x",), np.zeros(1, np.int32), np.ones(1, np.int32))
    data = datasets.ReidDataset(name, "", one, one, one)
    assert list(data.camera_numbers) == list(range(1, cameras + 1))


def test_errors_stand_first_and_names_end_at_twenty(root):
    for seed in range(25):
        _picture(root / _TRAIN / f"{100 + seed:04}_c1s1_000000_00.jpg", seed)
    _file(root, _GALLERY, "0004_*").write_bytes(b"no image")
    with pytest.warns(UserWarning, match="one camera only"):
        findings = _examine(root)
    assert [each.severity for each in findings] == ["error", "warning", "remark"]
    assert (findings[1].count, len(findings[1].names)) == (25, 20)
    lines = doctor.text(findings).splitlines()
    assert lines[0].startswith("error (1): Images cannot be decoded.")
    assert lines[1].strip() == findings[0].names[0]
    assert lines[3].strip().startswith("100, 101, ")
    assert lines[3].endswith("119, and 5 more")


def test_names_are_relative_to_the_data(root):
    (pathlib.Path(root) / _QUERY / "0004_c9s1_000000_77.jpg").write_bytes(b"")
    names = [name for each in _examine(root) for name in each.names]
    assert set(names) == {f"{_QUERY}/0004_c9s1_000000_77.jpg"}
