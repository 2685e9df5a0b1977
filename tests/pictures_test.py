"""Pictures show the given frames, images, curves and maps; checked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cdnet_tf.retrieval import pictures

_COLOURS = {"blue": (0, 0, 250), "grey": (90, 90, 90), "white": (250, 250, 250)}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for name, colour in _COLOURS.items():
        Image.new("RGB", (10, 30), colour).save(folder / f"{name}.png")
    return {name: str(folder / f"{name}.png") for name in _COLOURS}


def _pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_ranked_lists_frame_right_green_and_wrong_red(tmp_path, files):
    rows = [
        pictures.Ranked(
            files["blue"], [files["grey"], files["white"]], [0.25, 1], [True, False]
        ),
        pictures.Ranked(files["white"], [files["blue"]], [0.5], [False]),
    ]
    pictures.ranked_lists(tmp_path / "sheet.png", rows, height=40, width=20)
    sheet = _pixels(tmp_path / "sheet.png")
    # A cell: 6 of gap, 3 of frame, 20 of image, 3 of frame across; 14 of text down.
    cells = 2 * (40 + 6 + 14 + 6) + 6
    assert sheet.shape[1:] == (3 * (20 + 6 + 6) + 6, 3)
    # Above stands the title, in lines of 14.
    title, sheet = sheet[:-cells], sheet[-cells:]
    assert title.min() < 60 and (len(title) - 6) % 14 == 0
    for row, column, colour, frame in (
        (0, 0, "blue", (255, 255, 255)),
        (0, 1, "grey", pictures.RIGHT),
        (0, 2, "white", pictures.WRONG),
        (1, 0, "white", (255, 255, 255)),
        (1, 1, "blue", pictures.WRONG),
    ):
        cell = sheet[6 + 66 * row :, 6 + 32 * column :][:46, :26]
        assert (cell[3:-3, 3:-3] == _COLOURS[colour]).all()
        for edge in (cell[:3], cell[-3:], cell[:, :3], cell[:, -3:]):
            assert (edge == frame).all()
        # Below stands black text on white, here of rank and distance.
        text = sheet[6 + 66 * row + 46 :, 6 + 32 * column :][:14, :26]
        assert text.min() < 60 and (text == 255).any()
    # The second row found one image only.
    assert (sheet[72:, 70:] == 255).all()
    assert [file.name for file in tmp_path.iterdir()] == ["sheet.png"]


def test_cmc_figure_draws_percent_over_rank():
    figure = pictures.cmc_figure({"plain": [0.5, 0.75, 1.0], "re-ranked": [0.6]})
    plain, reranked = figure.axes[0].lines
    np.testing.assert_array_equal(plain.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(plain.get_ydata(), [50, 75, 100])
    assert reranked.get_label() == "re-ranked"
    np.testing.assert_array_equal(reranked.get_xdata(), [1])


def test_cmc_curve_is_a_png(tmp_path):
    pictures.cmc_curve(tmp_path / "cmc.png", {"plain": np.linspace(0.2, 1, 20)})
    assert _pixels(tmp_path / "cmc.png").shape == (400, 600, 3)
    assert [file.name for file in tmp_path.iterdir()] == ["cmc.png"]


def test_activation_map_by_hand():
    # Two places, two channels each: 3^2 + 4^2 = 25, 1 + 0 = 1, -2: 4 + 1 = 5, 1.
    features = np.array([[[3, 4], [1, 0]], [[-2, 1], [0, 1]]], np.float32)
    expected = np.array([[1, 0], [4 / 24, 0]])
    np.testing.assert_allclose(
        pictures.activation_map(features), expected, rtol=1e-6, atol=0
    )


def test_activation_map_of_half_floats_does_not_overflow():
    features = np.array([[[300.0], [0.0]]], np.float16)  # 300^2 is above 65,504
    np.testing.assert_array_equal(pictures.activation_map(features), [[1, 0]])


@pytest.mark.parametrize("value", [0, 2])
def test_even_activation_is_no_map(value):
    features = np.full((2, 3, 4), value, np.float32)
    np.testing.assert_array_equal(pictures.activation_map(features), np.zeros((2, 3)))


def test_overlay_mixes_image_and_colours_at_their_place():
    image = np.full((40, 20, 3), 100, np.uint8)
    heat = np.zeros((4, 2))
    heat[0] = 1
    mixed = pictures.overlay(image, heat, opacity=0.5)
    assert mixed.shape == image.shape and mixed.dtype == np.uint8
    # jet ends in half blue (0, 0, 0.5) and half red (0.5, 0, 0):
    # 0.5 * 100 + 0.5 * 127.5 = 114, and 0.5 * 100 = 50.
    np.testing.assert_allclose(mixed[0, 0], [114, 50, 50], atol=1)
    np.testing.assert_allclose(mixed[-1, -1], [50, 50, 114], atol=1)
    np.testing.assert_array_equal(pictures.overlay(image, heat, opacity=0), image)


def test_image_sheet_puts_images_in_rows_and_columns(tmp_path):
    rows = [[np.full((8, 50, 3), 10 * i + j, np.uint8) for j in (1, 2)] for i in (1, 2)]
    pictures.image_sheet(tmp_path / "maps.png", "Maps", ["origin", "stage1"], rows)
    sheet = _pixels(tmp_path / "maps.png")
    # A gap of 6 and one line of 14 for the title.
    assert sheet[:20].min() < 60 and (sheet[:20, 90:] == 255).all()
    sheet = sheet[20:]
    for i in (0, 1):
        for j in (0, 1):
            # A cell is 50 + 6 + 6 across and 8 + 6 + 14 + 6 down, after 6 + 3.
            image = sheet[9 + 34 * i :, 9 + 62 * j :][:8, :50]
            assert (image == rows[i][j]).all()


def test_long_title_is_broken_into_lines_and_not_cut(tmp_path):
    rows = [[np.full((8, 50, 3), 10, np.uint8)]]
    heights = []
    for words in (1, 2, 8):
        title = " ".join(["heatmaps"] * words)
        pictures.image_sheet(tmp_path / "maps.png", title, ["origin"], rows)
        heights.append(len(_pixels(tmp_path / "maps.png")))
    # The sheet is 68 wide, which is one word of about 50, so a line of 14 for each.
    assert np.diff(heights).tolist() == [14, 6 * 14]
