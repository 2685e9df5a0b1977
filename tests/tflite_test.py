"""Variants on a tiny network whose normalisations are not trivial."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from cdnet_tf.data import preprocess
from cdnet_tf.deploy import embedders, tflite, tflite_file
from tests import tiny

# One file of each variant; layouts and batches take turns over them.
KINDS = {
    "float32": ("nchw", True),
    "float16": ("nhwc", False),
    "dynamic": ("nhwc", False),
    "int8": ("nhwc", False),
    "uint8": ("nchw", False),
    "int8_float_io": ("nhwc", True),
}


@pytest.fixture(scope="module")
def network():
    return tiny.network()


@pytest.fixture(scope="module")
def files(network):
    images = tiny.images(12)
    return {
        variant: tflite.convert(
            network, variant, layout=layout, dynamic_batch=free, images=images
        )
        for variant, (layout, free) in KINDS.items()
    }


@pytest.fixture(scope="module")
def judged(network):
    """Returns images not used to calibrate, and the float network's embeddings."""
    images = tiny.images(8, seed=1)
    return images, network(preprocess.normalise(images), training=False).numpy()


@pytest.mark.parametrize(
    "variant, least",
    [
        ("float32", 0.99999),
        ("float16", 0.9999),
        ("dynamic", 0.995),
        ("int8", 0.98),
        ("uint8", 0.98),
        ("int8_float_io", 0.98),
    ],
)
def test_embeds_as_the_float_network(files, judged, tmp_path, variant, least):
    images, wanted = judged
    path = tmp_path / "file.tflite"
    path.write_bytes(files[variant])
    found = embedders.open_model(path).embed(images)
    assert tiny.cosines(found, wanted).min() > least
    # Scale and zero point of the output are right too, not the direction alone.
    np.testing.assert_allclose(
        np.linalg.norm(found, axis=1), np.linalg.norm(wanted, axis=1), rtol=0.1
    )


@pytest.mark.parametrize(
    "variant, dtypes, shape",
    [
        ("float32", ("float32", "float32"), [-1, 3, 64, 32]),
        ("int8", ("int8", "int8"), [1, 64, 32, 3]),
        ("uint8", ("uint8", "int8"), [1, 3, 64, 32]),
        ("int8_float_io", ("float32", "float32"), [-1, 64, 32, 3]),
    ],
)
def test_says_what_the_interpreter_sees(files, variant, dtypes, shape):
    record = tflite_file.describe(files[variant])
    interpreter = tf.lite.Interpreter(model_content=files[variant])
    ends = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    for said, seen, dtype in zip((record["input"], record["output"]), ends, dtypes):
        assert said["dtype"] == np.dtype(seen["dtype"]).name == dtype
        if dtype == "float32":
            assert said["scale"] is said["zero_point"] is None
        else:
            assert (said["scale"], said["zero_point"]) == seen["quantization"]
        assert said["name"] == seen["name"]
    assert record["input"]["shape"] == list(ends[0]["shape_signature"]) == shape
    assert record["output"]["dimensions"] == ends[1]["shape"][-1]
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["images"], "outputs": ["embedding"]}
    }


def test_a_pixel_is_its_own_integer(files):
    record = tflite_file.describe(files["uint8"])
    assert (record["input"]["scale"], record["input"]["zero_point"]) == (1, 0)


def test_uint8_is_as_good_at_the_border(files, judged, tmp_path):
    """The stem must pad with the mean colour, not with black."""
    images, _ = judged
    found = {}
    for variant in ("int8", "uint8"):
        path = tmp_path / f"{variant}.tflite"
        path.write_bytes(files[variant])
        found[variant] = embedders.open_model(path).embed(images)
    assert tiny.cosines(found["int8"], found["uint8"]).min() > 0.99


@pytest.mark.parametrize("variant, least", [("float32", 0.99999), ("uint8", 0.98)])
def test_another_normalisation_is_kept(tmp_path, variant, least):
    network, cifar = tiny.network(shallow=True), preprocess.CIFAR
    content = tflite.convert(
        network, variant, images=tiny.images(12), normalisation=cifar
    )
    path = tmp_path / "file.tflite"
    path.write_bytes(content)
    images = tiny.images(8, seed=1)
    found = embedders.open_model(path).embed(images)
    wanted, others = (
        network(preprocess.normalise(images, each), training=False).numpy()
        for each in (cifar, preprocess.IMAGENET)
    )
    assert tiny.cosines(found, wanted).min() > least
    assert tiny.cosines(found, wanted).mean() > tiny.cosines(found, others).mean()
    said = tflite_file.describe(content)["input"]
    if variant == "uint8":
        assert said["mean"] is said["std"] is None
    else:
        np.testing.assert_allclose(said["mean"], [129.3, 124.1, 112.4])
        np.testing.assert_allclose(said["std"], [68.2, 65.4, 70.4])


@pytest.mark.parametrize("variant", tflite.VARIANTS)
def test_what_is_written_is_accepted(files, variant):
    tflite_file.check(files[variant], variant, KINDS[variant][0])


def test_integer_files_hold_the_known_operations(files):
    inside = set(tflite_file.op_counts(files["int8"]))
    assert inside <= tflite_file.INTEGER_OPS
    extra = {
        variant: set(tflite_file.op_counts(files[variant])) - inside
        for variant in ("uint8", "int8_float_io")
    }
    assert extra == {
        "uint8": {"QUANTIZE", "TRANSPOSE"},
        "int8_float_io": {"QUANTIZE", "DEQUANTIZE"},
    }


@pytest.mark.parametrize(
    "made, checked, layout, complaint",
    [
        ("float32", "int8", "nchw", "PAD.* 'cdnet/stem/pad/.* FLOAT32"),
        ("uint8", "uint8", "nhwc", "TRANSPOSE, which writes .* none of the operations"),
        ("dynamic", "int8", "nhwc", "FLOAT32"),
    ],
)
def test_refuses_what_is_not_integer(files, made, checked, layout, complaint):
    with pytest.raises(tflite_file.RefusedError, match=complaint):
        tflite_file.check(files[made], checked, layout)


def test_refuses_a_rescaling_inside():
    """Two branches of different scale joined: the converter must insert a QUANTIZE."""
    images = tf.keras.Input((8, 8, 3), name="images")
    big = tf.keras.layers.MaxPooling2D(8)(images)
    small = tf.keras.layers.Conv2D(3, 8, activation="sigmoid")(images)
    joined = tf.keras.layers.Concatenate()([big, small])
    odd = tf.keras.Model(images, tf.keras.layers.Flatten()(joined), name="odd")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    content = tflite.convert(odd, "int8", images=pixels)
    with pytest.raises(tflite_file.RefusedError, match="int8: (QUANT|RESH)"):
        tflite_file.check(content, "int8", "nhwc")


def test_weights_are_aligned(files):
    """The schema demands 16 bytes, but Python's writer ignores this by default."""
    for content in files.values():
        model = schema.Model.GetRootAsModel(content, 0)
        whole = np.frombuffer(content, np.uint8)
        for i in range(model.BuffersLength()):
            if model.Buffers(i).DataLength():
                data = model.Buffers(i).DataAsNumpy()
                offset = data.ctypes.data - whole.ctypes.data
                assert offset % 16 == 0


def test_keeps_named_layers_in_float(network, judged, tmp_path):
    images, wanted = judged
    kept = ["stem/conv", "stage1/block1/cblock1/gate"]
    content = tflite.convert(network, "uint8", images=tiny.images(12), keep_float=kept)
    tflite_file.check(content, "uint8", "nhwc", kept)
    with pytest.raises(tflite_file.RefusedError, match="FLOAT32|QUANTIZE"):
        tflite_file.check(content, "uint8", "nhwc", kept[:0])
    with pytest.raises(tflite_file.RefusedError, match="'cdnet/stem/relu/.* FLOAT32"):
        tflite_file.check(content, "uint8", "nhwc", kept[1:])
    path = tmp_path / "file.tflite"
    path.write_bytes(content)
    assert tiny.cosines(embedders.open_model(path).embed(images), wanted).min() > 0.98


@pytest.mark.parametrize(
    "options, complaint",
    [
        ({"variant": "int4"}, "variant='int4'"),
        ({"variant": "int8", "layout": "nwhc"}, "layout='nwhc'"),
        ({"variant": "int8"}, "int8 needs calibration images"),
    ],
)
def test_refuses_wrong_arguments(network, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        tflite.convert(network, **options)


def test_a_file_of_others_is_not_described(files):
    with pytest.raises(ValueError, match="no metadata 'cdnet_tf'"):
        tflite_file.describe(bytes(files["float32"]).replace(b"cdnet_tf", b"cdnet_xy"))


def test_latency_is_a_time(files):
    assert 0 < tflite.latency(files["int8"], runs=3) < 60
    assert tflite.processor()
