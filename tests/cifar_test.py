"""Both forms of CIFAR-100, written byte by byte as the originals are, and read back."""

from __future__ import annotations

import pickle
import struct

import numpy as np
import pytest

from cdnet_tf.data import cifar

pytestmark = pytest.mark.filterwarnings("ignore:.* and the original")

_SIZES = {"train": 7, "test": 3}
_NAMES = [f"class_{i}" for i in range(100)]


def _images(split):
    """Makes images (n, 32, 32, 3) whose bytes tell their place; fine, coarse labels."""
    n = _SIZES[split]
    images = np.random.default_rng(n).integers(0, 256, (n, 32, 32, 3)).astype(np.uint8)
    fine = [99 - 2 * i for i in range(n)]
    return images, fine, [each // 5 for each in fine]


def _row(image):
    """Returns 1024 bytes of red, row by row, then of green, then of blue."""
    return b"".join(image[:, :, channel].tobytes() for channel in range(3))


def _string(text):
    """Pickles a string like Python 2: SHORT_BINSTRING or BINSTRING."""
    if len(text) < 256:
        return b"U" + bytes([len(text)]) + text
    return b"T" + struct.pack("<i", len(text)) + text


def _list(items):
    return b"](" + b"".join(items) + b"e"


def _number(value):
    return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)


def _array(rows):
    """Pickles a uint8 array like NumPy under Python 2."""
    made = b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02"
    made += b"K\x00\x85q\x03" + _string(b"b") + b"\x87q\x04Rq\x05"
    kind = b"cnumpy\ndtype\nq\x06" + _string(b"u1") + b"K\x00K\x01\x87q\x07Rq\x08"
    kind += b"(K\x03" + _string(b"|") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"
    shape = _number(len(rows)) + _number(len(rows[0])) + b"\x86q\x09"
    return made + b"(K\x01" + shape + kind + b"\x89" + _string(b"".join(rows)) + b"tb"


def _dictionary(**entries):
    items = [_string(key.encode()) + value for key, value in entries.items()]
    return b"\x80\x02}q\x00(" + b"".join(items) + b"u."


def _pickle(split, **changes):
    images, fine, coarse = _images(split)
    entries = {
        "filenames": _list(_string(b"bos_taurus_s_%06d.png" % i) for i in range(9)),
        "batch_label": _string(b"training batch 1 of 1"),
        "fine_labels": _list(map(_number, fine)),
        "coarse_labels": _list(map(_number, coarse)),
        "data": _array([_row(image) for image in images]),
    }
    return _dictionary(**{**entries, **changes})


def _records(split):
    images, fine, coarse = _images(split)
    return b"".join(
        bytes([group, each]) + _row(image)
        for image, each, group in zip(images, fine, coarse)
    )


@pytest.fixture
def python(tmp_path):
    for split in _SIZES:
        (tmp_path / split).write_bytes(_pickle(split))
    names = _list(_string(name.encode()) for name in _NAMES)
    (tmp_path / "meta").write_bytes(_dictionary(fine_label_names=names))
    return tmp_path


@pytest.fixture
def binary(tmp_path):
    for split in _SIZES:
        (tmp_path / f"{split}.bin").write_bytes(_records(split))
    (tmp_path / "fine_label_names.txt").write_text("\n".join(_NAMES) + "\n\n")
    return tmp_path


def _check(names, splits):
    assert names == tuple(_NAMES)
    assert list(splits) == ["train", "test"]
    for split, (images, labels) in splits.items():
        expected, fine, _ = _images(split)
        np.testing.assert_array_equal(images, expected)
        np.testing.assert_array_equal(labels, fine)
        assert images.dtype == np.uint8 and images.flags.c_contiguous
        assert labels.dtype == np.int32


def test_python(python):
    # The bytes written here are what NumPy itself takes for an array.
    trusted = pickle.loads((python / "train").read_bytes(), encoding="bytes")
    assert trusted[b"data"].shape == (7, 3072) and trusted[b"data"].dtype == np.uint8
    _check(*cifar.read_python(str(python)))


def test_binary(binary):
    _check(*cifar.read_binary(str(binary)))


def test_fewer_images_than_the_original_are_worth_a_warning(binary):
    with pytest.warns(UserWarning, match="train.bin holds 7 .* original 50000"):
        cifar.read_binary(str(binary))


@pytest.mark.parametrize(
    "name, call",
    [
        ("builtins.exec", b"cbuiltins\nexec\n"),
        ("os.system", b"cos\nsystem\n"),
        ("numpy.load", b"cnumpy\nload\n"),
        # Harmless in itself, but no file of CIFAR-100 names it.
        ("collections.OrderedDict", b"ccollections\nOrderedDict\n"),
    ],
)
def test_a_pickle_that_names_anything_else_is_refused(python, name, call):
    (python / "test").write_bytes(_pickle("test", filenames=call))
    with pytest.raises(ValueError, match=f"test .*{name}, which .* was not run"):
        cifar.read_python(str(python))


def test_even_the_names_of_arrays_reach_no_code_of_numpy(python):
    """If NumPy's code were called, it would refuse an array of such a shape."""
    call = b"cnumpy\nndarray\n" + _string(b"no shape") + b"\x85R"
    (python / "test").write_bytes(_pickle("test", filenames=call))
    _check(*cifar.read_python(str(python)))


@pytest.mark.parametrize("opcode", ["reduce", "stack_global"])
def test_a_pickled_program_does_not_run(python, opcode):
    victim = python / "victim"

    class Program:
        def __reduce__(self):
            return victim.write_text, ("ran",)

    protocol = {"reduce": 2, "stack_global": 4}[opcode]
    program = pickle.dumps(Program(), protocol)
    pickle.loads(program)
    assert victim.read_text() == "ran"
    victim.unlink()
    (python / "meta").write_bytes(program)
    with pytest.raises(ValueError, match="meta .* was not run"):
        cifar.read_python(str(python))
    assert not victim.exists()


@pytest.mark.parametrize("kept", [0, 1, 100, 5000, -1])
def test_a_truncated_pickle(python, kept):
    whole = (python / "train").read_bytes()
    (python / "train").write_bytes(whole[:kept])
    size = len(whole[:kept])
    with pytest.raises(ValueError) as error:
        cifar.read_python(str(python))
    message = f"{python}/train ({size:,} bytes; the original has more than 153,600,000)"
    assert str(error.value).startswith(message)
    assert "Unpack CIFAR-100 again" in str(error.value)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"fine_labels": _list([_number(100)] * 3)},
            "3 of 3 .* 0..99.* image 0.* with 100",
        ),
        ({"fine_labels": _list([_number(9)] * 2)}, r"2 labels.*shape \(3, 3072\)"),
        ({"fine_labels": _list([])}, "0 labels"),
        ({"fine_labels": _list([_string(b"cow")] * 3)}, "no list of numbers"),
        ({"data": _list([])}, "data is no array"),
        ({"data": _array([bytes(3071)] * 3)}, r"\(3, 3071\) instead of \(3, 3072\)"),
    ],
)
def test_wrong_contents_of_a_pickle(python, change, message):
    (python / "test").write_bytes(_pickle("test", **change))
    with pytest.raises(ValueError, match=f"{python}/test.*{message}"):
        cifar.read_python(str(python))


def test_a_pickle_of_another_data_set(python):
    (python / "test").write_bytes(_dictionary(labels=_list([])))
    with pytest.raises(ValueError, match="cannot be read: KeyError: b'data'"):
        cifar.read_python(str(python))


@pytest.mark.parametrize("kept", [0, 3073, 3074 * 3 - 1])
def test_truncated_records(binary, kept):
    (binary / "test.bin").write_bytes(_records("test")[:kept])
    message = f"test.bin .* {kept:,} bytes .* records of 3,074, .* has 30,740,000"
    with pytest.raises(ValueError, match=message):
        cifar.read_binary(str(binary))


@pytest.mark.parametrize("place, what", [(0, "coarse label"), (1, "fine label")])
def test_labels_out_of_range_in_records(binary, place, what):
    records = bytearray(_records("test"))
    records[3074 + place] = 211
    (binary / "test.bin").write_bytes(records)
    with pytest.raises(ValueError, match=f"1 of 3 .* {what} .* image 1 .* with 211"):
        cifar.read_binary(str(binary))


def test_class_names_are_a_hundred(binary):
    (binary / "fine_label_names.txt").write_text("apple\nbowl\n")
    with pytest.raises(ValueError, match="names 2 classes instead of 100"):
        cifar.read_binary(str(binary))
