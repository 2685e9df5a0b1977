"""Rankings and scores of plain arrays agree with NumPy and with `retrieval`."""

import types

import numpy as np
import pytest

from cdnet_tf.api import embeddings
from cdnet_tf.retrieval import report, reranking

_IDENTITIES = np.array([1, 2, 3, 1, 2, 3, 0, 3]), np.array([1, 2, 3])
_CAMERAS = np.array([1, 1, 1, 2, 2, 2, 2, 1]), np.array([1, 1, 2])


@pytest.fixture
def people():
    """A gallery of eight and three queries near images 0, 1 and 2; any lengths."""
    rng = np.random.default_rng(0)
    gallery = rng.normal(size=(8, 5)) * rng.uniform(0.1, 9, (8, 1))
    return gallery[:3] + 0.1 * rng.normal(size=(3, 5)), gallery


def test_ranks_by_the_distance_of_unit_vectors(people):
    query, gallery = (rows / np.linalg.norm(rows, axis=1)[:, None] for rows in people)
    far = np.linalg.norm(query[:, None] - gallery, axis=2)
    found = embeddings.rank(*people, k=4)
    np.testing.assert_array_equal(found.indices, far.argsort(axis=1)[:, :4])
    np.testing.assert_allclose(found.distances, np.sort(far, axis=1)[:, :4], atol=1e-7)
    assert found.indices[:, 0].tolist() == [0, 1, 2]


def test_a_small_gallery_is_ranked_whole(people):
    assert embeddings.rank(*people, k=100).indices.shape == (3, 8)
    assert embeddings.rank(people[0][:0], people[1]).indices.shape == (0, 8)


def test_reranking_sorts_by_its_own_distances(people):
    found = embeddings.rank(*people, k=3, rerank=True)
    rows = np.stack(list(reranking.distance_rows(*people)))
    order = np.argsort(rows, axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(found.indices, order)
    np.testing.assert_allclose(
        found.distances, np.take_along_axis(rows, order, axis=1), atol=0
    )


@pytest.mark.parametrize(
    "change, message",
    [
        ({"k": 0}, "k=0 names no image"),
        ({"gallery": np.zeros((0, 5))}, "gallery holds no embeddings"),
        ({"gallery": np.ones((2, 4))}, "have 5 dimensions and gallery embeddings 4"),
        ({"gallery": np.full((2, 5), np.nan)}, "2 of 2 gallery embeddings hold NaN"),
        ({"query": np.ones(5)}, r"query embeddings have shape \(5,\)"),
    ],
)
def test_says_what_cannot_be_ranked(people, change, message):
    with pytest.raises(ValueError, match=message):
        embeddings.rank(**{"query": people[0], "gallery": people[1], **change})


def _labels(side):
    return types.SimpleNamespace(identities=_IDENTITIES[side], cameras=_CAMERAS[side])


def test_scores_are_those_of_the_protocol(people):
    query, gallery = people
    found = embeddings.evaluate_embeddings(
        query,
        gallery,
        _IDENTITIES[1].tolist(),
        _IDENTITIES[0].tolist(),
        _CAMERAS[1].tolist(),
        _CAMERAS[0].tolist(),
        rerank=True,
    )
    expected = report.report(query, _labels(1), gallery, _labels(0), rerank=True)
    assert found == expected
    # Images 0 and 1 are of the query's own camera and do not count; image 2 does.
    assert found["scores"]["queries"] == 3
    assert found["scores"]["rank1"] < 1


def test_without_cameras_every_image_counts(people):
    found = embeddings.evaluate_embeddings(*people, _IDENTITIES[1], _IDENTITIES[0])
    assert found["scores"]["rank1"] == 1
    assert found["camera_pairs"] == []
    with pytest.raises(ValueError, match="Only one of query_cameras"):
        embeddings.evaluate_embeddings(
            *people, _IDENTITIES[1], _IDENTITIES[0], _CAMERAS[1]
        )
