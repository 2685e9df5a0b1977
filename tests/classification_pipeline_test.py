"""Batches for classification, from memory and from files: right and resumable."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cdnet_tf.data import classification, classification_pipeline, preprocess

_MEAN, _STD = np.array([129.3, 124.1, 112.4]), np.array([68.2, 65.4, 70.4])
_TRAIN = {"batch_size": 4, "seed": 3, "height": 32, "width": 32}
_SMALL = {**_TRAIN, "height": 16, "width": 8}


def _dataset(name, train, test):
    names = tuple(f"class_{i}" for i in range(5))
    return classification.ClassificationDataset(name, "", 5, names, train, test)


@pytest.fixture(scope="module")
def memory():
    """Makes 10 images of noise, whose labels repeat, and 6 images to test on."""
    images = np.random.default_rng(0).integers(1, 256, (16, 32, 32, 3)).astype(np.uint8)
    labels = np.arange(16, dtype=np.int32) % 5
    train = classification.Samples(images[:10], labels[:10])
    return _dataset("cifar100", train, classification.Samples(images[10:], labels[10:]))


def _colour(number):
    return 20 * number, 250 - 20 * number, 100


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Writes 10 images of one colour in many sizes and formats, all called .JPEG."""
    folder = tmp_path_factory.mktemp("files")
    for number in range(10):
        mode = "CMYK" if number == 3 else "RGB"
        image = Image.new("RGB", (20 + 9 * number, 64 - 5 * number), _colour(number))
        kind = "png" if number == 4 else "jpeg"
        image.convert(mode).save(folder / f"é{number}.JPEG", kind)
    paths = tuple(str(path) for path in sorted(folder.iterdir()))
    labels = np.arange(10, dtype=np.int32) % 5
    samples = classification.Samples(paths, labels)
    return _dataset("imagenet", samples, samples)


def _batches(dataset, options=_TRAIN, **changes):
    options = {"epochs": 1, **options, **changes}
    batches = classification_pipeline.train_batches(dataset, **options)
    return list(batches.dataset.as_numpy_iterator())


def _candidates(image):
    """Returns all mirrored and shifted views of an image with 4 black pixels around."""
    padded = np.pad(image, [(4, 4), (4, 4), (0, 0)])
    for top in range(9):
        for left in range(9):
            view = padded[top : top + 32, left : left + 32]
            yield from (view, view[:, ::-1])


def _source(image, originals):
    """Finds the image that a normalised, shifted and cut-out image was made of."""
    kept = (image != 0).any(-1)
    rows, columns = (~kept).any(1), (~kept).any(0)
    # A rectangle, 16 wide unless the border cuts it off.
    np.testing.assert_array_equal(~kept, rows[:, None] & columns[None])
    for hidden in (rows, columns):
        assert hidden.sum() == 16 or 8 <= hidden.sum() < 16 and hidden[[0, -1]].any()
    pixels = image[kept] * _STD + _MEAN
    found = [
        number
        for number, original in enumerate(originals)
        if any(
            np.abs(view[kept] - pixels).max() < 0.01 for view in _candidates(original)
        )
    ]
    assert len(found) == 1
    return found[0]


def test_cifar_batches_show_the_labelled_images(memory):
    batches = classification_pipeline.train_batches(memory, epochs=2, **_TRAIN)
    image_spec = tf.TensorSpec((4, 32, 32, 3), tf.float32)
    assert batches.dataset.element_spec == (image_spec, tf.TensorSpec((4,), tf.int32))
    # 10 images fill 2 batches of 4, and the last 2 are left out.
    assert (batches.steps_per_epoch, batches.num_classes) == (2, 5)
    shown = []
    for images, labels in batches.dataset.as_numpy_iterator():
        sources = [_source(image, memory.train.images) for image in images]
        np.testing.assert_array_equal(memory.train.labels[sources], labels)
        shown.append(sources)
    assert len(shown) == 4
    first, second = shown[0] + shown[1], shown[2] + shown[3]
    assert len(set(first)) == len(set(second)) == 8 and first != second


def test_file_batches_show_the_labelled_images(files):
    batches = classification_pipeline.train_batches(
        files, epochs=3, **{**_SMALL, "batch_size": 5}
    )
    image_spec = tf.TensorSpec((5, 16, 8, 3), tf.float32)
    assert batches.dataset.element_spec == (image_spec, tf.TensorSpec((5,), tf.int32))
    assert (batches.steps_per_epoch, batches.num_classes) == (2, 5)
    shown = []
    for images, labels in batches.dataset.as_numpy_iterator():
        pixels = images * preprocess.IMAGENET.std + preprocess.IMAGENET.mean
        numbers = np.round(pixels.mean((1, 2))[:, 0] * 255 / 20).astype(int)
        expected = np.array([_colour(number) for number in numbers])
        np.testing.assert_allclose(pixels.min((1, 2)) * 255, expected, atol=4)
        np.testing.assert_allclose(pixels.max((1, 2)) * 255, expected, atol=4)
        np.testing.assert_array_equal(numbers % 5, labels)
        shown.append(numbers.tolist())
    epochs = [shown[i] + shown[i + 1] for i in (0, 2, 4)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 3
    assert len(set(map(tuple, epochs))) == 3


@pytest.mark.parametrize("kind, options", [("memory", _TRAIN), ("files", _SMALL)])
def test_resumed_or_not_the_batches_are_the_same(kind, options, request):
    dataset = request.getfixturevalue(kind)
    whole = _batches(dataset, options, epochs=3)
    resumed = _batches(dataset, options, epochs=3, first_epoch=1)
    assert len(whole) == 6 and len(resumed) == 4
    tf.nest.map_structure(np.testing.assert_array_equal, whole[2:], resumed)
    other = _batches(dataset, options, seed=4)
    assert (whole[0][0] != other[0][0]).any()


def test_an_image_file_is_seen_in_parts_and_mirrored(tmp_path):
    """Red encodes the column and green the row, so the corners show the window."""
    rows, columns = np.mgrid[:64, :64]
    ramp = np.stack([4 * columns, 4 * rows, 0 * rows], -1).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "a.JPEG", "png")
    samples = classification.Samples((f"{tmp_path}/a.JPEG",), np.zeros(1, np.int32))
    dataset = _dataset("imagenet", samples, samples)
    options = {**_TRAIN, "batch_size": 1, "epochs": 60}
    images = np.concatenate([images for images, _ in _batches(dataset, options)])
    pixels = (images * preprocess.IMAGENET.std + preprocess.IMAGENET.mean) * 255
    wide = (pixels[:, 16, -1, 0] - pixels[:, 16, 0, 0]) / 252
    tall = (pixels[:, -1, 16, 1] - pixels[:, 0, 16, 1]) / 252
    # 60 tosses of a coin: 30 heads, standard deviation 4.
    assert 14 < (wide < 0).sum() < 46
    wide = np.abs(wide)
    assert 0.06 < (wide * tall).min() < 0.3 and 0.7 < (wide * tall).max() <= 1
    assert 0.7 < (tall / wide).min() < 0.9 and 1.1 < (tall / wide).max() < 1.45
    assert len(np.unique(images.reshape(60, -1), axis=0)) == 60


def test_cifar_at_another_size(memory):
    images, _ = _batches(memory, {**_TRAIN, "height": 64, "width": 48})[0]
    assert images.shape == (4, 64, 48, 3)
    hidden = (images == 0).all(-1)
    # Half of the shorter side.
    assert hidden.any(2).sum(1).max() <= 24 and hidden.any(1).sum(1).max() <= 24
    assert hidden.sum((1, 2)).min() >= 12 * 12


def test_cifar_test_batches(memory):
    dataset = classification_pipeline.test_batches(memory, 4, 32, 32)
    (first, labels), (second, others) = dataset
    assert (len(first), len(second)) == (4, 2)
    expected = (memory.test.images - _MEAN) / _STD
    np.testing.assert_allclose(np.concatenate([first, second]), expected, atol=1e-5)
    np.testing.assert_array_equal([*labels, *others], memory.test.labels)
    assert labels.dtype == np.int32
    small = classification_pipeline.test_batches(memory, 6, 16, 8)
    assert next(iter(small))[0].shape == (6, 16, 8, 3)


def test_file_test_batches_show_the_central_square(tmp_path):
    rng = np.random.default_rng(0)
    noise = [
        rng.integers(0, 256, (*size, 3), np.uint8) for size in [(32, 64), (48, 40)]
    ]
    paths = tuple(f"{tmp_path}/{i}.JPEG" for i in range(2))
    for path, image in zip(paths, noise):
        Image.fromarray(image).save(path, "png")
    samples = classification.Samples(paths, np.array([4, 1], np.int32))
    dataset = _dataset("imagenet", samples, samples)
    # 7/8 of 32 is 28, and of 40 35.
    squares = noise[0][2:30, 18:46], noise[1][6:41, 2:37]
    batch, labels = next(iter(classification_pipeline.test_batches(dataset, 2, 28, 14)))
    np.testing.assert_array_equal(labels, [4, 1])
    for image, square in zip(batch.numpy(), squares):
        resized = Image.fromarray(square).resize((14, 28), Image.Resampling.BILINEAR)
        expected = np.array(resized) / 255 - preprocess.IMAGENET.mean
        # Two ways to round the weights of a mean: 2 of 255.
        actual = image * preprocess.IMAGENET.std
        np.testing.assert_allclose(actual, expected, atol=2.1 / 255)


def test_file_test_batches_keep_the_order(files):
    batches = list(classification_pipeline.test_batches(files, 4, 16, 8))
    assert [len(images) for images, _ in batches] == [4, 4, 2]
    images, labels = (np.concatenate(part) for part in zip(*batches))
    np.testing.assert_array_equal(labels, files.test.labels)
    pixels = images * preprocess.IMAGENET.std + preprocess.IMAGENET.mean
    expected = [_colour(number) for number in range(10)]
    np.testing.assert_allclose(pixels.mean((1, 2)) * 255, expected, atol=3)


def test_unreadable_files_of_both_splits_are_named_before_the_first_epoch(
    files, tmp_path
):
    text, absent = tmp_path / "text.JPEG", tmp_path / "absent.JPEG"
    text.write_text("not an image")
    test = classification.Samples((str(text), str(absent)), np.zeros(2, np.int32))
    dataset = _dataset("imagenet", files.train, test)
    with pytest.raises(ValueError) as error:
        classification_pipeline.train_batches(dataset, epochs=1, **_SMALL)
    assert "2 of 12 images cannot be read" in str(error.value)
    assert f"{text}, {absent}." in str(error.value)
    with pytest.raises(ValueError, match="2 of 2 images cannot be read"):
        list(classification_pipeline.test_batches(dataset, 4, 16, 8))


def test_fewer_images_than_a_batch(memory):
    with pytest.raises(ValueError, match="batch_size=11, but .* 10 images .* 10 or"):
        _batches(memory, {**_TRAIN, "batch_size": 11})
