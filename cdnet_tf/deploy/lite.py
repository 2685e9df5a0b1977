"""Embeds with a .tflite file on a camera: one interpreter, no TensorFlow.

`embedders` opens every kind of file, on as many cores as there are, and resizes with
TensorFlow. This module needs NumPy, Pillow and an interpreter alone, and embeds a few
images at a time.
"""

from __future__ import annotations

import importlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image

from cdnet_tf import shipped
from cdnet_tf.data import normalisation, resizing
from cdnet_tf.deploy import identity, quiet

# Whatever is installed, the smallest first.
_INTERPRETERS = (
    "ai_edge_litert.interpreter",
    "tflite_runtime.interpreter",
    "tensorflow.lite.python.interpreter",
)
# How the JSON that `tflite_file` writes into a file begins.
_RECORD = b'{\n "network"'


class LiteReid:
    """A network in a .tflite file, called as what `cdnet_tf.load` returns.

    Attributes:
      network: its name and checksum, the same that `cdnet_tf.load` says.
      embedding_size: d, numbers in an embedding.
      input_shape: (height, width, 3) to which images are resized.
    """

    def __init__(self, model: str | os.PathLike):
        """Opens a file with the first interpreter that is installed.

        Args:
          model: a .tflite file, or the name of a shipped one.

        Raises:
          FileNotFoundError: there is no such file and no such name.
          ValueError: it is no file of one image in and one embedding out.
          ImportError: no interpreter is installed.
        """
        path = shipped.resolve(model, "a .tflite file")
        if not is_lite(path):
            raise ValueError(f"{path} is no .tflite file; export one.")
        self.network = identity.of_file(path)
        self._lite = _opened(path)
        self._source = _only(path, "input", self._lite.get_input_details())
        self._target = _only(path, "output", self._lite.get_output_details())
        # A free batch is 1 until somebody resizes it.
        self._batch, *sides = map(int, self._source["shape"])
        self.input_shape = _image_shape(path, sides)
        self._channels_first = sides[2] != 3
        self.embedding_size = int(self._target["shape"][-1])
        self._mean, self._std = _normalisation(path, self._source["dtype"])

    def __call__(
        self, images: Sequence[PIL.Image.Image], *, progress: bool = False
    ) -> np.ndarray:
        """Embeds images, one after the other.

        Args:
          images: of any size and mode.
          progress: is not shown; for `crops.Embeds`.

        Returns:
          (n, d) float32, L2-normalised.
        """
        found = [self._embed(np.asarray(each.convert("RGB"))) for each in images]
        return np.array(found, np.float32).reshape(-1, self.embedding_size)

    def _embed(self, pixels: np.ndarray) -> np.ndarray:
        values: np.ndarray = resizing.resize(pixels, *self.input_shape[:2])
        if self._mean is not None:
            values = (values.astype(np.float32) - self._mean) / self._std
        if self._source["dtype"] == np.int8:
            scale, zero_point = self._source["quantization"]
            values = np.clip(np.round(values / scale) + zero_point, -128, 127)
        if self._channels_first:
            values = values.transpose(2, 0, 1)
        values = np.repeat(values[np.newaxis], self._batch, axis=0)
        values = values.astype(self._source["dtype"])
        self._lite.set_tensor(self._source["index"], values)
        self._lite.invoke()
        result = self._lite.get_tensor(self._target["index"])[0].astype(np.float32)
        # The scale of an integer output cancels in the division.
        result -= np.float32(self._target["quantization"][1])
        return result / np.linalg.norm(result)


def is_lite(path: str | os.PathLike) -> bool:
    """Whether a path is that of a .tflite file."""
    return pathlib.Path(path).suffix == ".tflite"


def _opened(path: pathlib.Path) -> Any:
    interpreter = _interpreter()(str(path), num_threads=1)
    with quiet.held_back():
        interpreter.allocate_tensors()
    return interpreter


def _interpreter() -> Any:
    for module in _INTERPRETERS:
        try:
            return importlib.import_module(module).Interpreter
        except ImportError:
            continue
    raise ImportError(
        "No interpreter of .tflite files is installed; pip install ai-edge-litert."
    )


def _only(path: pathlib.Path, what: str, tensors: list[dict[str, Any]]) -> Any:
    if len(tensors) != 1:
        raise ValueError(
            f"{path} has {len(tensors)} {what}s, and an embedding network has one; "
            "pass the inference network, without training heads."
        )
    return tensors[0]


def _image_shape(path: pathlib.Path, sides: list[int]) -> tuple[int, int, int]:
    if len(sides) != 3 or 3 not in (sides[0], sides[2]):
        raise ValueError(
            f"{path} takes inputs of shape {sides}; RGB images are (height, width, 3) "
            "or (3, height, width)."
        )
    height, width = sides[:2] if sides[2] == 3 else sides[1:]
    return height, width, 3


def _normalisation(path: pathlib.Path, dtype: Any) -> tuple[Any, Any]:
    """Mean and deviation of the colours, 0..255; None for a file that takes pixels."""
    if dtype == np.uint8:
        return None, None
    content = path.read_bytes()
    # For a file that says nothing.
    imagenet = normalisation.IMAGENET
    mean, std = 255 * np.array(imagenet.mean), 255 * np.array(imagenet.std)
    begin = content.find(_RECORD)
    if begin >= 0:
        # Bytes that are no JSON follow, and each byte stands for one character.
        said, _ = json.JSONDecoder().raw_decode(content.decode("latin-1"), begin)
        mean, std = np.array(said["input"]["mean"]), np.array(said["input"]["std"])
    return mean.astype(np.float32), std.astype(np.float32)
