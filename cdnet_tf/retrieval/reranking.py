"""Re-ranking with k-reciprocal neighbours, sparse and in blocks; NumPy and SciPy only.

The method is that of Zhong et al., "Re-ranking Person Re-identification with
k-reciprocal Encoding", CVPR 2017. Each image is described by its mutual neighbours, and
two images are alike if these are the same. The method defines matrices of 19,281 x
19,281 for Market-1501; only a few rows at a time and non-zero entries are kept here.

Where the authors' paper and program differ, this follows the program, from which the
published results come: distances are divided by the greatest of their row, and a set of
k/2 neighbours joins if more than two thirds of it, not just two thirds, belong already.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse

from cdnet_tf.retrieval import distances, neighbours, protocol, ranking
from cdnet_tf.retrieval.distances import Embeddings

_BLOCK_BYTES = 2**26


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

    Junk in the gallery is dropped from the ranking, but takes part as a neighbour.
    Leave junk out, as `datasets.read` does.

    Args:
      query_embeddings, query, gallery_embeddings, gallery, normalize: as
        `ranking.evaluate`.
      k1, k2, lambda_, block_bytes: as `distance_rows`.

    Raises:
      ValueError: as `ranking.evaluate` and `distance_rows`.
    """
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
    """Yields each query's re-ranked distances to the gallery.

    Before the first row, the neighbours of all images among all images are found, in a
    time that grows with the square of their number. Beyond a copy of the embeddings and
    about `block_bytes` of distances, the memory is some hundred numbers an image.

    Args:
      query_embeddings: (q, d) floats, finite.
      gallery_embeddings: (g, d) floats, finite.
      k1: number of neighbours that count as near, at least 1.
      k2: number of neighbours whose descriptions are averaged, at least 1. The image
        itself is one of them.
      lambda_: weight of the original distance, 0..1; the Jaccard distance has the rest.
      normalize: compare directions only, as after L2 normalisation.
      block_bytes: memory for distances that are held at once.

    Returns:
      Each query's distances in turn, (g,) float64 in 0..1.

    Raises:
      ValueError: a parameter is out of range, sizes do not agree, or embeddings are not
        finite.
    """
    _check(k1, k2, lambda_)
    query = Embeddings.of(query_embeddings, "query")
    gallery = Embeddings.of(gallery_embeddings, "gallery")
    distances.check_dimensions(query, gallery)
    images = Embeddings.of(np.concatenate([query.rows, gallery.rows]), "all")
    images = images.normalised() if normalize else images
    most = min(max(k1 + 1, k2), len(images.rows))
    near, farthest = neighbours.of_all(images, most, block_bytes)
    farthest = np.maximum(farthest, distances.TINY)
    codes = _weigh(_memberships(near[:, : k1 + 1], k1), images, farthest)
    codes = _average(codes, near[:, :k2])
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


def _memberships(near: np.ndarray, k1: int) -> scipy.sparse.csr_array:
    """Finds for each image the images that describe it, R* of the paper.

    These are its mutual neighbours, itself included. A neighbour's own mutual
    neighbours among its k/2 nearest are added if enough of them belong already.

    Returns:
      (n, n), where only the places of entries count; columns ascend in each row.
    """
    mutual = _mutual(near)
    # Row i is the set of image i, and so is column i, because neighbours are mutual.
    half = _mutual(near[:, : round(k1 / 2) + 1])
    sizes = half.sum(axis=1)
    # (n, n): how many images of a neighbour's set belong to the image's set
    shared = mutual * (mutual @ half)
    shared.data = (3 * shared.data > 2 * sizes[shared.indices]).astype(np.int32)
    shared.eliminate_zeros()
    members = mutual + shared @ half
    members.sort_indices()
    return members


def _mutual(near: np.ndarray) -> scipy.sparse.csr_array:
    """Marks those of each image's neighbours, (n, k), whose neighbour it is, too."""
    holds = _ones_at(np.sort(near, axis=1), np.int32)
    return holds * holds.T.tocsr()


def _ones_at(columns: np.ndarray, dtype: np.dtype | type) -> scipy.sparse.csr_array:
    """Makes an (n, n) matrix with 1 in the given columns (n, k) of each row."""
    images, k = columns.shape
    starts = k * np.arange(images + 1, dtype=np.int32)
    ones = np.ones(columns.size, dtype)
    return scipy.sparse.csr_array((ones, columns.ravel(), starts), (images, images))


def _weigh(
    members: scipy.sparse.csr_array, images: Embeddings, farthest: np.ndarray
) -> scipy.sparse.csr_array:
    """Weighs members by exp(-d), where d is the distance over the row's greatest."""
    starts, columns = members.indptr, members.indices
    products = np.empty(len(columns), images.rows.dtype)
    for own, start, stop in zip(images.rows, starts, starts[1:]):
        products[start:stop] = images.rows[columns[start:stop]] @ own
    rows = np.repeat(np.arange(len(images.rows), dtype=np.int32), np.diff(starts))
    squared = images.squares[rows] + images.squares[columns] - 2 * products
    squared = np.where(rows == columns, 0, np.maximum(squared, 0))
    values = np.exp(-squared / farthest[rows])
    values /= np.add.reduceat(values, starts[:-1])[rows]
    return scipy.sparse.csr_array((values, columns, starts), members.shape)


def _average(codes: scipy.sparse.csr_array, near: np.ndarray) -> scipy.sparse.csr_array:
    """Averages each image's code with those of its neighbours, (n, k2)."""
    means = _ones_at(near, codes.dtype) @ codes
    means.data /= near.shape[1]
    return means


def _blend(
    codes: scipy.sparse.csr_array,
    original: Iterator[np.ndarray],
    farthest: np.ndarray,
    queries: int,
    lambda_: float,
) -> Iterator[np.ndarray]:
    """Yields the weighted sum of Jaccard and original distance, query by query."""
    images = len(farthest)
    # (n, g): the gallery images that each image describes
    index = codes[queries:].T.tocsr()
    for i, squared in enumerate(original):
        own = slice(codes.indptr[i], codes.indptr[i + 1])
        described = index[codes.indices[own]]
        weights = np.repeat(codes.data[own], np.diff(described.indptr))
        least = np.minimum(described.data, weights)
        overlap = np.bincount(described.indices, least, images - queries)
        # A code sums to 1, so the greater weights of two codes sum to 2 - overlap.
        jaccard = 1 - overlap / (2 - overlap)
        yield (1 - lambda_) * jaccard + lambda_ / farthest[i] * np.maximum(squared, 0)
