"""Pictures of a retrieval: ranked lists, CMC curves and activation maps (Fig. 6).

They are drawn without `pyplot`, which keeps state and may look for a display.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from cdnet_tf import atomic_files

RIGHT, WRONG = (30, 150, 60), (215, 40, 40)
_PAPER, _INK = (255, 255, 255), (0, 0, 0)
_FRAME = 3  # pixels
_GAP = 6
_LINE = 14  # a line of text
_OF_LISTS = (
    "Images found for each query, nearest first. Green: same person, red: another. "
    "Below: rank, Euclidean distance (0 to 2)."
)


@dataclasses.dataclass(frozen=True, eq=False)
class Ranked:
    """A query and the head of its ranking.

    Attributes:
      query: image file.
      gallery: k image files, nearest first.
      distances: of each of the k images to the query.
      right: whether each of the k images shows the query's identity.
    """

    query: str
    gallery: Sequence[str]
    distances: Sequence[float]
    right: Sequence[bool]


def ranked_lists(
    path: str | os.PathLike,
    rows: Sequence[Ranked],
    height: int = 128,
    width: int = 64,
) -> None:
    """Draws a row for each query: its image, then the images found, nearest first.

    The frame is green if the image shows the same person, and red if it does not. Rank
    and distance are written below. The picture's title says so too, because a picture
    is often passed on without its text.

    Args:
      path: PNG or JPEG to write.
      rows: at least one query.
      height, width: of each image as drawn, pixels.
    """
    grid = []
    for row in rows:
        cells = [_Cell(_read(row.query, height, width), "query")]
        found = zip(row.gallery, row.distances, row.right)
        for rank, (file, distance, right) in enumerate(found, 1):
            image = _read(file, height, width)
            colour = RIGHT if right else WRONG
            cells.append(_Cell(image, f"{rank}  {distance:.3f}", colour))
        grid.append(cells)
    _save(path, _sheet(_OF_LISTS, grid))


def cmc_curve(
    path: str | os.PathLike, curves: Mapping[str, Sequence[float] | np.ndarray]
) -> None:
    """Draws the cumulative matching characteristic.

    Args:
      path: PNG to write.
      curves: label -> fraction of the queries, 0..1, with a match within rank 1, 2, ...
    """
    with atomic_files.replacing(path) as partial:
        cmc_figure(curves).savefig(partial, format="png", dpi=100)


def cmc_figure(curves: Mapping[str, Sequence[float] | np.ndarray]) -> Figure:
    """Makes the figure that `cmc_curve` writes."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(
        title="Queries with a match up to a rank",
        xlabel="rank",
        ylabel="queries with a match, %",
    )
    for label, curve in curves.items():
        ranks = np.arange(1, len(curve) + 1)
        axes.plot(ranks, 100 * np.asarray(curve), ".-", label=label)
    axes.set_ylim(top=101)
    axes.grid(alpha=0.4)
    axes.legend(loc="lower right")
    return figure


def activation_map(features: np.ndarray) -> np.ndarray:
    """Says where a feature map is active, as in Fig. 6.

    The paper does not say how its maps were made of many channels. Here a place gets
    the sum of its squared activations. The strongest channels decide this sum, as they
    decide the embedding. Each map is stretched to 0..1, so maps can be compared by
    place, but not by strength.

    Args:
      features: (h, w, c).

    Returns:
      (h, w) float32 in 0..1; all 0 if every place is equally active.
    """
    energy = np.square(features, dtype=np.float32).sum(-1)
    energy -= energy.min()
    return energy / max(float(energy.max()), np.finfo(np.float32).tiny)


def overlay(image: np.ndarray, heat: np.ndarray, opacity: float = 0.6) -> np.ndarray:
    """Lays an activation map over an image, blue for 0 up to red for 1.

    Args:
      image: (height, width, 3) uint8, RGB.
      heat: (h, w) in 0..1, stretched to the image's size.
      opacity: of the map, 0..1.

    Returns:
      uint8, of the image's shape.
    """
    size = image.shape[1], image.shape[0]
    stretched = Image.fromarray(heat.astype(np.float32)).resize(
        size, Image.Resampling.BILINEAR
    )
    colours = 255 * matplotlib.colormaps["jet"](np.asarray(stretched))[..., :3]
    return np.round((1 - opacity) * image + opacity * colours).astype(np.uint8)


def image_sheet(
    path: str | os.PathLike,
    title: str,
    names: Sequence[str],
    rows: Sequence[Sequence[np.ndarray]],
) -> None:
    """Draws images in rows and columns, with a name below each.

    Args:
      path: PNG or JPEG to write.
      title: of the sheet, in as many lines as it needs.
      names: of the columns.
      rows: of images, each (height, width, 3) uint8, all of one size.
    """
    grid = [
        [_Cell(Image.fromarray(image), name) for image, name in zip(row, names)]
        for row in rows
    ]
    _save(path, _sheet(title, grid))


@dataclasses.dataclass(frozen=True, eq=False)
class _Cell:
    image: Image.Image
    text: str
    frame: tuple[int, int, int] = _PAPER


def _read(file: str, height: int, width: int) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB").resize((width, height))


def _sheet(title: str, grid: Sequence[Sequence[_Cell]]) -> Image.Image:
    """Lays out the title, and below it the cells."""
    width, height = grid[0][0].image.size
    across, down = width + 2 * _FRAME + _GAP, height + 2 * _FRAME + _LINE + _GAP
    wide = across * max(len(row) for row in grid) + _GAP
    lines = _wrapped(title, wide - 2 * _GAP)
    head = _GAP + _LINE * len(lines)
    sheet = Image.new("RGB", (wide, head + down * len(grid) + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, line in enumerate(lines):
        draw.text((_GAP, _GAP + _LINE * i + _LINE // 2), line, fill=_INK, anchor="lm")
    for i, row in enumerate(grid):
        for j, cell in enumerate(row):
            _draw_cell(sheet, draw, cell, _GAP + j * across, head + _GAP + i * down)
    return sheet


def _draw_cell(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, cell: _Cell, left: int, top: int
) -> None:
    width, height = cell.image.size
    right, bottom = left + width + 2 * _FRAME, top + height + 2 * _FRAME
    draw.rectangle((left, top, right - 1, bottom - 1), fill=cell.frame)
    sheet.paste(cell.image, (left + _FRAME, top + _FRAME))
    centre = (left + right) // 2, bottom + _LINE // 2
    text = _fitting(draw, cell.text, right - left)
    draw.text(centre, text, fill=_INK, anchor="mm")


def _wrapped(text: str, width: int) -> list[str]:
    """Breaks a text into lines of at most that many pixels; long words stay whole."""
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    lines: list[str] = []
    for word in text.split():
        if lines and draw.textlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _fitting(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """Cuts a text at its beginning to fit a cell; layers' names differ at the end."""
    while draw.textlength(text) > width:
        text = text[1:]
    return text


def _save(path: str | os.PathLike, image: Image.Image) -> None:
    is_jpeg = str(path).lower().endswith((".jpg", ".jpeg"))
    with atomic_files.replacing(path) as partial:
        image.save(partial, format="jpeg" if is_jpeg else "png", quality=85)
