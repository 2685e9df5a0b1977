"""Times the search's input pipeline; `benchmark.py input` runs it.

Batches are drawn as fast as the pipeline yields them, with and without a cache of
decoded images. Each result is a JSON line.

  python tools/benchmark_input.py --data_dir=DIR    # images per second
"""

from __future__ import annotations

import json
import time

from absl import app, flags

from cdnet_tf import shared_flags
from cdnet_tf.data import pipeline

# Used unless the flags say otherwise.
_SIZE = {"height": 128, "width": 64, "batch_size": 8}


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    data = shared_flags.read_data(["train"])
    size = {
        name: flags.FLAGS[name].value if flags.FLAGS[name].present else default
        for name, default in _SIZE.items()
    }
    for cache_bytes in (None, 0):
        batches = pipeline.search_batches(
            data.train,
            identities_per_batch=size["batch_size"] // shared_flags.IMAGES_PER_ID.value,
            images_per_id=shared_flags.IMAGES_PER_ID.value,
            seed=0,
            epochs=10**6,
            height=size["height"],
            width=size["width"],
            cache_bytes=cache_bytes,
        )
        rate = 2 * size["batch_size"] * _batches_per_second(iter(batches.dataset))
        result = {"cached": cache_bytes is None, "images_per_s": round(rate)}
        print(json.dumps(size | result), flush=True)


def _batches_per_second(batches, seconds: float = 5) -> float:
    """Measures the rate after the first fifty batches, which warm the pipeline up."""
    for _ in range(50):
        next(batches)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        next(batches)
        count += 1
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    app.run(main)
