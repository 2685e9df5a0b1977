"""Re-ranking with k-reciprocal neighbours, sparse and in blocks; NumPy only.

Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR
2017. Each image is described by the images that it and they hold for near, and two
images are alike if these are the same. Of the 19,281 x 19,281 matrices of Market-1501
that the definition speaks of, a few rows at a time and what is not zero are held.

Where the authors' paper and program differ, published results come from the program
and it is followed: distances are divided by the greatest of their row, and a set of k/2
neighbours joins if more than two thirds of it, not just two thirds, are there already.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cdnet_tf.retrieval import distances, neighbours, protocol, ranking
from cdnet_tf.retrieval.distances import Embeddings
from cdnet_tf.retrieval.sparse import Sparse

_BLOCK_BYTES = 2**26
_TINY = 1e-24


def evaluate(
    query_embeddings: np.ndarray,
    query: protocol.Labels,
    gallery_embeddings: np.ndarray,
    gallery: protocol.Labels,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_: float = 0.3,
    normalize: bool = True,
    block_bytes: int = _BLOCK_BYTES,
) -> ranking.Scores:
    """Scores the re-ranking as `ranking.evaluate` scores the ranking.

    Junk in the gallery is dropped from the ranking, but it takes part as a neighbour:
    leave it out, as `datasets.read` does.

    Args:
      query_embeddings, query, gallery_embeddings, gallery, normalize: as
        `ranking.evaluate`.
      k1, k2, lambda_, block_bytes: as `distance_rows`.

    Raises:
      ValueError: as `ranking.evaluate` and `distance_rows`.
    """
    protocol.check(len(query_embeddings), query, "query")
    protocol.check(len(gallery_embeddings), gallery, "gallery")
    rows = distance_rows(
        Embeddings.of(query_embeddings, "query", query).rows,
        Embeddings.of(gallery_embeddings, "gallery", gallery).rows,
        k1=k1,
        k2=k2,
        lambda_=lambda_,
        normalize=normalize,
        block_bytes=block_bytes,
    )
    return ranking.evaluate_rows(rows, query, gallery)


def distance_rows(
    query_embeddings: np.ndarray,
    gallery_embeddings: np.ndarray,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_: float = 0.3,
    normalize: bool = True,
    block_bytes: int = _BLOCK_BYTES,
) -> Iterator[np.ndarray]:
    """Finds each query's re-ranked distances to the gallery.

    The neighbours of all images among all images are found first, before the first row:
    the time goes with the square of their number. Beyond a copy of the embeddings and
    about `block_bytes` of distances, the memory is some hundred numbers an image.

    Args:
      query_embeddings: (q, d) floats, finite.
      gallery_embeddings: (g, d) floats, finite.
      k1: neighbours that count as near, at least 1; all images where there are fewer.
      k2: neighbours, the image itself included, whose descriptions are averaged, at
        least 1 (which is none but its own).
      lambda_: weight of the original distance, 0..1; the Jaccard distance has the rest.
      normalize: compare directions only, as after L2 normalisation.
      block_bytes: of distances held at once.

    Returns:
      For each query in turn (g,) float64, 0..1, smaller is nearer.

    Raises:
      ValueError: a parameter out of range, sizes that do not agree, or embeddings that
        are not finite.
    """
    _check(k1, k2, lambda_)
    query = Embeddings.of(query_embeddings, "query")
    gallery = Embeddings.of(gallery_embeddings, "gallery")
    distances.check_dimensions(query, gallery)
    images = Embeddings.of(np.concatenate([query.rows, gallery.rows]), "all")
    images = images.normalised() if normalize else images
    most = min(max(k1 + 1, k2), len(images.rows))
    near, farthest = neighbours.of_all(images, most, block_bytes)
    farthest = np.maximum(farthest, _TINY)
    codes = _weigh(_memberships(near[:, : k1 + 1], k1, block_bytes), images, farthest)
    codes = _average(codes, near[:, :k2], block_bytes) if k2 > 1 else codes
    queries = images.take(np.arange(len(query.rows)))
    rest = images.take(np.arange(len(query.rows), len(images.rows)))
    original = distances.rows(queries, rest, False, block_bytes)
    return _blend(codes, original, farthest, len(query.rows), lambda_)


def _check(k1: int, k2: int, lambda_: float) -> None:
    for name, value in {"k1": k1, "k2": k2}.items():
        if value < 1:
            raise ValueError(f"{name}={value} is too small; use at least 1.")
    if not 0 <= lambda_ <= 1:
        raise ValueError(f"lambda_={lambda_} is out of range; use 0 to 1.")


def _memberships(near: np.ndarray, k1: int, block_bytes: int) -> Sparse:
    """Finds for each image the images that describe it, R* of the paper.

    They are the neighbours that hold it for a neighbour too, and the like sets of k/2
    of these, where they agree with it. Every image is among its own.

    Returns:
      (n, n) without values yet.
    """
    images = len(near)
    half = near[:, : round(k1 / 2) + 1]
    mutual, mutual_half = _mutual(near), _mutual(half)
    step = max(1, block_bytes // images)
    mask = np.zeros((min(step, images), images), bool)
    counts, columns = [], []
    for start in range(0, images, step):
        rows, places = np.nonzero(mutual[start : start + step])
        members = near[start + rows, places]
        mask[rows, members] = True
        # (members, k/2 + 1): the set of each member, of which `real` are in it.
        sets, real = half[members], mutual_half[members]
        shared = mask[rows[:, np.newaxis], sets] & real
        agree = 3 * shared.sum(axis=1) > 2 * real.sum(axis=1)
        members, places = np.nonzero(real & agree[:, np.newaxis])
        mask[rows[members], sets[members, places]] = True
        counted, found = _gather(mask)
        counts.append(counted[: images - start])
        columns.append(found)
    return Sparse.of(np.concatenate(counts), np.concatenate(columns), np.zeros(0))


def _mutual(near: np.ndarray) -> np.ndarray:
    """Says of each image's neighbours whether they hold it for one too, (n, k)."""
    itself = np.arange(len(near))[:, np.newaxis]
    return np.stack([(near[one] == itself).any(axis=1) for one in near.T], axis=1)


def _gather(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns how many marks each row has and their columns, and takes them out."""
    marks = np.flatnonzero(mask)
    rows, columns = np.divmod(marks, mask.shape[1])
    mask.ravel()[marks] = False
    return np.bincount(rows, minlength=len(mask)), columns.astype(np.int32)


def _weigh(members: Sparse, images: Embeddings, farthest: np.ndarray) -> Sparse:
    """Weighs the members exp(-d), d being the distance over the row's greatest."""
    rows, columns = members.rows(), members.columns
    products = np.empty(len(columns), images.rows.dtype)
    for i, own in enumerate(images.rows):
        place = members.row(i)
        products[place] = images.rows[columns[place]] @ own
    squared = images.squares[rows] + images.squares[columns] - 2 * products
    squared = np.where(rows == columns, 0, np.maximum(squared, 0))
    values = np.exp(-squared / farthest[rows])
    values /= np.add.reduceat(values, members.starts[:-1])[rows]
    return Sparse(members.starts, columns, values)


def _average(codes: Sparse, near: np.ndarray, block_bytes: int) -> Sparse:
    """Averages each image's code with those of its neighbours, (n, k2)."""
    images, k2 = near.shape
    step = max(1, block_bytes // (images * codes.values.itemsize))
    sums = np.zeros((min(step, images), images), codes.values.dtype)
    mask = np.zeros(sums.shape, bool)
    counts, columns, values = [], [], []
    for start in range(0, images, step):
        block = near[start : start + step]
        for neighbour in block.T:
            # A row has each column once, so += adds to no place twice.
            places, each = codes.find(neighbour)
            at = np.repeat(np.arange(len(block)), each), codes.columns[places]
            sums[at] += codes.values[places]
            mask[at] = True
        counted, found = _gather(mask)
        at = np.repeat(np.arange(len(sums)), counted), found
        counts.append(counted[: len(block)])
        columns.append(found)
        values.append(sums[at] / k2)
        sums[at] = 0
    return Sparse.of(*(np.concatenate(each) for each in (counts, columns, values)))


def _blend(
    codes: Sparse,
    original: Iterator[np.ndarray],
    farthest: np.ndarray,
    queries: int,
    lambda_: float,
) -> Iterator[np.ndarray]:
    """Yields the weighted sum of Jaccard and original distance, query by query."""
    images = len(farthest)
    # (n, g): which gallery images each image describes
    index = codes.from_row(queries).transposed(images)
    for i, squared in enumerate(original):
        own = codes.row(i)
        places, counts = index.find(codes.columns[own])
        least = np.minimum(index.values[places], np.repeat(codes.values[own], counts))
        overlap = np.bincount(index.columns[places], least, images - queries)
        # A code sums to 1, so two codes' greater weights sum to 2 - overlap.
        jaccard = 1 - overlap / (2 - overlap)
        yield (1 - lambda_) * jaccard + lambda_ / farthest[i] * np.maximum(squared, 0)
