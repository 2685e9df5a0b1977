"""Ranges, rounding and folding against plain NumPy; a tiny network to train."""

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.data import preprocess
from cdnet_tf.deploy import embedders, quantize, tflite, tflite_file
from tests import tiny

layers = tf.keras.layers


@pytest.fixture(scope="module")
def network():
    return tiny.network(shallow=True)


@pytest.fixture(scope="module")
def images():
    return preprocess.normalise(tiny.images(12)).numpy()


@pytest.fixture(scope="module")
def student(network, images):
    return quantize.trainable(network, images)


@pytest.fixture(scope="module")
def errors(network, images):
    converter = tflite.converter(network, "int8")
    return quantize.worst_layers(converter, images[:4])


def test_ranges_start_where_the_float_network_is(network, images, student):
    names = ["stage2/block3/cblock1/relu", "stage2/block3/cblock1/gate/scale2"]
    probe = tf.keras.Model(network.input, [network.get_layer(n).output for n in names])
    for name, values in zip(names, probe.predict(images, verbose=0)):
        found = {
            variable.name.rpartition("/")[2]: variable.numpy()
            for variable in student.get_layer(f"quant_{name}").weights
        }
        wanted = min(0, values.min()), max(0, values.max())
        range_ = found["output_min:0"], found["output_max:0"]
        np.testing.assert_allclose(range_, wanted, rtol=1e-4, atol=1e-6)


def test_no_range_is_the_library_s_own(student):
    starts = [v.numpy() for v in student.weights if v.name.endswith("_min:0")]
    assert len(starts) > 15
    assert not any(np.any(start == -6.0) for start in starts)


def test_starts_near_the_float_network(network, images, student):
    cosines = tiny.cosines(
        student.predict(images, verbose=0), network.predict(images, verbose=0)
    )
    assert cosines.min() > 0.98


def test_gate_layers_stay_shared(student):
    fc1 = student.get_layer("quant_stage2/block3/cblock1/gate/fc1")
    assert len(fc1.inbound_nodes) == 2


def test_trains_and_exports_the_same_operations(network, images, student, tmp_path):
    wanted = network(images, training=False)
    optimizer = tf.keras.optimizers.Adam(1e-3)
    rng = np.random.default_rng(0)
    for kernel in student.trainable_variables:
        kernel.assign(kernel * rng.uniform(0.8, 1.2, kernel.shape))

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            error = student(images, training=True) - wanted
            loss = tf.reduce_sum(error**2) / tf.reduce_sum(wanted**2)
        gradients = tape.gradient(loss, student.trainable_variables)
        optimizer.apply_gradients(zip(gradients, student.trainable_variables))
        return loss, [tf.reduce_max(tf.abs(g)) for g in gradients]

    losses = [float(step()[0]) for _ in range(15)]
    assert max(losses[-3:]) < 0.7 * losses[0]
    _, largest = step()
    assert all(np.isfinite(g) for g in largest)
    assert sum(float(g) == 0 for g in largest) < len(largest) / 20

    content = tflite.convert(student, "uint8")
    tflite_file.check(content, "uint8", "nhwc")
    plain = tflite.convert(network, "uint8", images=tiny.images(4))
    assert tflite_file.op_counts(content) == tflite_file.op_counts(plain)
    path = tmp_path / "trained.tflite"
    path.write_bytes(content)
    found = embedders.open_model(path).embed(tiny.images(12))
    # What was trained is what the file computes: rounding differs by single steps.
    trained = student(images, training=True).numpy()
    assert tiny.cosines(found, trained).min() > 0.98


def test_a_closed_range_opens_again(student):
    """By hand: 255 units of the sums, which are the input's step times the weights'."""
    fc1 = student.get_layer("quant_stage2/block3/cblock1/gate/fc1")
    ends = quantize._range(fc1)
    quantize._set_range(fc1, 0.0, 1e-38)
    try:
        quantize.widen(student)
        found = quantize._range(fc1)
    finally:
        quantize._set_range(fc1, *ends)
    sources = [quantize._range(n.inbound_layers) for n in fc1.inbound_nodes]
    step = max(high - low for low, high in sources) / 255
    step *= np.abs(fc1.weights[0].numpy()).max() / 127
    np.testing.assert_allclose(found, (0, 255 * step), rtol=1e-5)


@pytest.mark.parametrize("depthwise", [False, True])
def test_a_kernel_is_rounded_by_output_channel(depthwise):
    rng = np.random.default_rng(0)
    shape = (3, 3, 4, 1) if depthwise else (3, 3, 2, 4)
    kernel = rng.normal(0, 1, shape).astype(np.float32)
    kernel *= np.array([1, 10, 100, 1000]).reshape((4, 1) if depthwise else (1, 4))
    rounding = quantize._KernelRounding()
    found = rounding(tf.constant(kernel), training=True, weights={}).numpy()
    # 127 steps on each side of 0, up to the channel's largest weight.
    axes = (0, 1, 3) if depthwise else (0, 1, 2)
    step = np.abs(kernel).max(axes, keepdims=True) / 127
    np.testing.assert_allclose(found, np.round(kernel / step) * step, rtol=1e-4)
    assert rounding(kernel, training=False, weights={}) is kernel


def test_lists_the_errors_worst_first(network, errors):
    values = [each.error for each in errors]
    assert values == sorted(values, reverse=True)
    assert all(value >= 0 for value in values)
    known = {layer.name for layer in network.layers}
    found = {each.layer for each in errors}
    assert "stem/relu" in found
    assert found - {"Identity"} <= known
    assert {"CONV_2D", "LOGISTIC", "MEAN"} <= {each.op for each in errors}


@pytest.mark.parametrize(
    "tensor, layer, wanted",
    [
        ("cdnet/stem/relu/Relu;cdnet/stem/bn/X;cdnet/stem/conv/Conv2D", "stem", True),
        ("cdnet/stem/relu/Relu;cdnet/stem/bn/X;cdnet/stem/conv/Conv2D", "ste", False),
        ("cdnet/stem/relu/Relu;cdnet/stem/conv/Conv2D", "stem/conv", True),
        # A constant shared with another block, which has no part in this operation.
        ("cdnet/stem/relu/Relu;cdnet/b/gate/fc2/Conv2D", "b/gate/fc2", False),
        ("cdnet/b/gate/fc2/BiasAdd_1;cdnet/b/gate/fc2/Conv2D_1", "b/gate/fc2", True),
    ],
)
def test_finds_the_layers_of_an_operation(tensor, layer, wanted):
    assert quantize.belongs(tensor, layer) is wanted


def test_refuses_an_unknown_layer(network, images):
    converter = tflite.converter(network, "int8")
    with pytest.raises(ValueError, match="selective='stem/cnov'.*--debug_layers"):
        quantize.post_training(converter, images[:2], tf.int8, tf.int8, ["stem/cnov"])


def test_refuses_no_calibration_images(network):
    with pytest.raises(ValueError, match="No calibration images"):
        quantize.post_training(None, np.zeros((0, 64, 32, 3)), tf.int8, tf.int8)
