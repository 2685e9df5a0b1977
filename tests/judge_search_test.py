"""Scores of a supernet against a table: what is scored, and what is said of it."""

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.bench import table
from cdnet_tf.nn import genotype
from cdnet_tf.settings import SearchSettings
from cdnet_tf.strategies import candidates, run, single_path
from tools import judge_search


def _entries():
    """Twelve networks, two of each depth from 7 to 12, with two seeds that agree."""
    draws = np.random.default_rng(0)
    entries = []
    for number in range(12):
        repeated = 1 + number // 2
        branches = [genotype.CS[i]._replace(repeats=1) for i in draws.permutation(6)]
        branches[:repeated] = [b._replace(repeats=2) for b in branches[:repeated]]
        network = genotype.Genotype(tuple(branches))
        for seed in (0, 1):
            numbers = (1.0, 50.0, 40.0, 60.0, 30.0 + number, 90.0)
            costs = network.depth, 10, 100 * network.depth
            entries.append(
                table.Entry(network, seed, 20, 301, *costs, *numbers, flags="")
            )
    return entries


def test_report_tells_how_far_the_orders_agree():
    entries = _entries()
    truth = list(table.means(entries).values())
    lines = judge_search.report(entries, truth).splitlines()
    assert "12 trained networks" in lines[0]
    assert (
        lines[2].split() == "supernet 1.00 (1.00 to 1.00) 1.00 (1.00 to 1.00)".split()
    )
    # Of 66 pairs 6 have one depth, and the deeper is the better in all others.
    assert lines[3].split()[1] == f"{(60 / (60 * 66) ** 0.5):.2f}"
    assert lines[5].split()[-2:] == ["1.00", "1.00"]
    reverse = judge_search.report(entries, [-t for t in truth]).splitlines()
    assert reverse[2].split()[1] == "-1.00"


@pytest.fixture
def supernet(monkeypatch):
    """A supernet whose score of a network is the sum of its branches' indices."""
    monkeypatch.setattr(single_path, "train_supernet", lambda *arguments: "supernet")
    monkeypatch.setattr(single_path, "Judge", lambda *arguments: sum)


def test_all_networks_of_the_table_are_scored(supernet, tmp_path):
    networks = list(table.means(_entries()))
    settings = SearchSettings(height=64, width=32, width_multiplier=0.25)
    where = run.Run(tmp_path, tf.distribute.get_strategy(), 0, 0.0)
    scores = judge_search.score(None, settings, where, networks)
    expected = [sum(map(genotype.CDS.index, each.layers)) for each in networks]
    assert scores == expected
    kept = candidates.read(tmp_path / "scores.csv")
    assert [each.genotype for each in kept] == networks
