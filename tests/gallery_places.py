"""Where the galleries of the tests are, and what is in them."""

from __future__ import annotations

import datetime

import numpy as np

from cdnet_tf.deploy.identity import Network
from cdnet_tf.gallery import rows
from cdnet_tf.gallery.records import Where
from cdnet_tf.gallery.store import Store

NETWORK = Network("tiny", "ab" * 32)
OTHER = Network("other", "cd" * 32)
DIMENSIONS = 16
START = datetime.datetime(2026, 3, 1, tzinfo=datetime.timezone.utc)
MINUTE = datetime.timedelta(minutes=1)
# Of 6,000 `people`, one a minute, they leave all, 95, 50, 30, 14, 5 and 1 %.
FILTERS = (
    Where(),
    Where(since=START + 300 * MINUTE),
    Where(not_cameras=("0",)),
    *(Where(cameras=(str(camera),)) for camera in range(1, 5)),
)


def people(
    count: int,
    dimensions: int = DIMENSIONS,
    seed: int = 0,
    every: datetime.timedelta = datetime.timedelta(hours=1),
) -> dict:
    """Rows of people who walk past five cameras, at equal intervals, four a track.

    Embeddings lie near those of the same person, and lean the way of their camera.
    """
    draw = np.random.default_rng(seed)
    who = draw.integers(0, max(1, count // 12), count)
    cameras = draw.choice(5, count, p=[0.5, 0.3, 0.14, 0.05, 0.01])
    embeddings = draw.standard_normal((who.max() + 1, dimensions))[who]
    embeddings += 0.8 * draw.standard_normal((5, dimensions))[cameras]
    embeddings += draw.standard_normal((count, dimensions))
    return {
        "embeddings": rows.unit_rows(embeddings),
        "cameras": cameras,
        "times": [START + i * every for i in range(count)],
        "keys": [f"row {i:05d}" for i in range(count)],
        "tracks": [str(i // 4) for i in range(count)],
    }


def recall(store: Store, people: dict, where: Where) -> float:
    """Recall at 10 of the index, against the search row by row."""
    queries = people["embeddings"][::300]
    queries = rows.unit_rows(queries + 0.1 * np.roll(queries, 1, axis=1))
    hits = 0
    for query in queries:
        found, exact = (
            store.search(query, 10, where, exact)["key"].to_pylist()
            for exact in (False, True)
        )
        hits += len({*found} & {*exact})
    return hits / (10 * len(queries))
