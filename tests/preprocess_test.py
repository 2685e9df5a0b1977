"""Files are decoded, resized and normalised as other programs do."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cdnet_tf.data import preprocess


def _jpeg(array, **options):
    data = io.BytesIO()
    Image.fromarray(array).save(data, "jpeg", **options)
    return data.getvalue()


def _noise(*shape):
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)


def test_decodes_as_pillow_does():
    jpeg = _jpeg(_noise(16, 8), quality=90)
    decoded = preprocess.decode_and_resize(jpeg, 16, 8)
    assert decoded.dtype == "uint8"
    np.testing.assert_array_equal(decoded, Image.open(io.BytesIO(jpeg)))


def test_resizes_with_antialiasing():
    # Halving by the antialiased triangle: weights 1 3 3 1 over 8 along each side.
    image = np.repeat(_noise(12, 6)[..., :1], 3, axis=2)
    jpeg = _jpeg(image, quality=100)
    weights = np.array([1, 3, 3, 1]) / 8
    source = np.array(Image.open(io.BytesIO(jpeg)))[..., 0]
    # The middle column, borders aside, where the triangle is cut off.
    actual = preprocess.decode_and_resize(jpeg, 6, 3)[1:-1, 1, 0]
    expected = [
        weights @ source[row - 1 : row + 3, 1:5] @ weights for row in (2, 4, 6, 8)
    ]
    np.testing.assert_allclose(actual, expected, atol=0.51)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_normalise_against_numpy(dtype):
    images = _noise(2, 12, 6).astype(dtype)
    normalised = preprocess.normalise(images).numpy()
    expected = (images / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(normalised, expected, atol=1e-5)
    assert normalised.dtype == np.float32
    of_cifar = preprocess.normalise(images, preprocess.CIFAR).numpy()
    expected = (images - [129.3, 124.1, 112.4]) / [68.2, 65.4, 70.4]
    np.testing.assert_allclose(of_cifar, expected, atol=1e-5)
