"""Searches under limits: what may be chosen, and a search by supernets of two widths.

The supernets are stand-ins, so that the search takes no time.
"""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.deploy import latency
from cdnet_tf.nn import genotype
from cdnet_tf.search_settings import SearchSettings
from cdnet_tf.strategies import candidates, limits, run, single_path
from cdnet_tf.supernet import costs
from tests import tiny

_SETTINGS = SearchSettings(
    search_strategy="single_path",
    height=64,
    width=32,
    width_multiplier=0.25,
    width_multipliers=(0.5, 0.25),
    population=8,
    generations=4,
)


@pytest.fixture(autouse=True)
def sizes(monkeypatch):
    """Costs as sums, without the network that would be built to count the rest."""

    class Model:
        def __init__(self, space, input_shape, width_multiplier):
            blocks = np.array([[sum(branch) for branch in space]] * 6)
            scale = int(100 * width_multiplier)
            self.parts = costs.Costs(7, 70), costs.Costs(blocks * scale, 10 * blocks)

    monkeypatch.setattr(costs, "of_space", lambda space, **more: Model(space, **more))


@pytest.fixture
def device(tmp_path):
    """A branch takes r milliseconds, at half the width two more."""
    settings = []
    for width, more in ((0.25, 0.0), (0.5, 2.0)):
        times = {str(branch): more + branch.repeats for branch in genotype.CDS}
        model = latency.Additive(0.5, (times,) * 6)
        setting = latency.Setting(width, 64, 32)._asdict()
        judged = {"judgement": {"accepted": True}, "model": model.to_json()}
        settings.append({**setting, **judged})
    path = tmp_path / "device.json"
    record = {"device": "mine", "conditions": {}, "settings": settings}
    path.write_text(json.dumps(record))
    return str(path)


def _settings(**more):
    settings = dataclasses.replace(_SETTINGS, **more)
    settings.check()
    return settings


def test_costs_are_those_of_device_and_networks(device):
    space = limits.space_of(_settings(device=device, max_ms=20, max_params=10**6))
    assert space.widths == (0.25, 0.5)
    assert space.limits == {"ms": 20, "parameters": 10**6}
    # (3,5,1) in all blocks, and once (7,9,2), at half the width.
    choice = (0, 0, 0, 0, 0, 11, 1)
    expected = {"parameters": 7 + 50 * (5 * 9 + 18), "macs": 70 + 10 * (5 * 9 + 18)}
    assert space.costs(choice) == {**expected, "ms": 0.5 + 5 * 3 + 4}


@pytest.mark.parametrize(
    "more, message",
    [
        ({"max_ms": 6}, "keeps max_ms=6. Within reach is max_ms 6.5; raise"),
        ({"max_macs": 600}, "keeps max_macs=600. Within reach is max_macs 610;"),
        ({"width_multipliers": (0.75,)}, "mine was not measured at x0.75_64x32, but"),
        ({"height": 128}, "mine was not measured at x0.25_128x32, but at x0.25_64x32"),
    ],
)
def test_refuses_what_cannot_be_had(device, more, message):
    with pytest.raises(ValueError, match=message):
        limits.space_of(_settings(device=device, **more))


def test_a_device_that_there_is_not():
    with pytest.raises(FileNotFoundError, match="No device 'mine.json': neither"):
        limits.space_of(_settings(device="mine.json"))


def _mean_ap(width, choice):
    """Deeper and wider is better, and no two branches are equally good."""
    return (sum(choice) + 20 * width) / 100


@pytest.fixture
def supernets(monkeypatch):
    """Notes (width, folder) of each supernet that is trained."""
    trained = []

    class Supernet:
        def __init__(self, width):
            self.width = width

        def derive_network(self, network, neck):
            return tiny.network(shallow=True)

    def train_supernet(data, settings, run):
        trained.append((settings.width_multiplier, run.directory.name))
        return Supernet(settings.width_multiplier)

    def judge(net, data, settings):
        assert settings.width_multiplier == net.width
        return lambda choice: _mean_ap(net.width, choice)

    monkeypatch.setattr(single_path, "train_supernet", train_supernet)
    monkeypatch.setattr(single_path, "Judge", judge)
    return trained


def _search(directory, settings):
    directory.mkdir(exist_ok=True)
    where = run.Run(directory, tf.distribute.get_strategy(), 0, 0.0)
    return single_path.search(None, settings, where)


def test_a_supernet_for_each_width_and_one_front(supernets, tmp_path, device):
    settings = _settings(device=device, max_ms=20.5)
    found = _search(tmp_path / "run", settings)
    assert supernets == [(0.25, "supernet_x0.25"), (0.5, "supernet_x0.5")]
    judged = candidates.read(tmp_path / "run" / "candidates.csv")
    assert {each.width_multiplier for each in judged} == {0.25, 0.5}
    assert 8 < len(judged) <= 8 * 4
    assert all(each.ms <= 20.5 for each in judged)
    points = found.front.points
    assert found.genotype == points[-1].genotype
    assert found.width_multiplier == points[-1].width_multiplier
    assert points[-1].mean_ap == max(each.mean_ap for each in judged)
    assert len(points) > 1
    cdnet = found.front.peers["cdnet x0.5"]
    choice = [genotype.CDS.index(branch) for branch in cdnet.genotype.layers]
    assert cdnet.mean_ap == pytest.approx(_mean_ap(0.5, choice))


def test_a_search_that_was_killed_ends_alike(supernets, tmp_path, device):
    settings = _settings(device=device, max_ms=20.5)
    whole = _search(tmp_path / "run", settings).front
    file = tmp_path / "run" / "candidates.csv"
    judged = candidates.read(file)
    candidates.write(file, judged[:5])
    again = _search(tmp_path / "run", settings).front
    assert [p._replace(seconds=0) for p in again.points] == [
        p._replace(seconds=0) for p in whole.points
    ]
    assert [each.network for each in again.judged] == [each.network for each in judged]


def test_all_are_judged_where_they_are_no_more_than_a_generation(
    supernets, tmp_path, device
):
    # No block is repeated, and the kernels are the smallest in all blocks but one.
    settings = _settings(device=device, max_ms=6.5, max_macs=70 + 10 * (6 * 9 + 2))
    space = limits.space_of(settings)
    assert 1 < space.number_within <= 100
    settings = dataclasses.replace(settings, population=100)
    found = _search(tmp_path / "run", settings)
    assert len(found.front.judged) == space.number_within


def test_without_limits_the_best_of_all_is_looked_for(supernets, tmp_path):
    settings = _settings(width_multipliers=None, generations=12, population=20)
    found = _search(tmp_path / "run", settings)
    assert supernets == [(0.25, "run")]
    assert found.front is None and found.width_multiplier == 0.25
    judged = candidates.read(tmp_path / "run" / "candidates.csv")
    best = max(judged, key=lambda each: each.mean_ap)
    assert found.genotype == best.genotype
    assert best.mean_ap > _mean_ap(0.25, [9] * 6)
