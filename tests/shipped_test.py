"""Shipped weights are found by name; the real ones are small and whole."""

import hashlib
import json
import pathlib
import re
import subprocess
import sys

import pytest

from cdnet_tf import shipped
from cdnet_tf.deploy import model_card

_NAMES = ["market1501/tiny", "market1501/tiny_int8"]
_WANTED = "a model.keras"


@pytest.fixture
def folder(tmp_path):
    """Makes a folder of shipped files."""
    files = {"tiny.keras": b"weights", "tiny_int8.tflite": b"integers"}
    folder = tmp_path / "weights"
    (folder / "market1501").mkdir(parents=True)
    for name, content in files.items():
        (folder / "market1501" / name).write_bytes(content)
    checksums = {
        name: {"sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    }
    text = json.dumps({"files": checksums})
    (folder / "market1501" / "tiny.json").write_text(text)
    return folder


def test_names_lead_to_files(folder):
    assert shipped.names(folder) == _NAMES
    found = [shipped.locate(name, folder) for name in _NAMES]
    files = ["market1501/tiny.keras", "market1501/tiny_int8.tflite"]
    assert found == [folder / file for file in files]


def test_unknown_name_lists_the_known_ones(folder):
    with pytest.raises(FileNotFoundError, match=f"'x/y'.* are {', '.join(_NAMES)}"):
        shipped.locate("x/y", folder)
    with pytest.raises(FileNotFoundError, match=f"x/y does not exist; .*{_NAMES[1]}"):
        shipped.resolve("x/y", _WANTED, folder)


def test_nothing_is_shipped(tmp_path):
    assert shipped.names(tmp_path / "none") == []
    with pytest.raises(FileNotFoundError, match="pass a model.keras, .* ships no weig"):
        shipped.resolve("x/y", _WANTED, tmp_path / "none")


def test_broken_and_missing_files_are_named(folder):
    file = folder / "market1501/tiny.keras"
    file.write_bytes(b"other")
    with pytest.raises(ValueError, match=f"{file}, .* is broken.* install cdnet_tf"):
        shipped.locate(_NAMES[0], folder)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=f"{file}, .* is missing; install"):
        shipped.resolve(_NAMES[0], _WANTED, folder)


@pytest.mark.parametrize("text", ["no JSON", "[]", "{}", '{"files": {"a": {}}}'])
def test_broken_record_is_named(folder, text):
    (folder / "market1501/tiny.json").write_text(text)
    with pytest.raises(ValueError, match="tiny.json, a record .* is broken.* restore"):
        shipped.names(folder)


def test_path_that_exists_wins_over_a_name(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = shipped.resolve(_NAMES[0], _WANTED, folder)
    assert found == folder / "market1501/tiny.keras"
    (tmp_path / "market1501/tiny").mkdir(parents=True)
    found = shipped.resolve(_NAMES[0], _WANTED, folder)
    assert found == pathlib.Path(_NAMES[0])


def test_results_stay_out_of_the_package(folder, tmp_path):
    file = shipped.locate(_NAMES[1], folder)
    assert shipped.spelled(file, folder) == _NAMES[1]
    assert shipped.results_dir(file, folder) == pathlib.Path(
        "runs/market1501_tiny_int8"
    )
    other = tmp_path / "run/model.keras"
    assert shipped.spelled(other, folder) == str(other)
    assert shipped.results_dir(other, folder) == tmp_path / "run"


def test_names_are_known_without_tensorflow():
    code = "import sys; from cdnet_tf import shipped; shipped.names(); "
    code += "assert not {'tensorflow', 'numpy', 'h5py'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_all_that_is_shipped_is_under_15_megabytes():
    files = [file for file in shipped.FOLDER.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 15e6


def test_all_that_is_shipped_is_whole_and_has_its_card():
    for name in shipped.names():
        shipped.locate(name)
    known = set()
    for path in shipped.FOLDER.glob("*/*.json"):
        record = shipped.record(path)
        assert record["name"] == shipped.name_of(path)
        card = path.with_suffix(".md")
        # python tools/ship_weights.py --rewrite_cards
        assert card.read_text("utf-8") == model_card.compose(record)
        assert not re.search(r'"/|"~|:\\\\', path.read_text("utf-8")), "a path"
        known |= {path, card, *(path.parent / file for file in record["files"])}
    there = {file for file in shipped.FOLDER.rglob("*") if file.is_file()}
    assert there == known
