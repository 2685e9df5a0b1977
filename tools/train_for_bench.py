r"""Trains a network on some people, and tests it on two groups of other people.

All three groups are drawn from the training split; no other split is read.

  python tools/train_for_bench.py --flagfile=flags/photographs.cfg --data_dir=DIR \
      --genotype=cdnet --people=301 --select_people=150 --test_people=300 \
      --run_dir=runs/cdnet

The program takes the flags of `cdnet_tf.train` and writes the same files.
evaluation.json has the scores on the select people, and test.json those on the test
people. tools/bench_space.py trains many networks with this program.
"""

from __future__ import annotations

import json
import pathlib

from cdnet_tf import shared_flags  # isort: skip  (notes when the program was launched)
from absl import app, flags

from cdnet_tf import atomic_files, evaluate, recipes, train

flags.adopt_module_key_flags(shared_flags)  # --help lists them, too.
flags.adopt_module_key_flags(train)


def define_flags() -> None:
    # At import, the names would clash with those of other programs in one process.
    flags.DEFINE_integer("people", None, "People to train on.", 2, required=True)
    flags.DEFINE_integer(
        "select_people", None, "People scored in evaluation.json.", 2, required=True
    )
    flags.DEFINE_integer(
        "test_people", None, "People scored in test.json.", 2, required=True
    )
    flags.DEFINE_integer("split_seed", 0, "Seed of the draw of all people.", 0)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    with shared_flags.refusing():
        settings = train.read_settings()
        settings.check()
        strategy = shared_flags.connect()
    values = flags.FLAGS
    groups = values.people, values.select_people, values.test_people
    select, test = shared_flags.read_groups(*groups, seed=values.split_seed)
    run_dir = pathlib.Path(shared_flags.RUN_DIR.value)
    record = shared_flags.flag_values(train.__name__)
    record |= shared_flags.flag_values(__name__)
    train.train(
        select,
        run_dir,
        settings,
        strategy=strategy,
        record=record,
        launched=shared_flags.LAUNCHED,
    )
    found = evaluate.evaluate(run_dir / "model.keras", test, record=record)
    text = json.dumps(found["scores"], indent=1)
    atomic_files.write_text(run_dir / "test.json", text)


if __name__ == "__main__":
    define_flags()
    flags.mark_flag_as_required("run_dir")
    app.run(main, flags_parser=recipes.parse)
