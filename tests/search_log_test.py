"""Records of a search: files, pictures and the collapse report."""

import csv

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot

from cdnet_tf.learn import search_log
from cdnet_tf.nn import genotype


def _alphas(epochs):
    return np.random.default_rng(0).standard_normal((epochs, 6, 6))


def test_entropy_of_even_and_certain_alpha():
    alpha = np.array([[0.0] * 6, [1000.0] + [0.0] * 5])
    np.testing.assert_allclose(search_log.entropy(alpha), [np.log(6), 0], atol=1e-9)


def test_history_comes_back_to_the_bit(tmp_path):
    alphas = _alphas(4)
    history = search_log.AlphaHistory(tmp_path / "alpha.csv", genotype.CS)
    history.begin(0, alphas[0])
    for epoch in (1, 2, 3):
        history.append(epoch, alphas[epoch])
    np.testing.assert_array_equal(history.read(), alphas)


def test_resumed_history_drops_what_will_come_again(tmp_path):
    alphas = _alphas(4)
    history = search_log.AlphaHistory(tmp_path / "alpha.csv", genotype.CS)
    history.begin(0, alphas[0])
    history.append(1, alphas[1])
    history.append(2, alphas[2])
    with open(tmp_path / "alpha.csv", "a") as file:
        file.write("3,1,3,5,1,0.25\n3,1,3")  # killed while it wrote epoch 3
    np.testing.assert_array_equal(history.read(), alphas[:3])
    history.begin(1, np.zeros((6, 6)))  # the checkpoint is of epoch 1
    history.append(2, alphas[3])
    np.testing.assert_array_equal(history.read(), alphas[[0, 1, 3]])


def test_collapse_report_tells_first_picks_and_choices():
    alphas = np.zeros((3, 6, 6))
    alphas[:, :, 2] = 1.0  # every block begins with (3,9,1) ...
    alphas[2, 0, 4] = 2.0  # ... and block 1 alone moves, to (5,9,1)
    counts = np.zeros((6, 6), np.int64)
    counts[:, 2], counts[:, 4] = 30, 10
    lines = search_log.collapse_report(alphas, counts, genotype.CS).splitlines()
    assert "from (3,9,1) to (5,9,1), 1 change(s); 2 of 6 branches tried" in lines[0]
    assert "stayed with its first pick (3,9,1)" in lines[1]
    assert "most often (3,9,1) 75%, (5,9,1) 25%" in lines[1]
    assert lines[-1] == "5 of 6 blocks stayed with their first pick."


def test_choices_are_written_by_branch(tmp_path):
    counts = np.arange(36).reshape(6, 6)
    search_log.write_choices(tmp_path / "choices.csv", counts, genotype.CS)
    with open(tmp_path / "choices.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 36
    assert rows[8] == {
        "block": "2",
        "kernel1": "3",
        "kernel2": "9",
        "repeats": "1",
        "steps": "8",
    }


@pytest.mark.parametrize("space", [genotype.CS, genotype.CDS])
def test_picture_is_a_png(tmp_path, space, monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "backend", "svg")
    alphas = np.random.default_rng(0).standard_normal((5, 6, len(space)))
    figures = pyplot.get_fignums()
    search_log.plot_alpha(tmp_path / "alpha.png", alphas, space)
    # A notebook's figures and its backend stay as they are.
    assert pyplot.get_fignums() == figures
    assert matplotlib.get_backend() == "svg"
    assert (tmp_path / "alpha.png").read_bytes()[:4] == b"\x89PNG"
    assert [path.name for path in tmp_path.iterdir()] == ["alpha.png"]
