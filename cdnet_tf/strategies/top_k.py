"""Top-k Sample Search (Algorithm 1): alpha learns with the weights, and decides."""

from __future__ import annotations

import pathlib

from cdnet_tf import atomic_files
from cdnet_tf.data import datasets, pipeline, preprocess
from cdnet_tf.deploy import network_file
from cdnet_tf.learn import (
    bilevel,
    callbacks,
    distributed,
    fitting,
    losses,
    optimizers,
    schedules,
    search_log,
)
from cdnet_tf.search_settings import SearchSettings
from cdnet_tf.strategies import weight_sharing
from cdnet_tf.strategies.run import Found, Run

_REMEDIES = {
    "loss": weight_sharing.REMEDY,
    "alpha_loss": "Most often alpha's learning rate is too high: lower --alpha_lr.",
}


def search(
    data: datasets.ReidDataset, settings: SearchSettings, run: Run
) -> Found | None:
    """Searches by Algorithm 1.

    Alpha learns from the images of D_val. By default, these show the people of D_train,
    as in the authors' code. With `settings.select_identities`, they show the people to
    select on, and alpha learns by the triplet loss alone, because the classifier has no
    class for these people.

    Args:
      data: the search learns from its training split. If `settings.select_identities`
        asks for people to select on, they are those of query and gallery.
      settings: the search's settings.
      run: where and how it runs.

    Returns:
      None on a worker that is not the chief.
    """
    first_epoch = callbacks.last_epoch(run.directory / "checkpoint")
    batches = _batches(data, settings, run, first_epoch)
    with run.strategy.scope():
        model = _model(batches, settings)
    history = search_log.AlphaHistory(run.directory / "alpha.csv", settings.branches)
    log = search_log.SearchLog(
        model,
        history,
        first_epoch,
        run.directory / "tensorboard",
        **settings.network_options,
    )
    with distributed.guarded(run.strategy, run.restarts):
        fitting.fit(
            model,
            batches.dataset,
            run.directory,
            run.strategy,
            epochs=settings.epochs,
            steps_per_epoch=batches.steps_per_epoch,
            images_per_step=2 * settings.batch_size,
            remedies=_REMEDIES,
            log=log,
            launched=run.launched,
        )
        # Every worker must take part when moving statistics are read. The network keeps
        # the supernet's neck, because all weights of this neck were trained.
        network = model.net.derive_network(neck="bl")
    if distributed.place(run.strategy)[0] > 0:
        return None
    network_file.save(network, run.directory / "derived.keras", preprocess.IMAGENET)
    return _found(model, history, run.directory)


def _batches(
    data: datasets.ReidDataset, settings: SearchSettings, run: Run, first_epoch: int
) -> pipeline.Batches:
    unseen = data.query.joined(data.gallery) if settings.select_identities else None
    return pipeline.search_batches(
        data.train,
        unseen,
        share=distributed.place(run.strategy),
        **settings.batch_options(first_epoch),
    )


def _model(
    batches: pipeline.Batches, settings: SearchSettings
) -> bilevel.BilevelSearch:
    net = weight_sharing.make_supernet(settings, batches.num_classes)
    epochs, steps = settings.epochs, batches.steps_per_epoch
    exploration = bilevel.Exploration(
        settings.exploration,
        total_steps=epochs * steps,
        warmup_steps=settings.warmup_epochs * steps,
        temperature=settings.temperature,
        seed=settings.seed,
    )
    model = bilevel.BilevelSearch(
        net,
        settings.chosen,
        exploration,
        losses.ReidLoss(settings.margin),
        settings.alpha_l2,
    )
    rate = schedules.multi_step(settings.alpha_lr, settings.milestones)
    alpha_optimizer = optimizers.LateAdam(
        schedules.by_epoch(rate, epochs, steps),
        beta_1=0.5,
        start=exploration.first_alpha_step,
    )
    w_optimizer = weight_sharing.make_optimizer(settings, steps)
    model.compile(w_optimizer, optimizers.for_policy(alpha_optimizer))
    return model


def _found(
    model: bilevel.BilevelSearch,
    history: search_log.AlphaHistory,
    directory: pathlib.Path,
) -> Found:
    """Writes what alpha did as tables, a picture and a text; returns the result."""
    net, counts, alphas = model.net, model.counts.numpy(), history.read()
    report = search_log.collapse_report(alphas, counts, net.space)
    search_log.write_choices(directory / "choices.csv", counts, net.space)
    search_log.plot_alpha(directory / "alpha.png", alphas, net.space)
    atomic_files.write_text(directory / "collapse.txt", report)
    record = {"top_k": model.top_k, "alpha": net.alpha.numpy().tolist()}
    return Found(net.derive(), report, record)
