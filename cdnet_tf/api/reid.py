"""Turns images of people into embeddings: `cdnet_tf.load` and what it returns."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from tqdm.auto import tqdm

from cdnet_tf.api import image_sources, thresholds
from cdnet_tf.api.image_sources import Images
from cdnet_tf.data import datasets
from cdnet_tf.deploy import embedders, endpoint, identity, parallel
from cdnet_tf.retrieval import distances, verification

_KINDS = f"{identity.KINDS}, the URL of a served model"
_SILENT_S = 2.0  # Shorter work shows no progress bar.


class Embedded(NamedTuple):
    """The embeddings of the images that could be read, and why others could not.

    Attributes:
      embeddings: (m, d) float32, L2-normalised.
      numbers: (m,) the place of each row's image among the given images, ascending.
      names: m paths, or `images[NUMBER]` where an image has no path.
      bad: name and reason for each image that could not be read, by its place.
    """

    embeddings: np.ndarray
    numbers: np.ndarray
    names: tuple[str, ...]
    bad: dict[int, str]


class _Embedder(Protocol):
    """What `embedders.Embedder` and `endpoint.Endpoint` have in common."""

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def dimensions(self) -> int: ...

    def embed(self, images: np.ndarray) -> np.ndarray: ...


def load(model: str | os.PathLike) -> Reid:
    """Opens a re-identification network from a file, a name or a server.

    Args:
      model: a model.keras, the run directory of a training, a SavedModel directory, a
        .tflite file of any type and layout; the name of shipped weights, such as
        `market1501/cdnet_x0_5` or `market1501/cdnet_x0_5_int8`; or the URL of a model
        in TensorFlow Serving, `http://HOST:8501/v1/models/NAME`.

    Raises:
      FileNotFoundError: there is no such file and no such name.
      ValueError: the file is no embedding network, or cannot be read.
      OSError: the server cannot be reached.
    """
    if str(model).startswith(("http://", "https://")):
        served = endpoint.Endpoint(str(model))
        return Reid(served, served.network, functools.partial(_served, served))
    path = identity.find(model, _KINDS)
    opened = embedders.open_model(path)
    network = identity.of_file(path)
    return Reid(opened, network, functools.partial(thresholds.of_file, path))


class Reid:
    """A network that turns images of people into embeddings. `cdnet_tf.load` makes it.

    Attributes:
      network: its name, and the checksum by which embeddings of two networks are told
        apart.
      embedding_size: d, the number of values in an embedding.
      input_shape: (height, width, 3) to which images are resized.
    """

    def __init__(
        self,
        embedder: _Embedder,
        network: identity.Network,
        find_thresholds: Callable[[], Mapping[str, Any]],
    ):
        self.network = network
        self.embedding_size = embedder.dimensions
        self.input_shape = embedder.height, embedder.width, 3
        self._embedder = embedder
        self._find_thresholds = find_thresholds
        self._reader = image_sources.Reader(embedder.height, embedder.width)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.input_shape))
        return (
            f"<Reid {self.network.name}: {shape} -> {self.embedding_size}, "
            f"sha256 {self.network.checksum[:12]}>"
        )

    def __call__(
        self, images: Images, *, batch_size: int = 64, progress: bool = True
    ) -> np.ndarray:
        """Embeds images, after decoding, resizing and normalising as in training.

        Args:
          images: a path, a folder (its .jpg, .jpeg and .png files and those below,
            sorted by path), a Pillow image, a uint8 RGB array (h, w, 3) or
            (n, h, w, 3), or any iterable of single images, whose sizes may differ. Few
            images of an iterator are in memory at a time. Each must be an array of its
            own, not the same buffer with new content.
          batch_size: images that a core embeds at once.
          progress: show a bar if the work takes longer than two seconds.

        Returns:
          (n, d) float32, L2-normalised, in the order of the images; n is 1 for a single
          image.

        Raises:
          ValueError: some images cannot be read; the message names the first twenty,
            and `embed_readable` skips them. Or an array is not uint8 RGB.
          TypeError: something is no image at all.
        """
        return self._embed(images, batch_size, progress, skip=False).embeddings

    def embed_readable(
        self, images: Images, *, batch_size: int = 64, progress: bool = True
    ) -> Embedded:
        """Embeds the images that can be read, and says which they are.

        The arguments are those of `__call__`. Something that is no image at all, and an
        array that is not uint8 RGB, still raise an error.
        """
        return self._embed(images, batch_size, progress, skip=True)

    def threshold(self, false_accept_rate: float = 0.001) -> verification.Threshold:
        """Returns the distance below which two embeddings are of one person.

        Args:
          false_accept_rate: wanted share of accepted pairs among pairs of two people.

        Raises:
          ValueError: no threshold was measured on this network, or none for this rate;
            the message says which rates there are, or how to measure them.
        """
        return thresholds.at(self._thresholds, false_accept_rate)

    def same_person(
        self, a: Any, b: Any, *, false_accept_rate: float = 0.001
    ) -> thresholds.Verdict:
        """Says whether two images show the same person.

        Args:
          a, b: a single image each, as for `__call__`, or its embedding, (d,) or (1, d)
            floats.
          false_accept_rate: see `threshold`.

        Returns:
          A verdict that can be used as a bool, with the distance, the threshold and its
          measured rates.

        Raises:
          ValueError: as `threshold`; or an image cannot be read, or is not single.
        """
        threshold = self.threshold(false_accept_rate)
        first, second = self._single(a), self._single(b)
        return thresholds.judge(float(np.linalg.norm(first - second)), threshold)

    @functools.cached_property
    def _thresholds(self) -> Mapping[str, Any]:
        return self._find_thresholds()

    def _single(self, image: Any) -> np.ndarray:
        """Returns the embedding of one image, or a given one, normalised: (d,)."""
        if isinstance(image, np.ndarray) and np.issubdtype(image.dtype, np.floating):
            rows = _normalised(np.atleast_2d(image))
        else:
            rows = self(image, progress=False)
        if rows.shape != (1, self.embedding_size):
            raise ValueError(
                f"same_person compares two images, and was given {rows.shape[0]} on "
                f"one side, with {rows.shape[1]} numbers in an embedding; pass one "
                f"image or an embedding of {self.embedding_size} numbers."
            )
        return rows[0]

    def _embed(
        self, images: Images, batch_size: int, progress: bool, skip: bool
    ) -> Embedded:
        given, count = image_sources.sources(images)
        batches = image_sources.batches(given, batch_size)
        embed = _Embedding(self._embedder, self._reader, skip)
        parts: list[_Part] = []
        with tqdm(
            total=count, unit="image", delay=_SILENT_S, disable=not progress
        ) as bar:
            for part in parallel.in_order(embed, batches, parallel.threads()):
                parts.append(part)
                bar.update(len(part.good) + len(part.bad))
        # Parts hold names instead of sources, which would keep the images in memory.
        good = {number: name for part in parts for number, name in part.good.items()}
        bad = {number: reason for part in parts for number, reason in part.bad.items()}
        if bad and not skip:
            raise ValueError(
                f"{len(bad)} of {len(good) + len(bad)} images cannot be read; restore "
                "or remove them, or skip them with embed_readable: "
                f"{datasets.named(bad.values())}."
            )
        none = np.zeros((0, self.embedding_size), np.float32)
        rows = _normalised(np.concatenate([none, *(part.rows for part in parts)]))
        return Embedded(rows, np.array([*good], int), tuple(good.values()), bad)


class _Part(NamedTuple):
    """What became of a batch.

    Attributes:
      good: names of the images that could be read, by their numbers.
      rows: embeddings of these images.
      bad: names and reasons of the other images, by their numbers.
    """

    good: dict[int, str]
    rows: np.ndarray
    bad: dict[int, str]


class _Embedding:
    """Reads and embeds batches, in several threads.

    Unless bad images are skipped, nothing is embedded after the first of them. The
    other images are then read only to name all bad ones.
    """

    def __init__(self, embedder: _Embedder, reader: image_sources.Reader, skip: bool):
        self._embedder = embedder
        self._reader = reader
        self._skip = skip
        self._failed = False

    def __call__(self, batch: list[image_sources.Source]) -> _Part:
        good, bad, pixels = {}, {}, []
        for source in batch:
            try:
                pixels.append(self._reader.read(source))
                good[source.number] = source.name
            except image_sources.UnreadableError as error:
                bad[source.number] = str(error)
        if bad and not self._skip:
            self._failed = True
        rows = np.zeros((0, self._embedder.dimensions), np.float32)
        if pixels and not self._failed:
            rows = self._embedder.embed(np.stack(pixels))
        return _Part(good, rows, bad)


def _normalised(rows: np.ndarray) -> np.ndarray:
    """Returns rows of length 1 as float32; refuses rows that are not finite."""
    return distances.Embeddings.of(rows, "image").normalised().rows.astype(np.float32)


def _served(served: endpoint.Endpoint) -> Mapping[str, Any]:
    """Returns the thresholds that were exported with a served model."""
    if "thresholds" not in served.record:
        raise ValueError(
            f"{served.url} has no threshold for the same person: none was measured on "
            "the network before its export. Measure it with python -m "
            "cdnet_tf.evaluate, and export it again."
        )
    return served.record["thresholds"]
