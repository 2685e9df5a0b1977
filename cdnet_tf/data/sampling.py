"""P x K index batches and the search's split, from a seed; NumPy only.

Everything here is a function of its arguments: an epoch's batches can be drawn
without drawing those before it, so a run killed in epoch 173 resumes at epoch 173.
"""

from __future__ import annotations

import numpy as np


def search_split(
    identities: np.ndarray, images_per_id: int = 4, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Splits the training images into D_train (for w) and D_val (for alpha).

    Every identity gives K images to D_val and the rest to D_train, so the two never
    share an image of an identity with more than K. An identity with K or fewer has
    nothing to spare: all its images stand in both, repeated in D_val up to K, because
    both losses classify over all identities.

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
    """Counts the batches of `pk_epoch`; the same in every epoch, as Keras wants.

    A batch holds an identity once, so of an identity with more groups of K than there
    are steps only `steps` groups count. Fewer groups may mean fewer steps, hence the
    loop: it ends at the largest count that holds.

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

    Each identity's shuffled images are cut into groups of K; the last group is filled
    up from the identity's own images, so that every image is seen. The groups, laid
    out identity by identity, are dealt to the batches like cards: an identity's
    groups are neighbours, no more than there are batches, and so never meet in one.
    Up to P - 1 groups that fill no batch are left out, others in each epoch, and so
    are the groups of a very frequent identity beyond one a batch.

    Args:
      labels: (n,) identity of each image, any numbering.
      identities_per_batch: P, 2 or more.
      images_per_id: K, 2 or more.
      seed: of the run, non-negative.
      epoch: from 0.
      stream: keeps apart the draws of a run that batches several sets of images.

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
    """Cuts images into rows of `size`, starting over where they run out."""
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
