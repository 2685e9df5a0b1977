"""What a gallery in a folder does to its files; `gallery_test` has the rest."""

from __future__ import annotations

import datetime
import json
import resource

import numpy as np
import pytest

from cdnet_tf.gallery import lance_store, rows, store
from cdnet_tf.gallery.gallery import Gallery
from cdnet_tf.gallery.lance_store import LanceStore
from cdnet_tf.gallery.records import Settings, Where
from tests import gallery_places
from tests.gallery_places import DIMENSIONS, MINUTE, NETWORK, START

_ROWS = 6000


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "gallery"


@pytest.fixture
def gallery(folder):
    with Gallery(folder, network=NETWORK) as opened:
        yield opened


def _holding(folder, content: bytes) -> list[str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return [str(file) for file in files if content in file.read_bytes()]


@pytest.fixture(scope="module")
def people():
    return gallery_places.people(_ROWS, 32, every=MINUTE)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory, people):
    """A gallery whose index has 60 lists, in which cameras lie apart."""
    folder = tmp_path_factory.mktemp("indexed") / "gallery"
    opened = LanceStore(folder, exact_rows=100, exact_share=0.02, list_rows=100)
    opened.claim(NETWORK, 32)
    opened.add(rows.table(**people))
    opened.index()
    return opened


@pytest.mark.parametrize("where", gallery_places.FILTERS)
def test_recall_is_high_under_every_filter(indexed, people, where):
    assert gallery_places.recall(indexed, people, where) > 0.95


def test_few_rows_are_searched_one_by_one(indexed, monkeypatch):
    asked = []

    def by_index(self, *_):
        asked.append(self.condition)
        return rows.nothing()

    monkeypatch.setattr(lance_store._Search, "by_index", by_index)
    query = np.eye(32, dtype=np.float32)[0]
    for where in (Where(), Where(not_cameras=("0",)), Where(cameras=("4",))):
        # What the index does not find is looked for row by row.
        assert len(indexed.search(query, 3, where, False)) == 3
    assert asked == [None, "camera NOT IN ('0')"]


def test_new_rows_are_found_beside_the_index(tmp_path, people):
    opened = LanceStore(tmp_path / "gallery", exact_rows=100, list_rows=100)
    opened.claim(NETWORK, 32)
    table = rows.table(**people)
    for part in (table[:1000], table[1000:1100]):
        opened.add(part)
        if not opened._table().list_indices():
            opened.index()
    query = people["embeddings"][1050]
    (match,) = opened.search(query, 1, Where(), False).to_pylist()
    assert match["key"] == people["keys"][1050]
    opened.index()
    (described,) = opened._table().list_indices()
    assert (described.num_indexed_rows, described.num_unindexed_rows) == (1100, 0)


def test_erased_rows_leave_no_byte(folder, gallery):
    people = gallery_places.people(400)
    metadata = [{"note": f"note of {key}"} for key in people["keys"]]
    for part in (slice(0, 200), slice(200, 400)):
        both = {name: values[part] for name, values in people.items()}
        gallery.add(**both, metadata=metadata[part])
    # One row of two hundred: a file with so few deletions is left alone by LanceDB's
    # own cleaning.
    row = people["embeddings"][7].tobytes()
    assert _holding(folder, row)
    gallery.delete(key="row 00007")
    assert _holding(folder, row) and _holding(folder, b"row 00007")
    gallery.erase()
    assert not _holding(folder, row) and not _holding(folder, b"row 00007")
    assert gallery.count() == 399
    # All rows of a file, by a condition that says something of a person.
    gallery.delete(track="0")
    gallery.delete(before=START + datetime.timedelta(hours=200))
    gallery.erase()
    first = [people["embeddings"][i].tobytes() for i in range(200)]
    assert not any(_holding(folder, each) for each in first)
    assert gallery.count() == 200
    assert _holding(folder, people["embeddings"][200].tobytes())


def test_erasing_takes_rows_out_of_the_index(tmp_path, people):
    opened = LanceStore(tmp_path / "gallery", exact_rows=100, list_rows=100)
    opened.claim(NETWORK, 32)
    opened.add(rows.table(**people))
    opened.index()
    before = {path.name for path in (tmp_path / "gallery").glob("*/_indices/*")}
    opened.delete(Where(keys=("row 00007",)))
    opened.erase()
    after = {path.name for path in (tmp_path / "gallery").glob("*/_indices/*")}
    assert len(after) == 1 and not before & after
    (described,) = opened._table().list_indices()
    assert described.num_indexed_rows == _ROWS - 1
    found = opened.search(people["embeddings"][7], 1, Where(), False)
    assert found["key"].to_pylist() != ["row 00007"]


def test_full_disk_leaves_the_gallery_as_it_was(folder, gallery):
    people = gallery_places.people(2000, 64)
    first = {name: values[:10] for name, values in people.items()}
    gallery.add(**first)
    # A file that may not grow fails as one on a full disk does.
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="gallery could not be written.*full disk"):
            gallery.add(**people)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert gallery.count() == 10
    assert gallery.add(**people) == 1990


def test_many_small_batches_become_few_files(folder, gallery, monkeypatch):
    monkeypatch.setattr(lance_store, "_MOST_SMALL_FRAGMENTS", 3)
    monkeypatch.setattr(lance_store, "_OLD", datetime.timedelta(milliseconds=1))
    for i in range(9):
        gallery.add(np.ones((1, DIMENSIONS)), i, START)
    assert gallery.count() == 9
    assert len(list(folder.glob("rows.lance/data/*"))) <= 5


def test_files_that_somebody_reads_are_not_removed(folder, gallery, monkeypatch):
    monkeypatch.setattr(lance_store, "_MOST_SMALL_FRAGMENTS", 3)
    monkeypatch.setattr(lance_store, "_OLD", datetime.timedelta(milliseconds=1))
    for i in range(3):
        gallery.add(np.ones((1, DIMENSIONS)), i, START)
    before = set(folder.glob("rows.lance/data/*"))
    with gallery._store._folder.reading():
        for i in range(3, 6):
            gallery.add(np.ones((1, DIMENSIONS)), i, START)
        assert before < set(folder.glob("rows.lance/data/*"))
    for i in range(6, 9):
        gallery.add(np.ones((1, DIMENSIONS)), i, START)
    assert not before & set(folder.glob("rows.lance/data/*"))
    assert gallery.count() == 9


@pytest.mark.parametrize("found, remedy", [(2, "update cdnet_tf"), (0, "export it")])
def test_refuses_another_format(folder, gallery, found, remedy):
    gallery.add(np.eye(2), 1, START)
    file = folder / "gallery.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": found}))
    for use in (lambda: Gallery(folder), lambda: gallery.add(np.eye(2), 1, START)):
        with pytest.raises(store.VersionError, match=f"has format {found}.*{remedy}"):
            use()


def test_refuses_what_is_no_gallery(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    assert Gallery(tmp_path / "folder").count() == 0
    (tmp_path / "folder/image.jpg").write_text("")
    for name in ("file", "folder"):
        with pytest.raises(ValueError, match=f"{name} exists and is no gallery"):
            Gallery(tmp_path / name)
    with pytest.raises(ValueError, match="mysql:// is no kind of gallery"):
        Gallery("mysql://localhost/people")


def test_opening_makes_nothing(folder, gallery):
    assert gallery.settings == Settings() and gallery.count() == 0
    assert not folder.exists()


def test_writer_killed_after_its_claim_is_followed_by_another(folder, gallery):
    LanceStore(folder).claim(NETWORK, 2)
    (folder / "rows.lance/_versions").mkdir(parents=True)
    assert gallery.search([1, 2]) == [] and gallery.count() == 0
    gallery.erase()
    assert gallery.add(np.eye(2), 1, START) == 2
