"""Copies weights from one network to another, layer by layer, by name and shape."""

from __future__ import annotations

import dataclasses
import pathlib

import h5py
import numpy as np
import tensorflow as tf

from cdnet_tf import shipped

# Networks in the run directory of a training, and of a search.
_IN_RUNS = ("model.keras", "derived.keras")


@dataclasses.dataclass(frozen=True)
class Transfer:
    """The names of layers that a network did and did not take from a file.

    Attributes:
      taken: layers that now have the file's weights.
      missing: layers of the network that the file does not have.
      misshapen: layers of both whose weights differ in shape.
      unused: layers of the file that the network does not have.
    """

    taken: list[str]
    missing: list[str]
    misshapen: list[str]
    unused: list[str]

    def __str__(self) -> str:
        lines = [f"took the weights of {len(self.taken)} layers"]
        for name in ("missing", "misshapen", "unused"):
            layers = getattr(self, name)
            lines.append(f"{name} ({len(layers)}): {', '.join(layers) or 'none'}")
        return "\n".join(lines)


def take_weights(network: tf.keras.Model, source: str | pathlib.Path) -> Transfer:
    """Gives a network the weights of a file wherever a layer's name and shapes agree.

    Args:
      network: the network to fill. Pass it without its heads to leave them out.
      source: a .keras file, a run directory of a training or a search, a name of
        `shipped.names()`, or an .h5 file of weights by layer name, as
        keras.applications offers them.

    Raises:
      FileNotFoundError: `source` does not exist.
      ValueError: the file cannot be read, or no layer agrees.
    """
    stored = _read(locate(source))
    layers = [layer for layer in network.layers if layer.weights]
    taken, missing, misshapen = [], [], []
    for layer in layers:
        values = stored.get(layer.name)
        if values is None:
            missing.append(layer.name)
        elif [value.shape for value in values] != [w.shape for w in layer.weights]:
            misshapen.append(layer.name)
        else:
            layer.set_weights(values)
            taken.append(layer.name)
    if not taken:
        raise ValueError(
            f"{source} has no layer with a name and shapes of the network's (it has "
            f"{', '.join(list(stored)[:5])}, ...; the network has {layers[0].name}, "
            "...); check that genotype, width_multiplier and file belong together."
        )
    names = {layer.name for layer in layers}
    return Transfer(taken, missing, misshapen, [n for n in stored if n not in names])


def locate(source: str | pathlib.Path) -> pathlib.Path:
    """Returns the file of weights that `take_weights` would read.

    Raises:
      FileNotFoundError: `source` does not exist, or is a directory without weights.
      ValueError: shipped weights are broken.
    """
    source = pathlib.Path(source)
    if not source.is_dir():
        return shipped.resolve(source, "a weight file, the directory of a run")
    inside = [source / name for name in _IN_RUNS if (source / name).exists()]
    if not inside:
        raise FileNotFoundError(
            f"{source} holds none of {', '.join(_IN_RUNS)}; name the directory of a "
            "run that has ended, or a .keras or .h5 file."
        )
    return inside[0]


def _read(path: pathlib.Path) -> dict[str, list[np.ndarray]]:
    """Reads each layer's weights, by the layer's name and in the layer's order."""
    try:
        if path.suffix == ".h5":
            return _read_h5(path)
        model = tf.keras.models.load_model(path, compile=False)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}); pass a .keras file or an .h5 file with "
            "weights by layer name."
        ) from error
    return {each.name: each.get_weights() for each in model.layers if each.weights}


def _read_h5(path: pathlib.Path) -> dict[str, list[np.ndarray]]:
    with h5py.File(path) as file:
        group = file["model_weights"] if "model_weights" in file else file
        layers = {_text(name): group[name] for name in group.attrs["layer_names"]}
        weights = {
            name: [layer[weight][()] for weight in layer.attrs["weight_names"]]
            for name, layer in layers.items()
        }
    return {name: values for name, values in weights.items() if values}


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
