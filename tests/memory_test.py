"""The copy in memory finds what is in the files, whoever changed them."""

from __future__ import annotations

import datetime

import numpy as np
import pytest

from cdnet_tf.gallery import lance_store, memory, rows
from cdnet_tf.gallery.gallery import Gallery
from cdnet_tf.gallery.lance_store import LanceStore
from cdnet_tf.gallery.records import Where
from tests import gallery_places
from tests.gallery_places import MINUTE, NETWORK, START

_ROWS, _WIDE = 6000, 32
_MEMORY = 2**20
_HALF_A_DAY = Where(since=START + 5 * MINUTE, until=START + 720 * MINUTE)
_ALL, _NOBODY = Where(), Where(cameras=("9",))


@pytest.fixture(scope="module")
def people():
    return gallery_places.people(_ROWS, _WIDE, every=MINUTE)


@pytest.fixture(scope="module")
def filled(tmp_path_factory, people):
    """A folder of several fragments, with an index, some of whose rows are deleted."""
    folder = tmp_path_factory.mktemp("filled") / "gallery"
    opened = LanceStore(folder, exact_rows=100, list_rows=100)
    opened.claim(NETWORK, _WIDE)
    table = rows.table(**people)
    for part in (table[:4000], table[4000:5000], table[5000:]):
        opened.add(part)
    opened.index()
    opened.delete(Where(tracks=tuple(map(str, range(0, 1500, 40)))))
    return folder


@pytest.fixture
def changing(tmp_path, people):
    """Two stores of one folder of 300 rows, of which the first has a copy."""
    stores = [LanceStore(tmp_path / "gallery", memory_bytes=m) for m in (_MEMORY, 0)]
    stores[1].claim(NETWORK, _WIDE)
    for part in (slice(0, 200), slice(200, 300)):
        stores[1].add(_table(people, part))
    return stores


def _table(people, part: slice):
    return rows.table(**{name: values[part] for name, values in people.items()})


def _keys(found) -> list[str]:
    return found["key"].to_pylist()


def _same(copied: LanceStore, files: LanceStore, query, where: Where = _ALL) -> None:
    """Both find the same rows, with the same distances."""
    ours, theirs = (
        each.search(query, 20, where, True).sort_by("squared")
        for each in (copied, files)
    )
    assert _keys(ours) == _keys(theirs)
    assert ours.drop_columns("squared").equals(theirs.drop_columns("squared"))
    np.testing.assert_allclose(ours["squared"], theirs["squared"], atol=1e-5)


@pytest.fixture
def reads(monkeypatch):
    """Lists how many rows each reading of embeddings from the files brought."""
    counts = []
    load = memory.Copy._load

    def counting(self, fragment, files):
        counts.append(fragment.physical_rows)
        return load(self, fragment, files)

    monkeypatch.setattr(memory.Copy, "_load", counting)
    return counts


@pytest.mark.parametrize("where", [*gallery_places.FILTERS, _HALF_A_DAY, _NOBODY])
def test_finds_what_is_in_the_files_under_every_filter(filled, people, where):
    copied, files = LanceStore(filled, memory_bytes=_MEMORY), LanceStore(filled)
    for place in (0, 777, 4321):
        _same(copied, files, people["embeddings"][place], where)
    # The index plays no part: what is approximate in the files is exact here.
    assert gallery_places.recall(copied, people, where) == 1 or where == _NOBODY


def test_reads_only_what_is_new(changing, people, reads):
    copied, files = changing
    query = people["embeddings"][250]
    _same(copied, files, query)
    _same(copied, files, query)
    assert reads == [200, 100]
    files.add(_table(people, slice(300, 320)))
    query = people["embeddings"][310]
    assert _keys(copied.search(query, 1, _ALL, False)) == ["row 00310"]
    assert reads == [200, 100, 20]
    files.delete(Where(keys=("row 00310", "row 00003")))
    for place in (310, 3, 0):
        _same(copied, files, people["embeddings"][place])
    files.delete(Where(until=START + 200 * MINUTE))
    _same(copied, files, query)
    assert reads == [200, 100, 20]
    # Deleted rows are not kept in memory.
    parts = copied._copy.of(copied._table()).parts
    assert sum(len(part.embeddings) for part in parts) == 119


def test_notices_that_files_were_merged_and_erased(changing, people, monkeypatch):
    copied, files = changing
    query = people["embeddings"][250]
    _same(copied, files, query)
    monkeypatch.setattr(lance_store, "_MOST_SMALL_FRAGMENTS", 2)
    monkeypatch.setattr(lance_store, "_OLD", datetime.timedelta(milliseconds=1))
    files.add(_table(people, slice(300, 400)))  # merges all
    _same(copied, files, query)
    files.delete(Where(keys=("row 00250",)))
    files.erase()
    _same(copied, files, query)
    copied.erase()
    assert copied._copy._newest is None
    _same(copied, files, query)


def test_keeps_no_more_than_it_may(changing, people, reads):
    _, files = changing
    folder = files._folder.path
    limit = 300 * (4 * _WIDE + 20)
    query = people["embeddings"][5]
    for bytes_, wanted in ((0, []), (limit - 1, []), (limit, [200, 100])):
        store = LanceStore(folder, memory_bytes=bytes_)
        _same(store, files, query)
        assert reads == wanted
    files.add(_table(people, slice(300, 301)))
    _same(store, files, query)
    assert reads == [200, 100] and store._copy._newest is None
    files.delete(Where(keys=("row 00007",)))
    _same(store, files, query)
    assert store._copy._newest is not None


def test_a_gallery_says_how_much_it_may_keep(tmp_path, people):
    with pytest.raises(ValueError, match="memory_mb=-1 is below 0"):
        Gallery(tmp_path / "gallery", memory_mb=-1)
    for megabytes in (0, 1):
        with Gallery(tmp_path / "gallery", memory_mb=megabytes) as gallery:
            gallery.add(**people, network=NETWORK)
            assert gallery.prepare() == (megabytes == 1)
            assert (gallery._store._copy._newest is None) == (megabytes == 0)
            assert gallery.search("row 00005", 1)[0].distance == 0
        assert gallery._store._copy._newest is None
