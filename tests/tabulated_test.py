"""A search in a table of trainings: what it predicts, leaves, and refuses."""

import csv
import json

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf import search
from cdnet_tf.bench import plans, table
from cdnet_tf.learn import distributed
from cdnet_tf.nn import genotype
from cdnet_tf.search_settings import SearchSettings
from cdnet_tf.strategies import candidates, front, run, tabulated

_SIZE = {"height": 128, "width": 64, "width_multiplier": 0.25}
_CAMERA = {"device": "ethos-u65-256", "max_ms": 0.5}


def _settings(**values):
    return SearchSettings(search_strategy="table", **_SIZE | values)


def _search(run_dir, **values):
    settings = _settings(**values)
    return search.search(tabulated.read(settings), run_dir, settings)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "camera"
    _search(run_dir, **_CAMERA)
    return run_dir


def _write(path, score):
    """Writes the shipped table's trainings with a mAP that is a function's."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, table.COLUMNS)
        writer.writeheader()
        for entry in table.longest(table.load()):
            own = entry._replace(select_mAP=score(entry.genotype))
            writer.writerow(own._asdict())
    return str(path)


def test_the_package_has_a_front_for_a_camera(run_dir):
    points = list(front.read(run_dir / "front.csv").values())
    costs = [each.ms for each in points]
    assert costs == sorted(set(costs)) and costs[-1] <= 0.5
    scores = [each.mean_ap for each in points]
    assert scores == sorted(set(scores)) and 0.6 < scores[0] < scores[-1] < 0.8
    assert genotype.load(run_dir) == points[-1].genotype
    assert len(candidates.read(run_dir / "candidates.csv")) == 70
    peers = front.read(run_dir / "peers.csv")
    assert set(peers) == set(plans.PUBLISHED)
    assert front.member(run_dir, len(points))[1:] == (0.25, 128, 64)
    assert (run_dir / "front.png").read_bytes()[:4] == b"\x89PNG"


def test_the_result_names_the_table(run_dir):
    record = json.loads((run_dir / "genotype.json").read_text())
    assert record["search_strategy"] == "table"
    counts = record["provenance"]["dataset"]["counts"]
    assert counts == {"table": {"trainings": 117, "networks": 70}}
    assert record["provenance"]["dataset"]["name"] == "space.csv of the package"


def test_finds_the_best_network_within_a_limit(tmp_path):
    # A table in which every repeat adds a point, and large kernels of block 1 add two.
    path = _write(
        tmp_path / "table.csv",
        lambda network: 50 + network.depth + network.layers[0].kernel1,
    )
    found = _search(tmp_path / "run", table=path)
    assert [branch.repeats for branch in found.layers] == [2] * 6
    assert found.layers[0].kernel1 == 7
    best = front.read(tmp_path / "run" / "front.csv").popitem()[1]
    assert 100 * best.mean_ap == pytest.approx(50 + 12 + 7, abs=0.5)
    small = _search(tmp_path / "small", table=path, max_macs=16_000_000)
    assert small.depth < 12
    limited = front.read(tmp_path / "small" / "front.csv").values()
    assert np.max([each.macs for each in limited]) <= 16_000_000


def test_the_smaller_space_is_kept(tmp_path):
    found = _search(tmp_path, space="cs")
    assert set(found.layers) <= set(genotype.CS)
    assert all(
        set(each.genotype.layers) <= set(genotype.CS)
        for each in candidates.read(tmp_path / "candidates.csv")
    )


@pytest.mark.parametrize(
    "values, message",
    [
        ({"width_multipliers": ("0.25", "0.5")}, "=0.25,0.5: .* one width at a time"),
        ({"device": "ethos-u65-256", "max_ms": 0.1}, "Within reach is max_ms"),
    ],
)
def test_refuses(values, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        _search(tmp_path, **values)


def test_at_another_size_the_order_alone_is_meant(run_dir, tmp_path, capsys):
    _search(tmp_path, device="ethos-u65-256", max_ms=0.9, width_multiplier=0.5)
    assert "take the order" in capsys.readouterr().out
    record = json.loads((tmp_path / "genotype.json").read_text())
    assert not record["predicted_for_this_size"] and record["width_multiplier"] == 0.5
    points = list(front.read(tmp_path / "front.csv").values())
    assert 0.6 < points[0].ms < points[-1].ms <= 0.9  # the costs are of this size
    assert points[0].genotype == genotype.load("(3,5,1) " * 6)
    assert json.loads((run_dir / "genotype.json").read_text())[
        "predicted_for_this_size"
    ]


def test_the_chief_alone_has_a_result(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "place", lambda strategy: (1, 2))
    settings = _settings()
    where = run.Run(tmp_path, tf.distribute.get_strategy(), 0, 0.0)
    assert tabulated.search(tabulated.read(settings), settings, where) is None
    assert not list(tmp_path.iterdir())


def test_refuses_a_table_that_is_missing_or_empty(tmp_path):
    with pytest.raises(FileNotFoundError, match="no table .*nowhere.csv"):
        tabulated.read(_settings(table=str(tmp_path / "nowhere.csv")))
    (tmp_path / "empty.csv").write_text(",".join(table.COLUMNS) + "\n")
    with pytest.raises(ValueError, match="has no trainings; tools/bench_space.py"):
        tabulated.read(_settings(table=str(tmp_path / "empty.csv")))
