"""Times a search by picture over HTTP; `benchmark.py service` runs it.

The program fills a gallery with made-up rows, starts `cdnet_tf.serve_gallery` on it as
a separate process, and sends a picture again and again, as the page does. The time of a
search is what the client sees by the clock: decoding, embedding, the search for 50 rows
and the answer as JSON. The result is one JSON line.

  python tools/benchmark_service.py --service_rows=100000
"""

from __future__ import annotations

import contextlib
import io
import json
import pathlib
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import cdnet_tf  # isort: skip  # noqa: F401  (quiets TensorFlow)
import numpy as np
import PIL.Image
import urllib3
from absl import app, flags

from cdnet_tf.api.reid import Reid
from cdnet_tf.deploy import tflite
from cdnet_tf.gallery.gallery import Gallery

_MODEL = flags.DEFINE_string(
    "service_model", "market1501/cdnet_x1_0_int8", "The network of the gallery."
)
_ROWS = flags.DEFINE_integer("service_rows", 100_000, "Rows of the gallery.", 50)
_SEARCHES = flags.DEFINE_integer("service_searches", 50, "Timed searches.", 2)

_TOKEN = secrets.token_urlsafe(24)
_BATCH = 10_000
_K = 50


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    reid = cdnet_tf.load(_MODEL.value)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "gallery")
        _fill(path, reid)
        with _serving(path) as url:
            took = _searches(url, _picture(reid))
    result = {
        "network": _MODEL.value,
        "rows": _ROWS.value,
        "searches": len(took),
        "median_ms": round(float(np.median(took)), 1),
        "slowest_of_twenty_ms": round(float(np.quantile(took, 0.95)), 1),
        "first_ms": round(took[0], 1),
        "cpu": tflite.processor(),
    }
    print(json.dumps(result), flush=True)


def _fill(path: pathlib.Path, reid: Reid) -> None:
    draw = np.random.default_rng(0)
    dimensions = reid(_picture(reid), progress=False).shape[1]
    with Gallery(path, network=reid.network, memory_mb=0) as gallery:
        for start in range(0, _ROWS.value, _BATCH):
            places = np.arange(start, min(_ROWS.value, start + _BATCH))
            gallery.add(
                draw.standard_normal((len(places), dimensions), np.float32),
                draw.integers(0, 8, len(places)),
                np.datetime64("2026-01-01") + places.astype("timedelta64[s]"),
                keys=[str(place) for place in places],
            )


def _picture(reid: Reid) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, reid.input_shape, np.uint8)


@contextlib.contextmanager
def _serving(path: pathlib.Path) -> Iterator[str]:
    """Starts the service on a free port, and yields its address."""
    command = [sys.executable, "-m", "cdnet_tf.serve_gallery", f"--gallery={path}"]
    command += [f"--model={_MODEL.value}", "--port=0", f"--token={_TOKEN}"]
    command += [f"--rate={10 * _SEARCHES.value + 100}/minute"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := re.search(r"The page: (\S+)/", line):
                yield found[1]
                break
        else:
            raise RuntimeError("The service ended before it said its address.")
    finally:
        process.terminate()
        process.wait()


def _searches(url: str, picture: np.ndarray) -> list[float]:
    """Milliseconds of each search, by the clock."""
    encoded = io.BytesIO()
    PIL.Image.fromarray(picture).save(encoded, "JPEG", quality=90)
    fields = {"photo": ("person.jpg", encoded.getvalue(), "image/jpeg")}
    pool = urllib3.PoolManager(retries=False)
    took = []
    for _ in range(_SEARCHES.value):
        began = time.perf_counter()
        answer = pool.request(
            "POST",
            f"{url}/v1/search/photo?k={_K}",
            fields=fields,
            headers={"Authorization": f"Bearer {_TOKEN}"},
        )
        took.append(1000 * (time.perf_counter() - began))
        found = answer.json()
        if answer.status != 200 or len(found["matches"]) != _K:
            raise RuntimeError(f"{url} answered {answer.status}: {found}")
    return took


if __name__ == "__main__":
    app.run(main)
