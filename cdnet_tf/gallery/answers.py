"""Turns the rows that a store found into `Match` objects."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable

import pyarrow

from cdnet_tf.gallery import rows
from cdnet_tf.gallery.records import Match
from cdnet_tf.gallery.tracks import Ranked


def of_rows(table: pyarrow.Table) -> list[Match]:
    """Returns a match for each row, nearest first; equally near rows go by key.

    Args:
      table: the columns `rows.DESCRIPTION`, and `squared`, the squared distance.
    """
    found = [
        _match(row, math.sqrt(max(0.0, squared)))
        for row, squared in zip(_described(table), table["squared"].to_pylist())
    ]
    return sorted(found, key=lambda match: (match.distance, match.key))


def of_tracks(ranked: Iterable[Ranked], tables: Iterable[pyarrow.Table]) -> list[Match]:
    """Returns a match for each ranked track, in the same order.

    A match describes the row that `Ranked.key` names. A track is left out if this row
    was deleted after the ranking.
    """
    found = {row["key"]: row for table in tables for row in _described(table)}
    return [
        _match(found[each.key], each.distance, each.rows)
        for each in ranked
        if each.key in found
    ]


def _described(table: pyarrow.Table) -> list[dict]:
    described = table.select([name for name in rows.DESCRIPTION if name != "time"])
    times = rows.moments(table["time"])
    return [{**row, "time": time} for row, time in zip(described.to_pylist(), times)]


def _match(row: dict, distance: float, count: int = 1) -> Match:
    return Match(
        key=row["key"],
        distance=distance,
        camera=row["camera"],
        time=row["time"],
        track=row["track"],
        picture=row["picture_path"] or row["picture"],
        metadata=json.loads(row["metadata"]),
        rows=count,
    )
