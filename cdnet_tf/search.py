r"""Searches CS or CDS for a network, by the paper's rule or by another strategy.

The paper's rule is Top-k Sample Search (Algorithm 1). docs/search.md says what each
strategy does and what a search leaves in its run directory.

python -m cdnet_tf.search --flagfile=flags/cds.cfg --data_dir=DIR --run_dir=runs/cds
python -m cdnet_tf.search --flagfile=flags/single_path.cfg --data_dir=DIR \
    --run_dir=runs/single_path
python -m cdnet_tf.search --flagfile=flags/table.cfg --device=ethos-u65-256 \
    --max_ms=0.5 --run_dir=runs/camera
"""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Callable

from cdnet_tf import shared_flags  # isort: skip  (notes when the program was launched)
import tensorflow as tf
from absl import app, flags

from cdnet_tf import device_flags, next_steps, recipes, run_directory
from cdnet_tf.data import datasets, holdout
from cdnet_tf.learn import bilevel, devices
from cdnet_tf.learn import single_path as drawing
from cdnet_tf.nn import genotype
from cdnet_tf.search_settings import SEARCH_STRATEGIES, SearchSettings
from cdnet_tf.strategies import (
    front,
    limits,
    results,
    single_path,
    tabulated,
    top_k,
    trained,
)
from cdnet_tf.strategies.run import Found, Run
from cdnet_tf.supernet import sharing

flags.adopt_module_key_flags(shared_flags)  # --help lists them, too.
flags.adopt_module_key_flags(device_flags)
flags.DEFINE_enum(
    "space",
    SearchSettings.space,
    list(genotype.SPACES),
    "Search space: `cs` offers 6 branches for each block, `cds` 12.",
)
flags.DEFINE_enum(
    "search_strategy",
    SearchSettings.search_strategy,
    SEARCH_STRATEGIES,
    "`top_k` is the paper's rule. `single_path` trains one branch of each block at a "
    "time, and then evolves networks that are judged with the supernet's weights. "
    "`random`, `halving` and `regression` train networks one by one. `table` trains "
    "nothing, reads no images, and takes seconds. See docs/search.md.",
)
flags.DEFINE_integer(
    "select_identities",
    SearchSettings.select_identities,
    "How many people of the training split are kept back to compare networks on; no "
    "weight learns from them. Default: a fifth, and none for --search_strategy=top_k.",
    0,
)
flags.DEFINE_enum(
    "draw",
    SearchSettings.draw,
    drawing.DRAWS,
    "How --search_strategy=single_path draws the branches of a step: `uniform` draws "
    "them independently at random; `fair` runs every branch exactly once in as many "
    "steps as a block has branches.",
)
flags.DEFINE_enum(
    "shared",
    SearchSettings.shared,
    sharing.SHARING,
    "Weights that the branches of a block share with --search_strategy=single_path: "
    "none (`branch`), the convolutions around the two streams (`body`), or the streams "
    "as well, where a short stream is the beginning of a long one (`nested`).",
)
flags.DEFINE_integer(
    "population", SearchSettings.population, "Networks in each generation.", 2
)
flags.DEFINE_integer(
    "generations",
    SearchSettings.generations,
    "Generations of the evolution that follows --search_strategy=single_path.",
    1,
)
flags.DEFINE_integer(
    "candidates",
    SearchSettings.candidates,
    "Networks that --search_strategy=random, halving and regression draw and train. "
    "Each trains for --epochs; with halving, weaker ones stop early.",
    2,
)
flags.DEFINE_string(
    "table",
    SearchSettings.table,
    "CSV file of tools/bench_space.py from whose trainings --search_strategy=table "
    "predicts. Default: the package's, which is of Market-1501 at 128x64.",
)
flags.DEFINE_float(
    "max_ms",
    SearchSettings.max_ms,
    "Milliseconds that a network may take on --device. With a device, or any limit, a "
    "search leaves a front: the best network of each cost. See docs/search.md.",
    0.0,
)
flags.DEFINE_integer(
    "max_macs",
    SearchSettings.max_macs,
    "Multiply-accumulates that a network may take for one image.",
    1,
)
flags.DEFINE_integer(
    "max_params", SearchSettings.max_params, "Parameters that a network may have.", 1
)
flags.DEFINE_string(
    "top_k",
    str(SearchSettings.top_k),
    "How many branches of each block run in a step of --search_strategy=top_k: 1 to 6 "
    "(cs) or 1 to 12 (cds), or `all`.",
)
flags.DEFINE_enum(
    "exploration",
    SearchSettings.exploration,
    bilevel.Exploration.KINDS,
    "How --search_strategy=top_k chooses the branches of a step: `none` takes those "
    "with the k largest alpha, as the paper does; `gumbel` adds noise that fades; "
    "`uniform_warmup` draws them at random in the first --warmup_epochs.",
)
flags.DEFINE_float(
    "temperature",
    SearchSettings.temperature,
    "Strength of the noise at the start, from where it falls to 0; used by "
    "--exploration=gumbel.",
    0.0,
)
flags.DEFINE_integer(
    "warmup_epochs",
    SearchSettings.warmup_epochs,
    "Epochs at the start in which branches are drawn at random and alpha does not "
    "learn; used by --exploration=uniform_warmup.",
    0,
)
flags.DEFINE_float(
    "w_lr", SearchSettings.w_lr, "Learning rate of the weights at the start."
)
flags.DEFINE_float(
    "w_lr_end",
    SearchSettings.w_lr_end,
    "Learning rate of the weights at the end; it falls along a cosine.",
)
flags.DEFINE_integer(
    "w_lr_warmup_epochs",
    SearchSettings.w_lr_warmup_epochs,
    "Epochs at the start in which the weights' learning rate rises linearly.",
    0,
)
flags.DEFINE_float(
    "w_l2", SearchSettings.w_l2, "L2 penalty of the weights, part of their loss.", 0.0
)
flags.DEFINE_float(
    "alpha_lr", SearchSettings.alpha_lr, "Learning rate of alpha (Adam)."
)
flags.DEFINE_list(
    "alpha_milestones",
    SearchSettings.alpha_milestones,
    "Epochs at which alpha's learning rate drops to a tenth. Default: after a third "
    "and two thirds of --epochs, which is 80,160 of 240.",
)
flags.DEFINE_float(
    "alpha_l2", SearchSettings.alpha_l2, "L2 penalty of alpha, part of its loss.", 0.0
)
flags.register_validator(
    "top_k",
    lambda text: text == "all" or text.isdecimal(),
    "must be a number of branches, as in --top_k=2, or `all`",
)
shared_flags.register_epochs("alpha_milestones")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    with shared_flags.refusing():
        shared_flags.refuse_classes()
        settings = read_settings()
        settings.check()
        strategy = shared_flags.connect()
        settings.check_batch(strategy.num_replicas_in_sync)
        if settings.search_strategy != "top_k":
            limits.space_of(settings)
        is_of_table = settings.search_strategy == "table"
        data = tabulated.read(settings) if is_of_table else None
    record = shared_flags.flag_values(__name__)
    record |= shared_flags.flag_values(device_flags.__name__)
    if data:
        record["dataset"] = data.name  # --dataset is not read.
    run_dir = pathlib.Path(shared_flags.RUN_DIR.value)
    found = search(
        data or shared_flags.read_data(["train"]),
        run_dir,
        settings,
        strategy=strategy,
        restarts=shared_flags.RESTARTS.value,
        record=record,
        launched=shared_flags.LAUNCHED,
    )
    if found:
        points = front.read(run_dir / "front.csv")
        print(f"\n{next_steps.after_search(run_dir, len(points))}")


def read_settings() -> SearchSettings:
    """Returns the settings that the flags stand for, not yet checked."""
    return SearchSettings(**shared_flags.values(SearchSettings))


def search(
    data: datasets.ReidDataset | tabulated.Trainings,
    run_dir: str | os.PathLike,
    settings: SearchSettings | None = None,
    *,
    strategy: tf.distribute.Strategy | None = None,
    restarts: int = 0,
    record: dict | None = None,
    launched: float | None = None,
) -> genotype.Genotype | None:
    """Searches a network, or resumes a search that was cut short.

    Args:
      data: the data set; the search sees its training split alone. For the strategy
        `table`, what `tabulated.read` returns.
      run_dir: folder of the results, which docs/search.md lists.
      settings: how to search; by default as the authors' released code does.
      strategy: from `devices.connect`; by default TensorFlow's current one.
      restarts: see `distributed.guarded`.
      record: the settings to note in `run.json`; by default all of them.
      launched: `time.perf_counter()` when the program began; by default now.

    Returns:
      The genotype found. None on a worker that is not the chief.

    Raises:
      ValueError: the settings do not fit each other, the data, or the run that is
        resumed; or no network keeps the limits.
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
    found = _STRATEGIES[settings.search_strategy](
        _with_people_to_select_on(data, settings),
        settings,
        Run(run_dir, strategy, restarts, launched),
    )
    if found is None:
        return None
    provenance = run_directory.begun_with(run_dir, record, data)
    results.write(found, run_dir, settings, provenance, launched)
    return genotype.load(run_dir)


_STRATEGIES: dict[str, Callable[..., Found | None]] = {
    "top_k": top_k.search,
    "single_path": single_path.search,
    "random": trained.random_search,
    "halving": trained.halving,
    "regression": trained.regression,
    "table": tabulated.search,
}


def _with_people_to_select_on(
    data: datasets.ReidDataset | tabulated.Trainings, settings: SearchSettings
) -> datasets.ReidDataset | tabulated.Trainings:
    """Moves people of the training split to query and gallery, to compare networks.

    Raises:
      ValueError: the training split cannot spare so many people.
    """
    if isinstance(data, tabulated.Trainings):
        return data
    people = len(set(data.train.identities.tolist()))
    count = settings.people_to_select_on(people)
    if not count:
        return data
    try:
        return holdout.hold_out(data, count, settings.seed)
    except ValueError as error:
        raise ValueError(
            f"{str(error).replace('holdout_identities', 'select_identities')}"
        ) from error


if __name__ == "__main__":
    flags.mark_flag_as_required("run_dir")
    app.run(main, flags_parser=recipes.parse)
