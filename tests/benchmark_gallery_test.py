"""The benchmark of a gallery says what it measured."""

from __future__ import annotations

import json

from absl import flags
from absl.testing import flagsaver

from cdnet_tf.gallery.gallery import Gallery
from tests import gallery_places
from tools import benchmark_gallery


def test_says_what_was_added_and_found(tmp_path, capsys):
    with flagsaver.flagsaver():
        small = ["--gallery_rows=400", "--dimensions=8", "--queries=2"]
        flags.FLAGS(["benchmark_gallery", *small, f"--directory={tmp_path}"])
        benchmark_gallery.main(["benchmark_gallery"])
    assert not list(tmp_path.iterdir())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["gallery"] for line in lines] == ["retrieval.ranking"] * 4 + [
        *["folder"] * 5,
        *["folder in memory"] * 5,
        "folder",
    ]
    assert lines[0]["rows_left"] == 400 > lines[1]["rows_left"] > lines[2]["rows_left"]
    assert lines[4]["added_rows_per_s"] > 0 and lines[9]["copy_s"] >= 0
    assert lines[14]["megabytes"] >= 0
    names = "all", "without a camera", "one camera", "the rarest camera"
    for line, name in zip(lines[5:9], names):
        assert line["filter"] == name and line["exact_lowest_recall"] == 1
    for line in lines[10:14]:
        assert line["memory_ms"] > 0 and line["memory_lowest_recall"] == 1


def test_takes_rows_of_a_file(tmp_path, capsys):
    people = gallery_places.people(60, 8)
    with Gallery(tmp_path / "gallery", network=gallery_places.NETWORK) as gallery:
        gallery.add(**people)
        gallery.export(tmp_path / "rows.parquet")
    with flagsaver.flagsaver():
        small = [f"--rows_from={tmp_path / 'rows.parquet'}", "--queries=10"]
        flags.FLAGS(["benchmark_gallery", *small, f"--directory={tmp_path}"])
        benchmark_gallery.main(["benchmark_gallery"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["rows"] for line in lines} == {50}
    assert lines[0]["rows_left"] == 50 > lines[1]["rows_left"] > lines[3]["rows_left"]
    assert lines[4]["added_rows_per_s"] > 0 and lines[5]["exact_lowest_recall"] == 1
