"""The benchmark of bulk embedding compares the same work."""

from __future__ import annotations

import PIL.Image
import pytest
from absl import flags
from absl.testing import flagsaver

from tests import tiny
from tools import benchmark_bulk


@pytest.mark.parametrize("first, rows", [("0", "2"), ("1", "1")])
def test_loops_share_the_images(tmp_path, capsys, first, rows):
    for number, pixels in enumerate(tiny.images(3)):
        PIL.Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    with flagsaver.flagsaver():
        flags.FLAGS(["benchmark_bulk"])
        benchmark_bulk.main(["benchmark_bulk", "loop", str(tmp_path), first, "2"])
    assert capsys.readouterr().out.strip() == rows


def test_says_how_much_longer_beam_takes():
    with flagsaver.flagsaver():
        flags.FLAGS(["benchmark_bulk", "--bulk_images=100"])
        turns = [
            {"loop": (10.0, 8.0), "beam": (11.0, 10.0)},
            {"loop": (20.0, 8.0), "beam": (30.0, 10.0)},
            {"loop": (10.0, 8.0), "beam": (12.0, 10.0)},
        ]
        result = benchmark_bulk._result(turns, 2)
    assert result["loop_images_per_s"] == 10 and result["beam_images_per_s"] == 8.3
    assert result["beam_over_loop_clock"] == 1.2
    assert result["beam_over_loop_cpu"] == 1.25
