"""However an image comes, its pixels are those that evaluation sees."""

from __future__ import annotations

import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from cdnet_tf.api import image_sources
from cdnet_tf.data import image_files
from cdnet_tf.pedestrians import writer

_SIZE = 64, 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Drawn people at half as much again as the network's size."""
    root = tmp_path_factory.mktemp("people") / "data"
    few = {"train_identities": 1, "cameras": 2, "distractors": 0, "junk": 0}
    writer.write_pedestrians(root, **few, test_identities=2, height=96, width=48)
    return root / "query"


@pytest.fixture(scope="module")
def reader():
    return image_sources.Reader(*_SIZE)


def _read(reader, images):
    found, _ = image_sources.sources(images)
    return np.stack([reader.read(source) for source in found])


def test_files_pictures_and_arrays_have_the_pixels_of_evaluation(folder, reader):
    paths = sorted(map(str, folder.iterdir()))
    expected = np.concatenate(list(image_files.ImageBatches(paths, *_SIZE)))
    assert len(expected) > 2 and np.ptp(expected) > 100
    for images in (
        paths,
        folder,
        str(folder),
        tuple(map(pathlib.Path, paths)),
        np.array(paths),
    ):
        np.testing.assert_array_equal(_read(reader, images), expected)
    # Pillow decodes these JPEGs by the same rules, so the pixels are the same.
    arrays = [np.asarray(Image.open(path)) for path in paths]
    pictures = [Image.fromarray(array) for array in arrays]
    mixed = [paths[0], pictures[1], *arrays[2:]]
    for images in (arrays, pictures, iter(arrays), np.stack(arrays), mixed):
        np.testing.assert_array_equal(_read(reader, images), expected)


def test_one_image_is_one_however_it_comes(folder, reader):
    path = min(folder.iterdir())
    for image in (path, str(path), Image.open(path), np.asarray(Image.open(path))):
        assert image_sources.sources(image)[1] == 1
        assert _read(reader, image).shape == (1, *_SIZE, 3)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_pictures_of_other_modes_become_rgb(reader, mode):
    # Red is kept by a palette and by an alpha channel, and has luma 0.299 * 255 = 76.
    red = Image.new("RGB", (32, 64), (255, 0, 0)).convert(mode)
    expected = {"L": (76, 76, 76), "1": None}.get(mode, (255, 0, 0))
    pixels = _read(reader, red)
    assert pixels.shape == (1, *_SIZE, 3)
    if expected:
        np.testing.assert_array_equal(pixels, np.broadcast_to(expected, pixels.shape))


def test_a_folder_is_read_in_order_to_its_depth_without_hidden_files(tmp_path):
    for name in (
        "b.PNG",
        "a/z.jpg",
        "a/c.jpeg",
        ".hidden.jpg",
        ".trash/a.jpg",
        "x.txt",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found, count = image_sources.sources(tmp_path)
    names = [source.name for source in found]
    assert names == [str(tmp_path / each) for each in ("a/c.jpeg", "a/z.jpg", "b.PNG")]
    assert count == 3
    (tmp_path / "none").mkdir()
    with pytest.raises(
        ValueError, match="none holds no image; pass a folder with .jpg"
    ):
        image_sources.sources(tmp_path / "none")


def test_images_are_drawn_as_they_are_needed():
    drawn = []
    images = (drawn.append(i) or i for i in range(10))
    found, count = image_sources.sources(images)
    batches = image_sources.batches(found, 4)
    assert [source.number for source in next(batches)] == [0, 1, 2, 3]
    assert (drawn, count) == ([0, 1, 2, 3], None)
    assert [len(batch) for batch in batches] == [4, 2]


def _truncated_picture():
    data = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(data, "jpeg")
    return Image.open(io.BytesIO(data.getvalue()[:-500]))


def test_what_cannot_be_read_is_named_with_the_reason(reader, tmp_path):
    (tmp_path / "text.jpg").write_text("not an image")
    for image, message in (
        (tmp_path / "gone.jpg", r"gone.jpg \(No such file or directory\)"),
        ([str(tmp_path)], r"\(Is a directory\)"),
        (tmp_path / "text.jpg", r"text.jpg \(no whole JPEG or PNG file\)"),
        (_truncated_picture(), r"images\[0\] \(.*truncated"),
    ):
        with pytest.raises(image_sources.UnreadableError, match=message):
            _read(reader, image)


@pytest.mark.parametrize(
    "image, error, message",
    [
        (np.zeros((9, 9, 3)), ValueError, r"is float64 of shape \(9, 9, 3\); pass RGB"),
        (np.zeros((9, 9), np.uint8), ValueError, r"uint8 of shape \(9, 9\)"),
        (np.zeros((0, 9, 3), np.uint8), ValueError, "has no pixels"),
        ([None], TypeError, r"images\[0\] is of type NoneType; pass a path"),
        (7, TypeError, r"images\[0\] is of type int"),
        (
            Image.new("I;16", (4, 4)),
            ValueError,
            "mode I;16, which has more than 8 bits",
        ),
    ],
)
def test_what_is_no_rgb_image_is_refused(reader, image, error, message):
    with pytest.raises(error, match=message) as raised:
        _read(reader, image)
    assert not isinstance(raised.value, image_sources.UnreadableError)
