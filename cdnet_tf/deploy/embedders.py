"""Opens a network's file, whatever its kind, as one thing that embeds images.

Whoever evaluates, exports or benchmarks hands over pixels and gets embeddings; what a
file wants in between - normalised values, channels first, integers, one image at a
time - is read from the file itself.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from cdnet_tf import shipped
from cdnet_tf.data import preprocess
from cdnet_tf.deploy import network_file, quiet, tflite_file

_Run = Callable[[np.ndarray], np.ndarray]

# Where a SavedModel that resizes by itself says which size its network has.
SIZE_RECORD = "assets.extra/model.json"
_USUAL_SIZE = (256, 128)
KINDS = "a model.keras, a SavedModel directory, a .tflite file"


@dataclasses.dataclass(frozen=True)
class Embedder:
    """A network's file, opened.

    Attributes:
      path: of the file or the directory.
      kind: `keras`, `savedmodel` or `tflite`.
      height, width: of the images that `embed` takes, pixels.
      dimensions: d of the embeddings.
      pixels: whether the file takes 0..255 itself; if not, `embed` normalises.
    """

    path: pathlib.Path
    kind: str
    height: int
    width: int
    dimensions: int
    pixels: bool
    _run: _Run = dataclasses.field(repr=False)

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Embeds images as `image_files.ImageBatches` yields them.

        Args:
          images: (n, height, width, 3) uint8, RGB.

        Returns:
          (n, dimensions) float32, as the file gives them: L2-normalised only if the
          network in the file ends so.

        Raises:
          ValueError: images of another size or type.
        """
        images = np.asarray(images)
        size = self.height, self.width, 3
        if images.shape[1:] != size or images.dtype != np.uint8:
            raise ValueError(
                f"{self.path} was given {images.dtype} of shape {images.shape}; pass "
                f"uint8 RGB of shape (n, {self.height}, {self.width}, 3)."
            )
        if not len(images):
            return np.zeros((0, self.dimensions), np.float32)
        return np.asarray(self._run(images), np.float32)


def open_model(
    path: str | os.PathLike,
    *,
    input_size: tuple[int, int] | None = None,
    num_threads: int = 1,
) -> Embedder:
    """Opens `model.keras`, a SavedModel directory, a `.tflite` file or shipped weights.

    A float or int8 input gets values normalised as the file says, a .keras file in
    `network_file` and a .tflite file in its metadata; a file that says nothing is taken
    to want ImageNet's. A uint8 input wants pixels, and so does a SavedModel whose
    height and width are free: it resizes and normalises by itself.

    Args:
      path: what to open; or a name of `shipped.names()`.
      input_size: (height, width) of the images to come, only for a file that leaves
        them free. Without it they are what the SavedModel's `assets.extra/model.json`
        says, and 256x128 if it is silent.
      num_threads: of the TFLite interpreter.

    Raises:
      FileNotFoundError: nothing is there.
      ValueError: it is none of the three, cannot be read, or is not a network of one
        image input and one embedding output.
    """
    path = shipped.resolve(path, KINDS)
    if path.is_dir():
        return _open_saved_model(path, input_size)
    if path.suffix == ".keras":
        return _open_keras(path, input_size)
    if path.suffix == ".tflite":
        return _open_tflite(path, input_size, num_threads)
    raise ValueError(
        f"{path} is none of the kinds that can be opened: a .keras file, a .tflite "
        "file or a SavedModel directory."
    )


def load_network(path: str | os.PathLike) -> tf.keras.Model:
    """Returns the network in a `model.keras`, one image in and one embedding out.

    Args:
      path: of the file; or a name of `shipped.names()`.

    Raises:
      FileNotFoundError, ValueError: as `open_model`, or if it is no .keras file.
    """
    path = shipped.resolve(path, "the model.keras of a finished training")
    if path.suffix != ".keras" or not path.is_file():
        raise ValueError(
            f"model={path} is no .keras file; pass the model.keras of a finished "
            "training."
        )
    model = _read(path, lambda: tf.keras.models.load_model(path, compile=False))
    source = _one(path, "input", model.inputs)
    _Input.of(path, source.shape, source.dtype.as_numpy_dtype)
    _dimensions(path, _one(path, "output", model.outputs).shape)
    return model


def _open_keras(path: pathlib.Path, input_size) -> Embedder:
    model = load_network(path)
    source, dimensions = model.inputs[0], int(model.outputs[0].shape[1])
    given = _Input.of(path, source.shape, source.dtype.as_numpy_dtype)
    given = dataclasses.replace(given, normalisation=network_file.normalisation(path))

    @tf.function(input_signature=[tf.TensorSpec(source.shape, source.dtype)])
    def call(images):
        return model(images, training=False)

    run = given.in_batches(lambda images: call(images).numpy())
    return given.runner("keras", dimensions, run, input_size)


def _open_saved_model(path: pathlib.Path, input_size) -> Embedder:
    if not (path / "saved_model.pb").exists():
        raise ValueError(
            f"{path} is a directory without a saved_model.pb; pass the SavedModel's "
            "own directory (a served model's version), or a run's model.keras."
        )
    model = _read(path, lambda: tf.saved_model.load(str(path)))
    signatures = model.signatures
    if "serving_default" not in signatures:
        raise ValueError(
            f"{path} has no signature serving_default, only {sorted(signatures)}; "
            "export it with one of images in, embeddings out."
        )
    call = signatures["serving_default"]
    inputs = list(call.structured_input_signature[1].items())
    name, source = _one(path, "input", inputs)
    outputs = list(call.structured_outputs.items())
    result, target = _one(path, "output", outputs)
    given = _Input.of(path, source.shape, source.dtype.as_numpy_dtype)
    if given.size is None:
        given = dataclasses.replace(given, pixels=True)
        input_size = input_size or _recorded_size(path)

    # The loaded object must outlive this function: it owns the signature's weights.
    def run(images, _owner=model):
        return call(**{name: tf.constant(images)})[result].numpy()

    dimensions = _dimensions(path, target.shape)
    return given.runner("savedmodel", dimensions, given.in_batches(run), input_size)


def _recorded_size(path: pathlib.Path) -> tuple[int, int]:
    record = path / SIZE_RECORD
    if not record.exists():
        return _USUAL_SIZE
    size = json.loads(record.read_text("utf-8"))
    return int(size["height"]), int(size["width"])


def _open_tflite(path: pathlib.Path, input_size, num_threads: int) -> Embedder:
    interpreter = _read(
        path, lambda: tf.lite.Interpreter(str(path), num_threads=num_threads)
    )
    source = _one(path, "input", interpreter.get_input_details())
    target = _one(path, "output", interpreter.get_output_details())
    given = _Input.of(path, source["shape_signature"], source["dtype"])
    said = tflite_file.normalisation(path.read_bytes())
    given = dataclasses.replace(given, normalisation=said or preprocess.IMAGENET)
    dimensions = _dimensions(path, target["shape_signature"])
    quantise, dequantise = _quantiser(path, source), _dequantiser(path, target)
    allocated = None

    def run(images):
        nonlocal allocated
        if allocated != images.shape:
            interpreter.resize_tensor_input(source["index"], images.shape)
            with quiet.held_back():
                interpreter.allocate_tensors()
            allocated = images.shape
        interpreter.set_tensor(source["index"], images)
        interpreter.invoke()
        return dequantise(interpreter.get_tensor(target["index"]))

    run = given.in_batches(run, quantise)
    return given.runner("tflite", dimensions, run, input_size)


def _quantiser(path: pathlib.Path, source: dict[str, Any]) -> _Run:
    """Maps normalised values to an int8 input's integers; all else stays as it is."""
    if source["dtype"] != np.int8:
        return _unchanged
    scale, zero_point = _quantisation(path, source)
    return lambda values: np.clip(np.round(values / scale) + zero_point, -128, 127)


def _dequantiser(path: pathlib.Path, target: dict[str, Any]) -> _Run:
    if not np.issubdtype(target["dtype"], np.integer):
        return _unchanged
    scale, zero_point = _quantisation(path, target)
    return lambda values: (values.astype(np.float32) - zero_point) * np.float32(scale)


def _unchanged(values: np.ndarray) -> np.ndarray:
    return values


def _quantisation(path: pathlib.Path, tensor: dict[str, Any]) -> tuple[float, int]:
    scale, zero_point = tensor["quantization"]
    if not scale:
        raise ValueError(
            f"{path} has {np.dtype(tensor['dtype']).name} values without a scale "
            f"({tensor['name']}); export it again, quantised or in float32."
        )
    return scale, zero_point


@dataclasses.dataclass(frozen=True)
class _Input:
    """What a file takes.

    Attributes:
      path: of the file, for errors.
      batch: images at a time, None if free.
      size: (height, width), None if free.
      channels_first: (b, 3, h, w).
      dtype: of the values.
      pixels: 0..255, not normalised.
      normalisation: of the values, where they are no pixels.
    """

    path: pathlib.Path
    batch: int | None
    size: tuple[int, int] | None
    channels_first: bool
    dtype: Any
    pixels: bool
    normalisation: preprocess.Normalisation = preprocess.IMAGENET

    @classmethod
    def of(cls, path: pathlib.Path, shape: Sequence[int | None], dtype) -> _Input:
        sides = _sides(shape)
        if len(sides) != 4 or 3 not in (sides[1], sides[3]):
            raise ValueError(
                f"{path} takes an input of shape {sides}; RGB images are "
                "(batch, height, width, 3) or (batch, 3, height, width)."
            )
        if dtype not in (np.float32, np.float16, np.int8, np.uint8):
            raise ValueError(
                f"{path} takes {np.dtype(dtype).name} images; export it with a "
                "float32, float16, int8 or uint8 input."
            )
        channels_first = sides[3] != 3
        height, width = sides[2:] if channels_first else sides[1:3]
        size = None if height is None or width is None else (height, width)
        return cls(path, sides[0], size, channels_first, dtype, dtype == np.uint8)

    def in_batches(self, run: _Run, quantise: _Run = _unchanged) -> _Run:
        """Wraps `run`, which takes what the file takes, to take (n, h, w, 3) uint8."""

        def whole(images: np.ndarray) -> np.ndarray:
            values = images
            if not self.pixels:
                values = preprocess.normalise(images, self.normalisation).numpy()
            values = quantise(values).astype(self.dtype)
            if self.channels_first:
                values = np.ascontiguousarray(values.transpose(0, 3, 1, 2))
            batch = self.batch or len(values)
            # The last image fills up the last batch.
            padding = [(0, -len(values) % batch), (0, 0), (0, 0), (0, 0)]
            values = np.pad(values, padding, mode="edge")
            starts = range(0, len(values), batch)
            results = [run(values[start : start + batch]) for start in starts]
            return np.concatenate(results)[: len(images)]

        return whole

    def runner(self, kind: str, dimensions: int, run: _Run, input_size) -> Embedder:
        if self.size and input_size and tuple(input_size) != self.size:
            raise ValueError(
                f"{self.path} takes images of {self.size[0]}x{self.size[1]}, not "
                f"{input_size[0]}x{input_size[1]}; leave the size out."
            )
        height, width = self.size or input_size or _USUAL_SIZE
        return Embedder(self.path, kind, height, width, dimensions, self.pixels, run)


def _read(path: pathlib.Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception as error:  # Each reader has its own kinds.
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{path} cannot be read ({first}); is it whole, and written for TensorFlow "
            f"{tf.__version__}?"
        ) from error


def _one(path: pathlib.Path, what: str, tensors: Sequence) -> Any:
    if len(tensors) != 1:
        raise ValueError(
            f"{path} has {len(tensors)} {what}s, and an embedding network has one; "
            "pass the inference network, without training heads."
        )
    return tensors[0]


def _dimensions(path: pathlib.Path, shape: Sequence[int | None]) -> int:
    sides = _sides(shape)
    if len(sides) != 2 or sides[1] is None:
        raise ValueError(
            f"{path} gives an output of shape {sides}; embeddings are (batch, "
            "dimensions), the dimensions known."
        )
    return sides[1]


def _sides(shape: Sequence[int | None]) -> tuple[int | None, ...]:
    """Free sides are None in Keras and -1 in TFLite."""
    return tuple(None if side is None or side < 0 else int(side) for side in shape)
