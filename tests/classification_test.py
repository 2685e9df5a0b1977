"""Class folders and CIFAR-100 are found on disk, and errors say what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from cdnet_tf.data import classification

# Not in the order in which they are made: the class is the place in the sorted names.
_FOLDERS = {
    "train": {
        "n02119789": ["n02119789_10.JPEG", "n02119789_2.JPEG", "Thumbs.db", "._a.JPEG"],
        "n01440764": ["n01440764_1.JPEG"],
        "n01443537": ["b.jpeg", "a.PNG", "c.jpg"],
    },
    "val": {
        "n01443537": ["ILSVRC2012_val_00000002.JPEG"],
        "n02119789": ["ILSVRC2012_val_00000003.JPEG"],
        "n01440764": ["ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000004.JPEG"],
    },
}


def _write(root, folders=_FOLDERS):
    for split, classes in folders.items():
        (root / split).mkdir(parents=True)
        for name, files in classes.items():
            (root / split / name).mkdir()
            for file in files:
                (root / split / name / file).touch()


def _write_cifar(folder, records=2):
    folder.mkdir()
    for split in ("train", "test"):
        image = b"\x01\x63" + b"\x0a" * 1024 + b"\x14" * 1024 + b"\x1e" * 1024
        (folder / f"{split}.bin").write_bytes(records * image)
    names = "\n".join(f"class_{i}" for i in range(100))
    (folder / "fine_label_names.txt").write_text(names)


@pytest.mark.parametrize("folder", ["imagenet", "ILSVRC/Data/CLS-LOC", "."])
def test_imagenet(tmp_path, folder):
    _write(tmp_path / folder)
    (tmp_path / folder / "train" / "README").touch()
    data = classification.read("imagenet", str(tmp_path))
    assert (data.name, data.num_classes) == ("imagenet", 3)
    assert data.class_names == ("n01440764", "n01443537", "n02119789")
    np.testing.assert_array_equal(data.train.labels, [0, 1, 1, 1, 2, 2])
    np.testing.assert_array_equal(data.test.labels, [0, 0, 1, 2])
    assert data.train.labels.dtype == np.int32
    root = (tmp_path / folder).resolve()
    assert data.train.images == tuple(
        f"{root}/train/{file}"
        for file in (
            "n01440764/n01440764_1.JPEG",
            "n01443537/a.PNG",
            "n01443537/b.jpeg",
            "n01443537/c.jpg",
            "n02119789/n02119789_10.JPEG",
            "n02119789/n02119789_2.JPEG",
        )
    )
    assert data.counts() == {
        "train": {"images": 6, "classes": 3},
        "test": {"images": 4, "classes": 3},
    }


@pytest.mark.filterwarnings("ignore:.* and the original")
def test_cifar(tmp_path):
    _write_cifar(tmp_path / "cifar-100-binary")
    data = classification.read("cifar100", str(tmp_path))
    assert (data.name, data.num_classes) == ("cifar100", 100)
    assert data.root == str(tmp_path / "cifar-100-binary")
    assert data.class_names[7] == "class_7"
    np.testing.assert_array_equal(data.train.labels, [99, 99])
    expected = np.broadcast_to(np.array([10, 20, 30], np.uint8), (2, 32, 32, 3))
    np.testing.assert_array_equal(data.test.images, expected)
    # The folder itself will do, and only classes that are shown count.
    again = classification.read("cifar100", data.root)
    assert again.counts()["test"] == {"images": 2, "classes": 1}


def test_of_a_smaller_cifar_the_caller_is_warned(tmp_path):
    _write_cifar(tmp_path / "cifar-100-binary")
    with pytest.warns(UserWarning, match="holds 2 images") as record:
        classification.read("cifar100", str(tmp_path))
    assert {warning.filename for warning in record} == {__file__}


def test_unknown_name():
    with pytest.raises(ValueError, match="'cifar10' is unknown.*cifar100, imagenet"):
        classification.read("cifar10", "/nowhere")


@pytest.mark.parametrize(
    "name, folder, remedy",
    [
        ("cifar100", "cifar-100-python", "tar -xzf cifar-100-python.tar.gz -C"),
        ("imagenet", "imagenet", "imagenet/train/<wnid>/*.JPEG"),
    ],
)
def test_nothing_there(tmp_path, name, folder, remedy):
    with pytest.raises(FileNotFoundError) as error:
        classification.read(name, str(tmp_path))
    message = str(error.value)
    assert message.startswith(f"{name}: {tmp_path}/{folder} lacks train, ")
    assert f"Looked in {tmp_path}/{folder}, " in message and remedy in message


def test_the_most_complete_folder_is_complained_about(tmp_path):
    _write_cifar(tmp_path / "cifar-100-binary")
    (tmp_path / "cifar-100-binary" / "test.bin").unlink()
    with pytest.raises(FileNotFoundError, match="cifar-100-binary lacks test.bin. "):
        classification.read("cifar100", str(tmp_path))


@pytest.mark.parametrize("sorted_so_far", [0, 3])
def test_flat_val(tmp_path, sorted_so_far):
    """The archive unpacks to flat files, and sorting them may stop half-way."""
    classes = list(_FOLDERS["val"].items())[:sorted_so_far]
    _write(tmp_path, dict(_FOLDERS, val=dict(classes)))
    for number in (8, 7):
        (tmp_path / "val" / f"ILSVRC2012_val_0000000{number}.JPEG").touch()
    with pytest.raises(ValueError) as error:
        classification.read("imagenet", str(tmp_path))
    message = str(error.value)
    assert message.startswith(f"{tmp_path}/val: 2 images lie flat")
    assert "the first is ILSVRC2012_val_00000007.JPEG" in message
    assert f"{tmp_path}/val/<wnid>/; flags/imagenet.cfg shows how" in message


def test_train_still_in_archives(tmp_path):
    _write(tmp_path, dict(_FOLDERS, train={}))
    (tmp_path / "train" / "n01440764.tar").touch()
    message = r"train holds no class folders \(n01440764.tar\); unpack each class"
    with pytest.raises(ValueError, match=message):
        classification.read("imagenet", str(tmp_path))


def test_folders_differ(tmp_path):
    val = {"n01440764": ["a.JPEG"], "n02119789": ["b.JPEG"], "n09999999": ["c.JPEG"]}
    _write(tmp_path, dict(_FOLDERS, val=val))
    with pytest.raises(ValueError, match="only one of them has n01443537, n09999999"):
        classification.read("imagenet", str(tmp_path))


def test_an_empty_class(tmp_path):
    train = dict(_FOLDERS["train"], n01443537=["notes.txt"])
    _write(tmp_path, dict(_FOLDERS, train=train))
    with pytest.raises(ValueError, match="train: no .JPEG file in n01443537; unpack"):
        classification.read("imagenet", str(tmp_path))
