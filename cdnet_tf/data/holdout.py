"""Identities held out of the training split, as a test set of one's own; NumPy only.

Whatever is tuned on the test images is no longer measured by them. People of the
training split, whom the network then never sees, stand in for the test people, under
the same protocol: another camera has to find them again.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from cdnet_tf.data import datasets


def hold_out(
    data: datasets.ReidDataset, identities: int, seed: int = 0
) -> datasets.ReidDataset:
    """Trains on fewer people, and makes query and gallery of the others.

    As in Market-1501, each camera that saw a person more than once gives one image to
    the query. Where none did, one camera gives its only image. The rest is gallery, so
    that each query has a match under another camera. The test images are left out.

    Args:
      data: whose training split is divided.
      identities: how many to hold out, at least 2 (one alone is always found).
      seed: of the draw, non-negative.

    Raises:
      ValueError: too few were seen by two cameras, or fewer than 2 are left to train.
    """
    train = data.train
    everyone = np.unique(train.identities)
    able = np.setdiff1d(everyone, datasets.single_camera_identities(train))
    most = min(len(able), len(everyone) - 2)
    if not 2 <= identities <= most:
        raise ValueError(
            f"holdout_identities={identities} is out of range: of {len(everyone)} "
            f"training identities {len(able)} were seen by two cameras, and 2 must be "
            f"left to train on; use 2 to {most}."
        )
    rng = np.random.default_rng(seed)
    held = np.sort(rng.choice(able, identities, replace=False))
    query = np.concatenate([_query(train, identity, rng) for identity in held])
    is_held = np.isin(train.identities, held)
    is_query = np.isin(np.arange(len(train)), query)
    return dataclasses.replace(
        data,
        train=_take(train, ~is_held),
        query=_take(train, is_query),
        gallery=_take(train, is_held & ~is_query),
    )


def _query(images: datasets.Images, identity: int, rng: np.random.Generator):
    """Indices of one person's queries."""
    own = rng.permutation(np.flatnonzero(images.identities == identity))
    _, first, counts = np.unique(
        images.cameras[own], return_index=True, return_counts=True
    )
    chosen = own[first[counts > 1]]
    return chosen if len(chosen) else own[:1]


def _take(images: datasets.Images, mask: np.ndarray) -> datasets.Images:
    return datasets.Images(
        tuple(images.paths[i] for i in np.flatnonzero(mask)),
        images.identities[mask],
        images.cameras[mask],
    )
