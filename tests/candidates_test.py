"""The table of judged networks as a file, and as a memory."""

import pytest

from cdnet_tf.nn import genotype
from cdnet_tf.strategies import candidates
from cdnet_tf.supernet import costs


def _table(path):
    return candidates.Candidates(
        path, genotype.CS, lambda choice: costs.Costs(sum(choice), 10 * sum(choice))
    )


def _never(choice):
    raise AssertionError(f"{choice} is judged again")


def test_a_network_is_judged_once_and_by_nobody_after_a_restart(tmp_path):
    path = tmp_path / "candidates.csv"
    table, score = _table(path), 1 / 3
    first = table.judge((0, 1, 2, 3, 4, 5), lambda choice: score)
    assert first.mean_ap == score and first.macs == 150 and first.parameters == 15
    assert first.genotype.layers == genotype.CS
    for again in (table, _table(path)):
        assert again.judge((0, 1, 2, 3, 4, 5), _never).mean_ap == score
    (kept,) = candidates.read(path)
    assert kept._replace(seconds=0) == first._replace(seconds=0)
    assert kept.seconds == pytest.approx(first.seconds, abs=0.006)


def test_the_best_come_first_and_of_equals_the_cheaper(tmp_path):
    table = _table(tmp_path / "candidates.csv")
    for branch, score in enumerate((0.1, 0.3, 0.2, 0.3)):
        table.judge((branch,) * 6, lambda choice, score=score: score)
    macs = [each.macs for each in table.best(3)]
    assert macs == [60, 180, 120]
    report = candidates.report(table.best(3), len(table))
    assert "best of 4" in report
    assert report.index("(3,7,1) (3,7,1)") < report.index("(5,7,1) (5,7,1)")


def test_no_file_no_candidates(tmp_path):
    assert candidates.read(tmp_path / "candidates.csv") == []
