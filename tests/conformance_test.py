"""One table of what every block, neck and network must do, whatever it computes.

A new block, neck or network needs a row in `_GOLDENS`, and a test below demands it. The
values that they compute are tested in `blocks_test`, `necks_test` and `networks_test`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import subprocess
import sys
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.nn import blocks, genotype, networks

layers = tf.keras.layers


@dataclasses.dataclass(frozen=True)
class Golden:
    """A row of the table.

    Attributes:
      name: of a function of `blocks`, of a neck or of a network; a word after a space
        distinguishes several rows of one name.
      build: makes the model.
      shape: of the output without the batch, or of each of several outputs.
    """

    name: str
    build: Callable[[], tf.keras.Model]
    shape: tuple | dict


def _block(block: Callable, shape: tuple[int, ...], *args, **options) -> Callable:
    def build() -> tf.keras.Model:
        x = tf.keras.Input(shape)
        return tf.keras.Model(x, block(x, *args, **options))

    return build


def _gate() -> tf.keras.Model:
    streams = [tf.keras.Input((4, 2, 16)) for _ in range(2)]
    return tf.keras.Model(streams, blocks.fusion_gate(streams, "g"))


def _neck(neck: str, parts: int = 2) -> Callable:
    """Builds a neck with heads for 5 identities on two feature maps of 16 channels."""

    def build() -> tf.keras.Model:
        images = tf.keras.Input((32, 16, 3))
        fmap2 = blocks.stem(images, 16)  # 8 x 4
        fmaps = fmap2, blocks.downsample(fmap2, "downsample")
        options = {"neck": neck, "parts": parts, "num_classes": 5, "dropout": 0.0}
        return networks.add_neck(images, fmaps, 0.1, **options)

    return build


def _heads(*widths: int, embedding: int | None = None) -> dict:
    """Returns shapes of the embedding, and of heads with features of these widths."""
    return {
        "embedding": (embedding or sum(widths),),
        "features": [(width,) for width in widths],
        "logits": [(5,)] * len(widths),
    }


def _network(name: str, width: int = 16) -> Callable:
    """Builds a network whose layers are as wide as the narrowest CBlock, 16."""
    return functools.partial(networks.build_named, name, (32, width, 3), 0.01)


_MAP = 4, 2, 16
_CS, _CDS = genotype.CS[0], genotype.CDS[-1]
_GOLDENS = [
    Golden("stem reid", _block(blocks.stem, (16, 12, 3), 8), (4, 3, 8)),
    Golden("stem cifar", _block(blocks.stem, (8, 6, 3), 8, "cifar"), (8, 6, 8)),
    Golden("batch_norm", _block(blocks.batch_norm, _MAP, "b"), _MAP),
    Golden("relu", _block(blocks.relu, _MAP, "b"), _MAP),
    Golden("conv1x1", _block(blocks.conv1x1, _MAP, 8, "b"), (4, 2, 8)),
    Golden("conv1x1_bn", _block(blocks.conv1x1_bn, _MAP, 8, "b"), (4, 2, 8)),
    Golden("downsample", _block(blocks.downsample, _MAP, "b"), (2, 1, 16)),
    Golden("lite3x3", _block(blocks.lite3x3, _MAP, "b"), _MAP),
    Golden("lite_k", _block(blocks.lite_k, _MAP, 7, "b"), _MAP),
    Golden("fusion_gate", _gate, _MAP),
    Golden("cblock identity", _block(blocks.cblock, _MAP, 16, (3, 5), "b"), _MAP),
    Golden("cblock shortcut", _block(blocks.cblock, _MAP, 32, (3, 5), "b"), (4, 2, 32)),
    Golden("cdblock once", _block(blocks.cdblock, _MAP, 16, _CS, "b"), _MAP),
    Golden("cdblock twice", _block(blocks.cdblock, _MAP, 32, _CDS, "b"), (4, 2, 32)),
    Golden("cdblock single", _block(blocks.cdblock, _MAP, 16, _CS, "b", True), _MAP),
    Golden("fbl 0", _neck("fbl", 0), _heads(16)),
    Golden("fbl 1", _neck("fbl", 1), _heads(16, 16)),
    Golden("fbl 2", _neck("fbl", 2), _heads(16, 32)),
    Golden("fbl 3", _neck("fbl", 3), _heads(16, 48)),
    Golden("fbl 4", _neck("fbl", 4), _heads(16, 64)),
    Golden("bl", _neck("bl"), _heads(16)),
    Golden("bn", _neck("bn"), _heads(16)),
    Golden("fc", _neck("fc"), _heads(512)),
    Golden("cnet", _network("cnet"), (48,)),
    Golden("cdnet", _network("cdnet"), (48,)),
    Golden("cdnet_std", _network("cdnet_std"), (48,)),
    Golden("cdnet_v35", _network("cdnet_v35"), (48,)),
    Golden("osnet", _network("osnet"), (48,)),
    Golden("mobilenet_v2", _network("mobilenet_v2", 32), (1280 + 2 * 16,)),
]
every_golden = pytest.mark.parametrize("golden", _GOLDENS, ids=lambda g: g.name)


def build(golden: Golden) -> tf.keras.Model:
    """Builds the model with random weights and statistics, none of them just 0 or 1."""
    tf.keras.utils.set_random_seed(0)
    model = golden.build()
    random = np.random.default_rng(0)
    values = model.get_weights()
    model.set_weights([x + random.uniform(0.02, 0.1, x.shape) for x in values])
    return model


@functools.cache
def _built(name: str) -> tf.keras.Model:
    return build(next(golden for golden in _GOLDENS if golden.name == name))


def inputs(model: tf.keras.Model, batch: int) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    shapes = [(batch, *each.shape[1:]) for each in model.inputs]
    return [random.normal(size=shape).astype("float32") for shape in shapes]


def _flat(model: tf.keras.Model, arrays: Sequence, **options) -> list:
    return tf.nest.flatten(model(arrays if len(arrays) > 1 else arrays[0], **options))


def _assert_close(found, expected) -> None:
    """Asserts equality up to rounding, in proportion to the largest value."""
    found, expected = np.asarray(found), np.asarray(expected)
    scale = max(float(np.abs(expected).max()), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * scale)


def test_everything_has_a_row():
    rows = {golden.name.split()[0] for golden in _GOLDENS}
    functions = inspect.getmembers(blocks, inspect.isfunction)
    own = {name for name, each in functions if each.__module__ == blocks.__name__}
    assert rows == own | set(networks.NECKS) | set(networks.NAMES)


@every_golden
def test_shape(golden):
    output = _built(golden.name).output
    assert tf.nest.map_structure(lambda x: tuple(x.shape[1:]), output) == golden.shape


@every_golden
def test_graph_is_flat_and_of_stock_layers(golden):
    """Quantisation-aware training accepts nothing else."""
    model = _built(golden.name)
    for layer in model.layers:
        assert type(layer).__module__.startswith("keras.")
        assert not isinstance(layer, tf.keras.Model)
    names = [weight.name for weight in model.weights]
    assert len(set(names)) == len(names)


@every_golden
def test_config_round_trip_and_save_and_load(golden, tmp_path):
    model = _built(golden.name)
    model.save(tmp_path / "model.keras")
    # Keras builds the model with from_config and then gives it the weights.
    again = tf.keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert type(again) is type(model)
    assert again.get_config() == model.get_config()
    assert [w.name for w in again.weights] == [w.name for w in model.weights]
    for a, b in zip(again.weights, model.weights):
        np.testing.assert_array_equal(a, b, err_msg=b.name)


@every_golden
def test_tflite(golden):
    model = _built(golden.name)
    function = tf.function(lambda *x: _flat(model, x), autograph=False)
    specs = [
        tf.TensorSpec((1, *x.shape[1:]), name=f"x{i}")
        for i, x in enumerate(model.inputs)
    ]
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function(*specs)], model
    )
    # Otherwise most of the time is spent on writing the graph to disk.
    converter.experimental_lower_to_saved_model = False
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    interpreter.allocate_tensors()
    arrays = inputs(model, 1)
    for given, array in zip(interpreter.get_input_details(), arrays):
        interpreter.set_tensor(given["index"], array)
    interpreter.invoke()
    expected, given = _flat(model, arrays), interpreter.get_output_details()
    assert len(given) == len(expected)
    for found, y in zip(given, expected):
        _assert_close(interpreter.get_tensor(found["index"]), y)


# Two replicas need a new process, because devices cannot be added to a running one.

_REPLICAS = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tests import conformance_test

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for golden in conformance_test._GOLDENS:
    try:
        conformance_test.check_replicas(strategy, golden)
        print(golden.name, "agrees", sep="|")
    except AssertionError as error:
        print(golden.name, " ".join(str(error).split()), sep="|")
"""


def check_replicas(strategy: tf.distribute.Strategy, golden: Golden) -> None:
    """Checks that replicas learn from their halves, and average moving statistics."""
    with strategy.scope():
        model = build(golden)
    assert all(len(weight.values) == 2 for weight in model.weights)
    start, batch = model.get_weights(), inputs(model, 4)
    halves = [[x[:2] for x in batch], [x[2:] for x in batch]]
    shares = strategy.experimental_distribute_values_from_function(
        lambda context: halves[context.replica_id_in_sync_group]
    )
    found = strategy.run(_gradients, (model, shares))
    together, apart = model.get_weights(), []
    for i, half in enumerate(halves):
        model.set_weights(start)
        for both, expected in zip(found, _gradients(model, half)):
            _assert_close(strategy.experimental_local_results(both)[i], expected)
        apart.append(model.get_weights())
    for weight, a, b in zip(together, *apart):
        np.testing.assert_allclose(weight, (a + b) / 2, rtol=1e-4)


def _gradients(model: tf.keras.Model, arrays: Sequence) -> list[tf.Tensor]:
    """Returns gradients of the outputs' product with fixed noise, in training."""
    with tf.GradientTape() as tape:
        loss = 0.0
        for i, y in enumerate(_flat(model, arrays, training=True)):
            loss += tf.reduce_sum(y * tf.random.stateless_normal(y.shape, (3, i)))
    return tape.gradient(loss, model.trainable_weights)


@pytest.fixture(scope="module", autouse=True)
def replicas(tmp_path_factory):
    """Starts the process with two replicas, to run beside the tests above."""
    path = tmp_path_factory.mktemp("replicas") / "said.txt"
    with open(path, "w") as file:
        command = [sys.executable, "-c", _REPLICAS]
        process = subprocess.Popen(command, stdout=file, stderr=file)
        yield process, path
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def said(replicas):
    """Returns the replicas' result for each row."""
    process, path = replicas
    status, text = process.wait(), path.read_text()
    assert status == 0, text[-3000:]
    return dict(line.split("|", 1) for line in text.splitlines() if "|" in line)


@every_golden
def test_two_replicas(golden, said):
    assert said[golden.name] == "agrees"
