"""Layers that never fire, and their ranges."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from cdnet_tf.data import preprocess
from cdnet_tf.deploy import embedders, ranges, tflite, tflite_file
from tests import tiny

layers = tf.keras.layers
_DEAD = ("toy/dead", "toy/more")


@pytest.mark.parametrize(
    "given, wanted",
    [
        # Sums have a step of (127 / 255) * (2 / 127), and 255 of these make 2.
        ((0.0, 0.0), (0.0, 2.0)),
        ((0.0, 1.5), (0.0, 2.0)),
        ((0.0, 2.5), (0.0, 2.5)),
        ((-0.5, 0.5), (-1.0, 1.0)),
        ((-1e-9, 0.0), (-1.0, 1.0)),
        ((-3.0, 1.0), (-3.0, 1.0)),
    ],
)
def test_enough(given, wanted):
    found = ranges.enough(*given, source=127.0, weight=2.0)
    np.testing.assert_allclose(found, wanted, atol=1e-8)


def _never(name, *size, kind=layers.Conv2D):
    """Makes a layer whose sums are far below 0 on any image."""
    bias = tf.keras.initializers.Constant(-100.0)
    return kind(*size, activation="relu", bias_initializer=bias, name=name)


def _network(*between):
    """Builds a network of `dead`, other layers, and one that makes their output."""
    tf.keras.utils.set_random_seed(0)
    images = x = tf.keras.Input((8, 8, 3), name="images")
    x = layers.Conv2D(4, 3, name="alive")(x)
    for layer in (_never("dead", 4, 3), *between):
        x = layer(x)
    x = layers.GlobalAveragePooling2D()(x)
    return tf.keras.Model(images, x, name="toy")


def _pixels(count=4):
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)


def _factors(content):
    """Returns output's name -> largest rescaling, by an interpreter's details."""
    interpreter = tf.lite.Interpreter(model_content=content)
    tensors = {each["index"]: each for each in interpreter.get_tensor_details()}
    factors = {}
    for op in interpreter._get_ops_details():
        if op["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            source, weights, result = (
                tensors[i]["quantization_parameters"]["scales"]
                for i in (*op["inputs"][:2], op["outputs"][0])
            )
            name = tensors[op["outputs"][0]]["name"]
            factors[name] = float((source[0] * weights / result[0]).max())
    return factors


@pytest.mark.parametrize(
    "number, between",
    [
        (1, ()),
        (2, (layers.ZeroPadding2D(1), layers.MaxPooling2D(2), _never("more", 5, 2))),
        (
            2,
            (
                layers.AveragePooling2D(2),
                _never("more", 2, kind=layers.DepthwiseConv2D),
            ),
        ),
    ],
    ids=["alone", "pooled", "depthwise"],
)
def test_a_dead_layer_keeps_a_step(number, between):
    network, images = _network(*between), _pixels()
    content = tflite.convert(network, "int8", images=images)
    factors = _factors(content)
    # 1 up to the rounding of a scale, where the layer does nothing.
    dead = [value for name, value in factors.items() if name.startswith(_DEAD)]
    assert dead == pytest.approx([1.0] * number, rel=1e-3)
    assert max(factors.values()) < 1.01


@pytest.fixture(scope="module")
def dead_gate():
    """Builds a network whose first gate never opens further than its bias."""
    network = tf.keras.models.clone_model(tiny.network(shallow=True))
    network.set_weights(tiny.network(shallow=True).get_weights())
    fc1 = network.get_layer("stage2/block3/cblock1/gate/fc1")
    fc1.bias.assign(fc1.bias - 100.0)
    return network


@pytest.mark.parametrize("variant", ["int8", "uint8"])
def test_a_dead_gate_changes_nothing_but_its_step(dead_gate, variant, tmp_path):
    images = tiny.images(12)
    before = [weight.copy() for weight in dead_gate.get_weights()]
    content = tflite.convert(dead_gate, variant, images=images)
    tflite_file.check(content, variant, "nhwc")
    factors = _factors(content)
    dead = [value for name, value in factors.items() if "gate/fc1" in name]
    assert dead[:2] == pytest.approx([1.0, 1.0], rel=1e-3)
    assert max(factors.values()) < 1.01
    path = tmp_path / "file.tflite"
    path.write_bytes(content)
    found = embedders.open_model(path).embed(images)
    wanted = dead_gate(preprocess.normalise(images), training=False).numpy()
    assert tiny.cosines(found, wanted).min() > 0.98
    for one, other in zip(before, dead_gate.get_weights()):
        np.testing.assert_array_equal(one, other)


def test_a_network_without_dead_layers_is_left_alone(monkeypatch):
    network, images = tiny.network(shallow=True), tiny.images(4)
    content = tflite.convert(network, "int8", images=images)
    monkeypatch.setattr(ranges, "widened", lambda calibrated: calibrated)
    assert content == tflite.convert(network, "int8", images=images)


def test_a_file_that_rescales_too_much_is_refused(monkeypatch):
    """The converter alone makes such files of a dead layer."""
    monkeypatch.setattr(ranges, "widened", lambda calibrated: calibrated)
    content = tflite.convert(_network(), "int8", images=_pixels())
    complaint = r"CONV_2D, which writes '.*dead/.*rescales by .*, and XNNPACK takes"
    with pytest.raises(tflite_file.RefusedError, match=complaint):
        tflite_file.check(content, "int8", "nhwc")


@pytest.mark.parametrize("factor, refused", [(255.0, False), (256.5, True)])
def test_the_limit(factor, refused):
    content = tflite.convert(_network(), "int8", images=_pixels())
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    graph = model.subgraphs[0]
    results = [graph.tensors[op.outputs[0]] for op in graph.operators]
    result = next(tensor for tensor in results if b"toy/dead/" in tensor.name)
    result.quantization.scale = [result.quantization.scale[0] / factor]
    builder = schema.flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    content = bytes(builder.Output())
    if refused:
        with pytest.raises(tflite_file.RefusedError, match="takes less than 256"):
            tflite_file.check(content, "int8", "nhwc")
    else:
        tflite_file.check(content, "int8", "nhwc")
