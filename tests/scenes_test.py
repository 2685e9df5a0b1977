"""Cameras have different lights and scenes, and photographs depend on a seed."""

from __future__ import annotations

import numpy as np
import pytest

from cdnet_tf.pedestrians import scenes, writer


def _photograph(number, draw=0, size=(64, 32), **options):
    random = np.random.default_rng(draw)
    person = writer.family(1)
    image = scenes.photograph(person, scenes.camera(number, 0), size, random, **options)
    return np.asarray(image)


def test_a_camera_is_a_function_of_its_number_and_the_seed():
    again = scenes.camera.__wrapped__(2, 0)
    assert again.gamma == scenes.camera(2, 0).gamma
    assert again.gamma != scenes.camera(2, 1).gamma
    assert len({scenes.camera(number, 0).scene for number in range(1, 7)}) == 6
    assert scenes.camera(7, 0).scene == scenes.camera(1, 0).scene
    assert scenes.camera(7, 0).gamma != scenes.camera(1, 0).gamma


@pytest.mark.parametrize("number", range(1, 7))
def test_a_photograph_is_a_function_of_its_draw(number):
    image = _photograph(number)
    assert image.shape == (64, 32, 3)
    assert image.std() > 10  # grey levels: neither black nor blown out
    np.testing.assert_array_equal(image, _photograph(number))
    assert (image != _photograph(number, draw=1)).mean() > 0.5


def test_size_and_bad_crops():
    assert _photograph(1, size=(160, 80)).shape == (160, 80, 3)
    assert (_photograph(1) != _photograph(1, junk=True)).any()
