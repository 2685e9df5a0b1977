"""The real program on a front of two networks, with a chip whose times are known."""

import csv
import json

import numpy as np
import pytest
from absl import app, flags
from absl.testing import flagsaver
from PIL import Image

from cdnet_tf.deploy import latency, latency_files, npu
from cdnet_tf.nn import genotype, networks
from cdnet_tf.strategies import candidates, front
from cdnet_tf.strategies.candidates import Candidate
from cdnet_tf.supernet import costs
from tests import tiny
from tools import draw_front

_SMALL, _DEEP = (
    genotype.Genotype((genotype.Branch(3, 5, repeats),) * 6) for repeats in (1, 2)
)


@pytest.fixture
def device(tmp_path):
    """A repeat takes a millisecond, and all else half of one."""
    times = {str(branch): branch.repeats for branch in genotype.CDS}
    setting = {
        **latency.Setting(0.25, 64, 32)._asdict(),
        "judgement": {"accepted": True},
        "model": latency.Additive(0.5, (times,) * 6).to_json(),
    }
    conditions = {"accelerator": "ethos-u65-256", "rewrite": []}
    conditions |= {"system_config": None, "memory_mode": None}
    path = tmp_path / "device.json"
    record = {"device": "mine", "conditions": conditions, "settings": [setting]}
    path.write_text(json.dumps(record))
    return path


@pytest.fixture
def run_dir(tmp_path, device):
    points = [
        Candidate(_SMALL, 0.25, 0.4, 10, 100, 6.5),
        Candidate(_DEEP, 0.25, 0.6, 20, 200, 12.5),
    ]
    values = {"device": str(device), "max_ms": 13.0}
    front.write(
        tmp_path,
        front.Front("ms", points, points),
        height=64,
        width=32,
        search_strategy="random",
        provenance={"flags": values},
    )
    candidates.write(tmp_path / "candidates.csv", points)
    return tmp_path


@pytest.fixture(autouse=True)
def sizes(monkeypatch):
    """No network is built to count what is not asked for."""

    class Model:
        parts = costs.Costs(0, 0), costs.Costs(np.zeros((6, 12)), np.zeros((6, 12)))

    monkeypatch.setattr(costs, "of_space", lambda space, **options: Model())


def _draw(run_dir, rows):
    path = run_dir / "trained.csv"
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, ("genotype", "test_mAP", "ms"))
        writer.writeheader()
        writer.writerows(rows)
    with flagsaver.flagsaver():
        flags.FLAGS.unparse_flags()
        flags.FLAGS(["draw", f"--run_dir={run_dir}", f"--trained={path}"])
        draw_front.main(["draw"])


def _row(network, score, ms=""):
    return {"genotype": str(network), "test_mAP": score, "ms": ms}


def test_says_what_beats_the_others(run_dir, capsys):
    seeds = [_row(_DEEP, 50.0), _row(_DEEP, 52.0)]
    _draw(run_dir, [*seeds, _row("cdnet", 51.5), _row("cnet", 40), _row(_SMALL, 41)])
    lines = capsys.readouterr().out.splitlines()
    # CDNet has nine repeats, and CNet six.
    assert [line.split() for line in lines[1:5]] == [
        ["6.50", "41.00", "1", "front", "1"],
        ["12.50", "51.00", "2", "front", "2"],
        ["9.50", "51.50", "1", "cdnet", "x0.25"],
        ["6.50", "40.00", "1", "cnet", "x0.25"],
    ]
    none = "and no worse in mAP: no network of the front that was trained."
    assert lines[5:7] == [f"Cheaper than {n} x0.25 {none}" for n in ("cdnet", "cnet")]
    wide, high = Image.open(run_dir / "front.png").size
    assert wide > 2 * high  # two panels
    _draw(run_dir, [_row("cdnet", 40.5), _row(_SMALL, 41)])
    assert "Cheaper than cdnet x0.25 and no worse in mAP: front 1." in (
        capsys.readouterr().out
    )


def test_times_of_other_networks_are_said_or_measured(run_dir, capsys, monkeypatch):
    built = []

    def compiled(path, target):
        assert target.accelerator == "ethos-u65-256"
        assert path.read_bytes() == b"int8 of cdnet"
        return b"", {"cpu_operators": [], "milliseconds": 7.25}

    monkeypatch.setattr(
        networks, "build_named", lambda *args: built.append(args) or tiny.network()
    )
    monkeypatch.setattr(
        latency_files, "of_network", lambda network: f"int8 of {network.name}".encode()
    )
    monkeypatch.setattr(npu, "compiled", compiled)
    _draw(run_dir, [_row("osnet", 44), _row("mobilenet_v2", 33, ms=5.5)])
    output = capsys.readouterr().out
    assert built == [("osnet", (64, 32, 3), 0.25)]
    assert "7.25    44.00      1  osnet x0.25" in output
    assert "5.50    33.00      1  mobilenet_v2 x0.25" in output


def test_a_network_whose_time_nobody_says_is_left_out(run_dir, device, capsys):
    record = json.loads(device.read_text())
    record["conditions"] = {"cpu": "x"}
    device.write_text(json.dumps(record))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "build_named", lambda *args: tiny.network())
        _draw(run_dir, [_row("osnet", 44), _row("cdnet", 41)])
    output = capsys.readouterr().out
    assert "osnet x0.25 is left out: nobody says its ms" in output
    assert "44.00" not in output and "41.00" in output


def test_rows_say_what_is_needed(run_dir):
    with pytest.raises(app.UsageError, match="must say genotype, test_mAP or mAP"):
        _draw(run_dir, [_row("cdnet", "")])
    with pytest.raises(app.UsageError, match="No genotype 'cdnett'"):
        _draw(run_dir, [_row("cdnett", 40)])


def test_an_int8_file_of_any_network_is_made():
    content = latency_files.of_network(tiny.network(shallow=True))
    assert content[4:8] == b"TFL3"
