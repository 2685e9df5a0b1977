"""Which genotypes are drawn, and what their files hold."""

import collections

import pytest

from cdnet_tf.deploy import latency_files, tflite_file
from cdnet_tf.deploy.latency import Setting
from cdnet_tf.nn.genotype import CDS, Genotype

_SETTING = Setting(0.25, 64, 32)


@pytest.mark.parametrize("number", [24, 100])
def test_each_branch_is_drawn_equally_often(number):
    drawn = latency_files.balanced(number, seed=3)
    assert len(set(drawn)) == number
    for block in range(6):
        counts = collections.Counter(each.layers[block] for each in drawn)
        assert set(counts) == set(CDS)
        assert max(counts.values()) - min(counts.values()) <= 1
    assert drawn == latency_files.balanced(number, seed=3)
    assert drawn != latency_files.balanced(number, seed=4)


def test_what_is_judged_by_was_not_learnt_from():
    known = latency_files.uniform(5, seed=1)
    drawn = latency_files.uniform(5, seed=1, known=known[:3])
    assert len(set(drawn)) == 5 and not set(drawn) & set(known[:3])
    assert set(known[3:]) <= set(drawn)


def test_a_file_has_the_operations_of_its_genotype(tmp_path):
    genotype = Genotype((CDS[0],) * 5 + (CDS[7],))  # (3, 5, 1) and (3, 7, 2)
    exporter = latency_files.Exporter(_SETTING)
    path = exporter.written(tmp_path, genotype)
    assert path.name == "351-351-351-351-351-372_x0.25_64x32.tflite"
    content = path.read_bytes()
    tflite_file.check(content, "int8", "nhwc")
    counts = tflite_file.op_counts(content)
    # A CBlock of 3 and 5 has 1 + 2 Lites, one of 3 and 7 has 1 + 3.
    assert counts["DEPTHWISE_CONV_2D"] == 5 * 3 + 2 * 4
    # Two gates a CBlock, of which there are seven.
    assert counts["LOGISTIC"] == 2 * 7
    said = tflite_file.describe(content)
    assert (said["input"]["height"], said["input"]["width"]) == (64, 32)
    path.write_bytes(b"there")
    assert exporter.written(tmp_path, genotype).read_bytes() == b"there"
