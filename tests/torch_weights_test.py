"""The authors' weights in our networks, against the same network in PyTorch.

The PyTorch network is written from the specification alone: its sizes, its order of
layers, and the names that the authors' modules have.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.deploy import torch_weights
from cdnet_tf.nn import counting

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
functional = torch.nn.functional
torch.set_num_threads(1)  # more would spin while TensorFlow computes

# Table 2: kernels of the streams and repeats.
_LAYERS = {
    "cnet": [(5, 7, 1), (7, 9, 1), (7, 9, 1), (7, 9, 1), (7, 9, 1), (3, 5, 1)],
    "cdnet": [(3, 5, 1), (3, 7, 2), (5, 7, 2), (5, 9, 1), (5, 7, 2), (5, 7, 1)],
}
_SIZE = (64, 32, 3)


class Reference:
    """CNet or CDNet with FBLNeck, in inference; a weight is drawn when first used."""

    def __init__(self, network, classes=751, stem="reid"):
        self.network, self.classes, self.stem = network, classes, stem
        self.state = {}
        self._random = torch.Generator().manual_seed(len(network))

    def _draw(self, name, shape):
        if name not in self.state:
            scale = np.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.3
            drawn = torch.randn(shape, generator=self._random)
            self.state[name] = drawn * scale
        return self.state[name]

    def _draw_positive(self, name, size):
        if name not in self.state:
            self.state[name] = 0.5 + torch.rand(size, generator=self._random)
        return self.state[name]

    def conv(self, x, name, channels, kernel=1, groups=1, bias=False, **options):
        shape = channels, x.shape[1] // groups, kernel, kernel
        weight = self._draw(f"{name}.weight", shape)
        offset = self._draw(f"{name}.bias", (channels,)) if bias else None
        return functional.conv2d(x, weight, offset, groups=groups, **options)

    def linear(self, x, name, units):
        weight = self._draw(f"{name}.weight", (units, x.shape[1]))
        return x @ weight.T + self._draw(f"{name}.bias", (units,))

    def bn(self, x, name):
        size = x.shape[1]
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)
        return functional.batch_norm(
            x,
            self._draw(f"{name}.running_mean", (size,)),
            self._draw_positive(f"{name}.running_var", size),
            self._draw_positive(f"{name}.weight", size),
            self._draw(f"{name}.bias", (size,)),
            eps=1e-5,
        )

    def conv_bn(self, x, name, channels, **options):
        return self.bn(
            self.conv(x, f"{name}.op.0", channels, **options), f"{name}.op.1"
        )

    def lite(self, x, name):
        m = x.shape[1]
        x = self.conv(x, f"{name}.op.0", m)
        x = self.conv(x, f"{name}.op.1", m, kernel=3, groups=m, padding=1)
        return self.bn(x, f"{name}.op.2").relu()

    def gate(self, x, name):
        hidden = x.mean((2, 3), keepdim=True)
        hidden = self.conv(hidden, f"{name}.fc1", x.shape[1] // 4, bias=True).relu()
        return self.conv(hidden, f"{name}.fc2", x.shape[1], bias=True).sigmoid()

    def cblock(self, x, name, channels, kernels):
        squeezed = self.conv_bn(x, f"{name}.squeeze", channels // 4).relu()
        fused = 0
        for number, kernel in enumerate(kernels, 1):
            stream = squeezed
            for i in range(kernel // 2):
                stream = self.lite(stream, f"{name}.conv{number}.{i}")
            fused = fused + self.gate(stream, f"{name}.adaption") * stream
        restored = self.conv_bn(fused, f"{name}.restore", channels)
        if x.shape[1] != channels:
            x = self.conv_bn(x, f"{name}.expand", channels)
        return (restored + x).relu()

    def cell(self, x, name, channels, layer):
        *kernels, repeats = layer
        for i in range(repeats):
            inner = f"{name}.ops.{i}" if self.network == "cdnet" else name
            x = self.cblock(x, inner, channels, kernels)
        return x

    def downsample(self, x, name):
        x = self.conv_bn(x, f"{name}.conv1x1", x.shape[1]).relu()
        return functional.avg_pool2d(x, 2)

    def enter(self, x, same_padding):
        if self.stem == "cifar":
            return self.conv_bn(x, "base.stem.conv1", 64, kernel=3, padding=1).relu()
        # "same" of TensorFlow: five rows in all where PyTorch has three on each side.
        x = functional.pad(x, (2, 3, 2, 3) if same_padding else (3, 3, 3, 3))
        x = self.conv_bn(x, "base.stem.conv1", 64, kernel=7, stride=2).relu()
        return functional.max_pool2d(x, 3, 2, padding=1)

    def heads(self, feature, name):
        hidden = self.bn(
            self.linear(feature, f"neck.{name}_fcs.0", 512), f"neck.{name}_fcs.1"
        )
        return self.linear(hidden.relu(), f"neck.{name}_classifier", self.classes)

    def __call__(self, images, same_padding=False):
        """Returns (embedding, logits) for images (b, h, w, 3)."""
        layers = _LAYERS[self.network]
        x = torch.from_numpy(images).permute(0, 3, 1, 2)
        x = self.enter(x, same_padding)
        x = self.cell(x, "base.cells.0", 256, layers[0])
        x = self.cell(x, "base.cells.1", 256, layers[1])
        x = self.downsample(x, "base.cells.2")
        x = self.cell(x, "base.cells.3", 384, layers[2])
        x = self.cell(x, "base.cells.4", 384, layers[3])
        fmap2 = self.downsample(x, "base.cells.5")
        x = self.cell(fmap2, "base.cells.6", 512, layers[4])
        fmap3 = self.cell(x, "base.cells.7", 512, layers[5])
        local = self.conv(fmap2, "neck.squeeze", 128)
        half = local.shape[2] // 2
        stripes = local[:, :, :half], local[:, :, half:]
        local = torch.cat([stripe.mean((2, 3)) for stripe in stripes], 1)
        features = fmap3.mean((2, 3)), local
        logits = [self.heads(f, n) for f, n in zip(features, ("global", "local"))]
        return torch.cat(features, 1).numpy(), [z.numpy() for z in logits]

    def arrays(self):
        return {name: tensor.numpy() for name, tensor in self.state.items()}

    def count(self, *, heads):
        """Counts trainable parameters, with or without the training heads."""
        return sum(
            tensor.numel()
            for name, tensor in self.state.items()
            if not re.search("running|tracked", name)
            and (heads or not re.search("_fcs|_classifier", name))
        )


def _images(size, seed=0):
    return np.random.default_rng(seed).normal(size=(2, *size)).astype(np.float32)


@pytest.fixture(scope="module")
def references():
    made = {name: Reference(name) for name in _LAYERS}
    for reference in made.values():
        reference(_images(_SIZE))
    return made


def _assert_close(ours, theirs):
    """Asserts that all differences are below 1e-5 of each image's feature."""
    norms = np.linalg.norm(theirs, axis=1, keepdims=True)
    assert ours.shape == theirs.shape
    assert (np.abs(ours - theirs) / norms).max() < 1e-5


def _without_heads(state):
    return {k: v for k, v in state.items() if not re.search("_fcs|_classifier", k)}


@pytest.mark.parametrize(
    "network, name",
    [
        ("cdnet", "base.stem.conv1.op.0.weight"),
        ("cdnet", "base.cells.0.ops.0.squeeze.op.0.weight"),
        ("cdnet", "base.cells.0.ops.0.conv1.0.op.1.weight"),
        ("cdnet", "base.cells.0.ops.0.conv2.1.op.0.weight"),
        ("cdnet", "base.cells.0.ops.0.adaption.fc1.bias"),
        ("cdnet", "base.cells.0.ops.0.restore.op.1.running_mean"),
        ("cdnet", "base.cells.0.ops.0.expand.op.0.weight"),
        ("cdnet", "base.cells.1.ops.1.squeeze.op.0.weight"),
        ("cdnet", "base.cells.2.conv1x1.op.0.weight"),
        ("cnet", "base.cells.0.squeeze.op.0.weight"),
        ("cnet", "base.cells.5.conv1x1.op.1.running_var"),
        ("cnet", "neck.squeeze.weight"),
        ("cnet", "neck.global_fcs.0.weight"),
        ("cnet", "neck.local_fcs.1.running_var"),
        ("cnet", "neck.global_classifier.weight"),
    ],
)
def test_names_are_the_authors(references, network, name):
    assert name in references[network].state
    modules = {theirs for _, theirs in torch_weights.module_names(network)}
    assert name.rpartition(".")[0] in modules


@pytest.mark.parametrize(
    "network, inference, training",
    [("cnet", 1_436_240, 2_603_054), ("cdnet", 1_796_600, 2_963_414)],
)
def test_reference_has_the_published_size(references, network, inference, training):
    state = references[network].state
    trained = {k: v for k, v in state.items() if not re.search("running|tracked", k)}
    assert sum(v.numel() for v in trained.values()) == training
    assert sum(v.numel() for v in _without_heads(trained).values()) == inference


def test_padding_of_same_would_show(references):
    reference, images = references["cdnet"], _images(_SIZE)
    with pytest.raises(AssertionError):
        _assert_close(reference(images)[0], reference(images, same_padding=True)[0])


@pytest.mark.parametrize("network, size", [("cnet", (256, 128, 3)), ("cdnet", _SIZE)])
def test_embeddings_agree(references, network, size):
    reference, images = references[network], _images(size, 1)
    state = _without_heads(reference.arrays())
    model = torch_weights.restore(state, network, input_shape=size)
    _assert_close(model(images).numpy(), reference(images)[0])


def test_cifar_stem_and_its_heads_agree():
    size, images = (32, 32, 3), _images((32, 32, 3))
    reference = Reference("cdnet", classes=100, stem="cifar")
    embedding, logits = reference(images)
    state = {f"module.{name}": v for name, v in reference.arrays().items()}
    model = torch_weights.restore(state, "cdnet", heads=True, input_shape=size)
    assert counting.parameters(model) == 2_287_808
    ours = model(images)
    _assert_close(ours["embedding"].numpy(), embedding)
    for mine, theirs in zip(ours["logits"], logits):
        _assert_close(mine.numpy(), theirs)


def test_all_that_does_not_fit_is_listed(references):
    state = references["cdnet"].arrays()
    del state["base.cells.7.ops.0.conv2.2.op.2.running_var"]
    del state["neck.global_classifier.weight"]
    state["base.stem.conv1.op.1.bias"] = np.zeros(32)
    state["neck.local_fcs.0.weight"] = np.zeros((256, 512))
    state["base.stem.conv1.op.0.bias"] = np.zeros(64)
    state["neck.local_fcs.3.weight"] = np.zeros((2, 2))
    with pytest.raises(ValueError) as error:
        torch_weights.restore(state, "cdnet", heads=True, input_shape=_SIZE)
    first, *lines = str(error.value).split("\n")
    assert first.startswith("The checkpoint does not fit cdnet")
    assert lines == [
        "missing: base.cells.7.ops.0.conv2.2.op.2.running_var (128,)",
        "missing: neck.global_classifier.weight (751, 512)",
        "misshapen: base.stem.conv1.op.1.bias (32,), not (64,)",
        "misshapen: neck.local_fcs.0.weight (256, 512), not (512, 256)",
        "unexpected: base.stem.conv1.op.0.bias (64,)",
        "unexpected: neck.local_fcs.3.weight (2, 2)",
    ]


def test_unknown_network():
    with pytest.raises(ValueError, match="no 'osnet'; use one of cnet, cdnet"):
        torch_weights.restore({}, "osnet")


class _Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def _write_checkpoints(folder, references):
    """Writes files of all kinds, under the names that the tests below use."""
    cnet, cdnet = references["cnet"].state, references["cdnet"].state
    wrapped = {"state_dict": cnet, "epoch": 3, "optimizer": {"lr": 0.1, "state": {}}}
    malicious = {**cdnet, "neck.squeeze.weight": _Malicious(folder / "marker")}
    old = {"_use_new_zipfile_serialization": False}
    for name, value, options in (
        ("new", cdnet, {}),
        ("old", wrapped, old),
        ("malicious_new", malicious, {}),
        ("malicious_old", malicious, old),
        ("module", torch.nn.Linear(2, 2), {}),
        ("two", {"model": cnet, "ema": cnet}, {}),
        ("no_state", {"epoch": 3}, {}),
        ("headless", _without_heads(cnet), {}),
    ):
        torch.save(value, folder / f"{name}.pth", **options)
    (folder / "page.pth").write_text("<!DOCTYPE html>")
    (folder / "empty.pth").write_bytes(b"")
    (folder / "cut.pth").write_bytes((folder / "new.pth").read_bytes()[:100_000])


# Runs the real main for each of the lists of arguments; prints what each died of. In
# a process of its own, since another program has a flag of the same name.
_RUN_MAIN = """
import json, sys
from absl import app, flags
from absl.testing import flagsaver
from tools import import_torch

errors = []
for arguments in json.load(sys.stdin):
    with flagsaver.flagsaver():
        flags.FLAGS.unparse_flags()
        flags.FLAGS(["import_torch", "--height=64", "--width=32", *arguments])
        try:
            errors.append(import_torch.main(["import_torch"]))
        except (app.UsageError, SystemExit) as error:
            errors.append(str(error))
print(json.dumps(errors))
"""

_GOOD = {"new": ("cdnet",), "old": ("cnet", "--heads")}
_NOT_TENSORS = "does not read it as tensors alone"
_BAD = {
    "malicious_new": (_NOT_TENSORS, "save model.state_dict(), not the model"),
    "malicious_old": (_NOT_TENSORS,),
    "module": (_NOT_TENSORS,),
    "page": (_NOT_TENSORS,),
    "empty": (_NOT_TENSORS,),
    "cut": (_NOT_TENSORS,),
    "two": ("it holds 'model', 'ema'. Save the one",),
    "no_state": ("it holds none",),
    "absent": ("No such file",),
    "headless": (
        "missing: neck.global_fcs.0.weight (512, 512)",
        "missing: neck.local_classifier.bias",
    ),
}


@pytest.fixture(scope="module")
def imported(references, tmp_path_factory):
    """Runs the tool; returns its folder, and the error that each run ended with."""
    folder = tmp_path_factory.mktemp("torch")
    _write_checkpoints(folder, references)
    runs = _GOOD | {name: ("cnet", "--heads") for name in _BAD}
    arguments = [
        [
            f"--checkpoint={folder / name}.pth",
            f"--output={folder / 'out' / name}.keras",
            f"--network={network}",
            *heads,
        ]
        for name, (network, *heads) in runs.items()
    ]
    process = subprocess.run(
        [sys.executable, "-c", _RUN_MAIN],
        cwd=pathlib.Path(__file__).parent.parent,
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    *printed, errors = process.stdout.splitlines()
    return folder, printed, dict(zip(runs, json.loads(errors)))


def test_tool_writes_a_model_that_agrees(imported, references):
    folder, printed, errors = imported
    assert [errors[name] for name in _GOOD] == [None, None]
    assert sorted(p.name for p in (folder / "out").iterdir()) == [
        "new.keras",
        "old.keras",
    ]
    assert printed == [
        f"{folder}/out/new.keras: cdnet, 1,796,600 parameters",
        "To see what it finds, in pictures:",
        f"  python -m cdnet_tf.evaluate --model={folder}/out/new.keras",
        f"{folder}/out/old.keras: cnet, 2,603,054 parameters",
    ]
    images = _images(_SIZE, 2)
    model = tf.keras.models.load_model(folder / "out" / "old.keras", compile=False)
    embedding, logits = references["cnet"](images)
    ours = model(images)
    assert set(ours) == {"embedding", "features", "logits"}
    _assert_close(ours["embedding"].numpy(), embedding)
    for mine, theirs in zip(ours["logits"], logits):
        _assert_close(mine.numpy(), theirs)


@pytest.mark.parametrize("name, parts", _BAD.items())
def test_tool_refuses(imported, name, parts):
    folder, _, errors = imported
    assert errors[name].startswith(f"{folder / name}.pth was not imported: ")
    for part in parts:
        assert part in errors[name]


def test_no_code_in_a_checkpoint_runs(imported):
    folder, *_ = imported
    assert not (folder / "marker").exists()
    # It would, were the file read as any pickle is.
    torch.load(folder / "malicious_new.pth", weights_only=False)
    assert (folder / "marker").exists()
