"""Bulk embedding knows of each image its key, camera, time and track."""

from __future__ import annotations

import datetime
import os

import pytest

from cdnet_tf.bulk import images
from cdnet_tf.bulk.images import Image, Labels

_UTC = datetime.timezone.utc
_CHANGED = datetime.datetime(2026, 1, 5, 7, tzinfo=_UTC)


def _plant(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no image, and nobody looks")
        os.utime(path, (_CHANGED.timestamp(),) * 2)


def test_lists_a_folder_by_market_names(tmp_path):
    _plant(tmp_path, "b/0002_c3s1_000151_01.PNG", "0001_c1s1_000001_00.jpg")
    _plant(tmp_path, ".hidden/0001_c1s1_000001_00.jpg", ".1_c1s.jpg", "list.txt")
    first, second = images.of_files(str(tmp_path), Labels())
    path = f"{tmp_path}/0001_c1s1_000001_00.jpg"
    assert first == Image(path, path, "1", _CHANGED, None)
    assert second.path == f"{tmp_path}/b/0002_c3s1_000151_01.PNG"
    assert second.camera == "3"


@pytest.mark.parametrize(
    "pattern, found",
    [("*.jpg", "a"), ("**.jpg", "a d/b"), ("*/*", "d/b d/c"), ("d/c.png", "d/c")],
)
def test_lists_what_a_pattern_matches(tmp_path, pattern, found):
    folder = tmp_path / "a [1] folder?"
    _plant(tmp_path, "a.jpg", "d/b.jpg", "d/c.png")
    _plant(folder, "a.jpg")
    listed = images.of_files(f"{tmp_path}/{pattern}", Labels(camera="door"))
    names = [os.path.relpath(image.path, tmp_path) for image in listed]
    wanted = [name for name in names if "folder" not in name]
    assert " ".join(name.rpartition(".")[0] for name in wanted) == found


def test_folder_may_have_a_pattern_for_a_name(tmp_path):
    _plant(tmp_path, "[a]*/1.jpg", "ab/2.jpg")
    (found,) = images.of_files(f"{tmp_path}/[a]*", Labels(camera="door"))
    assert found.path == f"{tmp_path}/[a]*/1.jpg"


def test_reads_camera_time_and_track_from_the_path(tmp_path):
    _plant(tmp_path, "hall/20260401120000_t7.jpg")
    labels = Labels(
        pattern=r"(?P<camera>\w+)/(?P<time>\d+)_(?P<track>t\d+)",
        time_format="%Y%m%d%H%M%S",
        key_prefix="north/",
    )
    (found,) = images.of_files(str(tmp_path), labels)
    time = datetime.datetime(2026, 4, 1, 12, tzinfo=_UTC)
    name = "hall/20260401120000_t7.jpg"
    path = f"{tmp_path}/{name}"
    assert found == Image(f"north/{name}", path, "hall", time, "t7")
    fixed = Labels(camera="door", time=_CHANGED, pattern=r"(?P<track>t\d+)")
    (found,) = images.of_files(str(tmp_path), fixed)
    assert found == Image(path, path, "door", _CHANGED, "t7")


def test_lists_own_data_with_its_cameras(tmp_path):
    _plant(tmp_path, "gallery/anna/door/1.jpg", "gallery/-1/door/2.jpg")
    _plant(tmp_path, "query/bert/hall/3.jpg", "query/bert/4.jpg")
    (found,) = images.of_data_set("folders", str(tmp_path), ["gallery"], Labels())
    path = f"{tmp_path}/gallery/anna/door/1.jpg"
    assert found == Image(path, path, "door", _CHANGED, None)
    with pytest.raises(ValueError, match=r"1 of 2 images.*bert/4.jpg.*no camera"):
        images.of_data_set("folders", str(tmp_path), ["query"], Labels())


def test_lists_a_published_data_set_without_junk(tmp_path):
    _plant(tmp_path, "bounding_box_test/0001_c2s1_000001_00.jpg")
    _plant(tmp_path, "bounding_box_test/-1_c2s1_000001_00.jpg")
    labels = Labels(key_prefix="")
    (found,) = images.of_data_set("market1501", str(tmp_path), ["gallery"], labels)
    assert found.key == "bounding_box_test/0001_c2s1_000001_00.jpg"
    assert found.camera == "2"


@pytest.mark.parametrize(
    "labels, reason",
    [
        (Labels(), r"1 of 1 images.*1\.jpg.*does not fit"),
        (Labels(camera="a" * 1001), "1001 bytes"),
        (Labels(pattern="("), "no regular expression"),
        (Labels(pattern=r"(?P<person>\d)"), "no group"),
        (Labels(pattern=r"(?P<time>\d)", camera="a"), "need each other"),
        (Labels(camera="a", pattern=r"(?P<time>\d)", time_format="%Y"), "'1'"),
    ],
)
def test_refuses_what_it_cannot_tell(tmp_path, labels, reason):
    _plant(tmp_path, "1.jpg")
    with pytest.raises(ValueError, match=reason):
        images.of_files(str(tmp_path), labels)


def test_refuses_a_folder_without_images(tmp_path):
    with pytest.raises(ValueError, match="holds no image"):
        images.of_files(str(tmp_path), Labels(camera="door"))
