"""Draws P x K batches of indices and the split of a search, with NumPy only.

Everything here is a function of its arguments. The batches of an epoch can be drawn
without those of earlier epochs, so a run killed in epoch 173 resumes at epoch 173.
"""

from __future__ import annotations

import numpy as np


def search_split(
    identities: np.ndarray, images_per_id: int = 4, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Splits the training images into D_train (for w) and D_val (for alpha).

    An identity with more than K images gives K to D_val and the others to D_train. An
    identity with K or fewer has none to spare, so D_train and D_val both get all its
    images, repeated in D_val up to K. No identity may be missing from one of the two,
    because both losses classify over all identities.

    Args:
      identities: (n,) identity of each image, any numbering.
      images_per_id: K, at least 1.
      seed: of the draw.

    Returns:
      Indices into `identities`, (n_train,) and (C * K,), identity by identity.
    """
    rng = np.random.default_rng(seed)
    train, val = [], []
    for images in _by_identity(identities):
        images = rng.permutation(images)
        val.append(np.resize(images, images_per_id))
        train.append(images[images_per_id:] if len(images) > images_per_id else images)
    return np.concatenate(train), np.concatenate(val)


def steps_per_epoch(
    labels: np.ndarray, identities_per_batch: int, images_per_id: int
) -> int:
    """Counts the batches of `pk_epoch`, which are as many in every epoch.

    A batch holds an identity at most once, so an identity contributes at most `steps`
    groups of K. Fewer groups may in turn mean fewer steps; the loop ends at the largest
    consistent number.

    Raises:
      ValueError: a batch cannot be filled with different identities.
    """
    # (C,)
    sizes = np.unique(labels, return_counts=True)[1]
    _check(len(sizes), identities_per_batch, images_per_id)
    groups = -(-sizes // images_per_id)
    steps, capped = -1, groups.sum() // identities_per_batch
    while capped != steps:
        steps = capped
        capped = np.minimum(groups, steps).sum() // identities_per_batch
    return int(steps)


def pk_epoch(
    labels: np.ndarray,
    identities_per_batch: int,
    images_per_id: int,
    seed: int,
    epoch: int,
    stream: int = 0,
) -> np.ndarray:
    """Draws the batches of one epoch: P identities with K images each.

    Each identity's shuffled images are cut into groups of K. The last group is filled
    with images of the same identity, so that every image is seen. The groups are laid
    out identity by identity and dealt to the batches like cards, so that no two groups
    of an identity come into one batch. An identity with more groups than batches loses
    the surplus. Up to P - 1 further groups, which fill no batch, are left out; they
    differ from epoch to epoch.

    Args:
      labels: (n,) identity of each image, any numbering.
      identities_per_batch: P, 2 or more.
      images_per_id: K, 2 or more.
      seed: of the run, non-negative.
      epoch: from 0.
      stream: a number for each set of images of a run, so that their draws differ.

    Returns:
      (steps, P * K) indices into `labels`; K neighbours share their identity.

    Raises:
      ValueError: as `steps_per_epoch`.
    """
    steps = steps_per_epoch(labels, identities_per_batch, images_per_id)
    rng = np.random.default_rng((seed, stream, epoch))
    members = _by_identity(labels)
    order = rng.permutation(len(members))
    # (groups, K)
    groups = np.concatenate(
        [_groups(rng.permutation(members[i]), images_per_id)[:steps] for i in order]
    )
    kept = rng.permutation(len(groups))[: steps * identities_per_batch]
    # (P, steps, K), then (steps, P, K): group i goes to batch i mod steps.
    dealt = groups[np.sort(kept)].reshape(identities_per_batch, steps, images_per_id)
    batches = rng.permutation(dealt.transpose(1, 0, 2))
    places = rng.random((steps, identities_per_batch)).argsort(axis=1)
    batches = np.take_along_axis(batches, places[:, :, np.newaxis], axis=1)
    return batches.reshape(steps, identities_per_batch * images_per_id)


def _groups(images: np.ndarray, size: int) -> np.ndarray:
    """Cuts images into rows of `size`, and repeats the first ones to fill the last."""
    return np.resize(images, (-(-len(images) // size), size))


def _by_identity(identities: np.ndarray) -> list[np.ndarray]:
    """Lists the indices of each identity's images, identities ascending."""
    identities = np.asarray(identities)
    order = np.argsort(identities, kind="stable")
    starts = np.flatnonzero(np.diff(identities[order])) + 1
    return np.split(order, starts)


def _check(identities: int, identities_per_batch: int, images_per_id: int) -> None:
    if identities_per_batch < 2:
        raise ValueError(
            f"identities_per_batch={identities_per_batch} leaves the triplet loss "
            "without negatives; use 2 or more."
        )
    if images_per_id < 2:
        raise ValueError(
            f"images_per_id={images_per_id} leaves the triplet loss without positives; "
            "use 2 or more, as a rule 4."
        )
    if identities < identities_per_batch:
        raise ValueError(
            f"identities_per_batch={identities_per_batch}, but the images show only "
            f"{identities} identities; use identities_per_batch={identities} or fewer "
            "(2 at least), or more data."
        )
