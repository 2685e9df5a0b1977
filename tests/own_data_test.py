"""A user's own images in both layouts, and errors about what does not fit."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from cdnet_tf.data import datasets, doctor, holdout, own_data
from cdnet_tf.retrieval import ranking, report

_FILES = (
    *("train/anna/1.jpg", "train/anna/2.PNG", "train/bert/1.jpeg", "train/bert/2.jpg"),
    *("query/carl/hall/1.jpg", "gallery/carl/hall/2.jpg", "gallery/carl/door/1.jpg"),
    *("gallery/dora/1.jpg", "gallery/-1/1.jpg", "gallery/Thumbs.db"),
)


def _touch(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()


def _csv(root, split, *lines, head="path,identity,camera"):
    _touch(root, *(line.split(",")[0] for line in lines if line))
    (root / f"{split}.csv").write_text("\n".join((head, *lines)) + "\n", "utf-8")


def _rows(images):
    return list(zip(images.identities.tolist(), images.cameras.tolist()))


def test_a_folder_a_person(tmp_path):
    _touch(tmp_path, *_FILES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = own_data.read("folders", str(tmp_path))
    assert data.people == {1: "anna", 2: "bert", 3: "carl", 4: "dora"}
    assert data.camera_names == {1: "door", 2: "hall"}
    np.testing.assert_array_equal(data.train.identities, [1, 1, 2, 2])
    # Nobody knows these cameras: each file has its own.
    assert len(set(data.train.cameras)) == 4 and (data.train.cameras < 0).all()
    assert _rows(data.query) == [(3, 2)]
    assert _rows(data.gallery)[:2] == [(3, 1), (3, 2)]
    assert data.counts()["gallery"] == {"images": 3, "identities": 2, "cameras": 2}


def test_the_same_people_listed(tmp_path):
    _csv(tmp_path, "train", "a/1.jpg,anna,hall", "a/2.png,anna,door", "")
    _csv(tmp_path, "query", "q/1.JPG,bert,hall")
    _csv(tmp_path, "gallery", "g/1.jpg,bert,", "g/2.jpg,-1,hall")
    data = own_data.read("csv", str(tmp_path))
    assert data.people == {1: "anna", 2: "bert"}
    assert _rows(data.train) == [(1, 2), (1, 1)]
    assert [identity for identity, camera in _rows(data.gallery) if camera < 0] == [2]
    assert data.query.paths == (str(tmp_path / "q" / "1.JPG"),)


def test_numbers_stay_what_they_are(tmp_path):
    _csv(tmp_path, "train", "1.jpg,0007,6", "2.jpg,0007,2", "3.jpg,12,2", "4.jpg,12,6")
    data = own_data.read("csv", str(tmp_path), ["train"])
    assert _rows(data.train) == [(7, 6), (7, 2), (12, 2), (12, 6)]
    assert not data.people and not data.camera_names


def test_what_a_spreadsheet_writes(tmp_path):
    _touch(tmp_path, "a/1.jpg", "a/2.jpg")
    lines = "Identity;Path;Remark\r\nMüller, Ä;a\\1.jpg;x\r\nMüller, Ä;a\\2.jpg;\r\n"
    (tmp_path / "train.csv").write_bytes(lines.encode("utf-8-sig"))
    data = own_data.read("csv", str(tmp_path), ["train"])
    assert data.people == {1: "Müller, Ä"}
    assert len(data.train) == 2 and (data.train.cameras < 0).all()


def test_without_cameras_a_query_ignores_nothing_but_itself(tmp_path):
    lines = [f"{i}.jpg,{'ab'[i // 3]}" for i in range(6)]
    for split in ("query", "gallery"):
        _csv(tmp_path, split, *lines, head="path,identity")
    data = own_data.read("csv", str(tmp_path), ["query", "gallery"])
    # On a circle; by hand: all but 2 and 3, who find each other, find a friend first.
    angles = np.array([0.0, 0.1, 0.3, 0.4, 0.6, 0.7])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    scores = ranking.evaluate(points, data.query, points, data.gallery)
    assert (scores.queries, scores.skipped) == (6, 0)
    assert scores.rank1 == pytest.approx(4 / 6)
    found = report.report(points, data.query, points, data.gallery)
    assert found["camera_pairs"] == []
    assert "Nobody knows the cameras" in report.table(found)
    # 6 x 6 pairs without those of a file and itself: 2 of 2 x 3 people, 3 x 3 twice.
    assert found["thresholds"]["genuine_pairs"] == 12
    assert found["thresholds"]["impostor_pairs"] == 18


def test_train_alone_lends_query_and_gallery(tmp_path):
    _touch(tmp_path, *(f"train/{p}/{i}.jpg" for p in "abcde" for i in range(3)))
    data = holdout.hold_out(own_data.read("folders", str(tmp_path), ["train"]), 2)
    assert (len(data.train), len(data.query), len(data.gallery)) == (9, 2, 4)
    assert data.absent == ()


@pytest.mark.parametrize(
    "files, name, needed, message",
    [
        (_FILES[:4], "folders", datasets.SPLITS, "lacks query/, gallery/.*holdout_id"),
        (_FILES[4:], "folders", ["train"], "lacks train/. Make them, .*train/anna/1"),
        ((), "csv", ["query"], r"lacks query.csv. Write them: .*path,identity,camera"),
        ((), "folders", [], "lacks train/, query/, gallery/"),
        ([f"x/{f}" for f in _FILES], "folders", datasets.SPLITS, "Pass data_dir=.*/x,"),
    ],
)
def test_splits_that_are_missing(tmp_path, files, name, needed, message):
    _touch(tmp_path, *files)
    with pytest.raises(FileNotFoundError, match=message):
        own_data.read(name, str(tmp_path), needed)


def test_folder_inside_the_data(tmp_path):
    _touch(tmp_path, *_FILES)
    with pytest.raises(FileNotFoundError, match=f"Pass data_dir={tmp_path},"):
        own_data.read("folders", str(tmp_path / "train"))


@pytest.mark.parametrize(
    "files, message",
    [
        (["train/train/anna/1.jpg"], "a folder of the same name; move"),
        (["train/1.jpg"], "train: no person's folder holds an image"),
        (["train/anna/1.webp"], "Images end in .jpg, .jpeg, .png"),
    ],
)
def test_folders_that_do_not_say_who(tmp_path, files, message):
    _touch(tmp_path, *files)
    with pytest.raises(ValueError, match=message):
        own_data.read("folders", str(tmp_path), ["train"])


def test_skipped_images_are_named(tmp_path):
    odd = ["9.jpg", "anna/3.bmp", "anna/door/x/1.jpg", "e/note.txt"]
    _touch(tmp_path, *_FILES, *(f"train/{file}" for file in odd))
    with pytest.warns(UserWarning, match=r"\(4\).*9.jpg.*3.bmp, .*door/x, .*train/e"):
        assert len(own_data.read("folders", str(tmp_path)).train) == 4


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "train.csv:1: the first line is '', but has to name"),
        ("img,pid\n1.jpg,1\n", "'img,pid', but has to name"),
        ("path,identity\n", "train.csv names no image"),
        ("path,identity\n\n1.jpg\n", r"train.csv:3: cannot read \['1.jpg'\]"),
        ("path,identity\n1.jpg,\n", "train.csv:2: cannot read"),
        ("path,identity\n1.bmp,1\n", "1 of 1 files end in none of"),
        ("path,identity\n2.jpg,1\n", "1 of 1 listed images are missing.*2.jpg"),
        ("path,identity\n1.jpg,\xe9\n", "train.csv is not UTF-8"),
    ],
)
def test_lists_that_cannot_be_read(tmp_path, text, message):
    _touch(tmp_path, "1.jpg")
    (tmp_path / "train.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        own_data.read("csv", str(tmp_path), ["train"])


def test_the_doctor_names_people(tmp_path):
    for split in ("train", "query", "gallery"):
        _csv(tmp_path, split, f"{split}.jpg,anna", head="path,identity")
    for seed, split in enumerate(("train", "query", "gallery")):
        _picture(tmp_path / f"{split}.jpg", seed // 2)  # train's is the query's, too
    with pytest.warns(UserWarning, match="one camera only.*anna"):
        data = own_data.read("csv", str(tmp_path))
    said = doctor.text(doctor.examine(data))
    assert "both train and test. The network has seen people" in said
    assert "Pictures are in both train and test" in said
    assert "warning (3): Nobody knows the camera of these images" in said
    assert said.count("anna") == 3 and "query.jpg" in said


def test_the_doctor_finds_a_query_in_the_gallery(tmp_path):
    for split in ("query", "gallery"):
        _csv(tmp_path, split, f"{split}.jpg,anna", head="path,identity")
        _picture(tmp_path / f"{split}.jpg")
    findings = doctor.examine(own_data.read("csv", str(tmp_path), []))
    assert findings[0].is_error and "A query finds its copy" in findings[0].problem
    assert findings[0].names == ("query.jpg = gallery.jpg",)


def _picture(path, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 16, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def test_file_lists_are_read_without_tensorflow():
    code = "import sys, cdnet_tf.data.own_data; assert 'tensorflow' not in sys.modules"
    root = pathlib.Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
