"""Rehearsed searches: what a choice counts for, and who may be chosen."""

import numpy as np
import pytest

from cdnet_tf.bench import plans, table
from cdnet_tf.strategies import rehearsal

_NETWORKS = plans.drawn(20)


def _entries(scores):
    """Returns a training for each seed of each network, scored alike on both groups."""
    return [
        table.Entry(
            network,
            seed,
            60,
            301,
            network.depth,
            10,
            macs * 10**6,
            9.0,
            50,
            own,
            50,
            own,
            99,
            "",
        )
        for macs, (network, row) in enumerate(zip(_NETWORKS, scores), 100)
        for seed, own in enumerate(row)
    ]


def _rows(section):
    lines = (line.rsplit(maxsplit=5) for line in section.splitlines()[2:])
    return {name.strip(): float(gain) for name, gain, *_ in lines}


def _everything(pool, seen, random):
    return rehearsal.Scored(np.arange(len(seen)), seen)


def _best(pool, search, searches):
    return rehearsal.worth(pool, search, searches).best


def test_where_seeds_agree_the_best_is_found():
    pool = rehearsal.pool_of(_entries([(i, i) for i in range(20)]))
    assert set(_best(pool, _everything, 5)) == {19.0}
    found = _best(pool, rehearsal.KINDS["random, 8 trainings"].search, 300)
    # The greatest of 8 out of 0 to 19 is 8/9 * 21 - 1 on average.
    assert found.mean() == pytest.approx(8 / 9 * 21 - 1, abs=0.5)
    cheapest = rehearsal.KINDS["the fewest MACs"].search
    assert set(_best(pool, cheapest, 5)) == {0.0}


def test_luck_of_the_trainings_that_were_seen_does_not_count():
    luck = np.random.default_rng(0).normal(60, 5, (20, 4))
    pool = rehearsal.pool_of(_entries(luck))
    found = _best(pool, _everything, 500)
    # The greatest of 20 lies about 9 above 60; what was not seen lies about 60.
    assert abs(found.mean() - luck.mean()) < 3


def test_regression_finds_what_adds_up():
    depths = np.array([network.depth for network in _NETWORKS], float)
    pool = rehearsal.pool_of(_entries(np.stack([depths, depths], axis=1)))
    found = _best(pool, rehearsal.KINDS["regression, 16 trainings"].search, 30)
    assert found.mean() > depths.mean() + 1.5


def test_a_front_counts_by_its_area():
    pool = rehearsal.pool_of(_entries([(i, i) for i in range(20)]))
    # The costs are 100 to 119 M, and each network beats the next cheaper one by 1.
    assert rehearsal.worth(pool, _everything, 1).areas == [sum(range(19))]

    def worst_and_best(pool, seen, random):
        places = seen.argsort()[[0, -2]]
        return rehearsal.Scored(places, seen[places])

    assert rehearsal.worth(pool, worst_and_best, 1).areas == [18]


def test_report_says_what_each_kind_gains(monkeypatch):
    monkeypatch.setattr(rehearsal, "_SEARCHES", 100)
    monkeypatch.setattr(rehearsal, "_DRAWS", 10)
    text = rehearsal.report(_entries([(i, i) for i in range(20)]))
    assert "among 20 networks. A blind draw has 9.50 % test mAP" in text
    gains, areas = text.split("\n\n")
    rows = _rows(gains)
    assert rows["the fewest MACs"] == -9.5
    assert 9.5 > rows["random, 16 trainings"] > rows["random, 8 trainings"] > 5
    # The cheapest network alone is the worst one, so it beats nothing.
    lines = {line[:25].strip(): line[25:].split() for line in areas.splitlines()[2:]}
    assert lines["the fewest MACs"][0] == "0.0"
    assert float(lines["the fewest MACs"][1]) < -50
    drawn = float(lines["random, 16 trainings"][0])
    predicted, more, *_ = map(float, lines["regression, 16 trainings"][:2])
    assert predicted - drawn == pytest.approx(more, abs=0.1)


def test_networks_with_one_seed_are_left_out():
    scores = [(i, i) for i in range(17)] + [(90,)] * 3
    assert len(rehearsal.pool_of(_entries(scores)).genotypes) == 17
    with pytest.raises(ValueError, match="15 networks.*need 16 such.*second seeds"):
        rehearsal.pool_of(_entries(scores[2:]))
