"""A network as a SavedModel: pixels or encoded files in, unit embeddings out.

Each signature takes one dtype. `serving_default` takes uint8, like a decoded image,
which is a quarter of the bytes of float32. `from_float` takes floats on the same scale
of 0..255, for clients that resize images themselves or write decimals in JSON, which a
server refuses for a uint8 input. `from_jpeg` takes whole files. All three resize and
normalise with the functions of the training pipeline, and share one traced network. A
fourth signature, `describe`, tells a client which network answers.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from cdnet_tf import atomic_files
from cdnet_tf.data import datasets, preprocess
from cdnet_tf.deploy import identity

WARMUP = "assets.extra/tf_serving_warmup_requests"
# The input of each signature of images; all return `embeddings`, (batch, d) float32.
SIGNATURES = {
    "serving_default": tf.TensorSpec([None, None, None, 3], tf.uint8, "images"),
    "from_float": tf.TensorSpec([None, None, None, 3], tf.float32, "images"),
    "from_jpeg": tf.TensorSpec([None], tf.string, "jpeg"),
}
# Takes any strings, because a request cannot be empty, and returns the record for each.
DESCRIBE = "describe"
_DESCRIBE_TAKES = tf.TensorSpec([None], tf.string, "about")


def export(
    network: tf.keras.Model,
    directory: str | os.PathLike,
    *,
    name: str = "cdnet",
    warmup_batches: Iterable[int] = (1,),
    record: dict[str, Any] | None = None,
    normalisation: preprocess.Normalisation = preprocess.IMAGENET,
) -> None:
    """Writes a network with signatures, warm-up requests and a record of its size.

    Args:
      network: normalised float (b, h, w, 3) images -> (b, d) embeddings.
      directory: to write to; it is made if it is missing, and must be empty.
      name: of the served model, in the warm-up requests.
      warmup_batches: numbers of images; each signature gets a request of each number.
      record: further entries of `assets.extra/model.json` and of the signature
        `describe`, which both hold height, width, dimensions and the network's name.
        `sha256`, the checksum of the network's file, tells a client of the server whose
        embeddings it gets.
      normalisation: what the network expects, see `network_file`; the signatures apply
        it to pixels.

    Raises:
      ValueError: the network does not map one image input to one embedding output.
    """
    directory = pathlib.Path(directory)
    height, width, dimensions = _shapes(network)
    sizes = {"height": height, "width": width, "dimensions": dimensions}
    text = json.dumps({"network": network.name, **sizes, **(record or {})}, indent=1)
    server = _Server(network, height, width, normalisation, text)
    tf.saved_model.save(server, str(directory), signatures=server.signatures())
    (directory / WARMUP).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(directory / WARMUP)) as warmup:
        for log in warmup_requests(name, height, width, warmup_batches):
            warmup.write(log.SerializeToString())
    atomic_files.write_text(directory / identity.RECORD, text + "\n")


class _Server(tf.Module):
    """Holds signatures and weights, but no Keras layers, which would be saved, too."""

    def __init__(
        self,
        network: tf.keras.Model,
        height: int,
        width: int,
        normalisation: preprocess.Normalisation,
        record: str,
    ):
        super().__init__()
        self._record = record
        self._normalisation = normalisation
        self._weights = network.variables
        self._size = height, width
        images = tf.TensorSpec([None, height, width, 3], tf.float32)
        # The network is traced here once; all signatures call this trace.
        self._network = tf.function(
            lambda images: tf.cast(network(images, training=False), tf.float32)
        ).get_concrete_function(images)

    def signatures(self) -> dict[str, Any]:
        signatures = {
            name: function.get_concrete_function(SIGNATURES[name])
            for name, function in (
                ("serving_default", self.from_images),
                ("from_float", self.from_images),
                ("from_jpeg", self.from_jpeg),
            )
        }
        describe = self.describe.get_concrete_function(_DESCRIBE_TAKES)
        return {**signatures, DESCRIBE: describe}

    @tf.function
    def from_images(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Embeds images of one size, uint8 or float on 0..255, to length 1."""
        return self._embed(preprocess.resize(images, *self._size))

    @tf.function
    def from_jpeg(self, jpeg: tf.Tensor) -> dict[str, tf.Tensor]:
        """Embeds JPEG or PNG files of any sizes, given as bytes, to length 1."""
        return self._embed(decode_batch(jpeg, *self._size))

    @tf.function
    def describe(self, about: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the record as JSON, once for each string."""
        return {"record": tf.fill(tf.shape(about), self._record)}

    def _embed(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        # A kernel would fail on an empty batch, too, but without saying why.
        some = tf.debugging.Assert(tf.shape(images)[0] > 0, ["the batch is empty"])
        with tf.control_dependencies([some]):
            embeddings = self._network(
                preprocess.normalise(images, self._normalisation)
            )
        return {"embeddings": tf.math.l2_normalize(embeddings, axis=1)}


def decode_batch(jpeg: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Decodes and resizes files, and names those that are no images.

    A failing op ends its graph without saying which file of the batch was bad. So the
    files go through a dataset that ignores errors, and the indices that do not come
    back are those of the bad files.

    Args:
      jpeg: (batch,) strings, the bytes of one file each.
      height, width: pixels.

    Returns:
      (batch, height, width, 3) uint8, RGB.

    Raises:
      tf.errors.InvalidArgumentError: at run time; it lists the indices of bad files.
    """
    count = tf.size(jpeg, out_type=tf.int64)
    files = tf.data.Dataset.from_tensor_slices(jpeg).enumerate()
    # Without parallel calls, because threads would cost a request more than they save.
    decoded = files.map(
        lambda index, file: (index, preprocess.decode_and_resize(file, height, width))
    ).ignore_errors()
    # One more element, because an empty batch would be an error.
    end = tf.data.Dataset.from_tensors(
        (tf.constant(-1, tf.int64), tf.zeros([height, width, 3], tf.uint8))
    )
    indices, images = decoded.concatenate(end).batch(count + 1).get_single_element()
    good = indices[:-1, tf.newaxis]
    bad = tf.where(tf.scatter_nd(good, tf.ones_like(good[:, 0]), [count]) == 0)[:, 0]
    message = tf.strings.format(
        "{} of {} encoded images cannot be decoded; send whole JPEG or PNG files. "
        "Indices in the batch: {}",
        (tf.size(bad), count, bad),
        summarize=datasets.NAMED_AT_MOST // 2,  # at each end
    )
    with tf.control_dependencies([tf.debugging.Assert(tf.size(bad) == 0, [message])]):
        return tf.ensure_shape(images[:-1], [None, height, width, 3])


def warmup_requests(
    name: str, height: int, width: int, batches: Iterable[int]
) -> Iterator[prediction_log_pb2.PredictionLog]:
    """Yields a request of grey images for each signature and number of images."""
    for batch in batches:
        images = np.full((batch, height, width, 3), 128, np.uint8)
        jpeg = tf.io.encode_jpeg(images[0]).numpy()
        values = {
            "serving_default": images,
            "from_float": images.astype(np.float32),
            "from_jpeg": [jpeg] * batch,
        }
        for signature, value in values.items():
            request = predict_pb2.PredictRequest()
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            argument = request.inputs[SIGNATURES[signature].name]
            argument.CopyFrom(tf.make_tensor_proto(value))
            yield prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )


def _shapes(network: tf.keras.Model) -> tuple[int, int, int]:
    """Returns height and width of the input, and the embedding's dimensions."""
    source, target = network.input_shape, network.output_shape
    flat = isinstance(target, tuple) and len(target) == 2
    if len(source) != 4 or source[3] != 3 or None in source[1:] or not flat:
        raise ValueError(
            f"network {network.name} maps {source} to {target}; a served network maps "
            "(batch, height, width, 3) to (batch, dimensions), without training heads."
        )
    return source[1], source[2], target[1]
