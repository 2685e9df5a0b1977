"""Pairs of cameras, against galleries cut down to one camera."""

from __future__ import annotations

import types

import numpy as np
import pytest

from cdnet_tf.retrieval import camera_pairs, ranking


def _labels(identities, cameras):
    return types.SimpleNamespace(
        identities=np.array(identities), cameras=np.array(cameras)
    )


def _draw(seed, images):
    """Draws whole-number embeddings, whose distances are exact and often tie."""
    random = np.random.default_rng(seed)
    labels = _labels(random.integers(-1, 12, images), random.integers(1, 4, images))
    return random.integers(0, 3, (images, 4)).astype(np.float32), labels


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("block_bytes", [1, 2**28])
def test_a_pair_is_a_gallery_of_one_camera(seed, block_bytes):
    q, query = _draw(seed, 40)
    g, gallery = _draw(seed + 10, 200)
    pairs = camera_pairs.evaluate(
        q, query, g, gallery, normalize=False, block_bytes=block_bytes
    )
    expected = []
    for a in (1, 2, 3):
        for b in {1, 2, 3} - {a}:
            rows, columns = query.cameras == a, gallery.cameras == b
            # `ranking_test` compares these scores with a loop.
            scores = ranking.evaluate(
                q[rows],
                _labels(query.identities[rows], query.cameras[rows]),
                g[columns],
                _labels(gallery.identities[columns], gallery.cameras[columns]),
                normalize=False,
            )
            values = scores.rank1, scores.mean_ap, scores.queries
            expected.append(camera_pairs.Scores(a, b, *values))
    # Within a camera all matches are ignored, so such pairs are absent.
    assert list(pairs) == expected


def test_a_pair_without_a_match_is_left_out():
    # 5 is seen by cameras 1 (query) and 2, 6 by 1 and 3, and nobody's match is under 4.
    query, gallery = _labels([5, 6], [1, 1]), _labels([5, 6, 7], [2, 3, 4])
    pairs = camera_pairs.evaluate(np.ones((2, 2)), query, np.ones((3, 2)), gallery)
    expected = [camera_pairs.Scores(1, camera, 1.0, 1.0, 1) for camera in (2, 3)]
    assert list(pairs) == expected
