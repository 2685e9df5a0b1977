"""Augmentation against NumPy, eagerly and inside tf.data."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.data import augment

_HEIGHT, _WIDTH = 16, 8


def _noise(batch):
    shape = (batch, _HEIGHT, _WIDTH, 3)
    return np.random.default_rng(0).integers(1, 256, shape).astype(np.uint8)


def _shifts(image, cropped, pad):
    """Lists every (top, left, flip) that turns `image` into `cropped`."""
    padded = np.pad(image, [(pad, pad), (pad, pad), (0, 0)])
    found = []
    for top in range(2 * pad + 1):
        for left in range(2 * pad + 1):
            window = padded[top : top + _HEIGHT, left : left + _WIDTH]
            for flip, view in enumerate([window, window[:, ::-1]]):
                if np.array_equal(view, cropped):
                    found.append((top, left, flip))
    return found


def test_flip_and_crop_against_numpy():
    images = _noise(200)
    cropped = augment.flip_and_crop(images, [3, 4], pad=2).numpy()
    assert cropped.dtype == np.uint8
    found = [_shifts(*pair, pad=2) for pair in zip(images, cropped)]
    assert all(len(shifts) == 1 for shifts in found)
    tops, lefts, flips = zip(*(shifts[0] for shifts in found))
    assert set(tops) == set(lefts) == {0, 1, 2, 3, 4}
    # 200 tosses of a coin: 100 heads, standard deviation 7.
    assert 70 < sum(flips) < 130


@pytest.mark.parametrize("height, padding", [(256, 10), (128, 5), (64, 2), (16, 1)])
def test_padding_is_the_recipes_10_pixels_at_256x128_and_follows_the_height(
    height, padding
):
    assert augment.crop_padding(height) == padding
    images = np.full((64, height, height // 2, 3), 255, np.uint8)
    augmented = augment.augment_batch(images, [0, 0], erasing=0).numpy()
    # (batch, height): black rows, which came in from above or below.
    black = (augmented < 0).all((2, 3))
    assert black.sum(1).max() == padding


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_flip_alone(probability):
    images = _noise(3)
    flipped = augment.flip_and_crop(images, [0, 1], 0, probability).numpy()
    expected = images[:, :, ::-1] if probability else images
    np.testing.assert_array_equal(flipped, expected)


def test_erased_rectangles():
    height, width = 128, 64
    images = np.ones((400, height, width, 3), np.float32)
    erased = augment.random_erase(images, [1, 2]).numpy() == 0
    # (batch, height, width)
    mask = erased[..., 0]
    assert (erased == mask[..., np.newaxis]).all()
    # A rectangle is the product of its shadows on the two sides.
    rows, columns = mask.any(2), mask.any(1)
    np.testing.assert_array_equal(mask, rows[:, :, None] & columns[:, None, :])
    hit = mask.any((1, 2))
    # 400 tosses of a coin: 200 heads, standard deviation 10.
    assert 160 < hit.sum() < 240
    tall, wide = rows[hit].sum(1), columns[hit].sum(1)
    # Both sides are rounded; the shorter one has at least 7 pixels.
    share, aspect = tall * wide / (height * width), tall / wide
    assert 0.018 < share.min() < 0.05 and 0.35 < share.max() < 0.41
    assert 0.28 < aspect.min() and 2.8 < aspect.max() < 3.6
    # Uniform: mean 0.21; the few that do not fit are drawn again.
    assert 0.17 < share.mean() < 0.24
    # The rectangle is one piece and reaches every side.
    assert (np.diff(rows[hit].astype(int), axis=1) == 1).sum(1).max() <= 1
    assert rows[:, 0].any() and rows[:, -1].any()
    assert columns[:, 0].any() and columns[:, -1].any()


@pytest.mark.parametrize("area, share", [((0.25, 0.25), 0.25), ((2.0, 2.0), 0.0)])
def test_erases_the_given_area_or_nothing_where_none_fits(area, share):
    images = np.ones((5, 64, 64, 3), np.float32)
    erased = augment.random_erase(images, [1, 2], 1.0, area, (1.0, 1.0)).numpy() == 0
    np.testing.assert_allclose(erased.mean((1, 2, 3)), share)


def _cut_out(image, row, column, size):
    """Computes Cutout by definition: a square around a centre, cut at the border."""
    image, half = image.copy(), size // 2
    top, left = row - half, column - half
    image[max(0, top) : max(0, top + size), max(0, left) : max(0, left + size)] = 0
    return image


@pytest.mark.parametrize("size", [4, 5])
def test_cutout_against_numpy(size):
    images = _noise(600).astype(np.float32)
    cut = augment.cutout(images, [5, 6], size).numpy()
    squares = {
        _cut_out(np.ones((_HEIGHT, _WIDTH)), row, column, size).tobytes(): (row, column)
        for row in range(_HEIGHT)
        for column in range(_WIDTH)
    }
    # Each centre hides a different set of pixels.
    assert len(squares) == _HEIGHT * _WIDTH
    kept = (cut != 0).all(-1).astype(float)
    centres = [squares[mask.tobytes()] for mask in kept]
    for image, result, centre in zip(images, cut, centres):
        np.testing.assert_array_equal(result, _cut_out(image, *centre, size))
    # Of 128 centres, 600 draws miss one with a chance of 0.9 %.
    assert len(set(centres)) > 115
    rows, columns = np.array(centres).T
    # Uniform: means 7.5 and 3.5, standard deviations of the means 0.19 and 0.09.
    assert abs(rows.mean() - 7.5) < 0.8 and abs(columns.mean() - 3.5) < 0.4


def test_crop_windows():
    sizes = np.tile([[100, 100], [300, 400], [97, 61]], (1000, 1)).astype(np.int32)
    windows = augment.crop_windows(tf.constant(sizes), [1, 2]).numpy()
    assert windows.dtype == np.int32
    top, left, tall, wide = windows.T
    assert (windows >= [0, 0, 1, 1]).all()
    assert (top + tall <= sizes[:, 0]).all() and (left + wide <= sizes[:, 1]).all()
    share, aspect = tall * wide / sizes.prod(1), tall / wide
    # Sides of 17 pixels and more are rounded.
    assert 0.075 < share.min() < 0.09 and 0.98 < share.max() <= 1
    assert 0.72 < aspect.min() < 0.77 and 1.3 < aspect.max() < 1.38
    for number in range(3):
        mine = slice(number, None, 3)
        # A logarithm uniform in +-0.29 has mean 0 and deviation 0.17; tall images lose
        # some wide windows, which do not fit.
        assert abs(np.log(aspect[mine]).mean()) < 0.06
        assert (top[mine] == 0).any() and (left[mine] == 0).any()
        assert (top + tall == sizes[:, 0])[mine].any()
        assert (left + wide == sizes[:, 1])[mine].any()
    # Uniform in 0.08..1, mean 0.54, less the large ones that do not fit.
    assert 0.42 < share[::3].mean() < 0.54


@pytest.mark.parametrize(
    "size, window",
    [
        # The whole image if its aspect is in range, else 3:4 or 4:3 in the middle.
        ((40, 50), (0, 0, 40, 50)),
        ((30, 100), (0, 30, 30, 40)),
        ((100, 30), (30, 0, 40, 30)),
        ((1, 1), (0, 0, 1, 1)),
    ],
)
def test_crop_windows_where_none_fits(size, window):
    # Windows of twice the image's area never fit.
    windows = augment.crop_windows(tf.constant([size]), [1, 2], (2.0, 2.0))
    np.testing.assert_array_equal(windows, [window])


def test_crop_windows_of_the_smallest_images_are_not_empty():
    sizes = tf.ones([200, 2], tf.int32)
    np.testing.assert_array_equal(
        augment.crop_windows(sizes, [1, 2]), np.tile([0, 0, 1, 1], (200, 1))
    )


def test_inside_tf_data_as_eagerly():
    images = _noise(4)
    seeds = np.array([[7, 0], [7, 1]], np.int64)
    eager = [augment.augment_batch(images, seed, pad=2).numpy() for seed in seeds]
    dataset = tf.data.Dataset.from_tensor_slices(seeds).map(
        lambda seed: augment.augment_batch(tf.constant(images), seed, pad=2)
    )
    assert dataset.element_spec.shape == images.shape
    for expected, actual in zip(eager, dataset.as_numpy_iterator()):
        np.testing.assert_allclose(actual, expected, atol=1e-6)
    assert (eager[0] != eager[1]).any()


def test_cutout_and_windows_inside_tf_data_as_eagerly():
    images, sizes = _noise(4).astype(np.float32), [[31, 40]] * 4
    seeds = np.array([[7, 0], [7, 1]], np.int64)

    def draw(seed):
        cut = augment.cutout(tf.constant(images), seed, 4)
        return cut, augment.crop_windows(tf.constant(sizes), seed)

    dataset = tf.data.Dataset.from_tensor_slices(seeds).map(draw)
    assert [spec.shape for spec in dataset.element_spec] == [images.shape, (4, 4)]
    for seed, actual in zip(seeds, dataset.as_numpy_iterator()):
        tf.nest.map_structure(np.testing.assert_array_equal, actual, draw(seed))


def test_black_moves_in_before_normalisation_and_the_mean_after():
    images = np.full((64, _HEIGHT, _WIDTH, 3), 255, np.uint8)
    values = np.unique(augment.augment_batch(images, [0, 0], pad=2)[..., 0])
    expected = [(0 - 0.485) / 0.229, 0.0, (1 - 0.485) / 0.229]
    np.testing.assert_allclose(values, expected, atol=1e-5)
