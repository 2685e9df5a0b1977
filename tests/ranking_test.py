"""Every rule of the protocol, against a loop written from its definition."""

from __future__ import annotations

import types

import numpy as np
import pytest

from cdnet_tf.retrieval import ranking


def _labels(identities, cameras, **more):
    return types.SimpleNamespace(
        identities=np.array(identities), cameras=np.array(cameras), **more
    )


def _oracle(distances, query, gallery):
    """Computes rank-1, -5, -10, mAP, mINP, scored and skipped queries, slowly."""
    hits, precisions, penalties, skipped = [], [], [], 0
    for i, row in enumerate(distances):
        ranked = []
        for j in sorted(range(len(row)), key=lambda j: (row[j], j)):
            same = gallery.identities[j] == query.identities[i]
            seen = same and gallery.cameras[j] == query.cameras[i]
            if gallery.identities[j] != -1 and not seen:
                ranked.append(same)
        if not any(ranked):
            skipped += 1
            continue
        places = [place for place, same in enumerate(ranked, start=1) if same]
        hits.append([any(ranked[:k]) for k in (1, 5, 10)])
        precisions.append(
            sum(n / place for n, place in enumerate(places, start=1)) / len(places)
        )
        penalties.append(len(places) / places[-1])
    return (
        *np.mean(hits, axis=0),
        np.mean(precisions),
        np.mean(penalties),
        len(hits),
        skipped,
    )


def _as_tuple(scores):
    return (
        *(scores.rank1, scores.rank5, scores.rank10),
        *(scores.mean_ap, scores.mean_inp, scores.queries, scores.skipped),
    )


def _draw(seed, queries=40, images=200, values=3):
    """Draws whole-number embeddings, so that distances are exact and often tie."""
    rng = np.random.default_rng(seed)
    query = _labels(rng.integers(-1, 14, queries), rng.integers(1, 4, queries))
    gallery = _labels(rng.integers(-1, 12, images), rng.integers(1, 4, images))
    embeddings = [
        rng.integers(0, values, (n, 4)).astype(np.float32) for n in (queries, images)
    ]
    return query, gallery, *embeddings


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("block_bytes", [1, 3000, 2**28])
def test_agrees_with_the_definition_over_ties_junk_and_distractors(seed, block_bytes):
    query, gallery, q, g = _draw(seed)
    distances = ((q[:, np.newaxis] - g) ** 2).sum(-1)
    scores = ranking.evaluate(
        q, query, g, gallery, normalize=False, block_bytes=block_bytes
    )
    expected = _oracle(distances, query, gallery)
    np.testing.assert_allclose(_as_tuple(scores), expected, rtol=1e-12)
    assert scores.skipped > 0
    rows = (row.copy() for row in distances)
    assert ranking.evaluate_rows(rows, query, gallery) == scores


def test_normalize_compares_directions_only():
    rng = np.random.default_rng(0)
    query, gallery, _, _ = _draw(0)
    q, g = rng.standard_normal((40, 16)), rng.standard_normal((200, 16))
    unit_q, unit_g = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q, g))
    distances = ((unit_q[:, np.newaxis] - unit_g) ** 2).sum(-1)
    scores = ranking.evaluate(q, query, g, gallery)
    np.testing.assert_allclose(
        _as_tuple(scores), _oracle(distances, query, gallery), rtol=1e-12
    )
    lengths = rng.uniform(0.1, 10, (200, 1))
    assert ranking.evaluate(q, query, g * lengths, gallery) == scores


def test_by_hand():
    # Distances from 0: 1, 2, 3, 4, 5. The image at 1 is the query's own camera's and
    # ignored, that at 2 junk and dropped; left are 3 (distractor), 4 and 5 (matches).
    # Places 2 and 3: AP = (1/2 + 2/3) / 2 = 7/12, INP = 2/3.
    gallery = _labels([7, -1, 0, 7, 7], [1, 2, 3, 2, 3])
    query = _labels([7], [1])
    g = np.arange(1, 6, dtype=np.float32)[:, np.newaxis]
    scores = ranking.evaluate(
        np.zeros((1, 1), np.float32), query, g, gallery, normalize=False
    )
    expected = (0, 1, 1, 7 / 12, 2 / 3, 1, 0)
    np.testing.assert_allclose(_as_tuple(scores), expected)


@pytest.mark.parametrize(
    "identities, mean_ap", [([7, 5, 5], 1), ([5, 7, 5], 1 / 2), ([5, 5, 7], 1 / 3)]
)
def test_of_equal_distances_the_earlier_image_comes_first(identities, mean_ap):
    gallery = _labels(identities, [2, 2, 2])
    scores = ranking.evaluate(
        np.ones((1, 2)), _labels([7], [1]), np.ones((3, 2)), gallery
    )
    assert scores.mean_ap == pytest.approx(mean_ap)


def test_one_image():
    one = np.ones((1, 3))
    scores = ranking.evaluate(one, _labels([4], [1]), one, _labels([4], [2]))
    assert _as_tuple(scores) == (1, 1, 1, 1, 1, 1, 0)


def test_identity_zero_is_found_like_any_other():
    # MSMT17 numbers people from 0; only as a name in Market-1501 is 0 a distractor.
    one = np.ones((1, 3))
    assert ranking.evaluate(one, _labels([0], [1]), one, _labels([0], [2])).rank1 == 1


def _ranked(row, i, query, gallery):
    """Returns the gallery images that count for query i, nearest first."""
    return [
        j
        for j in sorted(range(len(row)), key=lambda j: (row[j], j))
        if gallery.identities[j] != -1
        and (gallery.identities[j], gallery.cameras[j])
        != (query.identities[i], query.cameras[i])
    ]


def test_cmc_by_hand():
    # The image of 1 stands first, that of 2 third, that of 3 after 50 others; of 4
    # there is none.
    gallery = _labels([1, 9, 2, *[9] * 47, 3], [2] * 51)
    distances = np.tile(np.arange(51.0), (4, 1))
    query = _labels([1, 2, 3, 4], [1] * 4)
    scores = ranking.evaluate_rows(iter(distances), query, gallery)
    np.testing.assert_allclose(scores.cmc, [1 / 3] * 2 + [2 / 3] * 48)
    assert (scores.rank1, scores.rank5) == (scores.cmc[0], scores.cmc[4])
    assert (scores.queries, scores.skipped) == (3, 1)


@pytest.mark.parametrize("seed", range(3))
def test_cmc_agrees_with_the_definition(seed):
    query, gallery, q, g = _draw(seed)
    distances = ((q[:, np.newaxis] - g) ** 2).sum(-1)
    hits = []
    for i, row in enumerate(distances):
        same = gallery.identities[_ranked(row, i, query, gallery)]
        same = same == query.identities[i]
        if same.any():
            hits.append([same[:k].any() for k in range(1, 51)])
    scores = ranking.evaluate(q, query, g, gallery, normalize=False)
    np.testing.assert_allclose(scores.cmc, np.mean(hits, axis=0), rtol=1e-12)


def test_a_gallery_smaller_than_the_curve():
    one = np.ones((1, 3))
    scores = ranking.evaluate(one, _labels([4], [1]), one, _labels([4], [2]))
    assert scores.cmc == (1,) * 50


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda rows: rows[:-1], "39 rows of distances for 40 queries"),
        (lambda rows: np.vstack([rows, rows[:1]]), "row 40 .*each of the 40 queries"),
        (lambda rows: rows[:, :-1], r"row 0 .*shape \(199,\); pass a row of 200"),
        (lambda rows: np.where(np.eye(40, 200), np.nan, rows), "finite for query 0"),
    ],
)
def test_rows_that_do_not_fit(change, message):
    query, gallery, q, g = _draw(4)
    rows = change(((q[:, np.newaxis] - g) ** 2).sum(-1))
    with pytest.raises(ValueError, match=message):
        ranking.evaluate_rows(iter(rows), query, gallery)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k, block_bytes", [(1, 1), (10, 3000), (300, 2**28)])
def test_nearest_agrees_with_a_sort(seed, k, block_bytes):
    query, gallery, q, g = _draw(seed)
    distances = ((q[:, np.newaxis] - g) ** 2).sum(-1)
    indices, far = ranking.nearest(
        q, query, g, gallery, k, normalize=False, block_bytes=block_bytes
    )
    assert indices.shape == far.shape == (40, k)
    for i, row in enumerate(distances):
        expected = _ranked(row, i, query, gallery)[:k]
        missing = k - len(expected)
        assert indices[i].tolist() == expected + [-1] * missing
        np.testing.assert_allclose(
            far[i], [*np.sqrt(row[expected]), *[np.inf] * missing]
        )


def test_nearest_of_no_image():
    query, gallery, q, g = _draw(0)
    with pytest.raises(ValueError, match="k=0 names no image"):
        ranking.nearest(q, query, g, gallery, 0)


def test_inputs_stay_as_they_were():
    query, gallery, q, g = _draw(1)
    before = q.copy(), g.copy()
    ranking.evaluate(q, query, g, gallery)
    for array, copy in zip((q, g), before):
        np.testing.assert_array_equal(array, copy)


def test_half_precision_and_zero_rows_are_ranked():
    query, gallery, q, g = _draw(2)
    single = ranking.evaluate(q, query, g, gallery)
    half = q.astype(np.float16), g.astype(np.float16)
    assert (g == 0).all(axis=1).any()
    assert ranking.evaluate(half[0], query, half[1], gallery) == single


def test_embeddings_that_are_not_finite_are_named():
    query, gallery, q, g = _draw(3)
    gallery.paths = [f"image{i}.jpg" for i in range(len(g))]
    g[5, 1], g[9, 0] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"2 of 200 gallery.*: 5 \(image5.jpg\), 9 \("):
        ranking.evaluate(q, query, g, gallery)
    q[:30] = np.nan
    with pytest.raises(ValueError, match="30 of 40 query.*18, 19, and 10 more"):
        ranking.evaluate(q, query, g, gallery)


@pytest.mark.parametrize(
    "q, g, query, gallery, message",
    [
        ((1, 3), (0, 3), 1, 0, "the gallery holds no images"),
        ((0, 3), (2, 3), 0, 2, "the query holds no images"),
        ((1, 3), (2, 4), 1, 2, "3 dimensions and gallery embeddings 4"),
        ((1, 3), (2, 3), 1, 3, "gallery: 2 images, 3 identities and 3 cameras"),
        ((1, 3, 1), (2, 3), 1, 2, r"query embeddings have shape \(1, 3, 1\)"),
    ],
)
def test_sizes_that_do_not_agree(q, g, query, gallery, message):
    query, gallery = (_labels([1] * n, [1] * n) for n in (query, gallery))
    with pytest.raises(ValueError, match=message):
        ranking.evaluate(np.ones(q), query, np.ones(g), gallery)


def test_no_query_with_a_match():
    query, gallery = _labels([1, 2], [1, 1]), _labels([1, -1], [1, 2])
    with pytest.raises(ValueError, match="none of the 2 queries has a gallery image"):
        ranking.evaluate(np.ones((2, 3)), query, np.ones((2, 3)), gallery)
