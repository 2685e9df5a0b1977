"""Draws people to test on, from the training split or the test set, with NumPy only.

Test images no longer measure what was tuned on them. So people of the training split,
whom the network then never sees, stand in for the test people under the same protocol:
another camera has to find them again. Families of look-alikes stay together. The
network must not have seen the siblings of the people that it is tested on, and the
gallery must hold these siblings, who are the hardest to tell apart.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping

import numpy as np

from cdnet_tf.data import datasets


def hold_out(
    data: datasets.ReidDataset, identities: int, seed: int = 0
) -> datasets.ReidDataset:
    """Takes people out of the training split, and makes query and gallery of them.

    As in Market-1501, each camera that saw a person more than once gives one image to
    the query. If no camera did, or the cameras are unknown, one image of the person is
    the query. All other images are gallery, so each query has a match under another
    camera. Test images are left out; the data set need not have any.

    Args:
      data: the data set; its training split is divided. A family of `data.families` is
        held out whole, and only if each member was seen by at least two cameras.
      identities: how many people to hold out, at least 2 (a single person is always
        found). If whole families make more, a warning says how many.
      seed: of the draw, non-negative.

    Raises:
      ValueError: too few people were seen by two cameras, or fewer than 2 are left to
        train on.
    """
    train = data.train
    everyone = np.unique(train.identities)
    able = _able(data)
    most = min(len(able), len(everyone) - 2)
    if not 2 <= identities <= most:
        raise ValueError(
            f"holdout_identities={identities} is out of range: of {len(everyone)} "
            f"training identities {len(able)} were seen by two cameras, as were all "
            f"their look-alikes, and 2 must be left to train on; use 2 to {most}."
        )
    rng = np.random.default_rng(seed)
    held = _drawn(able, identities, data, rng)
    _check_families(identities, len(held), len(everyone))
    return _tested_on(data, held, np.setdiff1d(everyone, held), rng)


def divide(
    data: datasets.ReidDataset, train: int, select: int, test: int, seed: int = 0
) -> tuple[datasets.ReidDataset, datasets.ReidDataset]:
    """Draws people to train on, to choose a network by, and to judge the choice by.

    No person, and no family of look-alikes, is in two of the three groups. Select and
    test people do not depend on the number of train people. Query and gallery are made
    as by `hold_out`.

    Args:
      data: the data set; its training split is divided.
      train, select, test: number of people in each group, at least 2. People of
        families are drawn in whole families until there are enough.
      seed: of the draws, non-negative.

    Returns:
      The select people as query and gallery, and the test people; both with the same
      training split.

    Raises:
      ValueError: there are not enough people.
    """
    everyone, able = np.unique(data.train.identities), _able(data)
    rng = np.random.default_rng(seed)
    drawn: dict[str, np.ndarray] = {}
    for name, number in (("test", test), ("select", select), ("train", train)):
        left = np.setdiff1d(everyone if name == "train" else able, _all(drawn))
        if not 2 <= number <= len(left):
            raise ValueError(
                f"{number} {name} people are out of range: of {len(everyone)} training "
                f"identities, {len(able)} of whom two cameras saw, as they did all "
                f"their look-alikes, {len(left)} are left; use 2 to {len(left)}, or "
                f"fewer others ({', '.join(drawn) or 'none are drawn yet'})."
            )
        drawn[name] = _drawn(left, number, data, rng)
    first, second = (
        _tested_on(data, drawn[name], drawn["train"], rng)
        for name in ("select", "test")
    )
    return first, second


def whole_people(
    data: datasets.ReidDataset, images: int, seed: int = 0
) -> tuple[datasets.Images, datasets.Images]:
    """Returns (query, gallery) of some people of the test set, for a quick judgement.

    Distractors are left out, so scores are higher than on the whole test set.

    Args:
      data: the data set; people are drawn from its query and gallery.
      images: people are drawn until they have so many images.
      seed: of the draw, non-negative.
    """
    people = np.unique(data.query.identities)
    both = np.concatenate([data.query.identities, data.gallery.identities])
    order = np.random.default_rng(seed).permutation(people)
    sizes = np.cumsum([(both == person).sum() for person in order])
    kept = order[: np.searchsorted(sizes, images) + 1]
    query, gallery = (
        split.take(np.isin(split.identities, kept))
        for split in (data.query, data.gallery)
    )
    return query, gallery


def _all(drawn: Mapping[str, np.ndarray]) -> np.ndarray:
    """Joins the people of all groups in one array."""
    return np.concatenate([np.zeros(0, int), *drawn.values()])


def _tested_on(
    data: datasets.ReidDataset,
    held: np.ndarray,
    trained: np.ndarray,
    rng: np.random.Generator,
) -> datasets.ReidDataset:
    """Returns `data` with query and gallery of `held`, and `trained` to train on."""
    train = data.train
    query = np.concatenate([_query(train, identity, rng) for identity in held])
    is_held = np.isin(train.identities, held)
    is_query = np.isin(np.arange(len(train)), query)
    return dataclasses.replace(
        data,
        train=train.take(np.isin(train.identities, trained)),
        query=train.take(is_query),
        gallery=train.take(is_held & ~is_query),
        absent=(),
    )


def _families(identities: np.ndarray, data: datasets.ReidDataset) -> np.ndarray:
    """Returns the family of each identity; a negative number if it has none."""
    return np.array([data.families.get(i, -1 - i) for i in identities.tolist()], int)


def _able(data: datasets.ReidDataset) -> np.ndarray:
    """Returns the training identities whose whole family was seen by two cameras."""
    everyone = np.unique(data.train.identities)
    alone = datasets.single_camera_identities(data.train)
    spoilt = np.isin(_families(everyone, data), _families(alone, data))
    return everyone[~spoilt]


def _drawn(
    able: np.ndarray,
    identities: int,
    data: datasets.ReidDataset,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws so many of `able`, or a few more to complete families; ascending."""
    if not data.families:
        return np.sort(rng.choice(able, identities, replace=False))
    own = _families(able, data)
    families, sizes = np.unique(own, return_counts=True)
    order = rng.permutation(len(families))
    enough = np.searchsorted(np.cumsum(sizes[order]), identities) + 1
    return able[np.isin(own, families[order[:enough]])]


def _check_families(identities: int, held: int, everyone: int) -> None:
    """Warns if more people are held out than asked for; raises if they are too many."""
    if held == identities:
        return
    if everyone - held < 2:
        raise ValueError(
            f"holdout_identities={identities} makes {held} in whole families of "
            f"look-alikes, of {everyone} training identities, and 2 must be left to "
            "train on; use fewer."
        )
    warnings.warn(
        f"holdout_identities={identities} are not whole families of look-alikes, so "
        f"{held} people are held out.",
        stacklevel=3,
    )


def _query(images: datasets.Images, identity: int, rng: np.random.Generator):
    """Draws the indices of one person's queries."""
    own = rng.permutation(np.flatnonzero(images.identities == identity))
    _, first, counts = np.unique(
        images.cameras[own], return_index=True, return_counts=True
    )
    chosen = own[first[counts > 1]]
    return chosen if len(chosen) else own[:1]
