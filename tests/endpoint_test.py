"""A served network yields the same embeddings over HTTP as its file.

The server below answers as https://www.tensorflow.org/tfx/serving/api_rest describes,
with the signatures of a SavedModel that this package exports.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import re
import threading

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.api import reid
from cdnet_tf.data import preprocess
from cdnet_tf.deploy import endpoint, identity, serving

_SIZE = 16, 8
_SHA256 = "ab" * 32
_ROW = {"distance": 0.5, "false_accept_rate": 0.001, "true_accept_rate": 0.9}
_THRESHOLDS = {"rates": [0.001], "at_rates": [{**_ROW, "note": ""}]}


class Server(http.server.ThreadingHTTPServer):
    """Stands for TensorFlow Serving's REST port, with versions 3 and 7 of `cdnet`.

    Attributes:
      asked: method and path of each request.
      failures: statuses to answer the next requests with.
    """

    def __init__(self, model):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.model, self.asked, self.failures = model, [], []
        self.root = f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format, *args):
        pass

    def do_GET(self):  # noqa: N802
        self._answer("GET", r"/metadata", self._metadata)

    def do_POST(self):  # noqa: N802
        self._answer("POST", r":predict", self._predict)

    def _answer(self, method, action, work):
        self.server.asked.append((method, self.path))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.failures:
            self._send(self.server.failures.pop(0), {"error": "not ready"})
            return
        version = r"(?:/versions/(3|7)|/labels/(stable))?"
        found = re.fullmatch(r"/v1/models/cdnet" + version + action, self.path)
        if found:
            chosen = "3" if found[2] else found[1] or "7"
            self._send(*work(chosen, json.loads(body or "null")))
        else:
            name = f"Servable not found for request: {self.path}"
            self._send(404, {"error": name})

    def _metadata(self, version, _):
        signatures = {
            name: {"inputs": {}, "outputs": {}, "method_name": "predict"}
            for name in self.server.model.signatures
        }
        spec = {"name": "cdnet", "signature_name": "", "version": version}
        metadata = {"signature_def": {"signature_def": signatures}}
        return 200, {"model_spec": spec, "metadata": metadata}

    def _predict(self, _, request):
        call = self.server.model.signatures[request["signature_name"]]
        ((name, spec),) = call.structured_input_signature[1].items()
        values = [
            base64.b64decode(each["b64"]) if isinstance(each, dict) else each
            for each in request["instances"]
        ]
        try:
            (rows,) = call(**{name: tf.constant(values, spec.dtype)}).values()
        except tf.errors.InvalidArgumentError as error:
            return 400, {"error": str(error)}
        if rows.dtype == tf.string:
            return 200, {"predictions": [row.decode() for row in rows.numpy()]}
        return 200, {"predictions": rows.numpy().tolist()}

    def _send(self, status, answer):
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@contextlib.contextmanager
def _serving(model):
    server = Server(model)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _network():
    """Builds a network whose embedding is its input at a low resolution."""
    images = tf.keras.Input((*_SIZE, 3))
    pooled = tf.keras.layers.AveragePooling2D(4)(images)
    return tf.keras.Model(images, tf.keras.layers.Flatten()(pooled), name="coarse")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("served") / "1"
    record = {"sha256": _SHA256, "thresholds": _THRESHOLDS}
    serving.export(_network(), directory, record=record)
    with _serving(tf.saved_model.load(str(directory))) as server:
        yield server


@pytest.fixture
def url(server):
    server.asked.clear()
    return f"{server.root}/v1/models/cdnet"


def _images(count, height=16, width=8):
    shape = count, height // 4, width // 4, 3
    coarse = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def _expected(images):
    rows = preprocess.normalise(images).numpy()[:, ::4, ::4].reshape(len(images), -1)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_embeddings_are_the_networks(url):
    served = endpoint.Endpoint(url)
    assert (served.height, served.width, served.dimensions) == (16, 8, 24)
    images = _images(5)
    np.testing.assert_allclose(served.embed(images), _expected(images), atol=1e-6)


def test_requests_keep_to_the_version_that_was_there_at_first(server, url):
    for asked, version in (
        (url, 7),
        (f"{url}/versions/3", 3),
        (f"{url}/labels/stable:predict", 3),
        (f"{url}/", 7),
    ):
        served = endpoint.Endpoint(asked)
        assert served.network == (f"cdnet/{version}", _SHA256)
        server.asked.clear()
        served.embed(_images(1))
        path = f"/v1/models/cdnet/versions/{version}:predict"
        assert server.asked == [("POST", path)]


def test_a_server_that_is_not_ready_is_asked_again(server, url):
    server.failures[:] = [503, 503]
    assert endpoint.Endpoint(url).dimensions == 24
    assert len(server.asked) == 4  # metadata three times, and the record


@pytest.mark.parametrize(
    "url, error, message",
    [
        ("{root}/cdnet", ValueError, "names no served model; pass http://HOST:PORT/v1"),
        ("{root}/v1/models/other", ValueError, "answered 404: Servable not found"),
        ("{root}/v1/models/cdnet/versions/4", ValueError, "answered 404: Servable"),
    ],
)
def test_says_what_the_url_lacks(server, url, error, message):
    with pytest.raises(error, match=message):
        endpoint.Endpoint(url.format(root=server.root))


def test_a_server_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(endpoint, "_RETRIES", False)
    gone = Server(None)
    gone.server_close()
    url = f"{gone.root}/v1/models/cdnet"
    with pytest.raises(OSError, match=f"{url}/metadata cannot be reached"):
        endpoint.Endpoint(url)


def test_a_model_that_does_not_say_what_it_is_is_refused(server, url, monkeypatch):
    default = server.model.signatures["serving_default"]

    class Other:
        signatures = {"serving_default": default}

    monkeypatch.setattr(server, "model", Other)
    with pytest.raises(
        ValueError, match="does not say which network it serves; export"
    ):
        endpoint.Endpoint(url)


def test_a_refused_request_says_why(server, url):
    served = endpoint.Endpoint(url)
    with pytest.raises(ValueError, match="(?s)answered 400: .*batch is empty"):
        served.embed(_images(0))


def test_a_served_model_is_loaded_by_its_url(url):
    loaded = reid.load(url)
    assert loaded.network == identity.Network("cdnet/7", _SHA256)
    assert (loaded.input_shape, loaded.embedding_size) == ((16, 8, 3), 24)
    images = _images(7)
    np.testing.assert_allclose(
        loaded(images, batch_size=2), _expected(images), atol=1e-6
    )
    # Twice as large, in blocks of one colour; only their edges are blurred.
    larger = loaded(images.repeat(2, axis=1).repeat(2, axis=2))
    assert (np.sum(larger * _expected(images), axis=1) > 0.99).all()
    assert loaded.same_person(images[0], images[0]).threshold == 0.5
    assert not loaded.same_person(images[0], 255 - images[0])


def test_a_served_model_without_thresholds_says_so(url, monkeypatch):
    loaded = reid.load(url)
    monkeypatch.delitem(loaded._embedder.record, "thresholds")
    with pytest.raises(ValueError, match="7 has no threshold .*export it again"):
        loaded.threshold()
