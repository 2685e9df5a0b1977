"""Generated pedestrians: layout, determinism, families, errors."""

import collections
import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from cdnet_tf.data import datasets
from cdnet_tf.pedestrians import figures, people, writer

SMALL = {
    "train_identities": 3,
    "test_identities": 4,
    "cameras": 6,
    "images_per_camera": 2,
    "distractors": 5,
    "junk": 3,
    "height": 64,
    "width": 32,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "pedestrians"
    writer.write_pedestrians(folder, **SMALL)
    return folder


def _digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.jpg"))
    }


def test_layout_is_read_as_market1501(root):
    data = datasets.read("market1501", str(root))
    assert data.counts() == {
        "train": {"images": 36, "identities": 3, "cameras": 6},
        "query": {"images": 24, "identities": 4, "cameras": 6},
        # 24 of the test identities and 5 distractors; junk is dropped.
        "gallery": {"images": 29, "identities": 5, "cameras": 6},
    }
    assert len(list((root / "bounding_box_test").glob("-1_*.jpg"))) == 3
    assert not set(data.train.identities) & set(data.query.identities)


def test_every_query_has_matches_under_all_other_cameras(root):
    data = datasets.read("market1501", str(root))
    for identity, camera in zip(data.query.identities, data.query.cameras):
        same = data.gallery.identities == identity
        assert set(data.gallery.cameras[same]) - {camera} == set(range(1, 7)) - {camera}


def test_images_are_rgb_jpegs_of_the_asked_size(root):
    with Image.open(next((root / "query").glob("*.jpg"))) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (32, 64))


def test_same_seed_same_bytes_and_other_seed_other_bytes(root, tmp_path):
    writer.write_pedestrians(tmp_path / "again", **SMALL)
    writer.write_pedestrians(tmp_path / "other", **SMALL, seed=1)
    assert _digests(tmp_path / "again") == _digests(root)
    assert not set(_digests(tmp_path / "other").values()) & set(_digests(root).values())


def test_more_people_leave_the_first_as_they_are(root, tmp_path):
    more = {**SMALL, "train_identities": 5}
    writer.write_pedestrians(tmp_path / "more", **more)
    train = {k: v for k, v in _digests(root).items() if "train" in k}
    assert len(train) == 36
    assert train.items() <= _digests(tmp_path / "more").items()


def test_families_of_a_written_folder_and_of_another(root, tmp_path):
    # 3 train and 4 test identities: the fourth test identity begins another family.
    families = {person: 0 for person in (1, 2, 3, 4)} | {5: 1, 6: 1, 7: 1}
    assert writer.families(root) == families
    assert writer.families(tmp_path) == {}


def test_a_family_shares_most_attributes_and_no_two_look_alike():
    seen = set()
    for first in range(1, 400, writer.FAMILY):
        members = [writer.family(first + i) for i in range(writer.FAMILY)]
        for member in members[1:]:
            base = vars(members[0])
            differing = [name for name in base if base[name] != vars(member)[name]]
            assert 1 <= len(differing) <= 2, differing
        seen |= set(members)
    assert len(seen) == 400


def test_no_two_people_of_a_family_are_drawn_alike():
    def drawn(person):
        image = Image.new("RGB", (64, 128))
        for yaw in (0.3, 1.9, 3.4, 5.0):
            pose = people.Pose(yaw, phase=1.0, stride=0.3)
            figures.draw(image, person, pose, (32, 122), 100)
            yield image.tobytes()

    views = {tuple(drawn(writer.family(i))) for i in range(1, 401)}
    assert len(views) == 400


def test_patterns_and_bags_stand_out_from_the_top():
    for person in map(writer.family, range(1, 401)):
        top = np.array(people.COLOURS[person.top])
        for colour in (person.accent, person.carried_colour):
            assert np.linalg.norm(top - people.COLOURS[colour]) > 80


def test_colours_of_clothes_are_shared_by_many_people():
    tops = collections.Counter(writer.family(i).top for i in range(1, 401))
    assert min(tops.values()) > 4
    assert len(tops) < 20


def test_cameras_differ_in_colour(root):
    data = datasets.read("market1501", str(root))
    means = collections.defaultdict(list)
    for path, camera in zip(data.train.paths, data.train.cameras):
        with Image.open(path) as image:
            means[camera].append(np.asarray(image).mean((0, 1)))
    centres = np.array([np.mean(means[camera], 0) for camera in sorted(means)])
    gaps = np.linalg.norm(centres[:, None] - centres, axis=2)[np.triu_indices(6, 1)]
    assert gaps.min() > 5  # grey levels


def test_existing_data_are_kept_and_others_refused(root):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.jpg")}
    counts = writer.write_pedestrians(root, **SMALL)
    assert counts == {"bounding_box_train": 36, "query": 24, "bounding_box_test": 32}
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.jpg")} == before
    with pytest.raises(FileExistsError, match=r"other parameters \(junk=3, not 4\)"):
        writer.write_pedestrians(root, **{**SMALL, "junk": 4})


def test_foreign_folder_is_not_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="something else"):
        writer.write_pedestrians(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(json, "dumps", fail)
    with pytest.raises(OSError, match="No space"):
        writer.write_pedestrians(tmp_path / "half", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_quicker_process_wins(tmp_path, monkeypatch):
    write = writer._write
    seen: list = []

    def interrupted(root, **parameters):
        if not seen:
            seen.append(root)
            writer.write_pedestrians(tmp_path / "shared", **SMALL)
        return write(root, **parameters)

    monkeypatch.setattr(writer, "_write", interrupted)
    counts = writer.write_pedestrians(tmp_path / "shared", **SMALL)
    assert counts["query"] == 24
    assert [path.name for path in tmp_path.iterdir()] == ["shared"]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"cameras": 1}, "cameras=1 is too small; use at least 2"),
        ({"cameras": 10}, "cameras=10 is too many; use at most 9"),
        ({"junk": -1}, "junk=-1 is too small"),
        ({"images_per_camera": 1}, "images_per_camera=1 is too small"),
        ({"train_identities": 9999}, "10003 identities do not fit"),
    ],
)
def test_errors_name_the_value(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        writer.write_pedestrians(tmp_path / "x", **{**SMALL, **change})


def test_contact_sheet_has_a_person_a_row_and_a_camera_a_column():
    sheet = writer.contact_sheet(people=2, cameras=3, height=64, width=32)
    assert sheet.size == (96, 128)
