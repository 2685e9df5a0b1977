"""The queries of `postgres_store`; each runs in a transaction of its caller."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
import pyarrow
from pgvector import Vector
from psycopg.types.json import Jsonb

from cdnet_tf.gallery import postgres_tables as tables
from cdnet_tf.gallery import rows, tracks
from cdnet_tf.gallery.records import Where
from cdnet_tf.gallery.rows import DESCRIPTION

# The index follows this many candidates, and more until that changes nothing. pgvector
# follows 1,000 at most, and this many times k are compared again in full precision.
_FOLLOWED = (200, 450, 1000)
_REFINED = 4
_TYPES = ("text", "vector", "text", "timestamptz", "text", "text", "bytea", "jsonb")


def one(connection: psycopg.Connection, statement: str, values: Sequence = ()) -> Any:
    """Returns the first column of the first row, or None if there is no row."""
    found = connection.execute(statement, values).fetchone()
    return None if found is None else found[0]


def exists(connection: psycopg.Connection, name: str) -> bool:
    """Says whether there is a table or index of this name."""
    return one(connection, "SELECT to_regclass(%s) IS NOT NULL", [name])


def make_extension(connection: psycopg.Connection) -> None:
    """Creates the extension pgvector, if the database does not have it.

    Raises:
      OSError: it cannot be created, or the search path does not lead to it.
    """
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
    except psycopg.Error as error:
        raise OSError(
            f"The database lacks the extension vector, and cannot create it: {error}. "
            "Install pgvector on the server, and let an administrator run CREATE "
            "EXTENSION vector in this database."
        ) from error
    if one(connection, "SELECT to_regtype('vector') IS NULL"):
        raise OSError(
            "The connection's search_path does not lead to the extension vector; add "
            "the schema that has it, usually public."
        )


def copy(connection: psycopg.Connection, table: pyarrow.Table, new: set) -> None:
    """Copies the rows of a table whose keys are in `new` to the server."""
    embeddings = tracks.matrix(table).astype(np.float32)
    columns = [
        rows.moments(table[name]) if name == "time" else table[name].to_pylist()
        for name in DESCRIPTION
    ]
    statement = "COPY cdnet_rows FROM STDIN (FORMAT BINARY)"
    with connection.cursor().copy(statement) as copying:
        copying.set_types(_TYPES)
        for embedding, (key, *middle, metadata) in zip(embeddings, zip(*columns)):
            if key in new:
                described = Jsonb(metadata, dumps=str)  # text already
                copying.write_row((key, Vector(embedding), *middle, described))


def exactly(
    connection: psycopg.Connection, query: Vector, k: int, where: Where
) -> pyarrow.Table:
    """Finds the k nearest rows by comparing the query with each row of `where`."""
    condition, values = tables.condition(where)
    # The index holds half-precision embeddings, so it does not serve this order.
    statement = (
        f"SELECT {selected(DESCRIPTION)}, (embedding <-> %s) ^ 2 FROM cdnet_rows "
        f"WHERE {condition} ORDER BY embedding <-> %s LIMIT %s"
    )
    return _answer(connection, statement, [query, *values, query, k])


def by_index(
    connection: psycopg.Connection, query: Vector, k: int, where: Where, dimensions: int
) -> pyarrow.Table:
    """Finds k near rows, by the index if the server's planner would use it.

    It does not where a filter leaves few rows. There, and where the index is not to be
    trusted because it finds other rows the longer it looks, the query is compared with
    each row of `where`.
    """
    before = None
    for followed in _FOLLOWED:
        if followed < _REFINED * k and followed < _FOLLOWED[-1]:
            continue
        statement, values = _followed(connection, query, k, where, dimensions, followed)
        if before is None and not _by_distance(connection, statement, values):
            break
        found = _answer(connection, statement, values)
        keys = set(found["key"].to_pylist())
        if keys == before and len(found) == k:
            return found
        before = keys
    return exactly(connection, query, k, where)


def _followed(
    connection: psycopg.Connection,
    query: Vector,
    k: int,
    where: Where,
    dimensions: int,
    followed: int,
) -> tuple[str, list]:
    """Returns a query for k near rows among the candidates that the index follows."""
    condition, values = tables.condition(where)
    connection.execute(f"SET LOCAL hnsw.ef_search = {followed}")
    # The scan continues if the filter leaves too few of the candidates.
    connection.execute("SET LOCAL hnsw.iterative_scan = relaxed_order")
    half = f"halfvec({dimensions})"
    statement = (
        f"WITH near AS MATERIALIZED (SELECT *, embedding <-> %s AS distance "
        f"FROM cdnet_rows WHERE {condition} "
        f"ORDER BY embedding::{half} <-> %s::{half} LIMIT %s) "
        f"SELECT {selected(DESCRIPTION)}, distance ^ 2 FROM near "
        "ORDER BY distance LIMIT %s"
    )
    return statement, [query, *values, query, _REFINED * k, k]


def _by_distance(
    connection: psycopg.Connection, statement: str, values: Sequence
) -> bool:
    """Says whether the planner takes rows from an index in the order of distance."""
    plan = connection.execute(f"EXPLAIN {statement}", values).fetchall()
    return any("Order By:" in line for (line,) in plan)


def delete(connection: psycopg.Connection, where: Where) -> int:
    """Deletes the rows of `where` and their keys, and returns how many."""
    condition, values = tables.condition(where)
    return one(connection, tables.DELETE.format(condition=condition), values)


def drop_before(connection: psycopg.Connection, until: datetime.datetime) -> int:
    """Drops the partitions that end by a time, and returns how many rows they had."""
    last = tables.last_to_drop(until)
    count = 0
    for (name,) in connection.execute(tables.OLD, [last]).fetchall():
        count += one(connection, f"SELECT count(*) FROM {name}")
        connection.execute(f"DROP TABLE {name}")
    if count:
        before = tables.week(until)
        connection.execute("DELETE FROM cdnet_keys WHERE time < %s", [before])
        connection.execute("INSERT INTO cdnet_unerased (name) VALUES ('cdnet_keys')")
    return count


def selected(columns: Sequence[str]) -> str:
    """Returns the list of columns for a SELECT; metadata are selected as text."""
    return ", ".join(f"{c}::text" if c == "metadata" else c for c in columns)


def to_table(
    found: Sequence[tuple], columns: Sequence[str], dimensions: int
) -> pyarrow.Table:
    """Makes an Arrow table of the rows that a SELECT has found."""
    schema = rows.schema(dimensions)
    arrays = []
    for name, values in zip(columns, zip(*found)):
        if name == "embedding":
            numbers = np.concatenate([value.to_numpy() for value in values])
            array = pyarrow.FixedSizeListArray.from_arrays(numbers, dimensions)
        else:
            array = pyarrow.array(values, schema.field(name).type)
        arrays.append(array)
    fields = [schema.field(name) for name in columns]
    return pyarrow.table(arrays, schema=pyarrow.schema(fields))


def _answer(
    connection: psycopg.Connection, statement: str, values: Sequence
) -> pyarrow.Table:
    with connection.cursor(binary=True) as cursor:
        found = cursor.execute(statement, values).fetchall()
    described = to_table([row[:-1] for row in found], DESCRIPTION, 1) if found else None
    if described is None:
        return rows.nothing()
    return described.append_column("squared", [pyarrow.array(r[-1] for r in found)])
