"""Loads the authors' PyTorch weights into our networks.

Their state dicts name a weight by its path through their modules. `base` is the stem
and eight cells: blocks 1 and 2, a DownSample, blocks 3 and 4, a DownSample, blocks 5
and 6. A cell of CDNet holds its CBlocks as `ops.0` and, if there are two, `ops.1`; a
cell of CNet is a CBlock. In a CBlock, `conv1` and `conv2` are the streams, with a
number for each Lite; in `op`, convolutions and BN are numbered in the order they run,
and ReLUs have no number. `neck` is the FBLNeck.

Weights arrive as NumPy arrays; PyTorch is only needed to read a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cdnet_tf.data import preprocess
from cdnet_tf.nn import genotype, networks

NETWORKS = ("cnet", "cdnet")

# Name and rank of a Keras weight -> the PyTorch entry, and the order of its axes in
# Keras. PyTorch's convolutions are OIHW, its Linears OI.
_LAYOUTS = {
    ("kernel", 4): ("weight", (2, 3, 1, 0)),
    ("depthwise_kernel", 4): ("weight", (2, 3, 0, 1)),
    ("kernel", 2): ("weight", (1, 0)),
    ("bias", 1): ("bias", (0,)),
    ("gamma", 1): ("weight", (0,)),
    ("beta", 1): ("bias", (0,)),
    ("moving_mean", 1): ("running_mean", (0,)),
    ("moving_variance", 1): ("running_var", (0,)),
}


def module_names(network: str) -> Iterator[tuple[str, str]]:
    """Yields our name and the authors' module of each layer with weights, with heads.

    Args:
      network: one of `NETWORKS`.
    """
    yield from _conv_bn("stem", "base.stem.conv1")
    for i, branch in enumerate(genotype.load(network).layers):
        block, cell = f"stage{i // 2 + 1}/block{i + 1}", f"base.cells.{i + i // 2}"
        for repeat in range(branch.repeats):
            module = f"{cell}.ops.{repeat}" if network == "cdnet" else cell
            widens = i % 2 == 0 and repeat == 0
            yield from _cblock(f"{block}/cblock{repeat + 1}", module, branch, widens)
    yield from _conv_bn("downsample1", "base.cells.2.conv1x1")
    yield from _conv_bn("downsample2", "base.cells.5.conv1x1")
    yield "neck/squeeze", "neck.squeeze"
    for part in ("global", "local"):
        yield f"neck/{part}/fc", f"neck.{part}_fcs.0"
        yield f"neck/{part}/bn", f"neck.{part}_fcs.1"
        yield f"neck/{part}/classifier", f"neck.{part}_classifier"


def _conv_bn(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    yield f"{ours}/conv", f"{theirs}.op.0"
    yield f"{ours}/bn", f"{theirs}.op.1"


def _cblock(
    ours: str, theirs: str, branch: genotype.Branch, widens: bool
) -> Iterator[tuple[str, str]]:
    yield from _conv_bn(f"{ours}/squeeze", f"{theirs}.squeeze")
    for stream, (kernel, lites) in enumerate(zip(branch, branch.lites), 1):
        for i in range(lites):
            lite, op = f"{ours}/lite{kernel}_{i + 1}", f"{theirs}.conv{stream}.{i}.op"
            yield f"{lite}/pointwise", f"{op}.0"
            yield f"{lite}/depthwise", f"{op}.1"
            yield f"{lite}/bn", f"{op}.2"
    yield f"{ours}/gate/fc1", f"{theirs}.adaption.fc1"
    yield f"{ours}/gate/fc2", f"{theirs}.adaption.fc2"
    yield from _conv_bn(f"{ours}/restore", f"{theirs}.restore")
    if widens:
        yield from _conv_bn(f"{ours}/shortcut", f"{theirs}.expand")


def restore(
    state: Mapping[str, np.ndarray],
    network: str,
    heads: bool = False,
    input_shape: tuple[int, int, int] = (256, 128, 3),
) -> tf.keras.Model:
    """Builds a network and gives it the authors' weights.

    The number of identities is taken from the classifier's shape, and the kind of stem
    (re-ID or CIFAR) from its kernel's.

    Args:
      state: arrays by the authors' names, with or without DataParallel's `module.`
        before each. `num_batches_tracked` is ignored.
      network: one of `NETWORKS`.
      heads: whether to keep the training heads; the model is then that of
        `networks.build` with `num_classes`. Otherwise `state` need not have them.
      input_shape: height, width, 3; no weight depends on it.

    Raises:
      ValueError: the network is unknown, or entries are missing, unexpected or
        misshapen; all of them are listed.
    """
    if network not in NETWORKS:
        raise ValueError(
            f"The authors published no {network!r}; use one of {', '.join(NETWORKS)}."
        )
    state = _unwrapped(state)
    model = networks.build_named(
        network,
        input_shape,
        stem=_stem(state),
        num_classes=_num_classes(state) if heads else None,
    )
    weights, unused = _weights(model, network)
    problems = _problems(state, weights, unused)
    if problems:
        raise ValueError(
            f"The checkpoint does not fit {network}, whose width, genotype and FBLNeck "
            "are the published ones:\n" + "\n".join(problems)
        )
    for name, weight in weights.items():
        value = np.transpose(state[name], weight.axes).astype(np.float32)
        weight.variable.assign(value)
    return model


def normalisation(state: Mapping[str, np.ndarray]) -> preprocess.Normalisation:
    """Returns the normalisation that the authors' network of this state expects."""
    stem = _stem(_unwrapped(state))
    return preprocess.CIFAR if stem == "cifar" else preprocess.IMAGENET


def _unwrapped(state: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Returns the state without DataParallel's prefix."""
    if not (state and all(name.startswith("module.") for name in state)):
        return state
    return {name[len("module.") :]: value for name, value in state.items()}


def _stem(state: Mapping[str, np.ndarray]) -> str:
    kernel = state.get("base.stem.conv1.op.0.weight", np.empty(0))
    return "cifar" if kernel.shape[2:] == (3, 3) else "reid"


def _num_classes(state: Mapping[str, np.ndarray]) -> int:
    """Returns a classifier's rows; 1 if it is missing, which is reported later."""
    for part in ("global", "local"):
        classifier = state.get(f"neck.{part}_classifier.weight", np.empty(0))
        if classifier.ndim == 2 and len(classifier):
            return len(classifier)
    return 1


class _Weight(NamedTuple):
    variable: tf.Variable
    axes: tuple[int, ...]

    @property
    def torch_shape(self) -> tuple[int, ...]:
        shape = self.variable.shape
        return tuple(shape[i] for i in np.argsort(self.axes))


def _weights(
    model: tf.keras.Model, network: str
) -> tuple[dict[str, _Weight], tuple[str, ...]]:
    """Returns weights by the authors' entry, and the modules that the model lacks."""
    modules = dict(module_names(network))
    weights = {}
    for layer in model.layers:
        module = modules.pop(layer.name) if layer.weights else None
        for variable in layer.weights:
            kind = variable.name.rsplit("/", 1)[-1].split(":")[0]
            entry, axes = _LAYOUTS[kind, len(variable.shape)]
            weights[f"{module}.{entry}"] = _Weight(variable, axes)
    return weights, tuple(modules.values())


def _problems(
    state: Mapping[str, np.ndarray],
    weights: Mapping[str, _Weight],
    unused: tuple[str, ...],
) -> list[str]:
    """Lists entries that are missing, unexpected or of another shape."""
    problems = [
        f"missing: {name} {weight.torch_shape}"
        for name, weight in weights.items()
        if name not in state
    ]
    for name, value in state.items():
        module, _, entry = name.rpartition(".")
        if name in weights:
            expected = weights[name].torch_shape
            if value.shape != expected:
                problems.append(f"misshapen: {name} {value.shape}, not {expected}")
        elif entry != "num_batches_tracked" and module not in unused:
            problems.append(f"unexpected: {name} {value.shape}")
    return problems
