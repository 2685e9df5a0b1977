"""Strategies that train every network they compare, with a training that is instant."""

import itertools
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf import training_run
from cdnet_tf.nn import genotype
from cdnet_tf.settings import SearchSettings
from cdnet_tf.strategies import candidates, run, trained

_SMALL = {"height": 64, "width": 32, "width_multiplier": 0.25}


@pytest.fixture
def trainings(monkeypatch):
    """Notes (genotype, epochs) of each training; a network's mAP is known."""
    noted = []

    def train(data, run_dir, settings, *, strategy, restarts):
        network = genotype.load(settings.genotype)
        noted.append((network, settings.epochs))
        assert settings.lr == 0.05 and settings.schedule == "cosine"
        return {"scores": {"mean_ap": _score(network, settings.epochs)}}

    monkeypatch.setattr(training_run, "train", train)
    return noted


def _score(network, epochs):
    depth = sum(branch.repeats for branch in network.layers)
    return (depth + network.layers[0].kernel1 / 10) / 20 + epochs / 1000


def _search(search, directory, **options):
    settings = SearchSettings(
        **_SMALL, epochs=27, w_lr=0.05, search_strategy="random", **options
    )
    settings.check()
    directory.mkdir(exist_ok=True)
    where = run.Run(directory, tf.distribute.get_strategy(), 0, 0.0)
    return search(None, settings, where)


def test_random_search_takes_the_best_of_those_drawn(trainings, tmp_path):
    found = _search(trained.random_search, tmp_path, candidates=9)
    networks = [network for network, _ in trainings]
    assert len(set(networks)) == 9 and {epochs for _, epochs in trainings} == {27}
    assert found.genotype == max(networks, key=lambda n: _score(n, 27))
    assert json.dumps(found.record) and found.record["candidates"] == 9


def test_a_longer_search_begins_with_the_networks_of_a_shorter_one(trainings, tmp_path):
    _search(trained.random_search, tmp_path / "short", candidates=4)
    _search(trained.random_search, tmp_path / "long", candidates=9)
    assert trainings[:4] == trainings[4:8]


def test_a_search_goes_on_without_what_it_has_trained(trainings, tmp_path):
    _search(trained.random_search, tmp_path, candidates=4)
    _search(trained.random_search, tmp_path, candidates=9)
    assert len(trainings) == 9


def test_halving_trains_a_third_for_three_times_as_long(trainings, tmp_path):
    found = _search(trained.halving, tmp_path, candidates=9)
    rungs = {
        epochs: [network for network, _ in group]
        for epochs, group in itertools.groupby(trainings, key=lambda each: each[1])
    }
    assert {epochs: len(each) for epochs, each in rungs.items()} == {3: 9, 9: 3, 27: 1}
    for short, longer in ((3, 9), (9, 27)):
        best = sorted(rungs[short], key=lambda n: -_score(n, short))
        assert set(rungs[longer]) == set(best[: len(rungs[longer])])
    assert found.genotype == rungs[27][0]
    assert len(candidates.read(pathlib.Path(tmp_path) / "candidates.csv")) == 1


def test_regression_finds_a_network_that_was_not_trained(trainings, tmp_path):
    found = _search(trained.regression, tmp_path, candidates=60)
    # The deepest: twice in each block, with the largest first kernel in the first.
    assert [branch.repeats for branch in found.genotype.layers] == [2] * 6
    assert found.genotype.layers[0].kernel1 == 7
    assert found.record["predicted_mAP"] == pytest.approx(
        _score(found.genotype, 27), abs=0.02
    )
    assert found.genotype not in [network for network, _ in trainings]


def test_draws_are_even(trainings, tmp_path):
    _search(trained.random_search, tmp_path, candidates=120)
    used = np.zeros((6, 12))
    for network, _ in trainings:
        for block, branch in enumerate(network.layers):
            used[block, genotype.CDS.index(branch)] += 1
    assert used.min() >= 2 and used.max() <= 24  # 10 each on average
