"""The search network: stem, six MBlocks, DownSamples, BLNeck, and alpha."""

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
    """Makes a model of a block that is not searched."""
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
      shared: the weights that the branches of a block share, one of `sharing.SHARING`.

    Attributes:
      alpha: architecture parameters, (6, n), not among the trainable weights w. They
        start at N(0, 1e-3), because Eq. 4 would select every branch if all were equal.
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
        """Lets every CBlock pass its input through at the start; see `networks`."""
        for block in self.blocks:
            block.zero_init_residual()

    def top_k(self, k: int) -> Tensor:
        """Returns the k branches of each block with the largest alpha, (6, k) int32.

        Unlike with the threshold of Eq. 4, ties never select more than k branches.
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
          chosen: branches of each block, (6, k) int32; by default the best branch.
          training: normalise by the batch, move the statistics, and drop out.
          probabilities: softmax of alpha, (6, n), in a step of alpha; see
            `MBlock.call`.

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
        """Runs the part between stem and neck: (b, h/4, w/4, c) -> (b, h/16, w/16, d).

        The arguments are those of `call`.
        """
        for i, block in enumerate(self.blocks):
            p = None if probabilities is None else probabilities[i]
            x = block(x, chosen[i], p, training=training)
            if i in (1, 3):
                x = self.downsamples[i // 2](x, training=training)
        return x

    def derive(self) -> genotype.Genotype:
        """Returns the branch with the largest alpha in each block."""
        best = np.argmax(self.alpha.numpy(), axis=1)
        return genotype.Genotype(tuple(self.space[j] for j in best))

    def derive_network(
        self, derived: genotype.Genotype | None = None, **options: Any
    ) -> tf.keras.Model:
        """Builds a network of the space with the supernet's weights.

        Args:
          derived: the network; by default the branches with the largest alpha.
          **options: passed to `networks.build`, e.g. `neck="bl"`. Parts that the
            supernet lacks (the FNeck) keep their initial weights.

        Returns:
          A functional model whose global embedding at inference equals that of the
          supernet with these branches.
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
