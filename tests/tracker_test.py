"""What a tracker does with a float TFLite file ranks as evaluation does.

The client below does by itself what trackers do with appearance networks: it cuts a
person out of the frame, resizes with OpenCV's bilinear rule, scales to RGB / 255, takes
off ImageNet's mean and deviation, feeds NCHW or NHWC floats, and L2-normalises outside.
"""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cdnet_tf.data import datasets
from cdnet_tf.deploy import tflite
from cdnet_tf.nn import genotype, networks
from cdnet_tf.pedestrians import writer
from cdnet_tf.retrieval import ranking
from tests import tiny

_SIZE = (256, 128)
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)


def _bilinear(image, height, width):
    """Resizes uint8 as OpenCV's INTER_LINEAR: pixel centres at halves, no antialiasing.

    Each side is a matrix product with two weights a row.
    """

    def weights(old, new):
        place = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.minimum(place.astype(int), old - 2)
        matrix = np.zeros((new, old))
        matrix[np.arange(new), low] = 1 - (place - low)
        matrix[np.arange(new), low + 1] = place - low
        return matrix

    rows, columns = weights(image.shape[0], height), weights(image.shape[1], width)
    resized = np.einsum(
        "hi,ijc,wj->hwc", rows, image.astype(np.float64), columns, optimize=True
    )
    return np.rint(resized).astype(np.uint8)


class Tracker:
    """Embeds the people of a frame with a `.tflite` file."""

    def __init__(self, content, channels_first):
        self._interpreter = tf.lite.Interpreter(model_content=content)
        (self._source,) = self._interpreter.get_input_details()
        (self._target,) = self._interpreter.get_output_details()
        self._channels_first = channels_first

    def embed(self, frame, boxes):
        """Unit embeddings (n, d) of (n, 4) boxes, x1 y1 x2 y2, in a uint8 RGB frame."""
        crops = [frame[y1:y2, x1:x2] for x1, y1, x2, y2 in boxes]
        crops = np.stack([_bilinear(crop, *_SIZE) for crop in crops])
        batch = (crops.astype(np.float32) / 255 - _MEAN) / _STD
        if self._channels_first:
            batch = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        self._interpreter.resize_tensor_input(self._source["index"], batch.shape)
        self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(self._source["index"], batch)
        self._interpreter.invoke()
        rows = self._interpreter.get_tensor(self._target["index"])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "pedestrians"
    # Smaller than the network's input, as most people on a frame are. Larger ones a
    # tracker resizes without antialiasing, and so sees otherwise than evaluation.
    writer.write_pedestrians(
        folder, train_identities=2, test_identities=6, height=100, width=48
    )
    return datasets.read("market1501", folder)


@pytest.fixture(scope="module")
def network():
    tf.keras.utils.set_random_seed(1)
    shallow = genotype.Genotype(((3, 5, 1),) * 6)
    network = networks.build(shallow, (*_SIZE, 3), width_multiplier=0.25)
    rng = np.random.default_rng(0)
    for weight in network.weights:
        if "moving_variance" in weight.name:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif "moving_mean" in weight.name:
            weight.assign(rng.normal(0, 0.1, weight.shape))
    return network


@pytest.fixture(scope="module")
def expected(data, network):
    """Query and gallery embeddings as evaluation computes them, not normalised."""
    call = tf.function(lambda images: network(images, training=False))
    return [
        np.concatenate([call(x) for x in tiny.normalised(part.paths, *_SIZE, 8)])
        for part in (data.query, data.gallery)
    ]


def _frame(paths):
    """The images side by side on one frame, with space between, and their boxes."""
    people = [np.asarray(Image.open(path)) for path in paths]
    height, width, _ = people[0].shape
    step = width + 7
    frame = np.full((height + 20, step * len(people), 3), 90, np.uint8)
    boxes = [(i * step, 11, i * step + width, 11 + height) for i in range(len(people))]
    for person, (x1, y1, x2, y2) in zip(people, boxes):
        frame[y1:y2, x1:x2] = person
    return frame, boxes


def test_bilinear_by_hand():
    # Doubling 0, 100: centres of the new pixels lie at -0.25, 0.25, 0.75, 1.25.
    image = np.repeat(np.array([[0, 100]], np.uint8)[..., np.newaxis], 3, axis=2)
    resized = _bilinear(np.repeat(image, 2, axis=0), 2, 4)
    assert resized[..., 0].tolist() == [[0, 25, 75, 100]] * 2


def _distances(query, gallery):
    """Squared distances of directions, (q, g)."""
    query, gallery = (
        each / np.linalg.norm(each, axis=1, keepdims=True) for each in (query, gallery)
    )
    return ((query[:, np.newaxis] - gallery) ** 2).sum(-1)


@pytest.mark.parametrize("layout", tflite.LAYOUTS)
def test_tracker_ranks_as_evaluation_does(data, network, expected, layout):
    content = tflite.convert(network, "float32", layout=layout, dynamic_batch=True)
    tracker = Tracker(content, layout == "nchw")
    query, gallery = (
        tracker.embed(*_frame(part.paths)) for part in (data.query, data.gallery)
    )
    theirs = ranking.evaluate(query, data.query, gallery, data.gallery, normalize=False)
    ours = ranking.evaluate(expected[0], data.query, expected[1], data.gallery)
    assert theirs == ours
    # In the tracker's order evaluation's distances rise too, but for rounding.
    distances = _distances(*expected)
    order = np.argsort(_distances(query, gallery), kind="stable")
    steps = np.diff(np.take_along_axis(distances, order, axis=1))
    assert steps.min() > -1e-5 * distances.max()
    # Which is saying something: most neighbours are much further apart than that.
    assert np.median(steps) > 1e-4 * distances.max()
