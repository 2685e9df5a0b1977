"""Files appear whole or not at all."""

import os

import pytest

from cdnet_tf import atomic_files


def test_file_appears_at_the_end_alone(tmp_path):
    path = tmp_path / "model.keras"
    with atomic_files.replacing(path) as partial:
        partial.write_bytes(b"new")
        assert not path.exists()
        assert partial.suffix == ".keras"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["model.keras"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="disk"):
        with atomic_files.replacing(path) as partial:
            partial.write_text("half of the ne")
            raise RuntimeError("disk is full")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_what_a_killed_program_left_is_removed(tmp_path):
    old, new, other = (
        tmp_path / f".{name}.part.csv" for name in ("table.1", "table.2", "other.1")
    )
    for partial in (old, new, other):
        partial.write_text("half")
    for partial in (old, other):
        os.utime(partial, (0, 0))
    atomic_files.write_text(tmp_path / "table.csv", "whole")
    assert {path.name for path in tmp_path.iterdir()} == {
        "table.csv",
        new.name,
        other.name,
    }


def test_text_is_utf8(tmp_path):
    atomic_files.write_text(tmp_path / "a.txt", "Zürich\n")
    assert (tmp_path / "a.txt").read_bytes() == "Zürich\n".encode()


def test_csv_has_its_columns_alone(tmp_path):
    lines = [{"b": 1, "a": "x,y", "c": 2}, {"a": "", "b": 0.5}]
    atomic_files.write_csv(tmp_path / "a.csv", ("a", "b"), lines)
    assert (tmp_path / "a.csv").read_bytes() == b'a,b\n"x,y",1\n,0.5\n'


def test_missing_folder_is_an_error(tmp_path):
    with pytest.raises(OSError, match="absent"):
        atomic_files.write_text(tmp_path / "absent" / "a.txt", "text")
