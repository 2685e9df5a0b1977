"""Scores of a search against a table: what is scored, and what is said of it."""

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.bench import table
from cdnet_tf.learn import callbacks, search_log
from cdnet_tf.nn import genotype
from cdnet_tf.search_settings import SearchSettings
from cdnet_tf.strategies import judging, run, single_path, top_k


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
            numbers = (1.0, 50.0, 20.0 + number, 60.0, 30.0 + number, 90.0)
            costs = network.depth, 10, 100 * network.depth
            entries.append(
                table.Entry(network, seed, 20, 301, *costs, *numbers, flags="")
            )
    return entries


def _scores(entries, sign=1):
    return {each.genotype: sign * each.test_mAP for each in entries}


def _row(text, name):
    (line,) = (line for line in text.splitlines() if line.startswith(name))
    return line[len(name) :].split()


def test_report_tells_how_far_the_orders_agree():
    entries = _entries()
    scores = {10: _scores(entries, -1), 20: _scores(entries)}
    text = judging.report(entries, scores)
    assert "12 trained networks" in text.splitlines()[0]
    assert _row(text, "score after 10 epochs")[0] == "-1.00"
    exact = "1.00 (1.00 to 1.00) 1.00 (1.00 to 1.00)".split()
    assert _row(text, "score after 20 epochs") == exact
    # Of 66 pairs 6 have one depth, and the deeper is the better in all others.
    assert _row(text, "depth")[0] == f"{(60 / (60 * 66) ** 0.5):.2f}"
    assert _row(text, "one seed with another") == ["1.00", "1.00"]


def test_what_a_regression_is_told_besides_counts():
    entries = _entries()
    genotypes, _ = table.matrix(entries)
    truth = _scores(entries)
    alone = judging.ridge_taus(entries, 6)
    told = judging.ridge_taus(entries, 6, [truth[each] for each in genotypes])
    assert told[0] > max(alone[0], 0.8)
    assert -1 <= alone[0] <= 1


_SETTINGS = {"height": 64, "width": 32, "width_multiplier": 0.25, "epochs": 4}


@pytest.fixture
def where(tmp_path):
    return run.Run(tmp_path, tf.distribute.get_strategy(), 0, 0.0)


def test_a_supernet_scores_all_networks_at_each_epoch(monkeypatch, where):
    trained = []

    def train(*arguments, until):
        trained.append(until)
        return until

    monkeypatch.setattr(single_path, "train_supernet", train)
    # Of a network, the epoch and the sum of its branches' indices.
    monkeypatch.setattr(
        single_path, "Judge", lambda epoch, *rest: lambda c: 100 * epoch + sum(c)
    )
    networks = list(table.means(_entries()))
    settings = SearchSettings(search_strategy="single_path", **_SETTINGS)
    scores = judging.score(None, settings, where, networks[:6], [1])
    scores = judging.score(None, settings, where, networks, [1, 4])
    for epoch in (1, 4):
        sums = [sum(map(genotype.CDS.index, each.layers)) for each in networks]
        assert list(scores[epoch].values()) == [100 * epoch + total for total in sums]
    assert judging.read(where.directory / "scores.csv") == scores
    assert trained == [1, 1, 4]
    judging.score(None, settings, where, networks, [1, 4])
    assert trained == [1, 1, 4]  # Nothing was missing.


def test_weights_of_an_epoch_that_are_gone_score_nothing(monkeypatch, where):
    monkeypatch.setattr(single_path, "train_supernet", lambda *given, until: until)
    monkeypatch.setattr(single_path, "Judge", lambda *given: lambda choice: sum(choice))
    settings = SearchSettings(search_strategy="single_path", **_SETTINGS)
    entries = _entries()
    networks = list(table.means(entries))
    judging.score(None, settings, where, networks[:8], [1, 4])
    monkeypatch.setattr(callbacks, "last_epoch", lambda directory: 4)
    scores = judging.score(None, settings, where, networks, [1, 4])
    assert list(scores[1]) == networks[:8] and list(scores[4]) == networks
    assert "of 8 trained networks" in judging.report(entries, scores)


def test_alpha_scores_networks_by_their_probability(monkeypatch, where):
    alphas = np.random.default_rng(0).normal(size=(5, 6, 12))
    path = where.directory / "alpha.csv"

    def search(*arguments):
        history = search_log.AlphaHistory(path, genotype.CDS)
        history.begin(0, alphas[0])
        for epoch in range(1, 5):
            history.append(epoch, alphas[epoch])

    monkeypatch.setattr(top_k, "search", search)
    settings = SearchSettings(**_SETTINGS)
    likely = genotype.Genotype(tuple(genotype.CDS[i] for i in alphas[2].argmax(1)))
    others = list(table.means(_entries()))
    scores = judging.score(None, settings, where, [*others, likely], [2])[2]
    assert max(scores, key=scores.get) == likely
    chances = np.exp(alphas[2]) / np.exp(alphas[2]).sum(1, keepdims=True)
    assert scores[likely] == pytest.approx(np.log(chances.max(1)).sum())


def test_a_strategy_that_scores_only_what_it_trains(where):
    settings = SearchSettings(search_strategy="random", **_SETTINGS)
    with pytest.raises(ValueError, match="search_strategy=random .*use single_path"):
        judging.score(None, settings, where, [], [4])
