"""Triplet and softmax losses against NumPy loops."""

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.learn import losses


def _batch_hard(labels, features, margin):
    total = 0.0
    for i, anchor in enumerate(features):
        distances = [np.sqrt(((anchor - other) ** 2).sum()) for other in features]
        positives = [d for j, d in enumerate(distances) if labels[j] == labels[i]]
        negatives = [d for j, d in enumerate(distances) if labels[j] != labels[i]]
        total += max(0.0, max(positives) - min(negatives) + margin)
    return total / len(features)


@pytest.mark.parametrize(
    "labels",
    [
        [0, 0, 0, 0, 1, 1, 1, 1],
        [3, 3, 9, 9, 9, 9, 9, 4, 4],  # unequal counts
        [5, 1, 1, 2, 2],  # one image: its farthest positive is itself
        [0, 1, 0, 1],  # identities need not be contiguous
    ],
)
@pytest.mark.parametrize("margin", [0.0, 0.3, 5.0])
def test_triplet(labels, margin):
    features = np.random.default_rng(0).normal(size=(len(labels), 3))
    found = losses.ReidLoss(margin).triplet(
        tf.constant(labels), tf.constant(features, tf.float32)
    )
    assert float(found) == pytest.approx(_batch_hard(labels, features, margin), 1e-4)


def test_people_without_a_class_add_nothing_to_the_softmax_loss():
    logits = tf.constant(np.random.default_rng(0).normal(size=(4, 3)), tf.float32)
    loss = losses.ReidLoss(label_smoothing=0.1)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        found = loss.softmax(tf.constant([3, 3, 4, 9]), logits)
    assert float(found) == 0
    np.testing.assert_array_equal(tape.gradient(found, logits), np.zeros((4, 3)))


def test_triplet_by_hand():
    # On a line, identities at 0 and 3 and at 4 and 4.5.
    features = tf.constant([[0.0], [3.0], [4.0], [4.5]])
    found = losses.ReidLoss(margin=0.3).triplet(tf.constant([0, 0, 1, 1]), features)
    # 3 - 4 < 0, 3 - 1 + 0.3, 0.5 - 1 < 0, 0.5 - 1.5 < 0; a squared distance gives 8.3.
    assert float(found) == pytest.approx(2.3 / 4)


def test_triplet_gradient_is_finite_where_images_are_equal():
    features = tf.constant([[1.0, 2.0]] * 4 + [[3.0, 4.0]] * 2 + [[1.0, 2.0]] * 2)
    labels = tf.constant([0, 0, 1, 1, 2, 2, 2, 0])
    with tf.GradientTape() as tape:
        tape.watch(features)
        loss = losses.ReidLoss().triplet(labels, features)
    gradient = tape.gradient(loss, features)
    assert np.isfinite(loss) and loss > 0
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax(smoothing):
    labels = [0, 2, 1]
    logits = np.random.default_rng(0).normal(size=(3, 4))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = 0.0
    for label, row in zip(labels, p):
        target = np.full(4, smoothing / 4)
        target[label] += 1 - smoothing
        expected -= (target * np.log(row)).sum() / 3
    found = losses.ReidLoss(label_smoothing=smoothing).softmax(
        tf.constant(labels), tf.constant(logits, tf.float32)
    )
    assert float(found) == pytest.approx(expected, 1e-5)


def test_heads_are_summed():
    random = np.random.default_rng(1)
    labels = tf.constant([0, 0, 1, 1])
    features = [tf.constant(random.normal(size=(4, d)), tf.float32) for d in (3, 5)]
    logits = [tf.constant(random.normal(size=(4, 2)), tf.float32) for _ in range(2)]
    loss = losses.ReidLoss()
    triplet, softmax = loss(labels, {"features": features, "logits": logits})
    parts = [_batch_hard(labels.numpy(), f.numpy(), 0.3) for f in features]
    assert float(triplet) == pytest.approx(sum(parts), 1e-4)
    parts = [float(loss.softmax(labels, z)) for z in logits]
    assert float(softmax) == pytest.approx(sum(parts), 1e-6)
    assert min(parts) > 0


def test_without_a_margin_there_is_no_triplet_loss():
    outputs = {"features": [tf.ones((4, 3))], "logits": [tf.zeros((4, 2))]}
    triplet, softmax = losses.ReidLoss(margin=None)(tf.constant([0, 0, 0, 0]), outputs)
    assert float(triplet) == 0
    assert float(softmax) == pytest.approx(np.log(2))


def test_half_precision_heads_give_float32_losses():
    outputs = {
        "features": [tf.constant([[300.0], [-300.0]], tf.float16)],
        "logits": [tf.zeros([2, 4], tf.float16)],
    }
    triplet, softmax = losses.ReidLoss()(tf.constant([0, 1]), outputs)
    # 600 squared is beyond float16, whose largest number is 65,504.
    assert triplet.dtype == softmax.dtype == tf.float32
    assert float(triplet) == 0
    assert float(softmax) == pytest.approx(np.log(4))
