"""The results of an evaluation of a network, as a record and as a table."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from cdnet_tf.retrieval import camera_pairs, protocol, ranking, reranking, verification

_COLUMNS = {
    "rank-1": "rank1",
    "rank-5": "rank5",
    "rank-10": "rank10",
    "mAP": "mean_ap",
    "mINP": "mean_inp",
}


def report(
    query_embeddings: np.ndarray,
    query: protocol.Labels,
    gallery_embeddings: np.ndarray,
    gallery: protocol.Labels,
    *,
    rerank: bool = False,
) -> dict:
    """Scores the ranking, chooses thresholds and compares the cameras.

    Embeddings are compared by direction, as after L2 normalisation.

    Args:
      query_embeddings: (q, d) floats.
      query: labels of the q queries.
      gallery_embeddings: (g, d) floats.
      gallery: labels of the g gallery images.
      rerank: also score the re-ranking, which takes several times as long as the rest.

    Returns:
      A record for JSON, without NaN: `scores` (fields of `ranking.Scores`), `reranked`
      (the same or None), `thresholds` (fields of `verification.Thresholds`) and
      `camera_pairs` (a list of the fields of `camera_pairs.Scores`).

    Raises:
      ValueError: as `ranking.evaluate`.
    """
    everything = query_embeddings, query, gallery_embeddings, gallery
    return {
        "scores": _plain(ranking.evaluate(*everything)),
        "reranked": _plain(reranking.evaluate(*everything)) if rerank else None,
        "thresholds": _plain(verification.thresholds(*everything)),
        "camera_pairs": [_plain(pair) for pair in camera_pairs.evaluate(*everything)],
    }


def table(report: dict) -> str:
    """Renders the record of `report` for a console.

    It is about 80 columns wide; the matrix of cameras has 8, and 6 for each camera.
    """
    parts = [
        _scores(report["scores"], report["reranked"]),
        _thresholds(report["thresholds"]),
        _camera_pairs(report["camera_pairs"]),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts)


def _plain(value: Any) -> Any:
    """Turns dataclasses and tuples into dicts and lists, which JSON preserves."""
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value


def _scores(scores: dict, reranked: dict | None) -> list[str]:
    rows = {"nearest first": scores}
    if reranked:
        rows["re-ranked"] = reranked
    lines = [f"{'':<16}" + "".join(f"{name:>9}" for name in _COLUMNS)]
    for name, row in rows.items():
        values = (f"{row[key]:>9.1%}" for key in _COLUMNS.values())
        lines.append(f"{name:<16}" + "".join(values))
    skipped = f", {scores['skipped']:,} skipped: no match under another camera"
    return [
        *lines,
        f"{scores['queries']:,} queries{skipped if scores['skipped'] else ''}.",
    ]


def _thresholds(found: dict) -> list[str]:
    """Renders a row for each rate of false accepts and one for equal errors."""
    rows = [
        (f"{100 * rate:g}% false", threshold)
        for rate, threshold in zip(found["rates"], found["at_rates"])
    ]
    lines = [f"{'same person if':<16}{'distance':>12}{'false':>12}{'true accepts':>16}"]
    for name, row in [*rows, ("equal error", found["equal_error"])]:
        if row["distance"] is None:
            lines.append(f"{name:<16}{row['note']}")
            continue
        lines.append(
            f"{name:<16}{'< ':>6}{row['distance']:<6.4f}"
            f"{row['false_accept_rate']:>12.2%}{row['true_accept_rate']:>16.2%}"
        )
    return [
        *lines,
        f"{found['genuine_pairs']:,} pairs of one person and "
        f"{found['impostor_pairs']:,} of two, of different cameras.",
    ]


def _camera_pairs(pairs: list[dict]) -> list[str]:
    """Renders the rank-1 matrix: query cameras in rows, gallery cameras in columns."""
    if not pairs:
        return ["Nobody knows the cameras, so none are compared."]
    rank1 = {(p["query_camera"], p["gallery_camera"]): p["rank1"] for p in pairs}
    rows, columns = (sorted(set(cameras)) for cameras in zip(*rank1))
    lines = [
        "rank-1 (%) of queries of one camera (row) in the gallery of another (column)"
    ]
    lines.append(f"{'':<8}" + "".join(f"{camera:>6}" for camera in columns))
    for row in rows:
        cells = (rank1.get((row, column)) for column in columns)
        values = ("-" if cell is None else f"{100 * cell:.1f}" for cell in cells)
        lines.append(f"{row:<8}" + "".join(f"{value:>6}" for value in values))
    return lines
