"""Strategies that train every network they compare, with a training that is instant."""

import itertools
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf import training_run
from cdnet_tf.deploy import latency
from cdnet_tf.nn import genotype
from cdnet_tf.search_settings import SearchSettings
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
        score = _score(network, settings.epochs) + settings.width_multiplier / 10
        return {"scores": {"mean_ap": score - 0.025}}

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


@pytest.fixture
def device(tmp_path):
    """A branch takes r milliseconds, at half the width four times as many."""
    settings = []
    for width, factor in ((0.25, 1.0), (0.5, 4.0)):
        times = {str(branch): factor * branch.repeats for branch in genotype.CDS}
        model = latency.Additive(0.5, (times,) * 6)
        setting = latency.Setting(width, 64, 32)._asdict()
        judged = {"accepted": True}
        settings.append({**setting, "judgement": judged, "model": model.to_json()})
    path = tmp_path / "device.json"
    record = {"device": "mine", "conditions": {}, "settings": settings}
    path.write_text(json.dumps(record))
    return str(path)


def test_random_search_draws_within_the_limits(trainings, tmp_path, device):
    limits = {"device": device, "max_ms": 9.5, "candidates": 12}
    found = _search(trained.random_search, tmp_path / "run", **limits)
    depths = [network.depth for network, _ in trainings]
    assert len(depths) == 12 and max(depths) <= 9
    points = found.front.points
    assert found.genotype == points[-1].genotype
    assert found.front.by == "ms" and not found.front.peers
    # No network is as fast and better.
    ms = [each.ms for each in points]
    assert ms == sorted(set(ms)) and points[-1].ms <= 9.5
    for network, _ in trainings:
        faster = [each for each in points if each.ms <= network.depth + 0.5]
        assert _score(network, 27) <= faster[-1].mean_ap + 1e-9


def test_widths_are_chosen_among(trainings, tmp_path, device):
    limits = {"device": device, "max_ms": 40.5, "width_multipliers": ("0.5", "0.25")}
    found = _search(trained.random_search, tmp_path / "run", candidates=12, **limits)
    judged = candidates.read(tmp_path / "run" / "candidates.csv")
    assert {each.width_multiplier for each in judged} == {0.25, 0.5}
    for each in judged:
        factor = 1 if each.width_multiplier == 0.25 else 4
        assert each.ms == 0.5 + factor * each.genotype.depth <= 40.5
    best = max(judged, key=lambda each: each.mean_ap)
    assert found.width_multiplier == best.width_multiplier == 0.5


def test_regression_predicts_the_whole_front(trainings, tmp_path, device):
    limits = {"device": device, "max_ms": 10.5, "width_multipliers": (0.25, 0.5)}
    found = _search(trained.regression, tmp_path / "run", candidates=40, **limits)
    points = found.front.points
    # Deeper is better, and 10.5 ms are enough for a depth of 10 at the lesser width
    # and for no network at the greater, of which nothing is known then.
    assert [each.genotype.depth for each in points] == [6, 7, 8, 9, 10]
    assert all(each.genotype.layers[0].kernel1 == 7 for each in points)
    assert {each.width_multiplier for each in points} == {0.25}
    names = "cdnet x0.25", "cdnet_v35 x0.25", "cnet x0.25"
    assert tuple(found.front.peers) == names
    cdnet = found.front.peers["cdnet x0.25"]
    assert cdnet.ms == 9.5
    assert cdnet.mean_ap == pytest.approx(_score(cdnet.genotype, 27), abs=0.02)


def test_halving_keeps_the_limits(trainings, tmp_path, device):
    limits = {"device": device, "max_ms": 8.5, "candidates": 9}
    found = _search(trained.halving, tmp_path / "run", **limits)
    assert all(network.depth <= 8 for network, _ in trainings)
    assert [each.genotype for each in found.front.points] == [found.genotype]
