"""Files are decoded once, in order, and all unreadable files are named."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cdnet_tf.data import image_files, preprocess

_SIZE = 16, 8


def _jpeg(seed, height=64, width=32):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).save(data, "jpeg")
    return data.getvalue()


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"{number}.jpg" for number in range(7)]
    for number, path in enumerate(paths):
        path.write_bytes(_jpeg(number))
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """Writes a truncated image and a text; also returns a missing file."""
    folder = tmp_path_factory.mktemp("bad")
    paths = [folder / f"{number}.jpg" for number in range(3)]
    paths[0].write_bytes(_jpeg(0)[:-100])
    paths[1].write_text("not an image")
    return [str(path) for path in paths]


@pytest.fixture
def decoded(monkeypatch):
    """Returns a list that gets an entry for each file decoded during a test."""
    calls = []
    decode = preprocess.decode

    def counted(jpeg):
        tf.py_function(lambda: calls.append(1), [], [])
        return decode(jpeg)

    monkeypatch.setattr(preprocess, "decode", counted)
    return calls


def _arrays(paths):
    return np.stack(
        [preprocess.decode_and_resize(tf.io.read_file(path), *_SIZE) for path in paths]
    )


def test_batches_keep_the_order(good):
    batches = list(image_files.ImageBatches(good, *_SIZE, batch_size=3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(batches), _arrays(good))
    assert list(image_files.ImageBatches([], *_SIZE)) == []


# 7 images of 16 x 8 x 3 bytes are 2,688 bytes.
@pytest.mark.parametrize(
    "cache_bytes, times", [(0, 2), (2687, 2), (2688, 1), (None, 1)]
)
def test_a_gallery_is_decoded_once_where_it_fits(good, decoded, cache_bytes, times):
    batches = image_files.ImageBatches(good, *_SIZE, 3, cache_bytes)
    first, again = list(batches), list(batches)
    assert len(decoded) == times * len(good)
    assert [len(batch) for batch in again] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(again))


def test_a_pass_that_is_broken_off_keeps_nothing(good):
    batches = image_files.ImageBatches(good, *_SIZE, 3, None)
    next(iter(batches))
    np.testing.assert_array_equal(np.concatenate(list(batches)), _arrays(good))


@pytest.mark.parametrize("last", [0, 1])
def test_batches_end_at_the_first_bad_file_and_name_all(good, bad, last):
    """A good or a bad file is at the end."""
    paths = [*good[:3], bad[0], good[3], *bad[1:], *good[4 : 5 - last]]
    batches = iter(image_files.ImageBatches(paths, *_SIZE, 2, None))
    assert len(next(batches)) == 2
    with pytest.raises(ValueError) as error:
        next(batches)
    assert f"3 of {len(paths)} images cannot be read" in str(error.value)
    assert f"{', '.join(bad)}." in str(error.value)


@pytest.mark.parametrize("cache_bytes", [None, 0])
def test_a_reader_names_all_bad_files_before_it_is_used(good, bad, cache_bytes):
    paths = [good[0], bad[0], good[1], *bad[1:]]
    with pytest.raises(ValueError) as error:
        image_files.image_reader(paths, *_SIZE, cache_bytes)
    assert "3 of 5 images cannot be read" in str(error.value)
    assert f"{', '.join(bad)}." in str(error.value)


def test_the_default_budget_is_what_memory_allows():
    assert 2**26 < image_files.available_memory() < 2**50
