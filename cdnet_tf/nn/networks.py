"""Whole networks: from a genotype, the published networks, and two baselines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import Tensor
from tensorflow.keras import layers

from cdnet_tf.nn import blocks, genotype, necks

# Channels of the stem and of stages 1, 2 and 3 (Fig. 4).
CHANNELS = (64, 256, 384, 512)
LOCAL_CHANNELS = 128
PUBLISHED = ("cnet", "cdnet", "cdnet_std", "cdnet_v35")
BASELINES = ("osnet", "mobilenet_v2")
NAMES = PUBLISHED + BASELINES
NECKS = ("fbl", "bl", "bn", "fc")


def scaled_channels(width_multiplier: float) -> tuple[int, ...]:
    """Returns `CHANNELS` times the multiplier, rounded to multiples of 16.

    They are rounded because the gate of a CBlock has a sixteenth of its channels.

    Raises:
      ValueError: if the multiplier is not positive.
    """
    if width_multiplier <= 0:
        raise ValueError(
            f"width_multiplier={width_multiplier} must be positive; 1.0 is the paper's."
        )
    return tuple(_scaled(channels, width_multiplier) for channels in CHANNELS)


def _scaled(channels: int, width_multiplier: float) -> int:
    return max(16, round(channels * width_multiplier / 16) * 16)


def block_channels(channels: tuple[int, ...]) -> list[tuple[int, int]]:
    """Returns the (input, output) channels of each of the six blocks."""
    return [(channels[(i + 1) // 2], channels[i // 2 + 1]) for i in range(6)]


def check_input_shape(input_shape: tuple[int, int, int], stem: str) -> None:
    """Raises ValueError if stem and DownSamples cannot divide height and width."""
    stride = 16 if stem == "reid" else 4
    height, width, _ = input_shape
    if height % stride or width % stride:
        raise ValueError(
            f"Input {height}x{width} is not divisible by {stride}; use e.g. "
            f"{max(stride, height // stride * stride)}x"
            f"{max(stride, width // stride * stride)}."
        )


def backbone(
    images: Tensor,
    genotype: genotype.Genotype,
    channels: tuple[int, ...] = CHANNELS,
    stem: str = "reid",
    single_stream: bool = False,
) -> tuple[Tensor, Tensor]:
    """Stem, three stages of two CDBlocks, DownSamples between them (Fig. 4).

    Args:
      images: normalised RGB, (b, h, w, 3).
      genotype: the branch of each block.
      channels: of the stem and the three stages.
      stem: `reid` or `cifar`, see `blocks.stem`.
      single_stream: CDNet_std's blocks.

    Returns:
      fmap2 (b, h/16, w/16, channels[2]), fmap3 (b, h/16, w/16, channels[3]).
    """
    return _stages(
        images,
        channels,
        stem,
        lambda x, i, width, name: blocks.cdblock(
            x, width, genotype.layers[i], name, single_stream
        ),
    )


def osnet(
    images: Tensor, channels: tuple[int, ...] = CHANNELS, stem: str = "reid"
) -> tuple[Tensor, Tensor]:
    """OSNet (Zhou et al., ICCV 2019): four streams per block, and a last conv 1x1.

    It has CDNet's body, in which every block is a CBlock of kernels 3, 5, 7 and 9 whose
    gate narrows to a sixteenth. Arguments and results are those of `backbone`.
    """
    fmap2, x = _stages(
        images,
        channels,
        stem,
        lambda x, _, width, name: blocks.cblock(
            x, width, (3, 5, 7, 9), f"{name}/cblock1", gate_reduction=16
        ),
    )
    x = blocks.conv1x1_bn(x, channels[3], "last")
    return fmap2, blocks.relu(x, "last/relu")


def mobilenet_v2(images: Tensor, width_multiplier: float) -> tuple[Tensor, Tensor]:
    """MobileNetV2 of keras.applications, with Keras' names and 1280 channels out.

    Returns:
      fmap2 (b, h/16, w/16, c), fmap3 (b, h/32, w/32, c').
    """
    body = tf.keras.applications.MobileNetV2(
        input_tensor=images,
        alpha=width_multiplier,
        include_top=False,
        weights=None,
    )
    for layer in body.layers:
        if isinstance(layer, layers.BatchNormalization):
            # Keras' 0.999 is for longer trainings than ours.
            layer.momentum = blocks.BN_MOMENTUM
    return body.get_layer("block_12_add").output, body.output


def _stages(
    images: Tensor,
    channels: tuple[int, ...],
    stem: str,
    block: Callable[[Tensor, int, int, str], Tensor],
) -> tuple[Tensor, Tensor]:
    """Builds stem and six blocks, `block(x, index, channels, name)`: fmap2, fmap3."""
    x = blocks.stem(images, channels[0], stem)
    fmap2 = None
    for i in range(6):
        stage = i // 2 + 1
        x = block(x, i, channels[stage], f"stage{stage}/block{i + 1}")
        if i in (1, 3):
            x = fmap2 = blocks.downsample(x, f"downsample{stage}")
    return fmap2, x


def build(
    genotype: genotype.Genotype,
    input_shape: tuple[int, int, int] = (256, 128, 3),
    width_multiplier: float = 1.0,
    stem: str = "reid",
    single_stream: bool = False,
    name: str = "cdnet",
    **neck_options: Any,
) -> tf.keras.Model:
    """Builds the network of a genotype: one flat functional graph of stock layers.

    Args:
      genotype: the branch of each block.
      input_shape: height, width (divisible by 16; by 4 with the CIFAR stem), 3.
      width_multiplier: scales every width, including the embedding's; see
        `scaled_channels`.
      stem: `reid` or `cifar`.
      single_stream: use the blocks of CDNet_std, with one stream and no gate.
      name: the model's name.
      **neck_options: see `add_neck`.

    Raises:
      ValueError: an unknown neck or stem, or an input size that does not divide.
    """
    check_input_shape(input_shape, stem)
    channels = scaled_channels(width_multiplier)
    images = tf.keras.Input(input_shape, name="images")
    fmaps = backbone(images, genotype, channels, stem, single_stream)
    return add_neck(images, fmaps, width_multiplier, name, **neck_options)


def build_named(
    name: str,
    input_shape: tuple[int, int, int] = (256, 128, 3),
    width_multiplier: float = 1.0,
    stem: str = "reid",
    **neck_options: Any,
) -> tf.keras.Model:
    """Builds a published network or a baseline; other arguments are those of `build`.

    Args:
      name: one of `NAMES`.

    Raises:
      ValueError: if the name is unknown, or as `build`.
    """
    if name not in NAMES:
        raise ValueError(f"network {name!r} is unknown; use one of {', '.join(NAMES)}.")
    size: dict = {"input_shape": input_shape, "width_multiplier": width_multiplier}
    if name in PUBLISHED:
        single_stream = name == "cdnet_std"
        published = genotype.load("cdnet" if single_stream else name)
        options = {"stem": stem, "single_stream": single_stream, **neck_options}
        return build(published, name=name, **size, **options)
    check_input_shape(input_shape, stem)
    images = tf.keras.Input(input_shape, name="images")
    if name == "osnet":
        fmaps = osnet(images, scaled_channels(width_multiplier), stem)
    elif stem == "reid":
        fmaps = mobilenet_v2(images, width_multiplier)
    else:
        raise ValueError(f"mobilenet_v2 has a stem of its own; leave out {stem!r}.")
    return add_neck(images, fmaps, width_multiplier, name, **neck_options)


def zero_init_residual(network: tf.keras.Model) -> None:
    """Sets the scale of the last BN before each residual addition to 0.

    Every block with a shortcut then passes its input through at first, and gradients
    reach the stem undistorted. With scales of 1, each CBlock enlarges them: relative to
    the weights, gradients of CDNet's stem are hundreds of times as large as those of
    its last block (docs/photographs.md). The source is Goyal et al., arXiv 1706.02677,
    section 5.1; PyTorch's ResNets have an option of this name.

    Args:
      network: from `build` or `build_named`, not yet trained.
    """
    names = {layer.name for layer in network.layers}
    for layer in network.layers:
        block = layer.name.removesuffix("_project_BN")  # MobileNetV2's
        if layer.name.endswith("/restore/bn") or (
            block != layer.name and f"{block}_add" in names
        ):
            layer.gamma.assign(tf.zeros_like(layer.gamma))


def imitate_training(network: tf.keras.Model, images: Tensor, seed: int = 0) -> None:
    """Gives batch normalisations values as after a training, for benchmarks and tests.

    Scales and shifts are drawn, and the statistics are those of some images, so that
    the values of each channel are plausible and no normalisation is the identity.

    Args:
      network: the network to change.
      images: normalised RGB, (b, h, w, 3).
      seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0  # The statistics become those of one batch.
            layer.gamma.assign(rng.uniform(0.5, 1.5, layer.gamma.shape))
            layer.beta.assign(rng.normal(0.1, 0.1, layer.beta.shape))
    network(images, training=True)


def add_neck(
    images: Tensor,
    fmaps: tuple[Tensor, Tensor],
    width_multiplier: float = 1.0,
    name: str = "network",
    neck: str = "fbl",
    parts: int = 2,
    num_classes: int | None = None,
    dropout: float = 0.2,
) -> tf.keras.Model:
    """Puts a neck on feature maps, and returns the model.

    Args:
      images: the graph's input.
      fmaps: fmap2 and fmap3.
      width_multiplier: scales the 128 channels of each of the FNeck's stripes.
      name: the model's name.
      neck: one of `NECKS`: `fbl`, `bl` and `bn` of Table 6, or `fc` of OSNet.
      parts: stripes of the FNeck, 0 to 4 (Table 5); only for `fbl`.
      num_classes: None builds the inference network, images -> embedding. A number
        adds the training heads: the outputs are then a dict of `embedding`,
        `features` (for the triplet losses) and `logits` (for the softmax losses).
      dropout: rate before each triplet feature.

    Raises:
      ValueError: an unknown neck, or more stripes than fmap2 has rows.
    """
    if neck not in NECKS:
        raise ValueError(f"neck {neck!r} is unknown; use one of {', '.join(NECKS)}.")
    fmap2, fmap3 = fmaps
    if neck == "fbl":
        local = _scaled(LOCAL_CHANNELS, width_multiplier)
        top = necks.fbl_neck(fmap2, fmap3, num_classes, parts, local, dropout)
    elif neck == "bl":
        top = necks.bl_neck(fmap3, num_classes, dropout)
    elif neck == "bn":
        top = necks.bn_neck(fmap3, num_classes)
    else:
        top = necks.fc_neck(fmap3, num_classes)
    outputs = top._asdict() if num_classes else top.embedding
    return tf.keras.Model(images, outputs, name=name)
