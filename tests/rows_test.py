"""Rows are checked and described before a database sees them."""

from __future__ import annotations

import datetime
import pathlib

import numpy as np
import pytest

from cdnet_tf.gallery import rows
from tests import gallery_places
from tests.gallery_places import START

_COUNT = 9


@pytest.mark.parametrize(
    "change, message",
    [
        ({"embeddings": np.ones((_COUNT, 3, 2))}, r"have shape \(9, 3, 2\)"),
        ({"keys": ["a"]}, "9 embeddings come with 1 values for key"),
        ({"keys": [""] * _COUNT}, "The key '' has 0 bytes"),
        ({"embeddings": np.ones(16)}, r"have shape \(16,\)"),
        ({"embeddings": [["a"] * 16] * _COUNT}, "type <U1; pass a matrix of numbers"),
        ({"cameras": [1, 2]}, "come with 2 values for camera"),
        ({"cameras": 1.5}, "The camera 1.5 is of type float"),
        ({"cameras": ""}, "The camera '' has 0 bytes"),
        ({"cameras": "a\0b"}, "NUL character"),
        ({"cameras": "\ud800"}, "no valid Unicode"),
        ({"times": START.replace(tzinfo=None)}, "has no time zone"),
        ({"times": "2026-03-01"}, "is no time"),
        ({"times": np.datetime64("NaT")}, "is no time"),
        ({"tracks": "x" * 1001}, "has 1001 bytes; use 1 to 1000"),
        ({"pictures": [b"x" * (2**20 + 1)] * _COUNT}, "row 0 has 1,048,577 bytes"),
        ({"metadata": [{"a": float("nan")}] * _COUNT}, "metadata of row 0 cannot be"),
        ({"metadata": [{"a": "\0"}] * _COUNT}, "metadata of row 0 has a NUL"),
        ({"metadata": [3] * _COUNT}, "a int is no dict"),
    ],
)
def test_refuses_wrong_rows(change, message):
    with pytest.raises(ValueError, match=message):
        rows.table(**{**gallery_places.people(_COUNT), **change})


def test_embeddings_have_length_1_and_no_row_is_twice():
    table = rows.table([[3, 4], [0, -2], [1, 1]], "gate", START, keys=["b", "a", "b"])
    assert table.schema.equals(rows.schema(2))
    np.testing.assert_allclose(table["embedding"].to_pylist(), [[0.6, 0.8], [0, -1]])
    assert table["key"].to_pylist() == ["b", "a"]
    assert table["camera"].to_pylist() == ["gate", "gate"]


def test_keys_are_made_of_what_a_row_holds():
    def key(embedding=(1, 2), camera=1, time=START, track=None):
        return rows.table([embedding], camera, time, tracks=track)["key"][0].as_py()

    others = [
        key(embedding=(1, 3)),
        key(camera=2),
        key(time=START + datetime.timedelta(microseconds=1)),
        key(track=1),
    ]
    # The length of the embedding is not kept, so it does not count.
    assert key() == key(embedding=(2, 4), camera="1", time=np.datetime64("2026-03-01"))
    assert len({key(), *others}) == 5


def test_paths_and_bytes_are_pictures():
    pictures = [pathlib.Path("a/b.jpg"), b"jpeg", None, bytearray(b"png")]
    table = rows.table(np.eye(4), 1, START, pictures=pictures)
    assert table["picture_path"].to_pylist() == ["a/b.jpg", None, None, None]
    assert table["picture"].to_pylist() == [None, b"jpeg", None, b"png"]


def test_backslashes_are_no_nul_characters():
    table = rows.table([[1]], 1, START, metadata=[{"path": "c:\\u0000"}])
    assert "u0000" in table["metadata"][0].as_py()
