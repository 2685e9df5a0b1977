"""The table of judged networks as a file, and as a memory."""

import numpy as np
import pytest

from cdnet_tf.nn import genotype
from cdnet_tf.strategies import candidates, space


def _table(path, **more):
    """A branch of index i costs i parameters and 10 i multiply-accumulates."""
    blocks = np.tile(np.arange(6), (6, 1))
    costs = {"parameters": space.Sum(0, blocks), "macs": space.Sum(0, 10 * blocks)}
    return candidates.Candidates(path, space.Space(genotype.CS, {0.5: costs | more}))


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


def test_a_device_adds_milliseconds(tmp_path):
    path = tmp_path / "candidates.csv"
    table = _table(path, ms=space.Sum(0.1, np.full((6, 6), 1 / 3)))
    judged = table.judge((0,) * 6, lambda choice: 0.5)
    assert judged.ms == pytest.approx(2.1)
    (kept,) = candidates.read(path)
    assert kept.ms == judged.ms and kept.width_multiplier == 0.5
    assert "  2.10 ms " in candidates.report([kept], 1)


def test_a_file_of_another_version_is_refused(tmp_path):
    path = tmp_path / "candidates.csv"
    path.write_text("genotype,mAP,parameters,macs,seconds\n")
    with pytest.raises(ValueError, match="mAP, parameters, macs, seconds and not"):
        candidates.read(path)


def test_no_file_no_candidates(tmp_path):
    assert candidates.read(tmp_path / "candidates.csv") == []
