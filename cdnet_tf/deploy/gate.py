"""Measures what an exported file loses to its float network on query and gallery.

The file is run as its user will run it. Its embeddings also give the distances below
which two images show the same person, so that every file has its own thresholds.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from cdnet_tf.data import preprocess
from cdnet_tf.deploy import embedders, measurements
from cdnet_tf.nn import counting
from cdnet_tf.retrieval import protocol, ranking, verification


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Images to judge on.

    Attributes:
      labels: identities and cameras of the n images.
      batches: the images in the same order, (m, h, w, 3) uint8 arrays. They are
        iterated once for the float network and once for every file.
    """

    labels: protocol.Labels
    batches: Iterable[np.ndarray]


class Gate:
    """Judges files by the float network's embeddings and scores.

    Attributes:
      reference: the float network's scores, `macs` and `bytes`.
    """

    def __init__(
        self,
        network: tf.keras.Model,
        query: Split,
        gallery: Split,
        dataset: str,
        subset: str | None = None,
        normalisation: preprocess.Normalisation = preprocess.IMAGENET,
    ) -> None:
        """Embeds query and gallery with the float network.

        Args:
          network: normalised float (b, h, w, 3) images -> (b, d) embeddings.
          query, gallery: images to judge on.
          dataset: name of the data set.
          subset: the part of the data set that the splits are, None for everything.
          normalisation: what the network expects, see `network_file`.
        """
        self._input_shape = network.input_shape[1:]
        self._splits = query, gallery
        self._dataset, self._subset = dataset, subset
        self._macs = counting.macs(network)

        embedder = embedders.of_network(network, normalisation)
        self._embeddings = self._embed(embedder)
        self.reference = {
            **self._scores(self._embeddings),
            "macs": self._macs,
            "bytes": 4 * network.count_params(),
        }

    def judge(self, path: pathlib.Path) -> dict:
        """Runs a file on query and gallery.

        Returns:
          A record for JSON: cosines to the float network's embeddings, scores,
          `map_drop` in points, `thresholds` (fields of `verification.Thresholds`), and
          as `measured` the `measurements.conditions`.
        """
        found = self._embed(embedders.open_model(path))
        cosines = np.concatenate(
            [_cosines(*pair) for pair in zip(found, self._embeddings)]
        )
        scores = self._scores(found)
        thresholds = verification.thresholds(*self._with_labels(found))
        return {
            "cosine_mean": float(cosines.mean()),
            "cosine_min": float(cosines.min()),
            **scores,
            "map_drop": 100 * (self.reference["mean_ap"] - scores["mean_ap"]),
            "thresholds": dataclasses.asdict(thresholds),
            "measured": self._conditions(path),
        }

    def macs(self, variant: str) -> int:
        """Multiply-accumulates of a variant; `uint8` adds those of normalising."""
        height, width, channels = self._input_shape
        pixels = 2 * height * width * channels
        return self._macs + (pixels if variant == "uint8" else 0)

    def _embed(self, embedder: embedders.Embedder) -> list[np.ndarray]:
        return [embedder.embed_all(split.batches) for split in self._splits]

    def _scores(self, embeddings: list[np.ndarray]) -> dict:
        return dataclasses.asdict(ranking.evaluate(*self._with_labels(embeddings)))

    def _with_labels(self, embeddings: list[np.ndarray]) -> tuple:
        query, gallery = (split.labels for split in self._splits)
        return embeddings[0], query, embeddings[1], gallery

    def _conditions(self, path: pathlib.Path) -> dict:
        query, gallery = (split.labels.identities for split in self._splits)
        return measurements.conditions(
            measurements.sha256(path),
            self._dataset,
            len(query),
            len(gallery),
            int((~np.isin(gallery, query)).sum()),
            self._subset,
        )


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.einsum("nd,nd->n", a, b) / np.maximum(norms, 1e-12)
