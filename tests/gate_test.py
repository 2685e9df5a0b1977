"""The judge of exported files; the "file" here is a network of one layer."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.data import datasets
from cdnet_tf.deploy import gate, measurements
from cdnet_tf.retrieval import verification

_SIZE = 16, 8, 3


class _Batches:
    """Two batches that count how often they are iterated."""

    def __init__(self, images):
        self.images, self.passes = images, 0

    def __iter__(self):
        self.passes += 1
        yield from np.array_split(self.images, 2)


def _split(identities, cameras, seed):
    images = np.random.default_rng(seed).integers(
        0, 256, (len(identities), *_SIZE), np.uint8
    )
    labels = datasets.Images(
        tuple(f"{i}.jpg" for i in range(len(identities))),
        np.array(identities, np.int32),
        np.array(cameras, np.int32),
    )
    return gate.Split(labels, _Batches(images))


def _network(kernel):
    images = tf.keras.Input(_SIZE)
    x = tf.keras.layers.Conv2D(4, 8, 8, use_bias=False)(images)
    network = tf.keras.Model(images, tf.keras.layers.Flatten()(x), name="tiny")
    network.set_weights([kernel])
    return network


@pytest.fixture(scope="module")
def splits():
    query = _split([1, 2, 3], [1, 1, 1], seed=0)
    # Two distractors: no query shows 0 and 9.
    return query, _split([1, 2, 3, 1, 0, 9], [2, 2, 2, 1, 2, 2], seed=1)


@pytest.fixture(scope="module")
def kernel():
    return np.random.default_rng(2).normal(size=(8, 8, 3, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def judge(splits, kernel):
    return gate.Gate(_network(kernel), *splits, "market1501", "a part")


def test_a_file_that_is_the_network_loses_nothing(judge, splits, kernel, tmp_path):
    path = tmp_path / "model.keras"
    _network(kernel).save(path)
    row = judge.judge(path)
    assert row["map_drop"] == 0
    assert row["cosine_min"] == pytest.approx(1, abs=1e-6)
    assert {key: row[key] for key in ("rank1", "mean_ap")} == {
        key: judge.reference[key] for key in ("rank1", "mean_ap")
    }


def test_thresholds_are_those_of_the_file_itself(judge, splits, kernel, tmp_path):
    path, other = tmp_path / "other.keras", kernel[::-1]
    network = _network(other)
    network.save(path)
    row = judge.judge(path)
    scaled = [
        (split.batches.images / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        for split in splits
    ]
    query, gallery = (network(x.astype(np.float32)).numpy() for x in scaled)
    expected = verification.thresholds(
        query, splits[0].labels, gallery, splits[1].labels
    )
    # Queries meet their three matches of camera 2, and everyone else there.
    assert row["thresholds"]["genuine_pairs"] == 3
    assert row["thresholds"]["impostor_pairs"] == 3 * 4
    assert row["thresholds"]["equal_error"]["distance"] == pytest.approx(
        expected.equal_error.distance, abs=1e-4
    )
    assert row["measured"] == measurements.conditions(
        measurements.sha256(path), "market1501", 3, 6, 2, "a part"
    )
    float_ones = dataclasses.asdict(expected)
    assert float_ones.keys() == row["thresholds"].keys()


def test_goes_through_the_images_once_for_the_network_and_once_a_file(
    splits, kernel, tmp_path
):
    path = tmp_path / "model.keras"
    _network(kernel).save(path)
    for split in splits:
        split.batches.passes = 0
    judge = gate.Gate(_network(kernel), *splits, "market1501")
    judge.judge(path)
    judge.judge(path)
    assert [split.batches.passes for split in splits] == [3, 3]


def test_counts_what_pixels_cost(judge):
    # 2 x 1 places, 8 x 8 x 3 -> 4 channels; each value times a factor plus a shift.
    macs = 2 * 8 * 8 * 3 * 4
    assert judge.macs("int8") == macs
    assert judge.macs("uint8") == macs + 2 * 16 * 8 * 3
