"""The blocks of CDNet as functions of a tensor, in which every layer has a name.

The derived network must be one flat graph of stock layers, because
quantisation-aware training accepts nothing else. So a block adds layers to the graph
and owns no state. Layer names are paths, `stage1/block2/cblock1/lite5_2/depthwise`,
by which weights are taken over from a supernet or from PyTorch.
"""

from __future__ import annotations

import tensorflow as tf
from tensorflow import Tensor
from tensorflow.keras import layers

from cdnet_tf.nn import genotype

BN_EPSILON = 1e-5
BN_MOMENTUM = 0.9  # PyTorch's momentum 0.1
CONV_INIT = "he_normal"


def batch_norm(x: Tensor, name: str) -> Tensor:
    """Batch normalisation with PyTorch's epsilon and momentum."""
    return layers.BatchNormalization(
        momentum=BN_MOMENTUM, epsilon=BN_EPSILON, name=name
    )(x)


def conv1x1(x: Tensor, channels: int, name: str, use_bias: bool = False) -> Tensor:
    """Pointwise convolution, (b, h, w, c) -> (b, h, w, channels)."""
    return layers.Conv2D(
        channels, 1, use_bias=use_bias, kernel_initializer=CONV_INIT, name=name
    )(x)


def conv1x1_bn(x: Tensor, channels: int, name: str) -> Tensor:
    """Pointwise convolution and batch normalisation, without an activation."""
    return batch_norm(conv1x1(x, channels, f"{name}/conv"), f"{name}/bn")


def relu(x: Tensor, name: str) -> Tensor:
    return layers.ReLU(name=name)(x)


def stem(x: Tensor, channels: int, variant: str = "reid", name: str = "stem") -> Tensor:
    """First layers: conv 7x7 /2 and max-pool /2, or conv 3x3 /1 for 32-pixel images.

    Args:
      x: images, (b, h, w, 3).
      channels: output channels.
      variant: `reid` (h/4 x w/4 out) or `cifar` (h x w out).
      name: prefix of the layers' names.

    Raises:
      ValueError: if the variant is unknown.
    """
    if variant not in ("reid", "cifar"):
        raise ValueError(f"stem variant {variant!r} is unknown; use reid or cifar.")
    size, stride = (7, 2) if variant == "reid" else (3, 1)
    # At stride 2, "same" would pad the far side only; PyTorch pads both sides alike.
    x = layers.ZeroPadding2D(size // 2, name=f"{name}/pad")(x)
    x = layers.Conv2D(
        channels,
        size,
        stride,
        use_bias=False,
        kernel_initializer=CONV_INIT,
        name=f"{name}/conv",
    )(x)
    x = relu(batch_norm(x, f"{name}/bn"), f"{name}/relu")
    if variant == "cifar":
        return x
    # PyTorch pads with minus infinity; after a ReLU, zeros give the same maximum.
    x = layers.ZeroPadding2D(1, name=f"{name}/pool_pad")(x)
    return layers.MaxPooling2D(3, 2, name=f"{name}/pool")(x)


def downsample(x: Tensor, name: str) -> Tensor:
    """Halves height and width: conv 1x1, BN, ReLU, average-pool 2x2 (Fig. 3b)."""
    x = relu(conv1x1_bn(x, x.shape[-1], name), f"{name}/relu")
    return layers.AveragePooling2D(2, name=f"{name}/pool")(x)


def lite3x3(x: Tensor, name: str) -> Tensor:
    """Lite 3x3 (Fig. 2a): linear conv 1x1, depthwise 3x3, BN, ReLU."""
    x = conv1x1(x, x.shape[-1], f"{name}/pointwise")
    x = layers.DepthwiseConv2D(
        3,
        padding="same",
        use_bias=False,
        # he_normal would count the fan-in over all channels; PyTorch counts one.
        depthwise_initializer=tf.keras.initializers.RandomNormal(stddev=(2 / 9) ** 0.5),
        name=f"{name}/depthwise",
    )(x)
    return relu(batch_norm(x, f"{name}/bn"), f"{name}/relu")


def lite_k(x: Tensor, kernel: int, name: str) -> Tensor:
    """Lite k (Eq. 1): floor(k / 2) Lite 3x3 in a row, the receptive field of k x k."""
    for i in range(1, kernel // 2 + 1):
        x = lite3x3(x, f"{name}/lite{kernel}_{i}")
    return x


def fusion_gate(streams: list[Tensor], name: str, reduction: int = 4) -> Tensor:
    """Adds up the streams, each weighted per channel by one shared gate.

    Args:
      streams: tensors of one shape, (b, h, w, c).
      name: prefix of the layers' names.
      reduction: the gate's hidden layer has c / reduction units, but at least 1.
    """
    channels = streams[0].shape[-1]
    hidden = max(1, channels // reduction)
    reduce, expand = (
        layers.Conv2D(units, 1, kernel_initializer=CONV_INIT, name=f"{name}/{fc}")
        for units, fc in ((hidden, "fc1"), (channels, "fc2"))
    )
    gated = []
    for i, stream in enumerate(streams, 1):
        gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}/pool{i}")(
            stream
        )  # (b, 1, 1, c)
        gate = expand(relu(reduce(gate), f"{name}/relu{i}"))
        gate = layers.Activation("sigmoid", name=f"{name}/sigmoid{i}")(gate)
        gated.append(layers.Multiply(name=f"{name}/scale{i}")([stream, gate]))
    return layers.Add(name=f"{name}/add")(gated)


def cblock(
    x: Tensor,
    channels: int,
    kernels: tuple[int, ...],
    name: str,
    gate_reduction: int = 4,
) -> Tensor:
    """CBlock (Fig. 2c): squeeze, two Lite streams, gate, restore, shortcut.

    Args:
      x: features, (b, h, w, c).
      channels: output channels, divisible by 16.
      kernels: receptive field of each stream. A single stream gives the block of
        CDNet_std (Table 7), which has no gate; four streams give the block of OSNet.
      name: prefix of the layers' names.
      gate_reduction: see `fusion_gate`.
    """
    h = relu(conv1x1_bn(x, channels // 4, f"{name}/squeeze"), f"{name}/squeeze/relu")
    streams = [lite_k(h, kernel, name) for kernel in kernels]
    h = streams[0]
    if len(streams) > 1:
        h = fusion_gate(streams, f"{name}/gate", gate_reduction)
    h = conv1x1_bn(h, channels, f"{name}/restore")
    if x.shape[-1] != channels:
        x = conv1x1_bn(x, channels, f"{name}/shortcut")
    return relu(layers.Add(name=f"{name}/add")([h, x]), f"{name}/relu")


def cdblock(
    x: Tensor,
    channels: int,
    branch: genotype.Branch,
    name: str,
    single_stream: bool = False,
) -> Tensor:
    """CDBlock (Fig. 3c): `branch.repeats` CBlocks of the same kernels in a row.

    Args:
      x: features, (b, h, w, c); only the first CBlock changes the width.
      channels: output channels, divisible by 16.
      branch: kernels and repeats.
      name: prefix of the layers' names.
      single_stream: use one stream with the Lites of both (CDNet_std).
    """
    kernels: tuple[int, ...] = branch[:2]
    if single_stream:
        kernels = (2 * sum(branch.lites) + 1,)
    for i in range(1, branch.repeats + 1):
        x = cblock(x, channels, kernels, f"{name}/cblock{i}")
    return x
