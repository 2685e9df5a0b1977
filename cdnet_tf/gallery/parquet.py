"""Writes rows to Parquet files and reads them, for backups and other programs."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow
from pyarrow import compute, parquet

from cdnet_tf import atomic_files
from cdnet_tf.deploy.identity import Network
from cdnet_tf.gallery import rows

_NAME, _CHECKSUM = b"cdnet_tf.network.name", b"cdnet_tf.network.checksum"
_ROWS = 10_000  # read at once


def write(
    path: str | os.PathLike,
    tables: Iterable[pyarrow.Table],
    network: Network,
    dimensions: int,
) -> int:
    """Writes rows to a file, whole or not at all, and returns how many.

    The metadata of the file's schema name the network.
    """
    schema = rows.schema(dimensions).with_metadata(_naming(network))
    count = 0
    with atomic_files.replacing(path) as partial:
        with parquet.ParquetWriter(partial, schema) as writer:
            for table in tables:
                writer.write_table(table.select(schema.names).cast(schema))
                count += len(table)
    return count


def bulk_schema(network: Network) -> pyarrow.Schema:
    """Returns `rows.schema` with an `error`; a row with an error has no embedding."""
    schema = rows.schema(1)
    # Arrow 18 cannot read a column of fixed-size lists if one of them is missing.
    embedding = pyarrow.field("embedding", pyarrow.list_(pyarrow.float32()))
    schema = schema.set(schema.get_field_index("embedding"), embedding)
    schema = schema.append(pyarrow.field("error", pyarrow.string()))
    return schema.with_metadata(_naming(network))


def files(path: str | os.PathLike) -> list[pathlib.Path]:
    """Lists the Parquet files of a path: the file itself, or a folder's shards.

    Raises:
      ValueError: the folder lacks shards, or does not hold one bulk embedding.
    """
    place = pathlib.Path(path)
    if not place.is_dir():
        return [place]
    found = sorted(place.glob("part-*-of-*.parquet"))
    counts = {each.stem.rpartition("-of-")[2] for each in found}
    if not found or len(counts) > 1:
        raise ValueError(
            f"{place} holds {'several' if found else 'no'} bulk embeddings; pass a "
            "folder that tools/embed.py wrote, or a Parquet file."
        )
    if len(found) < int(*counts):
        raise ValueError(
            f"{place} lacks {int(*counts) - len(found)} of {int(*counts)} shards; "
            "start tools/embed.py again with the same flags, and it writes them."
        )
    return found


def read_network(path: str | os.PathLike) -> Network | None:
    """Returns the network that a file names, or None if it names none."""
    found = parquet.read_schema(path).metadata or {}
    if _NAME not in found or _CHECKSUM not in found:
        return None
    return Network(found[_NAME].decode(), found[_CHECKSUM].decode())


def read(path: str | os.PathLike) -> Iterator[pyarrow.Table]:
    """Yields the rows of a file that have no `error`, checked by `rows.table`.

    Raises:
      ValueError: a column is missing, or a row is wrong.
    """
    with parquet.ParquetFile(path) as file:
        missing = {"key", "embedding", "camera", "time"} - set(file.schema_arrow.names)
        if missing:
            raise ValueError(
                f"{os.fspath(path)} has no column {', '.join(sorted(missing))}; pass a "
                "file that Gallery.export or bulk embedding wrote."
            )
        for batch in file.iter_batches(_ROWS):
            table = pyarrow.Table.from_batches([batch])
            if "error" in table.column_names:
                table = table.filter(table["error"].is_null())
            if len(table):
                yield _checked(table)


def _naming(network: Network) -> dict[bytes, bytes]:
    return {_NAME: network.name.encode(), _CHECKSUM: network.checksum.encode()}


def _checked(table: pyarrow.Table) -> pyarrow.Table:
    found = {
        name: table[name].to_pylist()
        for name in rows.DESCRIPTION
        if name in table.column_names and name != "time"
    }
    nothing = [None] * len(table)
    paths, contents, metadata = (
        found.get(name, nothing) for name in ("picture_path", "picture", "metadata")
    )
    times = table["time"]
    if getattr(times.type, "tz", None) is None:
        raise ValueError(
            f"The column time is of type {times.type}, without a time zone; write "
            'times in UTC, as timestamp("us", "UTC").'
        )
    return rows.table(
        _matrix(table["embedding"]),
        found["camera"],
        rows.moments(times.cast(pyarrow.timestamp("us", "UTC"), safe=False)),
        keys=found["key"],
        tracks=found.get("track", nothing),
        pictures=[path or content for path, content in zip(paths, contents)],
        metadata=[json.loads(text) if text else None for text in metadata],
    )


def _matrix(column: pyarrow.ChunkedArray) -> np.ndarray:
    """Returns a column of lists, of any Arrow list type, as (rows, dimensions)."""
    lengths = compute.list_value_length(column).unique().to_pylist()
    if len(lengths) != 1 or not lengths[0]:
        raise ValueError(
            f"The embeddings of the file have {lengths} dimensions; all rows must have "
            "the same number, and a row without an embedding must have an error."
        )
    numbers = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return numbers.reshape(-1, lengths[0])
