"""Draws what the three stages of a network look at, as the paper's Fig. 6.

Red places are active in the last feature map of a stage, and blue ones are not. Each
map has a scale of its own.

python tools/visualize.py --model=runs/cdnet/model.keras --images=a.jpg,b.jpg
python tools/visualize.py --model=runs/cdnet/model.keras --data_dir=DIR --count=6

With --output_dir it draws more: CDNet, a step of the search, what a search compared,
ranked lists, the CMC and the distances. `make pictures` does so on generated people.
"""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Sequence

import cdnet_tf  # isort: skip  # noqa: F401  (quiets TensorFlow)
import numpy as np
import tensorflow as tf
from absl import app, flags
from matplotlib.figure import Figure

from cdnet_tf import atomic_files, shared_flags, shipped
from cdnet_tf.data import datasets, image_files, preprocess
from cdnet_tf.deploy import embedders, network_file
from cdnet_tf.learn import devices
from cdnet_tf.nn import diagrams, genotype, networks
from cdnet_tf.retrieval import histograms, lists, pictures, ranking, verification
from cdnet_tf.strategies import candidates

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
_OUTPUT = flags.DEFINE_string("output", "maps.png", "PNG or JPEG to write.")
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder for all pictures, instead of --output."
)
_SEARCH_DIR = flags.DEFINE_string(
    "search_dir", None, "Run directory of a search, to draw what it compared."
)
_STAGES = ("stage1", "stage2", "stage3")
_OF_MAPS = (
    "Where layers are active: red most, blue least. Each map has its own scale, so "
    "compare places, not strengths."
)
_PAPER_SIZE = (256, 128)
_LIST_LENGTH = 8  # images
_RATE = 0.01  # of false accepts, for the threshold that is drawn


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    devices.set_threads()
    path = shipped.resolve(_MODEL.value, "a run's model.keras")
    if _OUTPUT_DIR.value:
        _draw_all(pathlib.Path(_OUTPUT_DIR.value), path)
    else:
        _draw_maps(_OUTPUT.value, path, _IMAGES.value or _queries()[: _COUNT.value])


def _draw_maps(output: str, path: pathlib.Path, files: Sequence[str]) -> None:
    """Draws where the stages of a network are active, an image a row."""
    network = embedders.load_network(path)
    chosen = _named_layers(network) if _LAYERS.value else _last_of_stages(network)
    normalisation = network_file.normalisation(path)
    maps = tf.keras.Model(network.inputs, [layer.output for layer in chosen.values()])
    rows = [
        _row(maps, image, normalisation)
        for batch in image_files.ImageBatches(files, *network.input_shape[1:3])
        for image in batch
    ]
    pictures.image_sheet(output, _OF_MAPS, ["origin", *chosen], rows)
    print(f"{output}: {len(rows)} images, {', '.join(chosen)}.")


def _draw_all(folder: pathlib.Path, path: pathlib.Path) -> None:
    """Draws all pictures of a network, of its answers and of a search."""
    folder.mkdir(parents=True, exist_ok=True)
    data = shared_flags.read_data(["query", "gallery"])
    figures = {"search_step.png": diagrams.step_figure(), "network.png": _cdnet()}
    figures |= _searched(folder) if _SEARCH_DIR.value else {}
    figures |= _answers(folder, embedders.open_model(path), data)
    for name, figure in figures.items():
        with atomic_files.replacing(folder / name) as partial:
            figure.savefig(partial, format="png", dpi=100)
    shown = lists.spread(len(data.query), _COUNT.value)
    files = [data.query.paths[i] for i in shown]
    _draw_maps(str(folder / "activation_maps.jpg"), path, files)


def _cdnet() -> Figure:
    """The paper's network, at its size."""
    height, width = _PAPER_SIZE
    title = f"CDNet for images of {height}x{width} pixels"
    found = genotype.load("cdnet")
    return diagrams.network_figure(found, _PAPER_SIZE, networks.CHANNELS, title)


def _searched(folder: pathlib.Path) -> dict[str, Figure]:
    """What a search compared: alpha over the epochs, or networks in their order."""
    run = pathlib.Path(_SEARCH_DIR.value)
    if (run / "alpha.png").exists():
        with atomic_files.replacing(folder / "alpha.png") as partial:
            shutil.copyfile(run / "alpha.png", partial)
        return {}
    judged = candidates.read(run / "candidates.csv")
    if not judged:
        raise FileNotFoundError(
            f"search_dir={run} has neither alpha.png nor candidates.csv; name the run "
            "directory of a search that has ended."
        )
    scores = [100 * each.mean_ap for each in judged]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(
        title="Networks that the search compared",
        xlabel="networks, in the order in which they were judged",
        ylabel="mAP on people not trained on, %",
    )
    numbers = np.arange(1, len(scores) + 1)
    axes.plot(numbers, scores, ".", label="a network")
    axes.plot(numbers, np.maximum.accumulate(scores), label="the best so far")
    axes.legend()
    return {"candidates.png": figure}


def _answers(
    folder: pathlib.Path, embedder: embedders.Embedder, data: datasets.ReidDataset
) -> dict[str, Figure]:
    """Draws ranked lists; returns the figures of the CMC and of the distances."""
    query, gallery = (
        embedder.embed_all(
            image_files.ImageBatches(split.paths, embedder.height, embedder.width)
        )
        for split in (data.query, data.gallery)
    )
    everything = query, data.query, gallery, data.gallery
    rows = lists.of_some(*everything, _COUNT.value, _LIST_LENGTH)
    pictures.ranked_lists(folder / "ranked_lists.jpg", rows)
    threshold = verification.thresholds(*everything, rates=(_RATE,)).at_rates[0]
    pairs = histograms.pair_distances(*everything)
    curve = ranking.evaluate(*everything).cmc
    return {
        "cmc.png": pictures.cmc_figure({"nearest first": curve}),
        "distances.png": histograms.distance_figure(*pairs, threshold),
    }


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
