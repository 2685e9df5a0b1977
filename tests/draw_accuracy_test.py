"""A table of results becomes a picture of accuracy against measured time."""

import json
import sys

import pytest

from tools import draw_accuracy

_TABLE = """row,seed,epochs,mAP,flags
cdnet_20,0,20,54,--genotype=cdnet --epochs=20 --nozero_init_residual
cdnet_20,1,20,56,--genotype=cdnet --epochs=20 --nozero_init_residual
smallest_60,0,60,60,"'--genotype=(3,5,1) (3,5,1) (3,5,1) (3,5,1) (3,5,1) (3,5,1)'"
wide_30,0,30,70,--genotype=osnet --width_multiplier=0.5
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(_TABLE)
    return path


def test_reads_the_network_and_the_mean_of_its_seeds(table):
    cdnet, wide = draw_accuracy.read(table, ["cdnet_20", "wide_30"])
    assert cdnet == draw_accuracy.Row("cdnet_20", "cdnet", 0.25, 20, 55)
    assert wide == draw_accuracy.Row("wide_30", "osnet", 0.5, 30, 70)
    with pytest.raises(ValueError, match="table.csv has no row 'cdnet_60'; see --rows"):
        draw_accuracy.read(table, ["cdnet_60"])


def test_times_the_networks_and_draws_them(table, tmp_path, capsys):
    output = tmp_path / "accuracy.png"
    rows = draw_accuracy.read(table, ["smallest_60"])
    draw_accuracy.compare(rows, sys.executable, 3, output)
    said = json.loads(capsys.readouterr().out)
    assert said["row"] == "smallest_60" and said["mAP"] == 60 and said["ms"] > 0
    assert said["runtime"].split()[0] in ("LiteRT", "TensorFlow")
    assert output.read_bytes().startswith(b"\x89PNG")
