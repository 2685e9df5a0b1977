"""Draws what the three stages of a network look at, as the paper's Fig. 6.

Red places are active in the last feature map of a stage, and blue ones are not. Each
map has a scale of its own.

python tools/visualize.py --model=runs/cdnet/model.keras --images=a.jpg,b.jpg
python tools/visualize.py --model=runs/cdnet/model.keras --data_dir=DIR --count=6
"""

from __future__ import annotations

import cdnet_tf  # isort: skip  # noqa: F401  (quiets TensorFlow)
import numpy as np
import tensorflow as tf
from absl import app, flags

from cdnet_tf import shared_flags, shipped
from cdnet_tf.data import image_files, preprocess
from cdnet_tf.deploy import embedders, network_file
from cdnet_tf.learn import devices
from cdnet_tf.retrieval import pictures

_MODEL = flags.DEFINE_string(
    "model",
    None,
    "A run's model.keras, or shipped weights, such as market1501/cdnet_x0_25.",
    required=True,
)
_IMAGES = flags.DEFINE_list(
    "images", [], "Image files. Default: the first queries of --dataset."
)
_COUNT = flags.DEFINE_integer("count", 6, "Queries to draw, without --images.", 1)
_LAYERS = flags.DEFINE_list(
    "layers",
    [],
    "Layers to draw, by name. Default: the last one of each of the three stages.",
)
_OUTPUT = flags.DEFINE_string("output", "maps.png", "PNG to write.")
_STAGES = ("stage1", "stage2", "stage3")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    devices.set_threads()
    path = shipped.resolve(_MODEL.value, "a run's model.keras")
    network = embedders.load_network(path)
    chosen = _named_layers(network) if _LAYERS.value else _last_of_stages(network)
    normalisation = network_file.normalisation(path)
    maps = tf.keras.Model(network.inputs, [layer.output for layer in chosen.values()])
    files = _IMAGES.value or _queries()[: _COUNT.value]
    rows = [
        _row(maps, image, normalisation)
        for batch in image_files.ImageBatches(files, *network.input_shape[1:3])
        for image in batch
    ]
    pictures.image_sheet(_OUTPUT.value, ["origin", *chosen], rows)
    print(f"{_OUTPUT.value}: {len(rows)} images, {', '.join(chosen)}.")


def _queries() -> tuple[str, ...]:
    return shared_flags.read_data(["query"]).query.paths


def _row(
    maps: tf.keras.Model,
    image: np.ndarray,
    normalisation: preprocess.Normalisation,
) -> list[np.ndarray]:
    """The image, and its overlay with the activation map of each layer."""
    images = preprocess.normalise(image[np.newaxis], normalisation)
    features = maps(images, training=False)
    return [
        image,
        *(
            pictures.overlay(image, pictures.activation_map(each[0].numpy()))
            for each in tf.nest.flatten(features)
        ),
    ]


def _last_of_stages(network: tf.keras.Model) -> dict[str, tf.keras.layers.Layer]:
    """Stage -> its last layer, by the names that `nn.networks` gives."""
    last = {
        stage: layer
        for layer in _spatial(network)
        for stage in _STAGES
        if layer.name.startswith(f"{stage}/")
    }
    if len(last) < len(_STAGES):
        raise ValueError(
            f"{_MODEL.value} has no layers named {', '.join(_STAGES)}; name some with "
            f"--layers, for example {_examples(network)}."
        )
    return last


def _named_layers(network: tf.keras.Model) -> dict[str, tf.keras.layers.Layer]:
    layers = {layer.name: layer for layer in _spatial(network)}
    unknown = [name for name in _LAYERS.value if name not in layers]
    if unknown:
        raise ValueError(
            f"{_MODEL.value} has no feature maps named {', '.join(unknown)}; it "
            f"has, among others, {_examples(network)}."
        )
    return {name: layers[name] for name in _LAYERS.value}


def _spatial(network: tf.keras.Model) -> list[tf.keras.layers.Layer]:
    """The layers that make a feature map, (b, h, w, c) above 1x1, in order."""
    return [
        layer
        for layer in network.layers
        # The shape of an input layer is a list.
        if isinstance(layer.output_shape, tuple)
        and len(layer.output_shape) == 4
        and layer.output_shape[1:3] != (1, 1)
        and not isinstance(layer, tf.keras.layers.ZeroPadding2D)
    ]


def _examples(network: tf.keras.Model) -> str:
    """The last layer of each part, or of each size where names show no parts."""
    last = {}
    for layer in _spatial(network):
        part, slash, _ = layer.name.partition("/")
        last[part if slash else layer.output_shape[1:3]] = layer.name
    return ", ".join(last.values())


if __name__ == "__main__":
    app.run(main)
