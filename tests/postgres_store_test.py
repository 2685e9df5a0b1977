"""What a gallery does to a PostgreSQL server; `gallery_test` has the rest."""

from __future__ import annotations

import datetime
import pathlib

import numpy as np
import psycopg
import pytest
from pgvector import Vector

from cdnet_tf.gallery import postgres_queries as queries
from cdnet_tf.gallery import postgres_store, rows, store
from cdnet_tf.gallery.gallery import Gallery
from cdnet_tf.gallery.postgres_store import PostgresStore
from cdnet_tf.gallery.records import Settings, Where
from tests import gallery_places, postgres_server
from tests.gallery_places import DIMENSIONS, MINUTE, NETWORK, START

_DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def server():
    with postgres_server.running(largest_file=4 * 2**20) as url:
        yield url


@pytest.fixture
def url(server):
    return postgres_server.new_schema(server)


@pytest.fixture
def gallery(url):
    with Gallery(url, network=NETWORK) as opened:
        yield opened


def _ask(url: str, statement: str) -> list[tuple]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def _tables(url: str) -> list[str]:
    found = _ask(
        url,
        "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() "
        "AND tablename LIKE 'cdnet_rows_%' ORDER BY 1",
    )
    return [name for (name,) in found]


def _holding(url: str, content: bytes) -> list[str]:
    """The server's files, without its log of changes, that hold some bytes."""
    _ask(url, "CHECKPOINT")
    ((folder,),) = _ask(url, "SHOW data_directory")
    files = pathlib.Path(folder, "base").rglob("*")
    return [
        str(file) for file in files if file.is_file() and content in file.read_bytes()
    ]


@pytest.fixture(scope="module")
def people():
    return gallery_places.people(3000, 32, every=MINUTE)


@pytest.fixture(scope="module")
def indexed(server, people):
    # So that the server takes the index though the table is small.
    url = postgres_server.new_schema(server) + "%20-cenable_seqscan%3Doff"
    opened = PostgresStore(url, exact_rows=100)
    opened.claim(NETWORK, 32)
    opened.add(rows.table(**people))
    opened.index()
    yield opened
    opened.close()


@pytest.mark.parametrize("where", gallery_places.FILTERS)
def test_recall_is_high_under_every_filter(indexed, people, where):
    assert gallery_places.recall(indexed, people, where) > 0.95


@pytest.fixture
def asked(monkeypatch):
    """The statements that look for rows, without those that only explain."""
    statements = []
    original = psycopg.Cursor.execute

    def execute(self, query, *values, **options):
        if "<->" in query and not query.startswith("EXPLAIN"):
            statements.append(query)
        return original(self, query, *values, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", execute)
    return statements


def test_index_is_used_where_no_row_is_left_out(indexed, people, asked):
    indexed.search(people["embeddings"][0], 10, Where(), False)
    assert len(asked) == 2 and all("halfvec" in each for each in asked)


def test_index_is_not_used_where_few_rows_are_left(indexed, people, asked):
    indexed.search(people["embeddings"][0], 10, Where(keys=("row 00001",)), False)
    assert len(asked) == 1 and "halfvec" not in asked[0]


def test_an_index_that_changes_its_answer_is_not_believed(indexed, people, monkeypatch):
    original, others = queries._followed, iter(people["embeddings"][:3])

    def followed(connection, query, *rest):
        return original(connection, Vector(next(others)), *rest)

    monkeypatch.setattr(queries, "_followed", followed)
    keys = [
        indexed.search(people["embeddings"][50], 10, Where(), exact)["key"].to_pylist()
        for exact in (False, True)
    ]
    assert keys[0] == keys[1] and not list(others)


def test_retention_drops_partitions(gallery, url):
    now = datetime.datetime.now(datetime.timezone.utc)
    ages = np.arange(60)
    times = [now - age * _DAY - datetime.timedelta(minutes=1) for age in ages]
    gallery.add(np.eye(60), 1, times, keys=[f"key {age}" for age in ages])
    before = _tables(url)
    assert gallery.expire(days=30).rows == 30
    left = _tables(url)
    assert 9 <= len(before) <= 10 and 5 <= len(left) <= 6 and {*left} < {*before}
    assert {match.key for match in gallery.search(np.ones(60), k=60)} == {
        f"key {age}" for age in range(30)
    }
    # The keys of the deleted rows are free again.
    assert _ask(url, "SELECT count(*) FROM cdnet_keys") == [(30,)]
    assert gallery.add(np.eye(60)[59:], 1, now, keys=["key 59"]) == 1


def test_erased_rows_leave_no_byte(gallery, url):
    people = gallery_places.people(400, seed=3)
    gallery.add(**{**people, "keys": [f"erased {i}." for i in range(400)]})
    # The server's statistics could hold samples of the rows.
    _ask(url, "ANALYZE")
    old, new = (people["embeddings"][i].tobytes() for i in (7, 399))
    assert _holding(url, old) and _holding(url, b"erased 7.")
    gallery.delete(key="erased 7.")
    assert _holding(url, old)
    gallery.erase()
    assert not _holding(url, old) and not _holding(url, b"erased 7.")
    assert gallery.expire(days=1).rows == 399
    assert not _holding(url, new) and not _holding(url, b"erased 399.")


def test_erasing_says_who_still_reads(gallery, url, monkeypatch):
    monkeypatch.setattr(postgres_store, "_WAIT_S", 0.1)
    gallery.add(np.eye(2), 1, START, keys=["a", "b"])
    with psycopg.connect(url, application_name="report") as other:
        other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT 1 FROM cdnet_gallery")
        gallery.delete(key="a")
        with pytest.raises(OSError, match=r"\(report\).*still sees deleted rows"):
            gallery.erase()
        assert gallery.settings.unerased_since is not None
    gallery.erase()
    assert gallery.settings.unerased_since is None


def test_full_disk_leaves_the_gallery_as_it_was(gallery, url):
    people = gallery_places.people(800, 1500, every=MINUTE)
    first = {name: values[:10] for name, values in people.items()}
    gallery.add(**first)
    # A file that may not grow fails as one on a full disk does.
    with pytest.raises(OSError, match="too large.*whole or not at all"):
        gallery.add(**people)
    assert gallery.count() == 10
    # Another partition has room.
    later = {name: values[5:20] for name, values in people.items()}
    assert gallery.add(**{**later, "times": START + 9 * _DAY}) == 10


@pytest.mark.parametrize("found, remedy", [(2, "update cdnet_tf"), (0, "export it")])
def test_refuses_another_format(gallery, url, found, remedy):
    gallery.add(np.eye(2), 1, START)
    _ask(url, f"UPDATE cdnet_gallery SET format = {found}")
    for use in (lambda: Gallery(url), lambda: gallery.add(np.eye(2), 1, START)):
        with pytest.raises(store.VersionError, match=f"has format {found}.*{remedy}"):
            use()


def test_opening_makes_nothing(gallery, url):
    assert gallery.settings == Settings() and gallery.count() == 0
    assert _ask(url, "SELECT to_regclass('cdnet_gallery')") == [(None,)]


def test_says_what_the_database_lacks(gallery, url, server):
    private = url.replace(",public", "")
    with Gallery(private, network=NETWORK) as opened:
        with pytest.raises(OSError, match="search_path does not lead to the extension"):
            opened.add(np.eye(DIMENSIONS), 1, START)
    _ask(server, "CREATE ROLE camera LOGIN")
    _ask(server, "CREATE DATABASE bare")
    bare = server.rpartition("/")[0] + "/bare"
    _ask(bare, "GRANT ALL ON SCHEMA public TO camera")
    with Gallery(bare.replace("postgres@", "camera@"), network=NETWORK) as opened:
        with pytest.raises(OSError, match="let an administrator run CREATE EXTENSION"):
            opened.add(np.eye(DIMENSIONS), 1, START)


def test_says_why_there_is_no_connection(url, server):
    with pytest.raises(OSError, match='database "nowhere" does not exist'):
        Gallery(server.rpartition("/")[0] + "/nowhere")
    with Gallery(url.replace("postgres@", "postgres:secret@")) as opened:
        assert "secret" not in opened.location and "postgres@" in opened.location


def test_connection_that_broke_is_made_again(gallery, url):
    gallery.add(np.eye(2), 1, START)
    ended = _ask(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    assert (True,) in ended
    assert gallery.count() == 2
