"""Files that were cut out of the largest network's, against networks of their own."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.keras import layers

from cdnet_tf.deploy import calibration, cutting, ranges, tflite, tflite_file
from cdnet_tf.nn.genotype import Branch, Genotype

_MIXED = Genotype(
    tuple(
        Branch(*branch)
        for branch in [
            (3, 5, 1),
            (3, 9, 2),
            (5, 7, 1),
            (7, 9, 2),
            (5, 9, 1),
            (3, 7, 2),
        ]
    )
)


def _network(genotype):
    """Builds streams of linear convolutions; a Lite is 0.3 times its input and more."""
    tf.keras.utils.set_random_seed(0)
    x = images = tf.keras.Input((8, 8, 3), name="images")
    for block, branch in enumerate(genotype.layers, 1):
        for cblock in range(1, branch.repeats + 1):
            streams = []
            for kernel, lites in zip((7, 9), branch.lites):
                stream = x
                for i in range(1, lites + 1):
                    name = f"stage1/block{block}/cblock{cblock}/lite{kernel}_{i}/conv"
                    stream = layers.Conv2D(3, 1, name=name)(stream)
                streams.append(stream)
            x = layers.Add(name=f"stage1/block{block}/cblock{cblock}/add")(streams)
    x = layers.GlobalAveragePooling2D(name="neck/pool")(x)
    return tf.keras.Model(images, x, name="cdnet")


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def network():
    return _network(cutting.LARGEST)


@pytest.fixture(scope="module")
def content(network, pictures):
    return calibration.calibrated(tflite.converter(network, "int8"), pictures)


def _run(content, picture):
    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (source,), (target,) = (
        interpreter.get_input_details(),
        interpreter.get_output_details(),
    )
    interpreter.set_tensor(source["index"], picture[np.newaxis])
    interpreter.invoke()
    return interpreter.get_tensor(target["index"])


def test_computes_what_the_genotype_computes(network, content, pictures):
    small = _network(_MIXED)
    for layer in small.layers:
        layer.set_weights(network.get_layer(layer.name).get_weights())
    cut = cutting.Largest(content).cut(_MIXED)
    wanted = small(pictures[:1]).numpy()
    np.testing.assert_allclose(_run(cut, pictures[0]), wanted, rtol=1e-4)
    assert np.abs(wanted - network(pictures[:1])).max() > 0.1 * np.abs(wanted).max()
    assert len(cut) < 0.75 * len(content)


def test_the_largest_is_cut_out_whole(content):
    cut = cutting.Largest(content).cut(cutting.LARGEST)
    assert list(ranges.outputs(cut)) == list(ranges.outputs(content))
    integers = [calibration.integers(each, tf.int8, tf.int8) for each in (cut, content)]
    grey = np.full((8, 8, 3), 50, np.int8)
    np.testing.assert_array_equal(*(_run(each, grey) for each in integers))


def test_becomes_integers_with_the_genotypes_operations(content):
    cut = cutting.Largest(content).cut(_MIXED)
    integers = calibration.integers(cut, tf.int8, tf.int8)
    described = tflite_file.described(integers, "cdnet", "int8", "nhwc")
    tflite_file.check(described, "int8", "nhwc")
    counts = tflite_file.op_counts(described)
    # A stream of kernel k has k // 2 Lites.
    assert counts["CONV_2D"] == 3 + 2 * 5 + 5 + 2 * 7 + 6 + 2 * 4
    assert counts["ADD"] == _MIXED.depth == 9
