"""Checks rows that are to be added, and makes an Arrow table of them.

Wrong rows are refused before a database sees them, by an error that names them. NumPy
and Arrow only.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow

_TEXT_BYTES = 1000  # of a key, camera or track; PostgreSQL indexes no more than 2,700
_PICTURE_BYTES = 2**20
_BYTES = (bytes, bytearray, memoryview)
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # as JSON writes it
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_NAMED = 3  # how many wrong rows an error names


def schema(dimensions: int) -> pyarrow.Schema:
    """Returns the columns of rows whose embeddings have `dimensions` numbers."""
    return pyarrow.schema(
        [
            pyarrow.field("key", pyarrow.string(), nullable=False),
            pyarrow.field(
                "embedding", pyarrow.list_(pyarrow.float32(), dimensions), False
            ),
            pyarrow.field("camera", pyarrow.string(), nullable=False),
            pyarrow.field("time", pyarrow.timestamp("us", "UTC"), nullable=False),
            pyarrow.field("track", pyarrow.string()),
            pyarrow.field("picture_path", pyarrow.string()),
            pyarrow.field("picture", pyarrow.binary()),
            pyarrow.field("metadata", pyarrow.string(), nullable=False),
        ]
    )


# Everything but the embedding.
DESCRIPTION = tuple(name for name in schema(1).names if name != "embedding")


def nothing() -> pyarrow.Table:
    """Returns the table without rows that a search in an empty gallery finds."""
    fields = [field for field in schema(1) if field.name != "embedding"]
    squared = pyarrow.field("squared", pyarrow.float32())
    return pyarrow.schema([*fields, squared]).empty_table()


def table(
    embeddings: np.ndarray,
    cameras: Any,
    times: Any,
    *,
    keys: Sequence[str] | None = None,
    tracks: Any = None,
    pictures: Sequence[str | os.PathLike | bytes | None] | None = None,
    metadata: Sequence[dict[str, Any] | None] | None = None,
) -> pyarrow.Table:
    """Checks rows, and makes a table of them with the columns of `schema`.

    Embeddings are normalised to length 1. Of rows with equal keys the first is taken.
    If no keys are given, a row's key is a hash of its camera, time, track and
    embedding, so that an equal row has an equal key.

    Args:
      embeddings: (n, d) finite numbers, no row of zeros.
      cameras: n texts or numbers, or one for all rows.
      times: n times with a time zone or NumPy times (which are UTC), or one for all.
      keys: n texts, or None.
      tracks: n texts, numbers or None, or one for all rows.
      pictures: n paths, encoded pictures or None.
      metadata: n mappings that JSON can hold, or None.

    Raises:
      ValueError: a row is wrong.
    """
    normalised = unit_rows(embeddings, keys)
    count, dimensions = normalised.shape
    camera_texts = _texts(cameras, count, "camera")
    stamps = _times(times, count)
    track_texts = _texts(tracks, count, "track", optional=True)
    if keys is None:
        keys = _content_keys(normalised, camera_texts, stamps, track_texts)
    paths, contents = _pictures(pictures, count)
    columns = [
        _texts(_each(keys, count, "key"), count, "key"),
        pyarrow.FixedSizeListArray.from_arrays(normalised.ravel(), dimensions),
        camera_texts,
        stamps,
        track_texts,
        paths,
        contents,
        _metadata(metadata, count),
    ]
    whole = pyarrow.table(columns, schema=schema(dimensions))
    firsts = np.unique(np.array(columns[0], object), return_index=True)[1]
    return whole if len(firsts) == count else whole.take(np.sort(firsts))


def unit_rows(embeddings: Any, keys: Sequence[str] | None = None) -> np.ndarray:
    """Normalises embeddings (n, d) to length 1, in float32.

    Raises:
      ValueError: `embeddings` is no matrix of numbers, or a row holds NaN, infinity, or
        nothing but zeros.
    """
    matrix = np.asarray(embeddings)
    if matrix.ndim != 2 or not matrix.size or matrix.dtype.kind not in "fiu":
        raise ValueError(
            f"The embeddings have shape {matrix.shape} and type {matrix.dtype}; pass a "
            "matrix of numbers (rows, dimensions)."
        )
    matrix = matrix.astype(np.float64)
    # (n,); a row that holds NaN or infinity has such a length.
    lengths = np.sqrt(np.einsum("nd,nd->n", matrix, matrix))
    _refuse(~np.isfinite(lengths), keys, "NaN or infinity")
    _refuse(lengths == 0, keys, "nothing but zeros, which point nowhere")
    return (matrix / lengths[:, np.newaxis]).astype(np.float32)


def text(value: Any, what: str) -> str:
    """Checks a camera, track or key, and returns it as text: 3 becomes "3".

    Raises:
      ValueError: it is empty, longer than 1,000 bytes, or neither text nor a whole
        number, or it has characters that a database cannot hold.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, np.integer)):
        raise ValueError(
            f"The {what} {value!r} is of type {type(value).__name__}; pass text or a "
            "whole number."
        )
    found = str(value)
    _check_storable(found, f"The {what}")
    if not 0 < len(found.encode()) <= _TEXT_BYTES:
        raise ValueError(
            f"The {what} {found[:40]!r} has {len(found.encode())} bytes; use 1 to "
            f"{_TEXT_BYTES}."
        )
    return found


def moment(value: Any, what: str = "time") -> datetime.datetime:
    """Returns a time in UTC.

    Raises:
      ValueError: it is neither a `datetime` with a time zone nor a NumPy time.
    """
    if isinstance(value, np.datetime64) and not np.isnat(value):
        value = value.astype("datetime64[us]").item()
        if isinstance(value, datetime.datetime):
            return value.replace(tzinfo=datetime.timezone.utc)
    if isinstance(value, datetime.datetime) and value.utcoffset() is not None:
        return value.astimezone(datetime.timezone.utc)
    raise ValueError(
        f"The {what} {value!r} has no time zone or is no time; pass a "
        "datetime.datetime with tzinfo, such as datetime.now(timezone.utc), or a "
        "numpy.datetime64, which is taken for UTC."
    )


def moments(column: pyarrow.ChunkedArray) -> list[datetime.datetime]:
    """Returns the times of a column of type `timestamp("us", "UTC")`.

    Arrow's own `to_pylist` is slow: it looks in vain for the package pytz, for each
    value anew.
    """
    return [
        _EPOCH + datetime.timedelta(microseconds=count)
        for count in column.cast(pyarrow.int64()).to_pylist()
    ]


def _refuse(wrong: np.ndarray, keys: Sequence[str] | None, what: str) -> None:
    places = np.flatnonzero(wrong)
    if len(places):
        known = keys if keys is not None and len(keys) == len(wrong) else None
        names = [
            f"{i} (key {known[i]!r})" if known else f"{i}" for i in places[:_NAMED]
        ]
        more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
        raise ValueError(
            f"The embeddings of rows {', '.join(names)}{more} hold {what}; leave these "
            "rows out, and look at their images."
        )


def _check_storable(found: str, what: str) -> None:
    try:
        found.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} {found[:40]!r} is no valid Unicode.") from None
    if "\0" in found:
        raise ValueError(f"{what} {found[:40]!r} has a NUL character; take it out.")


def _each(values: Any, count: int, what: str) -> Sequence:
    """Returns a value for each row, from such values or from one for all rows."""
    if isinstance(values, (str, bytes, dict)) or not hasattr(values, "__len__"):
        return [values] * count
    if len(values) != count:
        raise ValueError(
            f"{count} embeddings come with {len(values)} values for {what}; pass one "
            "for each embedding."
        )
    return values


def _texts(values: Any, count: int, what: str, optional: bool = False) -> list:
    each = _each(values, count, what)
    return [None if optional and v is None else text(v, what) for v in each]


def _times(values: Any, count: int) -> list[datetime.datetime]:
    return [moment(value) for value in _each(values, count, "time")]


def _content_keys(embeddings, cameras, times, tracks) -> list[str]:
    found = []
    for embedding, *rest in zip(embeddings, cameras, times, tracks):
        described = json.dumps([str(each) for each in rest]).encode()
        found.append(hashlib.sha256(described + embedding.tobytes()).hexdigest()[:32])
    return found


def _pictures(values: Any, count: int) -> tuple[list, list]:
    paths: list[str | None] = []
    contents: list[bytes | None] = []
    for i, value in enumerate(_each(values, count, "picture")):
        content = bytes(value) if isinstance(value, _BYTES) else None
        path = None if value is None or content is not None else os.fspath(value)
        if content is not None and len(content) > _PICTURE_BYTES:
            raise ValueError(
                f"The picture of row {i} has {len(content):,} bytes; a gallery holds "
                f"up to {_PICTURE_BYTES:,} of each. Make the picture smaller, or pass "
                "its path."
            )
        if path is not None:
            _check_storable(path, "The picture's path")
        paths.append(path)
        contents.append(content)
    return paths, contents


def _metadata(values: Any, count: int) -> list[str]:
    found = []
    for i, value in enumerate(_each(values, count, "metadata")):
        try:
            if not isinstance(value or {}, dict):
                raise TypeError(f"a {type(value).__name__} is no dict")
            written = json.dumps(
                value or {}, allow_nan=False, sort_keys=True, ensure_ascii=False
            )
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"The metadata of row {i} cannot be kept: {error}. Pass a dict of "
                "texts, numbers, lists and dicts, without NaN."
            ) from error
        if _NUL.search(written):
            raise ValueError(f"The metadata of row {i} has a NUL character.")
        _check_storable(written, f"The metadata of row {i}")
        found.append(written)
    return found
