"""A search by single paths, as a function of values: what it leaves, and resuming."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf import search
from cdnet_tf.data import datasets
from cdnet_tf.nn import counting, genotype
from cdnet_tf.pedestrians import writer
from cdnet_tf.search_settings import SearchSettings
from cdnet_tf.strategies import candidates, front

_SETTINGS = SearchSettings(
    search_strategy="single_path",
    space="cs",
    height=64,
    width=32,
    width_multiplier=0.25,
    batch_size=16,
    epochs=1,
    population=4,
    generations=3,
    select_identities=4,
    max_macs=4_170_000,  # half of the space
    w_lr=0.01,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "pedestrians"
    writer.write_pedestrians(
        folder, train_identities=12, test_identities=4, height=64, width=32
    )
    return datasets.read("market1501", str(folder))


@pytest.fixture(scope="module")
def run_dir(data, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "search"
    search.search(data, run_dir, _SETTINGS)
    return run_dir


def test_the_best_candidate_is_found(run_dir):
    found, judged = genotype.load(run_dir), candidates.read(run_dir / "candidates.csv")
    # Children beyond the limit are not judged.
    assert 4 <= len(judged) <= 12
    assert len({each.genotype for each in judged}) == len(judged)
    assert all(each.macs <= _SETTINGS.max_macs for each in judged)
    best = max(judged, key=lambda each: each.mean_ap)
    assert found == best.genotype and 0 < best.mean_ap <= 1
    record = json.loads((run_dir / "genotype.json").read_text())
    assert record["search_strategy"] == "single_path" and record["mAP"] == best.mean_ap
    # The people networks are compared on are a part of the data that the run names.
    assert record["provenance"]["dataset"]["counts"]["train"]["identities"] == 12


def test_leaves_a_front(run_dir):
    judged = candidates.read(run_dir / "candidates.csv")
    points = front.read(run_dir / "front.csv")
    assert list(points) == [str(number + 1) for number in range(len(points))]
    costs = [(each.macs, each.mean_ap) for each in points.values()]
    unbeaten = {
        (each.macs, each.mean_ap)
        for each in judged
        if all(o.macs > each.macs or o.mean_ap <= each.mean_ap for o in judged)
        and all(o.macs >= each.macs or o.mean_ap < each.mean_ap for o in judged)
    }
    assert costs == sorted(unbeaten)
    assert list(points.values())[-1].genotype == genotype.load(run_dir)
    for number, each in points.items():
        member = front.member(run_dir, int(number))
        assert genotype.load(member.file) == each.genotype
        assert member[1:] == (0.25, 64, 32)
    # CNet alone of the published networks is in CS.
    (cnet,) = front.read(run_dir / "peers.csv").items()
    assert cnet[0] == "cnet" and 0 < cnet[1].mean_ap <= 1
    assert (run_dir / "front.png").read_bytes()[:4] == b"\x89PNG"


def test_weights_are_those_that_were_judged(run_dir, data):
    network = tf.keras.models.load_model(run_dir / "derived.keras", compile=False)
    judged = candidates.read(run_dir / "candidates.csv")
    best = max(judged, key=lambda each: each.mean_ap)
    assert counting.macs(network) <= best.macs  # without the FNeck
    variances = [w.numpy() for w in network.weights if "moving_variance" in w.name]
    assert variances and all((each > 0).all() for each in variances)


def test_every_branch_ran_equally_often(run_dir):
    rows = (run_dir / "choices.csv").read_text().splitlines()[1:]
    steps = np.array([int(row.split(",")[-1]) for row in rows]).reshape(6, 6)
    assert steps.sum(1).min() > 0
    assert (steps.max(1) - steps.min(1)).max() <= 1


def test_a_search_killed_among_its_candidates_ends_alike(run_dir, data, tmp_path):
    again = shutil.copytree(run_dir, tmp_path / "again")
    (again / "genotype.json").unlink()
    (again / "derived.keras").unlink()
    judged = candidates.read(again / "candidates.csv")
    candidates.write(again / "candidates.csv", judged[:3])
    search.search(data, again, _SETTINGS)
    assert genotype.load(again) == genotype.load(run_dir)
    assert (again / "front.csv").read_text() == (run_dir / "front.csv").read_text()
    for one, other in zip(judged, candidates.read(again / "candidates.csv")):
        assert one._replace(seconds=0) == other._replace(seconds=0)
    first, second = (
        tf.keras.models.load_model(each / "derived.keras", compile=False)
        for each in (run_dir, again)
    )
    for one, other in zip(first.weights, second.weights):
        np.testing.assert_array_equal(one, other)


def test_people_that_cannot_be_spared(data, tmp_path):
    settings = SearchSettings(
        search_strategy="random", select_identities=11, height=64, width=32
    )
    with pytest.raises(ValueError, match="select_identities=11 is out of range"):
        search.search(data, tmp_path / "run", settings)
