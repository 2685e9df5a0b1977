"""Embeds images with a network behind TensorFlow Serving's REST port.

The requests are those of https://www.tensorflow.org/tfx/serving/api_rest. Images are
sent as PNG files to the signature `from_jpeg`. PNG is lossless, and takes a fraction of
the bytes of decimals in JSON.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import numpy as np
import tensorflow as tf
import urllib3

from cdnet_tf.deploy import identity

_URL = re.compile(
    r"(?P<root>https?://.+)/v1/models/(?P<model>[^/:]+)"
    r"(?P<version>/(?:versions/\d+|labels/[^/:]+))?(?::predict)?/?"
)
# These mean that the server is starting or overloaded; asking again is safe.
_RETRIES = urllib3.Retry(
    total=4,
    backoff_factor=0.5,
    status_forcelist=(429, 502, 503, 504),
    allowed_methods=None,
    raise_on_status=False,
)


class Endpoint:
    """One version of a served model, to which all requests go.

    If the URL names no version, the server's current version is chosen once and kept,
    so that embeddings of two versions never mix.

    Args:
      url: `http://HOST:PORT/v1/models/NAME`, optionally followed by `/versions/NUMBER`
        or `/labels/LABEL`.
      timeout_s: seconds that the server may take for one answer.

    Attributes:
      url: of the version.
      height, width: of the images that `embed` takes, pixels.
      dimensions: d of the embeddings.
      record: the record of the served model, see `serving.export`.
      network: name and checksum of the network that answers.

    Raises:
      ValueError: the URL names no model, the server does not have it, or it was not
        exported by this version of the package.
      OSError: the server cannot be reached.
    """

    def __init__(self, url: str, timeout_s: float = 60.0):
        found = _URL.fullmatch(url)
        if not found:
            raise ValueError(
                f"{url} names no served model; pass http://HOST:PORT/v1/models/NAME."
            )
        self._http = urllib3.PoolManager(retries=_RETRIES, timeout=timeout_s)
        models = f"{found['root']}/v1/models"
        self.url = f"{models}/{found['model']}{found['version'] or ''}"
        said = self._answer("GET", "/metadata")
        name, version = (said["model_spec"][key] for key in ("name", "version"))
        self.url = f"{models}/{name}/versions/{version}"
        self.record = self._record(said)
        self.height, self.width, self.dimensions = (
            int(self.record[side]) for side in ("height", "width", "dimensions")
        )
        self.network = identity.Network(f"{name}/{version}", self.record["sha256"])

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Embeds images in one request; several threads may call it at once.

        Args:
          images: (n, height, width, 3) uint8, RGB.

        Returns:
          (n, dimensions) float32, L2-normalised.

        Raises:
          ValueError: the server refuses the request, or its answer does not fit.
          OSError: the server cannot be reached.
        """
        files = (tf.io.encode_png(image).numpy() for image in images)
        texts = (base64.b64encode(file).decode("ascii") for file in files)
        rows = self._predict("from_jpeg", [{"b64": text} for text in texts])
        embeddings = np.asarray(rows, np.float32)
        if embeddings.shape != (len(images), self.dimensions):
            raise ValueError(
                f"{self.url} answered numbers of shape {embeddings.shape} for "
                f"{len(images)} images; it promised {self.dimensions} for each."
            )
        return embeddings

    def _record(self, metadata: dict[str, Any]) -> dict[str, Any]:
        signatures = metadata["metadata"]["signature_def"]["signature_def"]
        if "describe" in signatures:
            record = json.loads(self._predict("describe", [""])[0])
            if "sha256" in record:
                return record
        raise ValueError(
            f"{self.url} does not say which network it serves; export the network "
            "again with tools/export_savedmodel.py of this version."
        )

    def _predict(self, signature: str, instances: list) -> list:
        body = {"signature_name": signature, "instances": instances}
        return self._answer("POST", ":predict", body)["predictions"]

    def _answer(self, method: str, action: str, body: Any = None) -> dict[str, Any]:
        url = self.url + action
        try:
            response = self._http.request(method, url, json=body)
        except urllib3.exceptions.HTTPError as error:
            raise OSError(
                f"{url} cannot be reached ({error}); is the server running, and is its "
                "REST port the one in the URL?"
            ) from error
        try:
            answer = response.json()
        except ValueError as error:
            raise ValueError(
                f"{url} answered {response.status} and no JSON; is it TensorFlow "
                "Serving's REST port?"
            ) from error
        if response.status != 200:
            reason = answer.get("error", answer)
            raise ValueError(f"{url} answered {response.status}: {reason}")
        return answer
