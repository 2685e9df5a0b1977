"""Properties that all batches must have over many epochs; small cases by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cdnet_tf.data import sampling

# Identities 0..9 with 1..10 images: groups of 4 are 1 1 1 1 2 2 2 2 3 3, 18 in all.
_UNEVEN = np.repeat(np.arange(10), np.arange(1, 11))


@pytest.mark.parametrize(
    "images, train, val, shared",
    [
        (9, 5, 4, 0),
        (8, 4, 4, 0),
        (5, 1, 4, 0),
        (4, 4, 4, 4),
        (2, 2, 4, 2),
    ],
)
def test_split_is_disjoint_where_the_data_allow(images, train, val, shared):
    identities = np.array([42] * images + [7] * 8)
    parts = sampling.search_split(identities, images_per_id=4, seed=3)
    train_part, val_part = ([i for i in part if i < images] for part in parts)
    assert (len(train_part), len(val_part)) == (train, val)
    assert len(set(train_part) & set(val_part)) == shared
    assert set(train_part) | set(val_part) == set(range(images))


def test_split_depends_on_the_seed_alone():
    first, again = (sampling.search_split(_UNEVEN, 4, seed=1) for _ in range(2))
    other = sampling.search_split(_UNEVEN, 4, seed=2)
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[1] != other[1]).any()


@pytest.mark.parametrize(
    "sizes, steps",
    [
        ([4, 4, 4, 4], 2),  # 4 groups, 2 a batch
        ([4, 4, 4, 4, 4], 2),  # 5 groups: one is left out
        ([5, 5, 5, 5], 4),  # 2 groups each
        ([400, 4], 1),  # 101 groups, but two of one identity never share a batch
        ([400, 4, 8], 3),  # 1 + 2 groups to stand beside the frequent identity's
        ([1, 1, 1], 1),
    ],
)
def test_steps(sizes, steps):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    assert sampling.steps_per_epoch(labels, 2, 4) == steps
    batches = sampling.pk_epoch(labels, 2, 4, seed=0, epoch=0)
    assert batches.shape == (steps, 8)
    assert (labels[batches[:, 0]] != labels[batches[:, 4]]).all()


def test_batches_hold_whole_different_identities():
    for epoch in range(20):
        batches = sampling.pk_epoch(_UNEVEN, 3, 4, seed=5, epoch=epoch)
        # (steps, P, K)
        labels = _UNEVEN[batches].reshape(-1, 3, 4)
        assert len(labels) == 6
        assert (labels == labels[:, :, :1]).all()
        for batch in labels[:, :, 0]:
            assert len(set(batch)) == 3


def test_an_epoch_shows_every_image():
    # 18 groups fill 6 batches of 3 without a remainder.
    batches = sampling.pk_epoch(_UNEVEN, 3, 4, seed=5, epoch=0)
    shown = np.bincount(batches.ravel(), minlength=len(_UNEVEN))
    assert shown.min() == 1
    # Identities with 4 and 8 images need no repetition.
    assert (shown[(_UNEVEN == 3) | (_UNEVEN == 7)] == 1).all()


def test_a_group_repeats_an_image_only_where_the_identity_is_small():
    for group in sampling.pk_epoch(_UNEVEN, 3, 4, seed=5, epoch=1).reshape(-1, 4):
        available = _UNEVEN[group[0]] + 1  # identity i has i + 1 images
        assert len(set(group)) == min(4, available)


def test_the_remainder_is_left_out_in_turn():
    labels = np.repeat(np.arange(5), 4)
    shown = [
        set(labels[sampling.pk_epoch(labels, 2, 4, seed=0, epoch=epoch)].ravel())
        for epoch in range(40)
    ]
    assert all(len(identities) == 4 for identities in shown)
    assert set.union(*shown) == set(range(5))
    assert set.intersection(*shown) == set()


def test_epochs_differ_and_reproduce_by_themselves():
    draws = {
        key: sampling.pk_epoch(_UNEVEN, 3, 4, *key).tobytes()
        for key in [(0, 0), (0, 1), (1, 0), (0, 0, 1)]
    }
    assert len(set(draws.values())) == 4
    for key, batches in draws.items():
        assert sampling.pk_epoch(_UNEVEN, 3, 4, *key).tobytes() == batches


@pytest.mark.parametrize(
    "identities_per_batch, images_per_id, message",
    [
        (16, 4, "identities_per_batch=16, .* only 10 identities; .*=10 or fewer"),
        (1, 4, "identities_per_batch=1 .* use 2 or more"),
        (4, 1, "images_per_id=1 .* use 2 or more"),
    ],
)
def test_errors_name_the_value_and_the_remedy(
    identities_per_batch, images_per_id, message
):
    with pytest.raises(ValueError, match=message):
        sampling.pk_epoch(_UNEVEN, identities_per_batch, images_per_id, 0, 0)
