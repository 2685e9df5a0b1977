"""Whole networks from a genotype: CNet, CDNet and their ablations."""

from __future__ import annotations

import tensorflow as tf

from cdnet_tf.nn import blocks, genotype, necks

# Channels of the stem and of stages 1, 2 and 3 (Fig. 4).
CHANNELS = (64, 256, 384, 512)
LOCAL_CHANNELS = 128
NAMES = ("cnet", "cdnet", "cdnet_std", "cdnet_v35")
NECKS = ("fbl", "bl", "bn")


def scaled_channels(width_multiplier: float) -> tuple[int, ...]:
    """`CHANNELS` times the multiplier, rounded to multiples of 16.

    A CBlock's gate has a sixteenth of its channels, hence the rounding.

    Raises:
      ValueError: if the multiplier is not positive.
    """
    if width_multiplier <= 0:
        raise ValueError(
            f"width_multiplier={width_multiplier} must be positive; 1.0 is the paper's."
        )
    return tuple(max(16, round(c * width_multiplier / 16) * 16) for c in CHANNELS)


def block_channels(channels: tuple[int, ...]) -> list[tuple[int, int]]:
    """(input, output) channels of each of the six blocks."""
    return [(channels[(i + 1) // 2], channels[i // 2 + 1]) for i in range(6)]


def check_input_shape(input_shape: tuple[int, int, int], stem: str) -> None:
    """Raises ValueError where stem and DownSamples do not divide height and width."""
    stride = 16 if stem == "reid" else 4
    height, width, _ = input_shape
    if height % stride or width % stride:
        raise ValueError(
            f"Input {height}x{width} is not divisible by {stride}; use e.g. "
            f"{max(stride, height // stride * stride)}x"
            f"{max(stride, width // stride * stride)}."
        )


def backbone(
    images: tf.Tensor,
    found: genotype.Genotype,
    channels: tuple[int, ...] = CHANNELS,
    stem: str = "reid",
    single_stream: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Stem, three stages of two blocks, DownSamples between them (Fig. 4).

    Args:
      images: normalised RGB, (b, h, w, 3).
      found: the branch of each block.
      channels: of the stem and the three stages.
      stem: `reid` or `cifar`, see `blocks.stem`.
      single_stream: CDNet_std's blocks.

    Returns:
      fmap2 (b, h/16, w/16, channels[2]), fmap3 (b, h/16, w/16, channels[3]).
    """
    x = blocks.stem(images, channels[0], stem)
    fmap2 = None
    for i, branch in enumerate(found.layers):
        stage = i // 2 + 1
        name = f"stage{stage}/block{i + 1}"
        x = blocks.cdblock(x, channels[stage], branch, name, single_stream)
        if i in (1, 3):
            x = fmap2 = blocks.downsample(x, f"downsample{stage}")
    return fmap2, x


def build(
    found: genotype.Genotype,
    input_shape: tuple[int, int, int] = (256, 128, 3),
    width_multiplier: float = 1.0,
    neck: str = "fbl",
    parts: int = 2,
    num_classes: int | None = None,
    dropout: float = 0.2,
    stem: str = "reid",
    single_stream: bool = False,
    name: str = "cdnet",
) -> tf.keras.Model:
    """Builds the network as one flat functional graph of stock layers.

    Args:
      found: the branch of each block.
      input_shape: height, width (divisible by 16; by 4 with the CIFAR stem), 3.
      width_multiplier: scales every width, embedding included; see
        `scaled_channels`.
      neck: `fbl`, `bl` or `bn`.
      parts: stripes of the FNeck, 0 to 4 (Table 5); only for `fbl`.
      num_classes: None builds the inference network, images -> embedding. A number
        adds the training heads: the outputs are then a dict of `embedding`,
        `features` (for the triplet losses) and `logits` (for the softmax losses).
      dropout: rate before each triplet feature.
      stem: `reid` or `cifar`.
      single_stream: CDNet_std's blocks: one stream, no gate.
      name: the model's name.

    Raises:
      ValueError: on an unknown neck or stem, or an input that does not divide.
    """
    if neck not in NECKS:
        raise ValueError(f"neck {neck!r} is unknown; use one of {', '.join(NECKS)}.")
    check_input_shape(input_shape, stem)
    channels = scaled_channels(width_multiplier)
    images = tf.keras.Input(input_shape, name="images")
    fmap2, fmap3 = backbone(images, found, channels, stem, single_stream)
    if neck == "fbl":
        local = max(16, round(LOCAL_CHANNELS * width_multiplier / 16) * 16)
        top = necks.fbl_neck(fmap2, fmap3, num_classes, parts, local, dropout)
    elif neck == "bl":
        top = necks.bl_neck(fmap3, num_classes, dropout)
    else:
        top = necks.bn_neck(fmap3, num_classes)
    outputs = top._asdict() if num_classes else top.embedding
    return tf.keras.Model(images, outputs, name=name)


def build_named(name: str, **options) -> tf.keras.Model:
    """Builds a published network, `cnet`, `cdnet`, `cdnet_std` or `cdnet_v35`.

    Args:
      name: one of `NAMES`.
      **options: passed to `build`.

    Raises:
      ValueError: if the name is unknown.
    """
    if name not in NAMES:
        raise ValueError(f"network {name!r} is unknown; use one of {', '.join(NAMES)}.")
    single_stream = name == "cdnet_std"
    found = genotype.load("cdnet" if single_stream else name)
    return build(found, single_stream=single_stream, name=name, **options)
