"""Searches CS or CDS for a network by Top-k Sample Search (Algorithm 1).

python -m cdnet_tf.search --flagfile=flags/cds.cfg --data_dir=... --run_dir=runs/cds
"""

from __future__ import annotations

import pathlib
import time

# Before TensorFlow is imported, which shared_flags quiets.
from cdnet_tf import next_steps, run_directory, shared_flags  # isort: skip
from absl import app, flags

from cdnet_tf import atomic_files, recipes
from cdnet_tf.data import pipeline, preprocess
from cdnet_tf.deploy import network_file
from cdnet_tf.learn import (
    bilevel,
    callbacks,
    distributed,
    losses,
    optimizers,
    schedules,
    search_log,
)
from cdnet_tf.nn import counting, genotype, networks
from cdnet_tf.supernet import supernet

flags.adopt_module_key_flags(shared_flags)  # --help lists them, too.
_SPACE = flags.DEFINE_enum(
    "space", "cds", list(genotype.SPACES), "Search space: 6 (cs) or 12 (cds) branches."
)
_TOP_K = flags.DEFINE_string(
    "top_k", "2", "Branches that run in each block: 1 to 6 (cs) or 12 (cds), or `all`."
)
_EXPLORATION = flags.DEFINE_enum(
    "exploration",
    "none",
    bilevel.Exploration.KINDS,
    "How a step's branches are chosen: `none` takes the k largest alpha (the paper's "
    "rule); `gumbel` and `uniform_warmup` are not in the paper.",
)
_TEMPERATURE = flags.DEFINE_float(
    "temperature", 1.0, "Of --exploration=gumbel at the start; it falls to 0.", 0.0
)
_WARMUP_EPOCHS = flags.DEFINE_integer(
    "warmup_epochs", 20, "Of --exploration=uniform_warmup, without steps of alpha.", 0
)
_W_LR = flags.DEFINE_float("w_lr", 0.025, "Learning rate of the weights at the start.")
_W_LR_END = flags.DEFINE_float("w_lr_end", 1e-4, "And at the end of the cosine.")
_W_L2 = flags.DEFINE_float("w_l2", 3e-4, "L2 of the weights, coupled.", 0.0)
_MOMENTUM = flags.DEFINE_float("momentum", 0.9, "Of the weights' SGD.", 0.0, 1.0)
_ALPHA_LR = flags.DEFINE_float("alpha_lr", 3e-4, "Learning rate of alpha (Adam).")
_ALPHA_MILESTONES = flags.DEFINE_list(
    "alpha_milestones",
    None,
    "Epochs at which alpha's learning rate drops to a tenth. Default: after a third "
    "and two thirds of --epochs, which is 80,160 of 240.",
)
_ALPHA_L2 = flags.DEFINE_float("alpha_l2", 1e-3, "L2 of alpha, coupled.", 0.0)
_MARGIN = flags.DEFINE_float("margin", 0.3, "Of the triplet loss.", 0.0)
_DROPOUT = flags.DEFINE_float("dropout", 0.2, "Before the triplet feature.", 0.0, 1.0)
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
        _check_flags()
        strategy = shared_flags.set_up()
    data = shared_flags.read_data()
    run_dir = run_directory.join_run(strategy, data)
    if (run_dir / "genotype.json").exists():
        print(f"{run_dir} holds a finished search; choose another --run_dir for more.")
        return
    first_epoch = callbacks.last_epoch(run_dir / "checkpoint")
    batches = pipeline.search_batches(
        data.train,
        share=distributed.place(strategy),
        **shared_flags.batch_options(first_epoch),
    )
    with strategy.scope():
        search = _search_model(batches)
    with distributed.guarded(strategy, shared_flags.RESTARTS.value):
        _fit(search, batches, first_epoch, run_dir, strategy)
        # Reading moving statistics takes every worker.
        # With the neck that the supernet has: every weight of it was trained.
        network = search.net.derive_network(neck="bl")
    if distributed.place(strategy)[0] == 0:
        _write_results(search, network, data, run_dir)


def _check_flags() -> None:
    """Raises ValueError for flags that do not fit each other."""
    shared_flags.refuse_classes()
    networks.check_input_shape(_network_options()["input_shape"], "reid")
    networks.scaled_channels(shared_flags.WIDTH_MULTIPLIER.value)
    bilevel.check_top_k(_top_k(), genotype.SPACES[_SPACE.value])
    epochs = shared_flags.EPOCHS.value
    schedules.check_milestones("alpha_milestones", _alpha_milestones(), epochs)
    if _EXPLORATION.value == "uniform_warmup" and _WARMUP_EPOCHS.value >= epochs:
        raise ValueError(
            f"warmup_epochs={_WARMUP_EPOCHS.value} leaves alpha none of epochs="
            f"{epochs} to learn in; lower it, or choose another --exploration."
        )


def _top_k() -> int:
    whole = len(genotype.SPACES[_SPACE.value])
    return whole if _TOP_K.value == "all" else int(_TOP_K.value)


def _alpha_milestones() -> list[int]:
    return shared_flags.epochs_or_shares(_ALPHA_MILESTONES.value, (80, 160), 240)


def _search_model(batches: pipeline.Batches) -> bilevel.BilevelSearch:
    space = genotype.SPACES[_SPACE.value]
    net = supernet.Supernet(
        space,
        batches.num_classes,
        (shared_flags.HEIGHT.value, shared_flags.WIDTH.value, 3),
        shared_flags.WIDTH_MULTIPLIER.value,
        _DROPOUT.value,
        shared_flags.SEED.value,
    )
    epochs, steps = shared_flags.EPOCHS.value, batches.steps_per_epoch
    exploration = bilevel.Exploration(
        _EXPLORATION.value,
        total_steps=epochs * steps,
        warmup_steps=_WARMUP_EPOCHS.value * steps,
        temperature=_TEMPERATURE.value,
        seed=shared_flags.SEED.value,
    )
    search = bilevel.BilevelSearch(
        net, _top_k(), exploration, losses.ReidLoss(_MARGIN.value), _ALPHA_L2.value
    )
    rates = (
        schedules.cosine(epochs, _W_LR.value, _W_LR_END.value),
        schedules.multi_step(_ALPHA_LR.value, _alpha_milestones()),
    )
    w_rate, alpha_rate = (schedules.by_epoch(r, epochs, steps) for r in rates)
    w_optimizer = optimizers.CoupledSGD(w_rate, _MOMENTUM.value, _W_L2.value)
    alpha_optimizer = optimizers.LateAdam(
        alpha_rate, beta_1=0.5, start=exploration.first_alpha_step
    )
    search.compile(*map(optimizers.for_policy, (w_optimizer, alpha_optimizer)))
    return search


def _fit(search, batches, first_epoch: int, run_dir, strategy) -> None:
    log = search_log.SearchLog(
        search,
        _history(run_dir, search),
        first_epoch,
        run_dir / "tensorboard",
        **_network_options(),
    )
    run_directory.fit(
        search,
        batches,
        run_dir,
        strategy,
        images_per_step=2 * shared_flags.BATCH_SIZE.value,
        remedies=_REMEDIES,
        log=log,
    )


def _history(run_dir, search) -> search_log.AlphaHistory:
    return search_log.AlphaHistory(run_dir / "alpha.csv", search.net.space)


def _network_options() -> dict:
    shape = shared_flags.HEIGHT.value, shared_flags.WIDTH.value, 3
    return {
        "input_shape": shape,
        "width_multiplier": shared_flags.WIDTH_MULTIPLIER.value,
    }


def _write_results(search, network, data, run_dir: pathlib.Path) -> None:
    """Writes what the search leaves; genotype.json last, as the sign of its end.

    Args:
      search: with its supernet.
      network: derived from it, with its weights.
      data: searched on.
      run_dir: where to.
    """
    net, counts = search.net, search.counts.numpy()
    alphas = _history(run_dir, search).read()
    found = net.derive()
    whole = networks.build(found, **_network_options())
    report = search_log.collapse_report(alphas, counts, net.space)
    search_log.write_choices(run_dir / "choices.csv", counts, net.space)
    search_log.plot_alpha(run_dir / "alpha.png", alphas, net.space)
    atomic_files.write_text(run_dir / "collapse.txt", report)
    network_file.save(network, run_dir / "derived.keras", preprocess.IMAGENET)
    text = found.to_json(
        space_searched=_SPACE.value,
        top_k=search.top_k,
        branches=[list(branch) for branch in net.space],
        alpha=net.alpha.numpy().tolist(),
        provenance=run_directory.begun_with(run_dir, data),
    )
    atomic_files.write_text(run_dir / "genotype.json", text + "\n")
    print(f"\n{report}")
    rows = {
        "found genotype": str(found),
        "parameters": f"{counting.parameters(whole):,}",
        "multiply-accumulates": f"{counting.macs(whole):,}",
        "minutes": f"{(time.perf_counter() - shared_flags.LAUNCHED) / 60:.1f}",
        "results": str(run_dir),
    }
    for name, value in rows.items():
        print(f"{name:<22}{value}")
    print(f"\n{next_steps.after_search(run_dir)}")


if __name__ == "__main__":
    flags.mark_flag_as_required("run_dir")
    app.run(main, flags_parser=recipes.parse)
