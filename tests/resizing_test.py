"""NumPy resizes as TensorFlow does."""

from __future__ import annotations

import numpy as np
import pytest

from cdnet_tf.data import preprocess, resizing


@pytest.mark.parametrize(
    "source, target",
    [((37, 91), (128, 64)), ((300, 140), (128, 64)), ((64, 200), (128, 31))],
)
def test_resizes_as_training_does(source, target):
    image = np.random.default_rng(0).integers(0, 256, (*source, 3), np.uint8)
    found = resizing.resize(image, *target).astype(int)
    wanted = preprocess.resize(image, *target).numpy().astype(int)
    assert found.shape == (*target, 3)
    assert np.abs(found - wanted).max() <= 1
    assert np.mean(found != wanted) < 1e-3


def test_keeps_an_image_that_fits():
    image = np.random.default_rng(0).integers(0, 256, (16, 8, 3), np.uint8)
    resized = resizing.resize(image, 16, 8)
    assert resized.dtype == np.uint8 and np.array_equal(resized, image)


def test_halves_by_the_mean_of_four():
    # Each new pixel weighs the old ones around it by 1, 3, 3, 1; at the border 3, 3, 1.
    line = np.array([10, 20, 40, 80], np.uint8)
    image = np.repeat(line[np.newaxis, :, np.newaxis], 3, axis=2)
    first = (3 * 10 + 3 * 20 + 40) / 7
    second = (20 + 3 * 40 + 3 * 80) / 7
    assert resizing.resize(image, 1, 2)[0, :, 0].tolist() == [
        round(first),
        round(second),
    ]
