"""Trains a supernet path by path, and evolves its networks by their retrieval.

The training learns weights alone, and nothing about which branch is better. Afterwards,
networks of the space embed people whom the weights have not seen, with the supernet's
weights, and evolution looks for the network whose ranking is best.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from cdnet_tf.data import datasets, image_files, pipeline, preprocess
from cdnet_tf.deploy import network_file
from cdnet_tf.learn import (
    callbacks,
    devices,
    distributed,
    fitting,
    losses,
    search_log,
    single_path,
)
from cdnet_tf.nn import genotype
from cdnet_tf.retrieval import ranking
from cdnet_tf.search_settings import SearchSettings
from cdnet_tf.strategies import candidates, evolution, front, limits, weight_sharing
from cdnet_tf.strategies.run import Found, Run
from cdnet_tf.strategies.space import Choice, Space
from cdnet_tf.supernet import inherited, supernet

_CALIBRATED_ON = 640  # images for the moving statistics; 2,000 in OFA, 25,600 in SPOS
_BATCH = 64
_SHOWN = 5


def search(
    data: datasets.ReidDataset, settings: SearchSettings, run: Run
) -> Found | None:
    """Trains a supernet for each width, then evolves networks of them.

    Args:
      data: the weights learn from its training split; networks are judged on its query
        and gallery.
      settings: the search's settings.
      run: where and how it runs.

    Returns:
      None on a worker that is not the chief.
    """
    space = limits.space_of(settings)
    nets = _train_supernets(data, settings, run, space)
    if not nets:
        return None
    judges = {
        width: Judge(net, data, dataclasses.replace(settings, width_multiplier=width))
        for width, net in nets.items()
    }

    def judge(choice: Choice) -> float:
        width = space.network(choice).width_multiplier
        return judges[width](choice[: genotype.NUM_BLOCKS])

    table = candidates.Candidates(run.directory / "candidates.csv", space)
    _evolve(settings, space, lambda choice: table.judge(choice, judge))
    found = None
    if space.is_bounded:
        peers = {
            name: candidates.of(space, choice, judge(choice))
            for name, choice in front.published(space).items()
        }
        found = front.of_judged(space, table.all(), peers)
    best = table.best(_SHOWN)
    # This sets the supernet's moving statistics to those of the best network.
    judge(space.choice(best[0].network))
    net = nets[best[0].width_multiplier]
    network = net.derive_network(best[0].genotype, neck="bl")
    network_file.save(network, run.directory / "derived.keras", preprocess.IMAGENET)
    return Found(
        best[0].genotype,
        candidates.report(best, len(table)),
        {"draw": settings.draw, "mAP": best[0].mean_ap, "candidates": len(table)},
        best[0].width_multiplier,
        found,
    )


def _train_supernets(
    data: datasets.ReidDataset, settings: SearchSettings, run: Run, space: Space
) -> dict[float, supernet.Supernet]:
    """Trains a supernet for each width, in folders of their own if there are several.

    The result is empty on a worker that is not the chief.
    """
    nets = {}
    for width in space.widths:
        folder = run.directory
        if len(space.widths) > 1:
            folder = run.directory / f"supernet_x{width:g}"
            folder.mkdir(exist_ok=True)
        # Each supernet starts from the seed, so that a resumed search draws the same.
        devices.begin(settings.seed, tf.keras.mixed_precision.global_policy().name)
        own = dataclasses.replace(settings, width_multiplier=width)
        net = train_supernet(data, own, dataclasses.replace(run, directory=folder))
        if net:
            nets[width] = net
    return nets


def _evolve(
    settings: SearchSettings,
    space: Space,
    judged: Callable[[Choice], candidates.Candidate],
) -> None:
    """Judges networks that keep the limits, generation after generation.

    If cost matters, it is a second objective, and the first generation is drawn from
    the networks that keep the limits. If these are no more than a generation has, all
    of them are judged, and nothing evolves.
    """
    evolve = functools.partial(
        evolution.evolve,
        sizes=space.sizes,
        population=settings.population,
        generations=settings.generations,
        seed=settings.seed,
    )
    if not space.is_bounded:
        evolve(lambda choice: [-judged(choice).mean_ap])
        return
    first = space.drawn(settings.population, settings.seed)
    if len(first) == space.number_within:
        for choice in first:
            judged(choice)
        return
    evolve(
        lambda choice: [-judged(choice).mean_ap, space.costs(choice)[space.by]],
        num_objectives=2,
        excess=space.excess if space.limits else None,
        num_limits=len(space.limits),
        first=first,
    )


def train_supernet(
    data: datasets.ReidDataset,
    settings: SearchSettings,
    run: Run,
    until: int | None = None,
) -> supernet.Supernet | None:
    """Trains a supernet by single paths, or resumes its training.

    Args:
      data: the weights learn from its training split.
      settings: the search's settings.
      run: where and how it runs.
      until: the epoch after which it stops for now; by default the last one.

    Returns:
      The supernet on one device. None on a worker that is not the chief.
    """
    first_epoch = callbacks.last_epoch(run.directory / "checkpoint")
    batches = pipeline.train_batches(
        data.train,
        share=distributed.place(run.strategy),
        **settings.batch_options(first_epoch),
    )
    with run.strategy.scope():
        model = single_path.SinglePathTraining(
            weight_sharing.make_supernet(settings, batches.num_classes),
            settings.draw,
            losses.ReidLoss(settings.margin),
            settings.seed,
        )
        steps = batches.steps_per_epoch
        model.compile(weight_sharing.make_optimizer(settings, steps))
    with distributed.guarded(run.strategy, run.restarts):
        fitting.fit(
            model,
            batches.dataset,
            run.directory,
            run.strategy,
            epochs=until or settings.epochs,
            steps_per_epoch=steps,
            images_per_step=settings.batch_size,
            remedies={"loss": weight_sharing.REMEDY},
            launched=run.launched,
        )
        net = weight_sharing.on_one_device(model.net, settings, batches.num_classes)
    if distributed.place(run.strategy)[0] > 0:
        return None
    counts = model.counts.numpy()
    search_log.write_choices(run.directory / "choices.csv", counts, net.space)
    return net


class Judge:
    """Computes the mAP of networks with a supernet's weights, on query and gallery.

    Args:
      net: the supernet, on one device. Its moving statistics are overwritten.
      data: the weights have learnt from its training split.
      settings: the search's settings.
    """

    def __init__(
        self,
        net: supernet.Supernet,
        data: datasets.ReidDataset,
        settings: SearchSettings,
    ) -> None:
        self._query, self._gallery = data.query, data.gallery
        random = np.random.default_rng(settings.seed)
        count = min(_CALIBRATED_ON, len(data.train))
        drawn = random.permutation(len(data.train))[:count]
        calibration = [data.train.paths[i] for i in drawn]
        asked = [*data.query.paths, *data.gallery.paths]
        self._embed = inherited.InheritedEmbedder(
            net,
            _normalised(calibration, settings),
            _normalised(asked, settings),
            min(_BATCH, count),
        )

    def __call__(self, choice: Choice) -> float:
        """Returns the mAP, 0..1, of a network given as indices of its branches."""
        found = self._embed(choice)
        query, gallery = np.split(found, [len(self._query)])
        scores = ranking.evaluate(query, self._query, gallery, self._gallery)
        return float(scores.mean_ap)


def _normalised(paths: list[str], settings: SearchSettings) -> np.ndarray:
    """Reads images, and normalises them for the network: (n, h, w, 3) float32."""
    batches = image_files.ImageBatches(paths, settings.height, settings.width)
    return np.concatenate([preprocess.normalise(batch).numpy() for batch in batches])
