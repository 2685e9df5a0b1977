"""The search network: stem, six MBlocks, DownSamples, BLNeck; alpha; derivation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from cdnet_tf.nn import blocks, genotype, necks, networks
from cdnet_tf.supernet import mblock


def _fixed(
    block: Callable[..., Tensor], shape: tuple[int, ...], name: str, **options: Any
) -> tf.keras.Model:
    """One of the blocks that are not searched, as a model of its own."""
    x = tf.keras.Input(shape)
    return tf.keras.Model(x, block(x, name=name, **options), name=name)


class Supernet(tf.keras.Model):
    """All networks of a search space in one (Fig. 4), and alpha.

    Args:
      space: `genotype.CS` or `genotype.CDS`.
      num_classes: identities in training.
      input_shape: height and width divisible by 16, 3.
      width_multiplier: see `networks.scaled_channels`.
      dropout: rate before the triplet feature.
      seed: of the branches' initial weights and alpha; stem, DownSamples and neck are
        initialised from Keras' global seed.
      shared: what the branches of a block share, one of `sharing.SHARING`.

    Attributes:
      alpha: architecture parameters, (6, n); N(0, 1e-3), because Eq. 4 selects every
        branch while all are equal. Not among the trainable weights w.
    """

    def __init__(
        self,
        space: Sequence[genotype.Branch],
        num_classes: int,
        input_shape: tuple[int, int, int] = (256, 128, 3),
        width_multiplier: float = 1.0,
        dropout: float = 0.2,
        seed: int = 0,
        shared: str = "branch",
        name: str = "supernet",
    ) -> None:
        super().__init__(name=name)
        networks.check_input_shape(input_shape, "reid")
        self.space = tuple(space)
        self.shape = input_shape
        self.width_multiplier = width_multiplier
        channels = networks.scaled_channels(width_multiplier)
        self.stem = _fixed(blocks.stem, input_shape, "stem", channels=channels[0])
        self.blocks = [
            mblock.MBlock(
                self.space, *widths, 100 * seed + 2 * i, shared, name=f"mblock{i + 1}"
            )
            for i, widths in enumerate(networks.block_channels(channels))
        ]
        height, width, _ = input_shape
        self.downsamples = []
        for i in (1, 2):
            shape = height // 2 ** (i + 1), width // 2 ** (i + 1), channels[i]
            self.downsamples.append(_fixed(blocks.downsample, shape, f"downsample{i}"))
        fmap3 = tf.keras.Input((height // 16, width // 16, channels[3]))
        neck = necks.bl_neck(fmap3, num_classes, dropout)
        self.neck = tf.keras.Model(fmap3, neck._asdict(), name="neck")
        self.alpha = self.add_weight(
            "alpha",
            (genotype.NUM_BLOCKS, len(self.space)),
            tf.float32,
            initializer=tf.keras.initializers.RandomNormal(stddev=1e-3, seed=seed),
            trainable=False,
        )
        self.built = True

    def zero_init_residual(self) -> None:
        """Starts with every CBlock passing its input through; see `networks`."""
        for block in self.blocks:
            block.zero_init_residual()

    def top_k(self, k: int) -> Tensor:
        """The k branches of each block with the largest alpha, (6, k) int32.

        Top-k indices rather than Eq. 4's threshold, which selects more where p ties.
        """
        return tf.math.top_k(self.alpha, k).indices

    def call(
        self,
        images: Tensor,
        chosen: Tensor | None = None,
        training: bool = False,
        probabilities: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Runs the chosen branches.

        Args:
          images: normalised RGB, (b, h, w, 3).
          chosen: branches of each block, (6, k) int32; the best one without it.
          training: batch statistics, moving averages, dropout.
          probabilities: softmax of alpha, (6, n): an alpha step, see `MBlock.call`.

        Returns:
          `embedding` (b, d); `features` and `logits`, lists of one.
        """
        chosen = self.top_k(1) if chosen is None else chosen
        x = self.stem(images, training=training)
        x = self.body(x, chosen, probabilities, training)
        return self.neck(x, training=training)

    def body(
        self,
        x: Tensor,
        chosen: Tensor,
        probabilities: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        """Runs what stands between stem and neck: (b, h/4, w/4, c) -> (b, h/16, ...).

        Args as of `call`.
        """
        for i, block in enumerate(self.blocks):
            p = None if probabilities is None else probabilities[i]
            x = block(x, chosen[i], p, training=training)
            if i in (1, 3):
                x = self.downsamples[i // 2](x, training=training)
        return x

    def count_weights(self) -> int:
        """Trainable weights of all branches, alpha and heads not counted."""
        parts = [self.stem, *self.blocks, *self.downsamples]
        return sum(int(np.prod(w.shape)) for p in parts for w in p.trainable_weights)

    def derive(self) -> genotype.Genotype:
        """The branch with the largest alpha in each block."""
        best = np.argmax(self.alpha.numpy(), axis=1)
        return genotype.Genotype(tuple(self.space[j] for j in best))

    def derive_network(
        self, derived: genotype.Genotype | None = None, **options: Any
    ) -> tf.keras.Model:
        """A network of the space with the supernet's weights.

        Args:
          derived: which one; by default the branches with the largest alpha.
          **options: passed to `networks.build`, e.g. `neck="bl"`. What the supernet
            does not have (the FNeck) keeps its initial weights.

        Returns:
          A functional model whose global embedding equals the supernet's own with
          these branches at inference.
        """
        derived = derived or self.derive()
        shape, multiplier = self.shape, self.width_multiplier
        network = networks.build(derived, shape, multiplier, **options)
        carried = {}
        for model in (self.stem, *self.downsamples, self.neck):
            carried.update({weight.name: weight for weight in model.weights})
        for i, (block, branch) in enumerate(zip(self.blocks, derived.layers)):
            prefix = f"stage{i // 2 + 1}/block{i + 1}"
            for name, value in block.unpacked(self.space.index(branch)).items():
                carried[f"{prefix}/{name}:0"] = value
        for weight in network.weights:
            if weight.name in carried:
                value = carried[weight.name]
                weight.assign(tf.reshape(tf.cast(value, weight.dtype), weight.shape))
        return network
