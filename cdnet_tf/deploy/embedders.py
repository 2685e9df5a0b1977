"""Opens a network's file of any kind as an `Embedder`, which embeds images.

A caller passes pixels and gets embeddings. What a file expects - normalised values,
channels first, integers, one image at a time - is read from the file itself.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from cdnet_tf import shipped
from cdnet_tf.data import preprocess
from cdnet_tf.deploy import (
    file_input,
    folding,
    identity,
    network_file,
    parallel,
    quiet,
    tflite_file,
)

_USUAL_SIZE = (256, 128)
KINDS = "a model.keras, a SavedModel directory, a .tflite file"
# Images at a time for a TFLite file that takes any number: they stay in the cache.
_FEW = 4


@dataclasses.dataclass(frozen=True)
class Embedder:
    """A network's file, opened.

    Attributes:
      path: of the file or directory, or the name of a network without a file.
      kind: `keras`, `savedmodel` or `tflite`.
      height, width: of the images that `embed` takes, pixels.
      dimensions: d of the embeddings.
      pixels: whether the file takes pixels 0..255; if not, `embed` normalises them.
    """

    path: pathlib.Path
    kind: str
    height: int
    width: int
    dimensions: int
    pixels: bool
    _run: file_input.Run = dataclasses.field(repr=False)

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Embeds images as `image_files.ImageBatches` yields them.

        Args:
          images: (n, height, width, 3) uint8, RGB.

        Returns:
          (n, dimensions) float32, L2-normalised only if the network in the file does
          that.

        Raises:
          ValueError: the images have another size or type.
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

    def embed_all(
        self, batches: Iterable[np.ndarray], *, flip: bool = False
    ) -> np.ndarray:
        """Embeds a whole split, several batches at once on as many cores.

        Args:
          batches: each as `embed` takes it, such as `image_files.ImageBatches`.
          flip: add the embedding of the mirrored image to each image's own.

        Returns:
          (n, dimensions) float32, in the order of the images.
        """

        def embedded(images: np.ndarray) -> np.ndarray:
            found = self.embed(images)
            return found + self.embed(images[:, :, ::-1]) if flip else found

        parts = parallel.in_order(embedded, batches, parallel.threads())
        return np.concatenate([np.zeros((0, self.dimensions), np.float32), *parts])


def open_model(
    path: str | os.PathLike,
    *,
    input_size: tuple[int, int] | None = None,
) -> Embedder:
    """Opens `model.keras`, a SavedModel directory, a `.tflite` file or shipped weights.

    A float or int8 input gets values that are normalised as the file says: a .keras
    file by `network_file`, a .tflite file by its metadata, and other files by
    ImageNet's values. A uint8 input gets pixels. So does a SavedModel whose height and
    width are free, because it resizes and normalises by itself.

    Args:
      path: of the file or directory, or a name of `shipped.names()`.
      input_size: (height, width) of the images, only for a file that leaves them free.
        The default is the size in the SavedModel's `assets.extra/model.json`, or else
        256x128.

    Raises:
      FileNotFoundError: `path` does not exist.
      ValueError: the file is of another kind, cannot be read, or is not a network of
        one image input and one embedding output.
    """
    path = shipped.resolve(path, KINDS)
    if path.is_dir():
        return _open_saved_model(path, input_size)
    if path.suffix == ".keras":
        return _open_keras(path, input_size)
    if path.suffix == ".tflite":
        return _open_tflite(path, input_size)
    raise ValueError(
        f"{path} is none of the kinds that can be opened: a .keras file, a .tflite "
        "file or a SavedModel directory."
    )


def load_network(path: str | os.PathLike) -> tf.keras.Model:
    """Returns the network in a `model.keras`, one image in and one embedding out.

    Args:
      path: of the file, or a name of `shipped.names()`.

    Raises:
      FileNotFoundError, ValueError: as `open_model`, or it is no .keras file.
    """
    path = shipped.resolve(path, "the model.keras of a finished training")
    if path.suffix != ".keras" or not path.is_file():
        raise ValueError(
            f"model={path} is no .keras file; pass the model.keras of a finished "
            "training."
        )
    model = _read(path, lambda: tf.keras.models.load_model(path, compile=False))
    source = _one(path, "input", model.inputs)
    file_input.FileInput.of(path, source.shape, source.dtype.as_numpy_dtype)
    _dimensions(path, _one(path, "output", model.outputs).shape)
    return model


def of_network(
    network: tf.keras.Model,
    normalisation: preprocess.Normalisation,
    *,
    path: pathlib.Path | None = None,
    input_size: tuple[int, int] | None = None,
) -> Embedder:
    """Returns an embedder of a network with its present weights.

    Normalisations are folded into the convolutions if that changes nothing
    (`folding.fold_where_exact`).

    Args:
      network: one image input and one embedding output.
      normalisation: of the images that the network expects.
      path: of the network's file, for errors; without it, they name the network.
      input_size: (height, width) of the images, if the network leaves them free.
    """
    path = path or pathlib.Path(network.name)
    source, dimensions = network.inputs[0], int(network.outputs[0].shape[1])
    given = file_input.FileInput.of(path, source.shape, source.dtype.as_numpy_dtype)
    given = dataclasses.replace(given, normalisation=normalisation)
    faster = folding.fold_where_exact(network)

    @tf.function(input_signature=[tf.TensorSpec(source.shape, source.dtype)])
    def call(images):
        return faster(images, training=False)

    run = given.in_batches(lambda images: call(images).numpy())
    return _embedder(given, "keras", dimensions, run, input_size)


def _open_keras(path: pathlib.Path, input_size) -> Embedder:
    network, normalisation = load_network(path), network_file.normalisation(path)
    return of_network(network, normalisation, path=path, input_size=input_size)


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
            "export it with a signature from images to embeddings."
        )
    call = signatures["serving_default"]
    inputs = list(call.structured_input_signature[1].items())
    name, source = _one(path, "input", inputs)
    outputs = list(call.structured_outputs.items())
    result, target = _one(path, "output", outputs)
    given = file_input.FileInput.of(path, source.shape, source.dtype.as_numpy_dtype)
    if given.size is None:
        given = dataclasses.replace(given, pixels=True)
        input_size = input_size or _recorded_size(path)

    # The loaded object must outlive this function: it owns the signature's weights.
    def run(images, _owner=model):
        return call(**{name: tf.constant(images)})[result].numpy()

    dimensions = _dimensions(path, target.shape)
    return _embedder(given, "savedmodel", dimensions, given.in_batches(run), input_size)


def _recorded_size(path: pathlib.Path) -> tuple[int, int]:
    """Returns the network's input size from the record of a SavedModel that resizes."""
    said = identity.record(path)
    return (int(said["height"]), int(said["width"])) if said else _USUAL_SIZE


def _open_tflite(path: pathlib.Path, input_size) -> Embedder:
    interpreter = _read(path, lambda: tf.lite.Interpreter(str(path)))
    source = _one(path, "input", interpreter.get_input_details())
    target = _one(path, "output", interpreter.get_output_details())
    given = file_input.FileInput.of(path, source["shape_signature"], source["dtype"])
    said = tflite_file.normalisation(path.read_bytes())
    given = dataclasses.replace(
        given,
        batch=given.batch or _FEW,
        normalisation=said or preprocess.IMAGENET,
    )
    dimensions = _dimensions(path, target["shape_signature"])
    quantise, dequantise = _quantiser(path, source), _dequantiser(path, target)
    idle: list[tf.lite.Interpreter] = []

    def run(images):
        # Each thread has an interpreter, which is faster than one with several threads.
        try:
            interpreter = idle.pop()
        except IndexError:
            interpreter = _interpreter(path, source["index"], images.shape)
        interpreter.set_tensor(source["index"], images)
        interpreter.invoke()
        result = interpreter.get_tensor(target["index"])
        idle.append(interpreter)
        return dequantise(result)

    run = given.in_batches(run, quantise)
    return _embedder(given, "tflite", dimensions, run, input_size)


def _interpreter(path: pathlib.Path, source: int, shape) -> tf.lite.Interpreter:
    interpreter = tf.lite.Interpreter(str(path), num_threads=1)
    interpreter.resize_tensor_input(source, shape)
    with quiet.held_back():
        interpreter.allocate_tensors()
    return interpreter


def _embedder(
    given: file_input.FileInput, kind: str, dimensions: int, run, input_size
) -> Embedder:
    if given.size and input_size and tuple(input_size) != given.size:
        raise ValueError(
            f"{given.path} takes images of {given.size[0]}x{given.size[1]}, not "
            f"{input_size[0]}x{input_size[1]}; leave the size out."
        )
    height, width = given.size or input_size or _USUAL_SIZE
    return Embedder(given.path, kind, height, width, dimensions, given.pixels, run)


def _quantiser(path: pathlib.Path, source: dict[str, Any]) -> file_input.Run:
    """Maps normalised values to an int8 input's integers; all else stays as it is."""
    if source["dtype"] != np.int8:
        return file_input.unchanged
    scale, zero_point = _quantisation(path, source)
    return lambda values: np.clip(np.round(values / scale) + zero_point, -128, 127)


def _dequantiser(path: pathlib.Path, target: dict[str, Any]) -> file_input.Run:
    if not np.issubdtype(target["dtype"], np.integer):
        return file_input.unchanged
    scale, zero_point = _quantisation(path, target)
    return lambda values: (values.astype(np.float32) - zero_point) * np.float32(scale)


def _quantisation(path: pathlib.Path, tensor: dict[str, Any]) -> tuple[float, int]:
    scale, zero_point = tensor["quantization"]
    if not scale:
        raise ValueError(
            f"{path} has {np.dtype(tensor['dtype']).name} values without a scale "
            f"({tensor['name']}); export it again, quantised or in float32."
        )
    return scale, zero_point


def _read(path: pathlib.Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception as error:  # Each reader raises errors of other classes.
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
    sides = file_input.sides(shape)
    if len(sides) != 2 or sides[1] is None:
        raise ValueError(
            f"{path} gives an output of shape {sides}; embeddings must be (batch, "
            "dimensions), with a fixed number of dimensions."
        )
    return sides[1]
