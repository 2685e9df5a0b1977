"""The table of trainings is read back as it was written."""

import math
import pathlib
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from cdnet_tf import trainings
from cdnet_tf.bench import table
from cdnet_tf.nn import genotype

_ROOT = pathlib.Path(__file__).parent.parent
_CDNET, _CNET = genotype.load("cdnet"), genotype.load("cnet")


def _entry(layers=_CDNET, seed=0, test_map=50.0, **others):
    sizes = {"depth": layers.depth, "parameters": 125150, "macs": 19583964}
    scores = {"select_rank1": 80.0, "select_mAP": test_map + 5, "test_rank1": 70.0}
    scores |= {"test_mAP": test_map, "train_accuracy": 90.0}
    rest = {"epochs": 20, "people": 301, "minutes": 7.5, "flags": "--a=1"}
    values = {"genotype": layers, "seed": seed, **sizes, **scores, **rest, **others}
    return table.Entry(**values)


def test_reads_what_was_written(tmp_path):
    entries = [_entry(), _entry(_CNET, 1, 40.25, flags="--b='x, y'")]
    for entry in entries:
        trainings.append(tmp_path / "t.csv", table.COLUMNS, entry._asdict())
    assert table.load(tmp_path / "t.csv") == entries
    first = (tmp_path / "t.csv").read_text().splitlines()[1]
    assert first.startswith('"(3,5,1) (3,7,2) (5,7,2) (5,9,1) (5,7,2) (5,7,1)",0,20,')


def test_package_table_can_be_read_if_there_is_one():
    if not table.SHIPPED.exists():
        pytest.skip("no table is shipped")
    entries = table.load()
    assert entries and all(0 < entry.test_mAP < 100 for entry in entries)
    assert all(entry.depth == entry.genotype.depth for entry in entries)


@pytest.mark.parametrize(
    "text, message",
    [
        ("genotype,seed\n", "has the columns .*'seed'.*; a table has genotype, seed"),
        (f"{','.join(table.COLUMNS)}\n(3\n", "t.csv:2 cannot be read"),
        (f"{','.join(table.COLUMNS)}\ncdnet,x\n", "t.csv:2 cannot be read: .*'x'"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        table.load(tmp_path / "t.csv")


def test_missing_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no table .*t.csv; name another"):
        table.load(tmp_path / "t.csv")


def test_seeds_are_columns():
    entries = [_entry(_CNET, 1, 40.0), _entry(seed=0), _entry(seed=1, test_map=51.0)]
    genotypes, values = table.matrix(entries)
    assert genotypes == [_CNET, _CDNET]
    np.testing.assert_equal(values, [[math.nan, 40], [50, 51]])
    assert table.matrix(entries, "select_mAP")[1][1].tolist() == [55, 56]
    assert table.means(entries) == {_CNET: 40, _CDNET: 50.5}


def test_conditions_are_not_mixed():
    entries = [_entry(epochs=60), _entry(), _entry(people=100), _entry(flags="--a=2")]
    groups = table.by_conditions(entries)
    assert list(groups) == [
        ("--a=1", 100, 20),
        ("--a=1", 301, 20),
        ("--a=1", 301, 60),
        ("--a=2", 301, 20),
    ]
    assert groups["--a=1", 301, 60] == entries[:1]
    with pytest.raises(ValueError, match="of 4 conditions .* only those of one"):
        table.means(entries)
    with pytest.raises(ValueError, match="of 0 conditions"):
        table.means([])


def test_docs_programs_run(tmp_path, monkeypatch, capsys):
    # The shallower, the better: in this table that is so.
    entries = [_entry(_CNET, 0, 51.0), _entry(), _entry(epochs=10, test_map=99.0)]
    for entry in entries:
        trainings.append(tmp_path / "t.csv", table.COLUMNS, entry._asdict())
    monkeypatch.setattr(table, "SHIPPED", tmp_path / "t.csv")
    page = (_ROOT / "docs/bench_space.md").read_text()
    for program in re.findall(r"\n\n(    from .*?)\n\n(?! )", page, re.DOTALL):
        exec(textwrap.dedent(program))
    of_ms, first, second, third = capsys.readouterr().out.splitlines()
    assert of_ms == "nan"  # Both have the same multiply-accumulates.
    assert first == "Estimate(value=1.0, low=1.0, high=1.0)"
    assert second == "nan"  # Both depths have one genotype.
    assert third.startswith("Comparison(gain=Estimate(value=nan")


def test_importing_the_bench_imports_no_tensorflow():
    code = "import sys; from cdnet_tf.bench import agreement, plans, summary, table; "
    code += "sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
