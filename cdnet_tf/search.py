"""Searches CS or CDS for a network by Top-k Sample Search (Algorithm 1).

python -m cdnet_tf.search --flagfile=flags/cds.cfg --data_dir=... --run_dir=runs/cds
"""

from __future__ import annotations

import os
import pathlib
import time

from cdnet_tf import shared_flags  # isort: skip  (notes when the program was launched)
import tensorflow as tf
from absl import app, flags

from cdnet_tf import atomic_files, next_steps, recipes, run_directory
from cdnet_tf.data import datasets, pipeline, preprocess
from cdnet_tf.deploy import network_file
from cdnet_tf.learn import (
    bilevel,
    callbacks,
    devices,
    distributed,
    fitting,
    losses,
    optimizers,
    schedules,
    search_log,
)
from cdnet_tf.nn import counting, genotype, networks
from cdnet_tf.settings import SearchSettings
from cdnet_tf.supernet import supernet

flags.adopt_module_key_flags(shared_flags)  # --help lists them, too.
flags.DEFINE_enum(
    "space",
    SearchSettings.space,
    list(genotype.SPACES),
    "Search space: 6 (cs) or 12 (cds) branches.",
)
flags.DEFINE_string(
    "top_k",
    str(SearchSettings.top_k),
    "Branches that run in each block: 1 to 6 (cs) or 12 (cds), or `all`.",
)
flags.DEFINE_enum(
    "exploration",
    SearchSettings.exploration,
    bilevel.Exploration.KINDS,
    "How a step's branches are chosen: `none` takes the k largest alpha (the paper's "
    "rule); `gumbel` and `uniform_warmup` are not in the paper.",
)
flags.DEFINE_float(
    "temperature",
    SearchSettings.temperature,
    "Of --exploration=gumbel at the start; it falls to 0.",
    0.0,
)
flags.DEFINE_integer(
    "warmup_epochs",
    SearchSettings.warmup_epochs,
    "Of --exploration=uniform_warmup, without steps of alpha.",
    0,
)
flags.DEFINE_float(
    "w_lr", SearchSettings.w_lr, "Learning rate of the weights at the start."
)
flags.DEFINE_float(
    "w_lr_end",
    SearchSettings.w_lr_end,
    "Learning rate of the weights at the end of the cosine.",
)
flags.DEFINE_float("w_l2", SearchSettings.w_l2, "L2 of the weights, coupled.", 0.0)
flags.DEFINE_float(
    "alpha_lr", SearchSettings.alpha_lr, "Learning rate of alpha (Adam)."
)
flags.DEFINE_list(
    "alpha_milestones",
    SearchSettings.alpha_milestones,
    "Epochs at which alpha's learning rate drops to a tenth. Default: after a third "
    "and two thirds of --epochs, which is 80,160 of 240.",
)
flags.DEFINE_float("alpha_l2", SearchSettings.alpha_l2, "L2 of alpha, coupled.", 0.0)
flags.register_validator(
    "top_k",
    lambda text: text == "all" or text.isdecimal(),
    "must be a number of branches, as in --top_k=2, or `all`",
)
shared_flags.register_epochs("alpha_milestones")

_REMEDIES = {
    "loss": "Most often the weights' rate is too high: lower --w_lr (with "
    "--precision=mixed_float16 also try float32).",
    "alpha_loss": "Most often alpha's rate is too high: lower --alpha_lr.",
}


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    with shared_flags.refusing():
        shared_flags.refuse_classes()
        settings = read_settings()
        settings.check()
        strategy = shared_flags.connect()
        settings.check_batch(strategy.num_replicas_in_sync)
    run_dir = pathlib.Path(shared_flags.RUN_DIR.value)
    found = search(
        shared_flags.read_data(["train"]),
        run_dir,
        settings,
        strategy=strategy,
        restarts=shared_flags.RESTARTS.value,
        record=shared_flags.flag_values(__name__),
        launched=shared_flags.LAUNCHED,
    )
    if found:
        print(f"\n{next_steps.after_search(run_dir)}")


def read_settings() -> SearchSettings:
    """Returns the settings that the flags stand for, not yet checked."""
    return SearchSettings(**shared_flags.values(SearchSettings))


def search(
    data: datasets.ReidDataset,
    run_dir: str | os.PathLike,
    settings: SearchSettings | None = None,
    *,
    strategy: tf.distribute.Strategy | None = None,
    restarts: int = 0,
    record: dict | None = None,
    launched: float | None = None,
) -> genotype.Genotype | None:
    """Searches a network, or goes on with a search that was cut short.

    Args:
      data: whose training split is searched on.
      run_dir: folder of the results; docs/search.md says which they are.
      settings: how to search; by default as the authors' released code does.
      strategy: of `devices.connect`; by default TensorFlow's current one.
      restarts: see `distributed.guarded`.
      record: what `run.json` says of the settings; by default all of them.
      launched: `time.perf_counter()` when the program began; by default now.

    Returns:
      The genotype found. None on a worker that is not the chief.

    Raises:
      ValueError: settings that do not fit each other, the data, or the run that is to
        go on.
      FloatingPointError: a loss is not finite.
    """
    settings = settings or SearchSettings()
    strategy = strategy or tf.distribute.get_strategy()
    record = settings.record() if record is None else record
    launched = time.perf_counter() if launched is None else launched
    settings.check()
    settings.check_batch(strategy.num_replicas_in_sync)
    run_dir = run_directory.join_run(run_dir, record, data, strategy)
    devices.begin(settings.seed, settings.policy(run_dir, strategy))
    if (run_dir / "genotype.json").exists():
        print(f"{run_dir} holds a finished search; choose another --run_dir for more.")
        return genotype.load(run_dir)
    first_epoch = callbacks.last_epoch(run_dir / "checkpoint")
    batches = pipeline.search_batches(
        data.train,
        share=distributed.place(strategy),
        **settings.batch_options(first_epoch),
    )
    with strategy.scope():
        model = _search_model(batches, settings)
    with distributed.guarded(strategy, restarts):
        fitting.fit(
            model,
            batches.dataset,
            run_dir,
            strategy,
            epochs=settings.epochs,
            steps_per_epoch=batches.steps_per_epoch,
            images_per_step=2 * settings.batch_size,
            remedies=_REMEDIES,
            log=_log(model, first_epoch, run_dir, settings),
            launched=launched,
        )
        # Reading moving statistics takes every worker.
        # With the neck that the supernet has: every weight of it was trained.
        network = model.net.derive_network(neck="bl")
    if distributed.place(strategy)[0] > 0:
        return None
    provenance = run_directory.begun_with(run_dir, record, data)
    _write_results(model, network, run_dir, settings, provenance, launched)
    return genotype.load(run_dir)


def _search_model(
    batches: pipeline.Batches, settings: SearchSettings
) -> bilevel.BilevelSearch:
    net = supernet.Supernet(
        settings.branches,
        batches.num_classes,
        settings.input_shape,
        settings.width_multiplier,
        settings.dropout,
        settings.seed,
    )
    if settings.zero_init_residual:
        net.zero_init_residual()
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
    rates = (
        schedules.cosine(epochs, settings.w_lr, settings.w_lr_end),
        schedules.multi_step(settings.alpha_lr, settings.milestones),
    )
    w_rate, alpha_rate = (schedules.by_epoch(r, epochs, steps) for r in rates)
    w_optimizer = optimizers.CoupledSGD(w_rate, settings.momentum, settings.w_l2)
    alpha_optimizer = optimizers.LateAdam(
        alpha_rate, beta_1=0.5, start=exploration.first_alpha_step
    )
    model.compile(*map(optimizers.for_policy, (w_optimizer, alpha_optimizer)))
    return model


def _log(model, first_epoch: int, run_dir, settings) -> search_log.SearchLog:
    return search_log.SearchLog(
        model,
        _history(run_dir, model),
        first_epoch,
        run_dir / "tensorboard",
        **settings.network_options,
    )


def _history(run_dir, search) -> search_log.AlphaHistory:
    return search_log.AlphaHistory(run_dir / "alpha.csv", search.net.space)


def _write_results(
    model: bilevel.BilevelSearch,
    network: tf.keras.Model,
    run_dir: pathlib.Path,
    settings: SearchSettings,
    provenance: dict,
    launched: float,
) -> None:
    """Writes what the search leaves; genotype.json last, as the sign of its end.

    Args:
      model: with its supernet.
      network: derived from it, with its weights.
      run_dir: where to.
      settings: of the search.
      provenance: for genotype.json.
      launched: when the search began.
    """
    net, counts = model.net, model.counts.numpy()
    alphas = _history(run_dir, model).read()
    derived = net.derive()
    whole = networks.build(derived, **settings.network_options)
    report = search_log.collapse_report(alphas, counts, net.space)
    search_log.write_choices(run_dir / "choices.csv", counts, net.space)
    search_log.plot_alpha(run_dir / "alpha.png", alphas, net.space)
    atomic_files.write_text(run_dir / "collapse.txt", report)
    network_file.save(network, run_dir / "derived.keras", preprocess.IMAGENET)
    text = derived.to_json(
        space_searched=settings.space,
        top_k=model.top_k,
        branches=[list(branch) for branch in net.space],
        alpha=net.alpha.numpy().tolist(),
        provenance=provenance,
    )
    atomic_files.write_text(run_dir / "genotype.json", text + "\n")
    print(f"\n{report}")
    rows = {
        "found genotype": str(derived),
        "parameters": f"{counting.parameters(whole):,}",
        "multiply-accumulates": f"{counting.macs(whole):,}",
        "minutes": f"{(time.perf_counter() - launched) / 60:.1f}",
        "results": str(run_dir),
    }
    for name, value in rows.items():
        print(f"{name:<22}{value}")


if __name__ == "__main__":
    flags.mark_flag_as_required("run_dir")
    app.run(main, flags_parser=recipes.parse)
