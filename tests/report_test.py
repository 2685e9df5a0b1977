"""The record of an evaluation holds its parts' results, and the table shows them."""

from __future__ import annotations

import dataclasses
import json
import types

import numpy as np
import pytest

from cdnet_tf.retrieval import camera_pairs, ranking, report, reranking, verification


def _labels(identities, cameras):
    return types.SimpleNamespace(
        identities=np.array(identities), cameras=np.array(cameras)
    )


@pytest.fixture(scope="module")
def everything():
    random = np.random.default_rng(0)
    query, gallery = (
        _labels(random.integers(1, 9, n), random.integers(1, 4, n)) for n in (30, 150)
    )
    centres = random.standard_normal((9, 8))
    q, g = (
        centres[each.identities] + random.standard_normal((len(each.cameras), 8))
        for each in (query, gallery)
    )
    return q, query, g, gallery


def test_record_holds_what_the_parts_say(everything):
    found = report.report(*everything, rerank=True)
    again = json.loads(json.dumps(found, allow_nan=False))
    assert again == found
    assert set(found) == {"scores", "reranked", "thresholds", "camera_pairs"}
    scores = dataclasses.asdict(ranking.evaluate(*everything))
    assert found["scores"] == scores | {"cmc": list(scores["cmc"])}
    reranked = reranking.evaluate(*everything)
    assert found["reranked"]["mean_ap"] == reranked.mean_ap != scores["mean_ap"]
    thresholds = verification.thresholds(*everything)
    assert found["thresholds"]["rates"] == [0.01, 0.001]
    assert found["thresholds"]["at_rates"][1] == dataclasses.asdict(
        thresholds.at_rates[1]
    )
    pairs = [dataclasses.asdict(pair) for pair in camera_pairs.evaluate(*everything)]
    assert found["camera_pairs"] == pairs and len(pairs) == 6


def test_re_ranking_is_left_out_unless_asked_for(everything):
    found = report.report(*everything)
    assert found["reranked"] is None
    assert "re-ranked" not in report.table(found)
    assert "re-ranked" in report.table(report.report(*everything, rerank=True))


def test_numpy_labels_do_not_reach_the_record(everything):
    q, query, g, gallery = everything
    query = _labels(query.identities.astype(np.int32), query.cameras.astype(np.int32))
    json.dumps(report.report(q, query, g, gallery), allow_nan=False)


def test_table_by_hand():
    # Query 1 (camera 1) finds its match first, of camera 2; query 2 (camera 2) has an
    # impostor before it, of camera 1, and finds its match second, of camera 3. Query 3
    # has no match.
    query = _labels([5, 6, 7], [1, 2, 1])
    gallery = _labels([5, 8, 6], [2, 1, 3])
    q = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    g = np.array([[1.0, 0.1], [0.1, 1.0], [-1.0, 1.0]])
    lines = report.table(report.report(q, query, g, gallery)).splitlines()
    assert lines[0].split() == ["rank-1", "rank-5", "rank-10", "mAP", "mINP"]
    # AP and INP of query 2 are 1/2.
    assert lines[1].split()[2:] == ["50.0%", "100.0%", "100.0%", "75.0%", "75.0%"]
    assert lines[2].startswith("2 queries, 1 skipped")
    # Impostor pairs of two cameras: query 1 with 6; 2 with 8; 3 with 5 and 6.
    assert lines[5].split(maxsplit=2)[2] == (
        "4 impostor pairs cannot tell a rate of 0.01; it takes 100."
    )
    assert lines[7].startswith("equal error")
    assert lines[8].startswith("2 pairs of one person and 4 of two")
    # Alone in camera 3's gallery, query 2's match comes first.
    assert [line.split() for line in lines[11:]] == [
        ["2", "3"],
        ["1", "100.0", "-"],
        ["2", "-", "100.0"],
    ]


def test_threshold_stands_beside_its_rates(everything):
    found = report.report(*everything)
    lines = report.table(found).splitlines()
    first = found["thresholds"]["at_rates"][0]
    (line,) = (line for line in lines if line.startswith("1% false"))
    assert line.split()[3:] == [
        f"{first['distance']:.4f}",
        f"{first['false_accept_rate']:.2%}",
        f"{first['true_accept_rate']:.2%}",
    ]


def test_nothing_is_reported_without_a_match():
    one = np.ones((1, 2))
    with pytest.raises(ValueError, match="none of the 1 queries"):
        report.report(one, _labels([1], [1]), one, _labels([2], [2]))
