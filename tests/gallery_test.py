"""Galleries of both kinds keep the same promises, and rank as `retrieval` does."""

from __future__ import annotations

import dataclasses
import datetime
import os
import pathlib
import random
import re
import subprocess
import sys
import threading
import types

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

import cdnet_tf
from cdnet_tf.deploy.identity import Network
from cdnet_tf.gallery.gallery import Gallery
from cdnet_tf.pedestrians import writer
from cdnet_tf.retrieval import ranking
from tests import gallery_places, postgres_server
from tests.gallery_places import DIMENSIONS, MINUTE, NETWORK, OTHER, START

_COUNT = 400
_HOUR = datetime.timedelta(hours=1)
# The test that kills writers does it so often in each kind of gallery; 20 is thorough.
_KILLS = int(os.environ.get("GALLERY_KILLS", "2"))
_WRITER = """
import sys
import numpy as np
from cdnet_tf.gallery.gallery import Gallery
from cdnet_tf.deploy.identity import Network

place, name, batches, rows, checksum = sys.argv[1:]
gallery = Gallery(place, network=Network("tiny", checksum))
draw = np.random.default_rng(0)
for batch in range(int(batches)):
    embeddings = draw.standard_normal((int(rows), 16))
    keys = [f"{name}/{batch}/{i}" for i in range(int(rows))]
    gallery.add(embeddings, name, np.datetime64("2026-03-01"), keys=keys, tracks=batch)
    print(batch, flush=True)
"""


@pytest.fixture(scope="module")
def server():
    with postgres_server.running() as url:
        yield url


@pytest.fixture(params=["folder", "server"])
def place(request, tmp_path):
    """The path or URL of a gallery that does not exist yet."""
    if request.param == "folder":
        return str(tmp_path / "gallery")
    return postgres_server.new_schema(request.getfixturevalue("server"))


@pytest.fixture
def gallery(place):
    with Gallery(place, network=NETWORK) as opened:
        yield opened


@pytest.fixture
def rows():
    return gallery_places.people(_COUNT)


def _oracle(rows, queries, k, chosen):
    """Keys and distances of the ranking of `retrieval`, among some rows."""
    chosen = np.flatnonzero(chosen)
    if not len(chosen):
        return [[] for _ in queries], [[] for _ in queries]
    # Everybody is somebody else, so the protocol ignores nothing.
    unknown = [
        types.SimpleNamespace(identities=np.full(n, who), cameras=np.zeros(n, int))
        for n, who in ((len(queries), 1), (len(chosen), 2))
    ]
    indices, distances = ranking.nearest(
        queries, unknown[0], rows["embeddings"][chosen], unknown[1], k
    )
    keys = [[rows["keys"][chosen[i]] for i in row if i >= 0] for row in indices]
    return keys, [row[np.isfinite(row)] for row in distances]


def _keys(gallery, **conditions):
    tables = gallery.scan(["key"], **conditions)
    return [key for table in tables for key in table["key"].to_pylist()]


def _conditions(rows):
    """Conditions, and which rows meet them."""
    cameras, hours = rows["cameras"], np.arange(len(rows["keys"]))
    since, until = START + 40 * _HOUR, START + 200 * _HOUR
    return [
        ({}, hours >= 0),
        ({"cameras": [0, "3"]}, np.isin(cameras, [0, 3])),
        ({"cameras": 4}, cameras == 4),
        ({"cameras": []}, hours < 0),
        ({"not_cameras": [0]}, cameras != 0),
        ({"not_cameras": []}, hours >= 0),
        ({"since": since}, hours >= 40),
        ({"until": until}, hours < 200),
        ({"since": since, "until": until}, (hours >= 40) & (hours < 200)),
        (
            {"cameras": [0, 1], "not_cameras": [1], "since": since},
            (cameras == 0) & (hours >= 40),
        ),
    ]


def test_ranks_as_retrieval_does(gallery, rows):
    gallery.add(**rows)
    queries = gallery_places.people(3, seed=1)["embeddings"]
    for conditions, chosen in _conditions(rows):
        keys, distances = _oracle(rows, queries, 7, chosen)
        found = gallery.search(5 * queries, 7, **conditions)
        assert [[match.key for match in each] for each in found] == keys, conditions
        for matches, wanted in zip(found, distances):
            got = [match.distance for match in matches]
            np.testing.assert_allclose(got, wanted, atol=1e-5)
        assert gallery.count(**conditions) == chosen.sum()
        scanned = sorted(_keys(gallery, **conditions))
        assert scanned == [rows["keys"][i] for i in np.flatnonzero(chosen)]


def test_match_is_described_as_it_was_added(gallery):
    east = datetime.timezone(datetime.timedelta(hours=5))
    gallery.add(
        3 * np.eye(3),
        ["it's", 'a "gate"', 7],
        datetime.datetime(2026, 3, 1, 5, 0, 0, 123456, tzinfo=east),
        keys=["a'b", "c", "é"],
        tracks=[1, None, "t"],
        pictures=["crops/a.jpg", b"\0jpeg", None],
        metadata=[{"colour": ["ré\\u0000d", 1]}, None, {}],
    )
    first, second, third = gallery.search([1, 0.5, 0.25], k=9)
    assert (first.key, second.key, third.key) == ("a'b", "c", "é")
    assert (first.camera, second.camera, third.camera) == ("it's", 'a "gate"', "7")
    assert (first.track, second.track, third.track) == ("1", None, "t")
    assert (first.picture, second.picture, third.picture) == (
        *("crops/a.jpg", b"\0jpeg", None),
    )
    assert first.metadata == {"colour": ["ré\\u0000d", 1]} and second.metadata == {}
    utc = datetime.datetime(2026, 3, 1, 0, 0, 0, 123456, tzinfo=datetime.timezone.utc)
    assert first.time == utc and first.time.tzinfo is datetime.timezone.utc
    assert gallery.count(since=utc) == 3 and gallery.count(until=utc) == 0
    assert gallery.count(cameras=["it's"]) == 1
    assert gallery.search([1, 0.5, 0.25], k=1, not_cameras="it's") == [second]
    assert gallery.search("c", k=1)[0].key == "c"


def test_equally_near_rows_come_by_key(gallery):
    gallery.add(np.ones((3, 2)), 1, START, keys=["b", "c", "a"])
    found = gallery.search([1, 1], k=3)
    assert [match.key for match in found] == ["a", "b", "c"]


def test_tracks_are_pooled_by_mean(gallery, rows):
    gallery.add(**rows)
    query = gallery_places.people(1, seed=1)["embeddings"]
    chosen = rows["cameras"] != 4
    found = gallery.search(query[0], k=5, not_cameras=[4], pool_tracks=True)
    pooled: dict = {}
    for i in np.flatnonzero(chosen):
        pooled.setdefault((str(rows["cameras"][i]), rows["tracks"][i]), []).append(i)
    wanted = []
    for track, places in pooled.items():
        mean = rows["embeddings"][places].astype(float).mean(axis=0)
        distance = np.linalg.norm(mean / np.linalg.norm(mean) - query[0])
        nearest = places[int(np.argmax(rows["embeddings"][places] @ query[0]))]
        wanted.append((distance, track, len(places), rows["keys"][nearest]))
    for match, (distance, track, count, key) in zip(found, sorted(wanted)):
        assert ((match.camera, match.track), match.rows, match.key) == (
            *(track, count, key),
        )
        assert match.distance == pytest.approx(distance, abs=1e-6)
    assert len(found) == 5
    assert gallery.search(query, k=5, not_cameras=[4], pool_tracks=True) == [found]


def test_adding_again_adds_nothing(gallery, place, rows):
    half = {name: values[: _COUNT // 2] for name, values in rows.items()}
    assert gallery.add(**half) == _COUNT // 2
    assert gallery.add(**rows) == _COUNT - _COUNT // 2
    with Gallery(place, network=NETWORK) as other:
        assert other.add(**rows) == 0 and other.count() == _COUNT
        # A key keeps its first row.
        assert other.add(np.ones((1, DIMENSIONS)), 9, START, keys=["row 00000"]) == 0
        assert other.count(cameras=[9]) == 0


def test_rows_without_keys_are_added_once(gallery, rows):
    del rows["keys"]
    assert gallery.add(**rows) == _COUNT
    assert gallery.add(**rows) == 0
    assert gallery.add(rows["embeddings"][:1], 9, START) == 1


def test_empty_gallery_answers(gallery, place):
    assert gallery.search(np.ones(DIMENSIONS)) == []
    assert gallery.search(np.ones((2, DIMENSIONS)), pool_tracks=True) == [[], []]
    assert gallery.count() == 0 and list(gallery.scan()) == []
    assert gallery.delete(camera=1).rows == 0
    assert gallery.expire(days=1).rows == 0
    gallery.erase()
    gallery.prepare()
    gallery.index()
    with pytest.raises(ValueError, match="has never had a row"):
        gallery.export("never.parquet")
    with pytest.raises(ValueError, match="no row 'a'"):
        gallery.search("a")


def test_deleted_rows_are_found_no_more(gallery, place, rows):
    gallery.add(**rows)
    left = np.ones(_COUNT, bool)
    reader = Gallery(place)
    for conditions, gone in (
        ({"key": "row 00007"}, np.arange(_COUNT) == 7),
        ({"camera": 1, "track": 2}, (rows["cameras"] == 1) & _hours(8, 12)),
        ({"track": "5"}, _hours(20, 24)),
        ({"before": START + 30 * _HOUR}, _hours(0, 30)),
        ({"camera": 4}, rows["cameras"] == 4),
    ):
        removal = gallery.delete(**conditions)
        assert (removal.rows, removal.erased_at) == ((left & gone).sum(), None)
        left &= ~gone
        query = rows["embeddings"][np.flatnonzero(gone)[0]]
        (keys,), _ = _oracle(rows, query[np.newaxis], 5, left)
        found = reader.search(query, 5, network=NETWORK)
        assert [match.key for match in found] == keys
        assert reader.count() == left.sum()
    assert gallery.delete(camera=4).rows == 0
    assert reader.settings.unerased_since is not None
    assert gallery.erase().erased_at is not None
    assert reader.settings.unerased_since is None
    assert reader.count() == left.sum()
    # A key that was deleted may come again.
    assert gallery.add(**rows) == _COUNT - left.sum()
    reader.close()


def _hours(start, stop):
    hours = np.arange(_COUNT)
    return (start <= hours) & (hours < stop)


def test_erasing_waits_for_whoever_reads(gallery, place):
    gallery.add(**gallery_places.people(12_000, 2, every=MINUTE))
    reading = gallery.scan(["key"])
    read = len(next(reading))
    gallery.delete(before=START + 10_000 * MINUTE)
    with Gallery(place) as other:
        erasing = threading.Thread(target=other.erase)
        erasing.start()
        erasing.join(0.3)
        assert erasing.is_alive()
        assert read + sum(map(len, reading)) == 12_000
        erasing.join()
    assert gallery.count() == 2_000 and gallery.settings.unerased_since is None


def test_rows_expire(gallery, place):
    now = datetime.datetime.now(datetime.timezone.utc)
    ages = [0.1, 4.9, 5.1, 40]
    times = [now - datetime.timedelta(days=days) for days in ages]
    gallery.add(np.eye(4), 1, times, keys=[str(age) for age in ages])
    with pytest.raises(ValueError, match="no retention; set one"):
        gallery.expire()
    gallery.keep(30)
    with Gallery(place) as other:
        assert other.settings.retention_days == 30
        removal = other.expire()
    assert removal.rows == 1 and now < removal.erased_at
    assert gallery.expire(days=5).rows == 1
    assert gallery.settings.unerased_since is None
    assert {match.key for match in gallery.search(np.ones(4))} == {"0.1", "4.9"}
    for days in (0, 1.5, True, "3"):
        with pytest.raises(ValueError, match="no retention; use a whole number"):
            gallery.expire(days=days)


def test_networks_never_meet(gallery, place, rows):
    gallery.add(**rows)
    query = rows["embeddings"][0]
    anything = types.SimpleNamespace(name="by another name", checksum="AB" * 32)
    assert gallery.add(**rows, network=anything) == 0
    for wrong in (
        lambda: Gallery(place, network=OTHER),
        lambda: gallery.add(**rows, network=OTHER),
        lambda: gallery.search(query, network=OTHER),
    ):
        with pytest.raises(
            ValueError, match="of the network tiny .* with those of oth"
        ):
            wrong()
    with Gallery(place) as unknown:
        with pytest.raises(ValueError, match="Say which network"):
            unknown.add(**rows)
        with pytest.raises(ValueError, match="Say which network"):
            unknown.search(query)
        assert unknown.search("row 00000", k=1)[0].key == "row 00000"
        assert unknown.settings.network == NETWORK
    for name, checksum in (("", "ab" * 32), ("tiny", "ab"), ("tiny", None)):
        with pytest.raises(ValueError, match="has no name|is no SHA-256"):
            Gallery(place, network=Network(name, checksum))


@pytest.mark.parametrize("value, what", [(np.nan, "NaN"), (np.inf, "inf"), (0, "zero")])
def test_names_embeddings_that_say_nothing(gallery, rows, value, what):
    rows["embeddings"][[3, 7, 8, 9]] = value
    with pytest.raises(ValueError, match=rf"3 \(key 'row 00003'\).*1 more.*{what}"):
        gallery.add(**rows)
    with pytest.raises(ValueError, match=what):
        gallery.search(rows["embeddings"][3])
    assert gallery.count() == 0


def test_refuses_what_makes_no_sense(gallery, rows):
    gallery.add(**rows)
    with pytest.raises(ValueError, match="k=0 asks for no match"):
        gallery.search(rows["embeddings"][0], k=0)
    with pytest.raises(ValueError, match="would empty the gallery"):
        gallery.delete()
    with pytest.raises(ValueError, match="'who'.*use some of key, embedding"):
        gallery.scan(["who"])
    with pytest.raises(ValueError, match="have 3 dimensions, and those"):
        gallery.search(np.ones(3))


def test_export_is_read_by_another_gallery(gallery, tmp_path, rows):
    gallery.add(**rows, metadata=[{"row": i} for i in range(_COUNT)])
    file = tmp_path / "all.parquet"
    assert gallery.export(file) == _COUNT
    with Gallery(tmp_path / "other") as other:
        assert other.add_parquet(file) == _COUNT
        assert other.settings.network == NETWORK
        query = rows["embeddings"][5]
        for found, copied in zip(
            gallery.search(query), other.search(query, network=NETWORK), strict=True
        ):
            assert copied.distance == pytest.approx(found.distance, abs=1e-6)
            assert dataclasses.replace(copied, distance=found.distance) == found
    with Gallery(tmp_path / "third", network=OTHER) as third:
        with pytest.raises(ValueError, match="all.parquet holds embeddings of the net"):
            third.add_parquet(file)


def test_parquet_of_bulk_embedding_is_added_without_its_errors(gallery, tmp_path):
    file = tmp_path / "shard.parquet"
    columns = {
        "key": ["a", "b"],
        "camera": ["1", "1"],
        "time": pyarrow.array([0, 0], pyarrow.timestamp("ms", "UTC")),
        "embedding": [[3.0, 4.0], None],
        "error": [None, "b.jpg cannot be decoded"],
    }
    parquet.write_table(pyarrow.table(columns), file)
    assert gallery.add_parquet(file) == 1
    assert gallery.search([4, 3])[0].key == "a"
    naive = {**columns, "time": pyarrow.array([0, 0], pyarrow.timestamp("us"))}
    parquet.write_table(pyarrow.table(naive), file)
    with pytest.raises(ValueError, match=r"type timestamp\[us\], without a time zone"):
        gallery.add_parquet(file)
    del columns["camera"]
    parquet.write_table(pyarrow.table(columns), file)
    with pytest.raises(ValueError, match="has no column camera"):
        gallery.add_parquet(file)


@pytest.mark.parametrize(
    "place, store, extra",
    [("people", "lance_store", "gallery"), ("postgres://x", "postgres_store", "postg")],
)
def test_says_what_to_install(monkeypatch, place, store, extra):
    monkeypatch.setitem(sys.modules, f"cdnet_tf.gallery.{store}", None)
    with pytest.raises(ImportError, match=rf"pip install '\.\[{extra}"):
        Gallery(place)


def _start(place, name, batches, rows):
    code = [_WRITER, place, name, str(batches), str(rows), NETWORK.checksum]
    command = [sys.executable, "-c", *code]
    env = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[1])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)


def test_killed_writer_leaves_whole_batches(place):
    rows = 500
    for kill in range(_KILLS):
        writer = _start(place, f"writer {kill}", 10_000, rows)
        acknowledged = int(writer.stdout.readline())
        # A time after a batch, so that it falls anywhere into the next one.
        timer = threading.Timer(random.random() / 10, writer.kill)
        timer.start()
        acknowledged = [acknowledged, *map(int, writer.stdout)][-1]
        assert writer.wait() == -9
        writer.stdout.close()
        with Gallery(place, network=NETWORK) as gallery:
            tracks = [
                int(track)
                for table in gallery.scan(["track"], cameras=f"writer {kill}")
                for track in table["track"].to_pylist()
            ]
            counts = np.bincount(tracks)
            # The last batch may be whole though nobody was told.
            assert len(counts) in (acknowledged + 1, acknowledged + 2)
            assert set(counts) == {rows}
            assert len(gallery.search(np.ones(DIMENSIONS), k=3)) == 3
            assert gallery.add(np.eye(DIMENSIONS)[:1], "after", START) == (kill == 0)


def test_two_writers_lose_nothing(place):
    other = _start(place, "other", 20, 50)
    with Gallery(place, network=NETWORK) as gallery:
        for batch in range(20):
            embeddings = np.random.default_rng(batch).standard_normal((50, DIMENSIONS))
            # The same keys as the other's, of which one writer's rows are taken.
            keys = [f"other/{batch}/{i}" for i in range(25)]
            keys += [f"ours/{batch}/{i}" for i in range(25)]
            gallery.add(embeddings, "ours", START, keys=keys)
        assert other.wait() == 0
        other.stdout.close()
        keys = _keys(gallery)
        assert len(keys) == len(set(keys)) == 20 * 75


def test_threads_share_a_gallery(gallery, rows):
    gallery.add(**rows)
    query = rows["embeddings"][0]
    wanted, failures = gallery.search(query), []

    def search():
        try:
            for _ in range(5):
                assert gallery.search(query) == wanted
                gallery.add(np.ones((1, DIMENSIONS)), 9, START)
                gallery.delete(camera=9)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_snippets_of_the_docs_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    page = pathlib.Path(__file__).parents[1] / "docs" / "gallery.md"
    snippets = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    assert len(snippets) == 3

    def embed(paths):
        """What needs no network: a row of 8 numbers for each name of a file."""
        names = [paths] if isinstance(paths, str) else paths
        seeds = [list(os.path.basename(name).encode()) for name in names]
        return np.stack([np.random.default_rng(s).standard_normal(8) for s in seeds])

    embed.network = NETWORK
    # `setattr` would look at the old value, which imports TensorFlow.
    monkeypatch.setitem(vars(cdnet_tf), "load", lambda _: embed)
    monkeypatch.chdir(tmp_path)
    few = {"train_identities": 1, "test_identities": 3, "distractors": 9, "junk": 0}
    writer.write_pedestrians("runs/drawn", **few, height=32, width=16)
    names: dict = {}
    exec("\n".join(snippets), names)
    ranked = capsys.readouterr().out.splitlines()
    assert len(ranked) == 7 and ranked[:5] == sorted(ranked[:5])
    assert f"camera {names['camera']}" not in "".join(ranked)
    assert ranked[5].startswith("0 rows; their bytes were gone at 20")
    assert ranked[6] == "None"  # nothing waits to be erased
    assert len(names["tracks"]) == 10 and names["again"][0].distance == 0
