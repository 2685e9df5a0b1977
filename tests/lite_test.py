"""A camera embeds without TensorFlow; `embedders_test` says that it embeds the same."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from cdnet_tf.deploy import lite
from cdnet_tf.service.outbox import Outbox
from tests import service_people

_MODEL = "market1501/cdnet_x0_25_int8"
# A finder of modules that comes first, and refuses whatever needs a server's packages.
_CAMERA = """
import sys

class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "keras", "scipy", "lancedb"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuses())
from absl import app
from tools import camera

app.run(camera.main, ["camera", *sys.argv[1:]])
"""


@pytest.mark.skipif(
    not any(map(importlib.util.find_spec, ("ai_edge_litert", "tflite_runtime"))),
    reason="neither LiteRT nor the TFLite runtime is installed: make install",
)
def test_a_camera_needs_no_tensorflow(tmp_path):
    for colour in ("red", "blue"):
        crop = tmp_path / "crops" / f"{colour}.png"
        crop.parent.mkdir(exist_ok=True)
        crop.write_bytes(service_people.picture(colour))
    queue = tmp_path / "queue"
    arguments = [f"--input={crop.parent}", f"--queue={queue}", f"--model={_MODEL}"]
    away = ["--camera=door", "--service=http://127.0.0.1:9/", "--wait_s=0"]
    done = subprocess.run(
        [sys.executable, "-c", _CAMERA, *arguments, *away],
        capture_output=True,
        text=True,
        cwd=pathlib.Path(__file__).parents[1],
        env={**os.environ, "CDNET_GALLERY_TOKEN": "no service looks at it"},
        check=False,
    )
    assert f"2 rows wait in {queue}" in done.stderr, done.stderr
    batch = Outbox(queue).waiting(9)
    assert batch.network == lite.LiteReid(_MODEL).network._asdict()
    embeddings = np.array([row["embedding"] for row in batch.rows])
    assert embeddings.shape[0] == 2
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    assert np.linalg.norm(embeddings[0] - embeddings[1]) > 0.1


def test_says_what_it_cannot_open(tmp_path, monkeypatch):
    (tmp_path / "model.keras").write_text("")
    with pytest.raises(ValueError, match="model.keras is no .tflite file"):
        lite.LiteReid(tmp_path / "model.keras")
    with pytest.raises(FileNotFoundError, match="none.tflite does not exist"):
        lite.LiteReid(tmp_path / "none.tflite")
    monkeypatch.setattr(lite, "_INTERPRETERS", ("no.such.module",))
    with pytest.raises(ImportError, match="pip install ai-edge-litert"):
        lite.LiteReid(_MODEL)


class _Interpreter:
    """What a file claims to take and to give."""

    sources, targets = [(1, 8, 4, 3)], [(1, 5)]

    def __init__(self, path, num_threads):
        pass

    def allocate_tensors(self):
        pass

    def get_input_details(self):
        return [{"shape": shape, "dtype": np.uint8} for shape in self.sources]

    def get_output_details(self):
        return [{"shape": shape} for shape in self.targets]


@pytest.mark.parametrize(
    "sources, targets, problem",
    [
        ([(1, 8, 4, 3)] * 2, [(1, 5)], "has 2 inputs"),
        ([(1, 8, 4, 3)], [], "has 0 outputs"),
        ([(1, 8, 4, 1)], [(1, 5)], r"inputs of shape \[8, 4, 1\]"),
    ],
)
def test_refuses_what_is_no_embedding_network(monkeypatch, sources, targets, problem):
    made = type("Made", (_Interpreter,), {"sources": sources, "targets": targets})
    monkeypatch.setattr(lite, "_interpreter", lambda: made)
    with pytest.raises(ValueError, match=problem):
        lite.LiteReid(_MODEL)
