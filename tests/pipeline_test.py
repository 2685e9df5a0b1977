"""Batches from files on disk: right, reproducible, resumable, replicated."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cdnet_tf.data import datasets, pipeline, preprocess
from tests import tiny

_SIZE = {"height": 16, "width": 8, "pad": 1}
_BATCH = {"identities_per_batch": 2, "images_per_id": 2, "seed": 3}
# 5 identities of 6 images: D_val takes 10 and fills 2 batches; D_train keeps 20, in 10
# groups of 2, and fills 5.
_IDENTITIES = np.repeat([3, 5, 8, 13, 21], 6).astype(np.int32)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Writes images of one colour: identity, number, in steps that JPEG keeps."""
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for i, identity in enumerate(_IDENTITIES):
        path = folder / f"{identity:04}_c1s1_{i:06}_01.jpg"
        Image.new("RGB", (8, 16), (10 * int(identity), 8 * i, 100)).save(path)
        paths.append(str(path))
    return datasets.Images(tuple(paths), _IDENTITIES, np.ones(30, np.int32))


def _colours(batch):
    """Reads (identity, number) of each image from its colour, without black borders."""
    std, mean = np.array(preprocess.IMAGENET.std), np.array(preprocess.IMAGENET.mean)
    pixels = np.round((batch * std + mean) * 255).reshape(len(batch), -1, 3)
    # Erased pixels show the mean, black ones 0; neither has 100 in the last channel.
    shown = [image[np.abs(image[:, 2] - 100) < 4] for image in pixels]
    rows = np.array([np.median(image, axis=0) for image in shown])
    return [(round(r / 10), round(g / 8)) for r, g, _ in rows]


def _equal(first, second):
    tf.nest.map_structure(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize("cache_bytes", [None, 0])
def test_search_batches_show_the_labelled_images(images, cache_bytes):
    batches = pipeline.search_batches(
        images, epochs=4, cache_bytes=cache_bytes, **_SIZE, **_BATCH
    )
    image_spec = tf.TensorSpec((4, 16, 8, 3), tf.float32)
    label_spec = tf.TensorSpec((4,), tf.int32)
    assert batches.dataset.element_spec == ((image_spec, label_spec),) * 2
    assert (batches.steps_per_epoch, batches.num_classes) == (5, 5)
    steps = list(batches.dataset.as_numpy_iterator())
    assert len(steps) == 4 * 5
    raw = [3, 5, 8, 13, 21]
    seen = [set(), set()]
    for step in steps:
        for part, (batch, labels) in enumerate(step):
            assert labels[0] == labels[1] != labels[2] == labels[3]
            colours = _colours(batch)
            assert [identity for identity, _ in colours] == [raw[i] for i in labels]
            seen[part] |= set(colours)
    # All of D_train in one epoch, all of D_val within its ten, and nothing in both.
    assert len(seen[0]) == 20 and len(seen[1]) == 10 and not seen[0] & seen[1]


def test_people_whom_no_weight_learns_from_are_d_val(images):
    known = np.isin(images.identities, [3, 8, 21])
    batches = pipeline.search_batches(
        images.take(known), images.take(~known), epochs=1, **_SIZE, **_BATCH
    )
    assert batches.num_classes == 3
    shown = set()
    for (_, labels), (batch, unseen) in batches.dataset.as_numpy_iterator():
        assert set(labels) <= {0, 1, 2} and set(unseen) == {3, 4}
        colours = _colours(batch)
        assert [identity for identity, _ in colours] == [(5, 13)[i - 3] for i in unseen]
        shown |= set(colours)
    assert len(shown) > 2  # images, not always the same


def test_an_epoch_of_d_train_shows_every_image_once(images):
    batches = pipeline.search_batches(images, epochs=1, **_SIZE, **_BATCH)
    shown = [_colours(train[0]) for train, _ in batches.dataset.as_numpy_iterator()]
    assert len(set(itertools.chain(*shown))) == 20


def test_cached_or_not_and_resumed_or_not_the_batches_are_the_same(images):
    whole, uncached, resumed, other = (
        list(
            pipeline.search_batches(
                images, epochs=3, **{**_SIZE, **_BATCH, **change}
            ).dataset.as_numpy_iterator()
        )
        for change in ({}, {"cache_bytes": 0}, {"first_epoch": 2}, {"seed": 4})
    )
    _equal(whole, uncached)
    _equal(whole[10:], resumed)
    assert (whole[0][0][1] != other[0][0][1]).any()


@pytest.mark.parametrize("erasing", [0.0, 1.0])
def test_a_search_erases_in_both_parts_alike_or_in_none(images, erasing):
    batches = pipeline.search_batches(
        images, epochs=1, erasing=erasing, **{**_SIZE, "pad": 0}, **_BATCH
    )
    for parts in batches.dataset.as_numpy_iterator():
        for batch, _ in parts:
            # Erased pixels are 0; of these images no other is, in all channels.
            erased = (batch == 0).all(-1).any((1, 2))
            assert erased.all() if erasing else not erased.any()


def test_the_same_images_are_augmented_differently_each_epoch(images):
    # A single batch: both identities in every step, 2 images each.
    few = datasets.Images(
        images.paths[:2] + images.paths[6:8], _IDENTITIES[[0, 1, 6, 7]], np.ones(4)
    )
    batches = pipeline.train_batches(few, epochs=8, **_SIZE, **_BATCH)
    assert batches.steps_per_epoch == 1
    steps = [batch for batch, _ in batches.dataset.as_numpy_iterator()]
    assert len({batch.tobytes() for batch in steps}) == 8


def test_train_batches(images):
    batches = pipeline.train_batches(images, epochs=2, **_SIZE, **_BATCH)
    # 3 groups an identity, 15 in all.
    assert (batches.steps_per_epoch, batches.num_classes) == (7, 5)
    steps = list(batches.dataset.as_numpy_iterator())
    assert len(steps) == 14
    for batch, labels in steps:
        expected = np.unique(_IDENTITIES)[labels]
        assert [identity for identity, _ in _colours(batch)] == expected.tolist()


def test_evaluation_batches_keep_the_order(images):
    batches = list(tiny.normalised(images.paths, 16, 8, batch_size=8))
    assert [len(batch) for batch in batches] == [8, 8, 8, 6]
    expected = [(int(identity), i) for i, identity in enumerate(_IDENTITIES)]
    assert _colours(np.concatenate(batches)) == expected


def test_too_few_identities_is_said_before_images_are_read(images):
    absent = datasets.Images(("absent.jpg",) * 30, _IDENTITIES, np.ones(30))
    with pytest.raises(ValueError, match="identities_per_batch=6, .* only 5"):
        pipeline.search_batches(
            absent, epochs=1, **_SIZE, **{**_BATCH, "identities_per_batch": 6}
        )


_TWO_REPLICAS = """
    import sys
    import numpy as np
    import tensorflow as tf
    from cdnet_tf.data import datasets, pipeline

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    identities = np.repeat(np.arange(5), 6)
    images = datasets.Images(tuple(sys.argv[1:]), identities, np.ones(30))
    batches = pipeline.search_batches(
        images, identities_per_batch=2, images_per_id=2, seed=3, epochs=1, height=16,
        width=8, pad=1,
    )
    plain = list(batches.dataset)
    for step, shared in zip(plain, strategy.experimental_distribute_dataset(
            batches.dataset)):
        for whole, part in zip(tf.nest.flatten(step), tf.nest.flatten(shared)):
            halves = strategy.experimental_local_results(part)
            assert [half.shape for half in halves] == [[2, *whole.shape[1:]]] * 2
            np.testing.assert_array_equal(tf.concat(halves, 0), whole)


    class Count(tf.keras.Model):
        def train_step(self, data):
            for images, labels in data:
                assert images.shape == (2, 16, 8, 3) and labels.shape == (2,)
                # One identity a replica, in every step.
                tf.debugging.assert_equal(labels[0], labels[1])
            return {"images": tf.cast(tf.shape(images)[0], tf.float32)}


    with strategy.scope():
        model = Count()
        model.compile()
    steps = batches.steps_per_epoch
    history = model.fit(batches.dataset, steps_per_epoch=steps, verbose=0).history
    assert history["images"] == [4.0], history
"""


def test_two_replicas_share_a_batch_by_identities(images):
    """Runs in a new process, because devices are split before TensorFlow starts."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_TWO_REPLICAS), *images.paths],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
