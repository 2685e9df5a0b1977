r"""Runs a search on the people of a table, and judges its scores by the table.

The search learns from the people on whom the table's networks were trained. After some
of its epochs it scores every network that tools/bench_space.py may train. The order of
these scores is compared with the order by mAP on the table's test people.

  python tools/judge_search.py --flagfile=flags/single_path.cfg --data_dir=DIR \
      --run_dir=runs/judged
  python tools/judge_search.py --flagfile=flags/single_path.cfg --data_dir=DIR \
      --run_dir=runs/judged --table=FILE   # again, when the table has more networks

It takes the flags of `cdnet_tf.search`; if --table names no file, networks are only
scored. `single_path` scores by mAP on the select
people, with the supernet's weights; `top_k` scores by alpha (docs/bench_space.md).
"""

from __future__ import annotations

import pathlib

from cdnet_tf import shared_flags  # isort: skip  (notes when the program was launched)
from absl import app, flags

from cdnet_tf import recipes, run_directory, search
from cdnet_tf.bench import plans, table
from cdnet_tf.learn import devices
from cdnet_tf.strategies import judging
from cdnet_tf.strategies.run import Run

flags.adopt_module_key_flags(shared_flags)  # --help lists them, too.
flags.adopt_module_key_flags(search)


def define_flags() -> None:
    # At import, the names would clash with those of other programs in one process.
    flags.DEFINE_list(
        "at",
        None,
        "Epochs after which networks are scored. Default: a quarter, half and all of "
        "--epochs.",
    )
    flags.DEFINE_integer("people", 301, "People whom the weights learn from.", 2)
    flags.DEFINE_integer("select_people", 150, "People on whom networks are scored.", 2)
    flags.DEFINE_integer("test_people", 300, "The table's test people.", 2)
    flags.DEFINE_integer("split_seed", 0, "Seed of the draw of all people.", 0)
    flags.register_validator(
        "at",
        lambda epochs: all(each.isdecimal() for each in epochs or ()),
        "must be epochs, as in --at=15,30,60",
    )


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    values = flags.FLAGS
    with shared_flags.refusing():
        settings = search.read_settings()
        settings.check()
        epochs = _epochs(values.at, settings.epochs)
        entries = _entries(pathlib.Path(values.table or table.SHIPPED))
    strategy = shared_flags.connect()
    groups = values.people, values.select_people, values.test_people
    # The select people become query and gallery.
    data, _ = shared_flags.read_groups(*groups, seed=values.split_seed)
    record = shared_flags.flag_values(search.__name__)
    record |= shared_flags.flag_values(__name__)
    for name in ("table", "at"):  # Both may change before the search is resumed.
        record.pop(name, None)
    run_dir = pathlib.Path(shared_flags.RUN_DIR.value)
    run_dir = run_directory.join_run(run_dir, record, data, strategy)
    devices.begin(settings.seed, settings.policy(run_dir, strategy))
    run = Run(run_dir, strategy, 0, shared_flags.LAUNCHED)
    planned = {each.genotype for each in plans.bench([1])}
    networks = sorted(planned | {entry.genotype for entry in entries}, key=str)
    scores = judging.score(data, settings, run, networks, epochs)
    if entries:
        print(judging.report(entries, {epoch: scores[epoch] for epoch in epochs}))


def _epochs(at: list[str] | None, last: int) -> list[int]:
    """Returns the epochs to score at, in order.

    Raises:
      ValueError: an epoch is beyond the last.
    """
    if at is None:
        return sorted({max(1, last // 4), max(1, last // 2), last})
    epochs = sorted({int(each) for each in at})
    if not 1 <= epochs[0] <= epochs[-1] <= last:
        raise ValueError(f"at={','.join(at)} is not within epochs 1 to {last}.")
    return epochs


def _entries(path: pathlib.Path) -> list[table.Entry]:
    """Returns the longest trainings of the table; none if there is no file."""
    if not path.exists():
        return []
    return table.longest(table.load(path))


if __name__ == "__main__":
    define_flags()
    flags.mark_flag_as_required("run_dir")
    app.run(main, flags_parser=recipes.parse)
