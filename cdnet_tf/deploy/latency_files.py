"""Untrained int8 files of random genotypes, from which a device's times are learnt.

How long a file takes does not depend on what the network has learnt, so none is trained
or judged here: weights are random, and two random images give the integers their
ranges. Only the largest network is converted; all others are cut out of its file, which
takes a small part of the time.
"""

from __future__ import annotations

import pathlib
from collections.abc import Collection, Sequence

import numpy as np
import tensorflow as tf

from cdnet_tf import atomic_files
from cdnet_tf.deploy import calibration, cutting, rewrite, tflite, tflite_file
from cdnet_tf.deploy.latency import Setting
from cdnet_tf.nn import networks
from cdnet_tf.nn.genotype import CDS, NUM_BLOCKS, Genotype

_IMAGES = 2  # for the ranges


def balanced(number: int, seed: int) -> list[Genotype]:
    """Draws different genotypes of CDS in which each branch occurs about equally often.

    In each block the twelve branches occur `number / 12` times, rounded up or down, in
    an order of the block's own: a regression then knows all branches equally well.

    Args:
      number: of genotypes.
      seed: of the draw, non-negative.
    """
    rng = np.random.default_rng(seed)
    while True:
        columns = [_column(number, rng) for _ in range(NUM_BLOCKS)]
        found = [Genotype(tuple(CDS[i] for i in row)) for row in zip(*columns)]
        if len(set(found)) == number:
            return found


def _column(number: int, rng: np.random.Generator) -> Sequence[int]:
    """Branches of one block, as indices."""
    rounds = -(-number // len(CDS))
    drawn = [rng.permutation(len(CDS)) for _ in range(rounds)]
    return rng.permutation(np.concatenate(drawn)[:number]).tolist()


def uniform(number: int, seed: int, known: Collection[Genotype] = ()) -> list[Genotype]:
    """Draws different genotypes of CDS, all of them equally likely, for the judgement.

    Args:
      number: of genotypes.
      seed: of the draw, non-negative.
      known: genotypes that must not be among them.
    """
    rng = np.random.default_rng(seed)
    found: dict[Genotype, None] = {}
    while len(found) < number:
        rows = rng.integers(len(CDS), size=NUM_BLOCKS)
        genotype = Genotype(tuple(CDS[i] for i in rows))
        if genotype not in known:
            found[genotype] = None
    return list(found)


def name(genotype: Genotype, setting: Setting, steps: Sequence[str] = ()) -> str:
    """The name of a file, which tells what is in it."""
    branches = "-".join("".join(map(str, layer)) for layer in genotype.layers)
    return "_".join([branches, str(setting), *steps]) + ".tflite"


def of_network(network: tf.keras.Model, seed: int = 0) -> bytes:
    """Returns the int8 file of any network, as it is, for what is no genotype.

    Args:
      network: from normalised images to embeddings.
      seed: of the images that give the integers their ranges.
    """
    floats = _calibrated(network, seed)
    integers = calibration.integers(floats, tf.int8, tf.int8)
    return tflite_file.described(integers, network.name, "int8", "nhwc")


def _calibrated(network: tf.keras.Model, seed: int = 0) -> bytes:
    """A float file that knows the ranges of its values."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (_IMAGES, *network.input_shape[1:]), np.uint8)
    fed = tflite.fed(images, "int8", "nhwc")
    return calibration.calibrated(tflite.converter(network, "int8"), fed)


class Exporter:
    """Writes the files of one setting.

    Args:
      setting: of all networks.
      steps: of `rewrite.rewrite`; none leaves the networks as they are.
    """

    def __init__(self, setting: Setting, steps: Sequence[str] = ()) -> None:
        self._setting = setting
        self._steps = tuple(steps)
        self._largest: cutting.Largest | None = None

    def written(self, folder: pathlib.Path, genotype: Genotype) -> pathlib.Path:
        """Returns the file of a genotype in a folder; makes it if it is not there."""
        path = folder / name(genotype, self._setting, self._steps)
        if not path.exists():
            content = self.content(genotype)
            with atomic_files.replacing(path) as partial:
                partial.write_bytes(content)
        return path

    def content(self, genotype: Genotype) -> bytes:
        """Returns the int8 file of a genotype, weights random."""
        if self._largest is None:
            self._largest = self._converted()
        floats = self._largest.cut(genotype)
        integers = calibration.integers(floats, tf.int8, tf.int8)
        return tflite_file.described(integers, "cdnet", "int8", "nhwc")

    def _converted(self) -> cutting.Largest:
        tf.keras.backend.clear_session()  # Graphs would pile up.
        tf.keras.utils.set_random_seed(0)
        size = (self._setting.height, self._setting.width, 3)
        network = networks.build(cutting.LARGEST, size, self._setting.width_multiplier)
        if self._steps:
            network = rewrite.rewrite(network, self._steps)
        return cutting.Largest(_calibrated(network))
