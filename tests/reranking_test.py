"""Re-ranking, against a dense loop written from the definition."""

from __future__ import annotations

import types

import numpy as np
import pytest

from cdnet_tf.retrieval import neighbours, ranking, reranking
from cdnet_tf.retrieval.distances import Embeddings


def _nearest(distances, i, k):
    """Returns image i and its k nearest others, where the earlier one wins ties."""
    others = (j for j in range(len(distances)) if j != i)
    return [i, *sorted(others, key=lambda j: (distances[i, j], j))[:k]]


def _reciprocal(distances, i, k):
    near = _nearest(distances, i, k)
    return {j for j in near if i in _nearest(distances, j, k)}


def _code(distances, i, k1):
    """Returns the image's description: a weight for each image; their sum is 1."""
    members = _reciprocal(distances, i, k1)
    expanded = set(members)
    for j in members:
        candidates = _reciprocal(distances, j, round(k1 / 2))
        if len(candidates & members) > 2 / 3 * len(candidates):
            expanded |= candidates
    code = np.zeros(len(distances))
    for j in expanded:
        code[j] = np.exp(-distances[i, j])
    return code / code.sum()


def _oracle(query, gallery, k1, k2, lambda_):
    images = np.concatenate([query, gallery]).astype(float)
    distances = ((images[:, np.newaxis] - images) ** 2).sum(-1)
    distances /= np.maximum(distances.max(axis=1, keepdims=True), 1e-24)
    codes = [_code(distances, i, k1) for i in range(len(images))]
    means = [
        np.mean([codes[j] for j in _nearest(distances, i, k2 - 1)], axis=0)
        for i in range(len(images))
    ]
    result = np.empty((len(query), len(gallery)))
    for i in range(len(query)):
        for j in range(len(gallery)):
            ours, theirs = means[i], means[len(query) + j]
            least, most = np.minimum(ours, theirs), np.maximum(ours, theirs)
            jaccard = 1 - least.sum() / most.sum()
            original = distances[i, len(query) + j]
            result[i, j] = (1 - lambda_) * jaccard + lambda_ * original
    return result


def _people(seed, images=60, queries=12, people=7, dtype=np.float64):
    """Draws embeddings in clusters, and their labels."""
    random = np.random.default_rng(seed)
    identities = random.integers(1, people + 1, images)
    centres = random.standard_normal((people + 1, 8))
    embeddings = centres[identities] + 0.7 * random.standard_normal((images, 8))
    embeddings = embeddings.astype(dtype)
    cameras = random.integers(1, 4, images)
    parts = slice(queries), slice(queries, None)
    return (
        *(embeddings[part] for part in parts),
        *(
            types.SimpleNamespace(identities=identities[part], cameras=cameras[part])
            for part in parts
        ),
    )


def _rows(*args, **kwargs):
    return np.array(list(reranking.distance_rows(*args, **kwargs)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "k1, k2, lambda_",
    [(20, 6, 0.3), (7, 3, 0.3), (5, 1, 0), (6, 2, 1), (1, 1, 0.5), (3, 9, 0.5)],
)
def test_agrees_with_the_definition(seed, k1, k2, lambda_):
    q, g, _, _ = _people(seed)
    options = {"k1": k1, "k2": k2, "lambda_": lambda_}
    expected = _oracle(q, g, **options)
    for block_bytes in (1, 20000, 2**26):
        rows = _rows(q, g, normalize=False, block_bytes=block_bytes, **options)
        np.testing.assert_allclose(rows, expected, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_ties_go_to_the_earlier_image(seed):
    # Whole numbers from few values: many distances, and whole images, are equal.
    random = np.random.default_rng(seed)
    q, g = (random.integers(0, 3, (n, 3)).astype(np.float32) for n in (9, 50))
    options = {"k1": 6, "k2": 3, "lambda_": 0.3}
    expected = _oracle(q, g, **options)
    for block_bytes in (1, 2**26):
        rows = _rows(q, g, normalize=False, block_bytes=block_bytes, **options)
        np.testing.assert_allclose(rows, expected, atol=1e-5)


@pytest.mark.parametrize("queries, images", [(1, 40), (1, 2), (1, 1), (3, 4), (5, 15)])
def test_few_images(queries, images):
    q, g, _, _ = _people(0, queries + images, queries)
    expected = _oracle(q, g, 20, 6, 0.3)
    np.testing.assert_allclose(_rows(q, g, normalize=False), expected, atol=1e-9)


def test_images_all_alike():
    rows = _rows(np.ones((2, 3)), np.ones((4, 3)), k1=2, k2=1)
    assert rows.shape == (2, 4) and np.isfinite(rows).all()


def test_single_precision_and_directions_only():
    q, g, _, _ = _people(1, dtype=np.float32)
    unit_q, unit_g = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q, g))
    expected = _oracle(unit_q, unit_g, 20, 6, 0.3)
    lengths = np.linspace(0.1, 10, len(g), dtype=np.float32)[:, np.newaxis]
    np.testing.assert_allclose(_rows(q, g * lengths), expected, atol=1e-5)


def test_scores_are_those_of_the_new_distances():
    q, g, query, gallery = _people(2)
    rows = iter(_oracle(q, g, 20, 6, 0.3))
    expected = ranking.evaluate_rows(rows, query, gallery)
    scores = reranking.evaluate(q, query, g, gallery, normalize=False)
    assert scores == expected
    assert scores != ranking.evaluate(q, query, g, gallery, normalize=False)


def test_neighbours_agree_with_a_sort():
    # 700 columns for 3 neighbours: groups of many columns, and some in none.
    random = np.random.default_rng(0)
    rows = random.integers(0, 4, (700, 4)).astype(np.float32)
    distances = ((rows[:, np.newaxis] - rows) ** 2).sum(-1)
    expected = [_nearest(distances, i, 2) for i in range(700)]
    for block_bytes in (1, 100_000, 2**26):
        near, farthest = neighbours.of_all(Embeddings.of(rows, "all"), 3, block_bytes)
        np.testing.assert_array_equal(near, expected)
        np.testing.assert_array_equal(farthest, distances.max(axis=1))


@pytest.mark.parametrize("order", [1, -1])
def test_neighbours_that_come_ever_nearer(order):
    # On a line at 0, 1, 4, 9, ...: an image's nearest are those beside it.
    rows = (np.arange(90.0) ** 2)[::order, np.newaxis]
    distances = (rows - rows.T) ** 2
    expected = [_nearest(distances, i, 4) for i in range(90)]
    for block_bytes in (1, 20_000, 2**26):
        near, _ = neighbours.of_all(Embeddings.of(rows, "all"), 5, block_bytes)
        np.testing.assert_array_equal(near, expected)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"k1": 0}, "k1=0 is too small"),
        ({"k2": 0}, "k2=0 is too small"),
        ({"lambda_": 1.5}, "lambda_=1.5 is out of range"),
    ],
)
def test_parameters_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        reranking.distance_rows(np.ones((1, 2)), np.ones((2, 2)), **options)


def test_embeddings_that_cannot_be_ranked():
    q, g, query, gallery = _people(0)
    with pytest.raises(ValueError, match="7 dimensions and gallery embeddings 8"):
        reranking.evaluate(q[:, :7], query, g, gallery)
    with pytest.raises(ValueError, match="the gallery holds no images"):
        reranking.evaluate(q, query, g[:0], gallery)
    g[4, 2] = np.nan
    gallery.paths = [f"image{i}.jpg" for i in range(len(g))]
    with pytest.raises(ValueError, match=r"1 of 48 gallery .*4 \(image4.jpg\)"):
        reranking.evaluate(q, query, g, gallery)
