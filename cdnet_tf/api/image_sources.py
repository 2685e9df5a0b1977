"""Turns all that a user may pass as images into pixels for a network.

Paths, pictures and arrays are all resized by `preprocess.resize`, as in training and
evaluation, so that an embedding does not depend on the form of the image.
"""

from __future__ import annotations

import itertools
import os
import pathlib
import threading
from collections.abc import Iterable, Iterator, Sized
from typing import NamedTuple, TypeAlias

import numpy as np
import PIL.Image
import tensorflow as tf

from cdnet_tf.data import layouts, preprocess

Image: TypeAlias = str | os.PathLike | PIL.Image.Image | np.ndarray
Images: TypeAlias = Image | Iterable[Image]

_MORE_THAN_8_BITS = ("I", "F")  # first letters of modes of Pillow


class UnreadableError(ValueError):
    """An image cannot be read; the message names it and says why."""


class Source(NamedTuple):
    """One of the images that were given.

    Attributes:
      number: its place among them, from 0.
      name: its path, or `images[NUMBER]`.
      image: the path, picture or array itself.
    """

    number: int
    name: str
    image: Image


def sources(images: Images) -> tuple[Iterator[Source], int | None]:
    """Returns the single images in order, and their number, or None if it is unknown.

    A folder stands for all .jpg, .jpeg and .png files in it and below, sorted by path,
    without hidden files.

    Args:
      images: a path, a folder, a Pillow image, an array (h, w, 3) or (n, h, w, 3), or
        an iterable of single images. An iterator is drawn from as images are needed.

    Raises:
      ValueError: a folder holds no images.
    """
    if isinstance(images, (str, os.PathLike)):
        path = pathlib.Path(images)
        images = layouts.images_below(path) if path.is_dir() else [path]
    elif hasattr(images, "__array__"):
        array = np.asarray(images)
        images = array if array.ndim == 4 or array.dtype.kind in "OSU" else [array]
    elif isinstance(images, PIL.Image.Image) or not isinstance(images, Iterable):
        images = [images]
    count = len(images) if isinstance(images, Sized) else None
    return (_named(number, each) for number, each in enumerate(images)), count


def batches(source: Iterator[Source], size: int) -> Iterator[list[Source]]:
    """Returns lists of `size` sources; the last may be shorter.

    Raises:
      ValueError: `size` is below 1.
    """
    if size < 1:
        raise ValueError(f"batch_size={size} holds no image; use at least 1.")
    return _batches(source, size)


def _batches(source: Iterator[Source], size: int) -> Iterator[list[Source]]:
    while batch := list(itertools.islice(source, size)):
        yield batch


class Reader:
    """Reads single images to one size; may be called by several threads at once.

    Args:
      height, width: size of the network's input, pixels.
    """

    def __init__(self, height: int, width: int):
        # Traced functions take two thirds of the processor time of eager operations.
        self._decode = tf.function(
            lambda file: preprocess.decode_and_resize(file, height, width),
            input_signature=[tf.TensorSpec([], tf.string)],
            autograph=False,
        )
        self._resize = tf.function(
            lambda image: preprocess.resize(image, height, width),
            input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)],
            autograph=False,
        )
        # Two threads may read the same picture, which Pillow decodes at its first use.
        self._pillow = threading.Lock()

    def read(self, source: Source) -> np.ndarray:
        """Returns an image as (height, width, 3) uint8, RGB.

        Raises:
          UnreadableError: the file is missing or is no whole image.
          TypeError: the source is no image at all.
          ValueError: an array is not uint8 of shape (h, w, 3), or a picture has more
            than 8 bits a colour.
        """
        _, name, image = source
        if isinstance(image, (str, os.PathLike)):
            return self._of_file(name)
        if isinstance(image, PIL.Image.Image):
            with self._pillow:
                image = _of_picture(name, image)
        return self._resize(_checked(name, image)).numpy()

    def decode(self, name: str, content: bytes) -> np.ndarray:
        """Returns an image file's content as (height, width, 3) uint8, RGB.

        Raises:
          UnreadableError: `content` is no whole image; the message begins with `name`.
        """
        try:
            return self._decode(content).numpy()
        except tf.errors.InvalidArgumentError as error:
            raise UnreadableError(f"{name} (no whole JPEG or PNG file)") from error

    def _of_file(self, path: str) -> np.ndarray:
        try:
            return self.decode(path, pathlib.Path(path).read_bytes())
        except OSError as error:
            raise UnreadableError(f"{path} ({error.strerror})") from error


def _named(number: int, image: Image) -> Source:
    is_path = isinstance(image, (str, os.PathLike))
    return Source(number, str(image) if is_path else f"images[{number}]", image)


def _of_picture(name: str, picture: PIL.Image.Image) -> np.ndarray:
    if picture.mode.startswith(_MORE_THAN_8_BITS):
        raise ValueError(
            f"{name} is a Pillow image of mode {picture.mode}, which has more than 8 "
            "bits a colour; scale it to 0..255 and convert it to RGB."
        )
    try:
        return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError) as error:  # Pillow reads the file only now.
        raise UnreadableError(f"{name} ({error})") from error


def _checked(name: str, image: Image) -> np.ndarray:
    """Returns an image as an array (h, w, 3) uint8, or raises an error."""
    if not hasattr(image, "__array__"):
        raise TypeError(
            f"{name} is of type {type(image).__name__}; pass a path, a Pillow image or "
            "an array."
        )
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(
            f"{name} is {pixels.dtype} of shape {pixels.shape}; pass RGB pixels as "
            "uint8, 0..255, of shape (height, width, 3)."
        )
    if not pixels.size:
        raise ValueError(f"{name} of shape {pixels.shape} has no pixels.")
    return pixels
