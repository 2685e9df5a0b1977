"""Top-k Sample Search (Algorithm 1): alpha learns beside the weights, and decides."""

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
from cdnet_tf.settings import SearchSettings
from cdnet_tf.strategies import weight_sharing
from cdnet_tf.strategies.run import Found, Run

_REMEDIES = {
    "loss": weight_sharing.REMEDY,
    "alpha_loss": "Most often alpha's rate is too high: lower --alpha_lr.",
}


def search(
    data: datasets.ReidDataset, settings: SearchSettings, run: Run
) -> Found | None:
    """Searches by the paper's rule.

    Without people to select on, alpha learns from D_val as in the authors' code, which
    shows the people of D_train. With them D_val are their images, and alpha learns by
    the triplet loss alone, because the classifier has no class for them.

    Args:
      data: whose training split is searched on; query and gallery are the people to
        select on, if `settings.select_identities` asks for any.
      settings: of the search.
      run: where and how it runs.

    Returns:
      None on a worker that is not the chief.
    """
    first_epoch = callbacks.last_epoch(run.directory / "checkpoint")
    unseen = None
    if settings.select_identities:
        unseen = data.query.joined(data.gallery)
    batches = pipeline.search_batches(
        data.train,
        unseen,
        share=distributed.place(run.strategy),
        **settings.batch_options(first_epoch),
    )
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
        # Reading moving statistics takes every worker.
        # With the neck that the supernet has: every weight of it was trained.
        network = model.net.derive_network(neck="bl")
    if distributed.place(run.strategy)[0] > 0:
        return None
    network_file.save(network, run.directory / "derived.keras", preprocess.IMAGENET)
    return _found(model, history, run.directory)


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
    """Writes what alpha did, in tables, pictures and words."""
    net, counts, alphas = model.net, model.counts.numpy(), history.read()
    report = search_log.collapse_report(alphas, counts, net.space)
    search_log.write_choices(directory / "choices.csv", counts, net.space)
    search_log.plot_alpha(directory / "alpha.png", alphas, net.space)
    atomic_files.write_text(directory / "collapse.txt", report)
    record = {"top_k": model.top_k, "alpha": net.alpha.numpy().tolist()}
    return Found(net.derive(), report, record)
