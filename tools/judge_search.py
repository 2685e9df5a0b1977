r"""Trains a supernet on a table's people, and judges its scores by the table.

  python tools/judge_search.py --flagfile=flags/single_path.cfg --data_dir=DIR \
      --table=cdnet_tf/bench/space.csv --run_dir=runs/judged

Takes the flags of `cdnet_tf.search`, of whose strategies `single_path` alone scores
networks that it did not choose. The supernet learns from the table's training people,
scores every network of the table on its select people, and the order is compared with
that of the mAP on its test people (docs/bench_space.md).
"""

from __future__ import annotations

import pathlib

from cdnet_tf import shared_flags  # isort: skip  (notes when the program was launched)
import numpy as np
from absl import app, flags

from cdnet_tf import recipes, run_directory, search
from cdnet_tf.bench import agreement, table
from cdnet_tf.data import datasets
from cdnet_tf.learn import devices
from cdnet_tf.settings import SearchSettings
from cdnet_tf.strategies import candidates, single_path
from cdnet_tf.strategies.run import Run
from cdnet_tf.supernet import costs

flags.adopt_module_key_flags(shared_flags)  # --help lists them, too.
flags.adopt_module_key_flags(search)


def define_flags() -> None:
    # Not at import, where the names would clash with other programs' in one process.
    flags.DEFINE_string("table", str(table.SHIPPED), "CSV file of trained networks.")
    flags.DEFINE_integer("people", 301, "People whom the weights learn from.", 2)
    flags.DEFINE_integer("select_people", 150, "People who are scored on.", 2)
    flags.DEFINE_integer("test_people", 300, "The table's test people.", 2)
    flags.DEFINE_integer("split_seed", 0, "Seed of the draw of all people.", 0)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    values = flags.FLAGS
    with shared_flags.refusing():
        settings = search.read_settings()
        settings.check()
        entries = list(table.by_conditions(table.load(values.table)).values())[-1]
    strategy = shared_flags.connect()
    groups = values.people, values.select_people, values.test_people
    # The table's select people are query and gallery.
    data, _ = shared_flags.read_groups(*groups, seed=values.split_seed)
    record = shared_flags.flag_values(search.__name__)
    record |= shared_flags.flag_values(__name__)
    run_dir = pathlib.Path(shared_flags.RUN_DIR.value)
    run_dir = run_directory.join_run(run_dir, record, data, strategy)
    devices.begin(settings.seed, settings.policy(run_dir, strategy))
    run = Run(run_dir, strategy, 0, shared_flags.LAUNCHED)
    scores = score(data, settings, run, list(table.means(entries)))
    print(report(entries, scores))


def score(
    data: datasets.ReidDataset,
    settings: SearchSettings,
    run: Run,
    networks: list[table.Genotype],
) -> list[float]:
    """Scores networks with a supernet, which is trained first; writes scores.csv."""
    net = single_path.train_supernet(data, settings, run)
    if net is None:
        raise ValueError("strategy=multi_worker leaves the scores to one worker alone.")
    judge = single_path.Judge(net, data, settings)
    scored = candidates.Candidates(
        run.directory / "scores.csv",
        settings.branches,
        costs.of_space(settings.branches, **settings.network_options),
    )
    choices = (map(settings.branches.index, each.layers) for each in networks)
    return [scored.judge(tuple(choice), judge).mean_ap for choice in choices]


def report(entries: list[table.Entry], scores: list[float]) -> str:
    """The scores against the table's truth, beside what costs say without training."""
    truth = np.array(list(table.means(entries).values()))
    depths = list(table.means(entries, "depth").values())
    macs = list(table.means(entries, "macs").values())
    genotypes, by_seed = table.matrix(entries)
    lines = [f"Kendall's tau with the mAP of {len(genotypes)} trained networks:"]
    lines += [f"{'':<22}{'all':>24}{'within one depth':>24}"]
    for name, predictor in (("supernet", scores), ("depth", depths), ("MACs", macs)):
        taus = [
            agreement.estimate(agreement.tau, predictor, truth, within)
            for within in (None, depths)
        ]
        cells = [f"{e.value:.2f} ({e.low:.2f} to {e.high:.2f})" for e in taus]
        lines.append(f"{name:<22}{cells[0]:>24}{cells[1]:>24}")
    cells = [f"{agreement.seed_tau(by_seed, within):.2f}" for within in (None, depths)]
    lines.append(f"{'one seed with another':<22}{cells[0]:>24}{cells[1]:>24}")
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    flags.mark_flag_as_required("run_dir")
    app.run(main, flags_parser=recipes.parse)
