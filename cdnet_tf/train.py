"""Trains a found or published network, and evaluates it on the test images.

The run directory then holds the network, its curves and its scores (docs/training.md).

python -m cdnet_tf.train --flagfile=flags/market1501.cfg --run_dir=runs/cdnet
python -m cdnet_tf.train --flagfile=flags/cifar100.cfg --run_dir=runs/cifar100
"""

from __future__ import annotations

import pathlib
from typing import Any

from cdnet_tf import shared_flags  # isort: skip  (notes when the program was launched)
from absl import app, flags

from cdnet_tf import next_steps, recipes
from cdnet_tf.nn import networks
from cdnet_tf.settings import SCHEDULES, STEMS, TrainSettings
from cdnet_tf.strategies import front
from cdnet_tf.training_run import train

flags.adopt_module_key_flags(shared_flags)  # --help lists them, too.
flags.DEFINE_string(
    "genotype",
    TrainSettings.genotype,
    "The network to train: a search's run directory, a genotype file, the branches "
    'themselves, as in "(3,5,1) (3,7,2) (5,7,2) (5,9,1) (5,7,2) (5,7,1)", or a name: '
    + ", ".join(networks.NAMES),
)
_FRONT = flags.DEFINE_integer(
    "front",
    None,
    "Trains this network of the front that the search --genotype left, with its width "
    "multiplier; 1 is the cheapest. See front.csv there.",
    1,
)
flags.DEFINE_enum(
    "stem",
    TrainSettings.stem,
    STEMS,
    "First layers: `reid` is a 7x7 convolution of stride 2 and a pool, `cifar` a 3x3 "
    "convolution of stride 1.",
)
flags.DEFINE_enum(
    "neck",
    TrainSettings.neck,
    networks.NECKS,
    "Neck between the feature maps and the embedding (Table 6); `fc` is OSNet's.",
)
flags.DEFINE_integer(
    "parts", TrainSettings.parts, "Horizontal stripes of the FNeck (Table 5).", 0, 4
)
flags.DEFINE_string(
    "init_from",
    TrainSettings.init_from,
    "Weights to start from, except the heads': a run directory, a .keras file, an .h5 "
    "file, or shipped weights, such as market1501/cdnet_x0_25.",
)
flags.DEFINE_float("lr", TrainSettings.lr, "Peak learning rate.", 0.0)
flags.DEFINE_enum(
    "schedule",
    TrainSettings.schedule,
    SCHEDULES,
    "How the learning rate falls from epoch to epoch.",
)
flags.DEFINE_list(
    "milestones",
    TrainSettings.milestones,
    "Epochs at which the learning rate drops; used by --schedule=multi_step. Default: "
    "at 3/7, 9/14 and 6/7 of --epochs, which is 150,225,300 of 350.",
)
flags.DEFINE_float(
    "lr_decay",
    TrainSettings.lr_decay,
    "Factor of the learning rate, applied at each milestone, or with "
    "--schedule=exponential after each epoch.",
)
flags.DEFINE_float(
    "lr_end",
    TrainSettings.lr_end,
    "Learning rate at the end; used by --schedule=cosine.",
    0.0,
)
flags.DEFINE_integer(
    "lr_warmup_epochs",
    TrainSettings.lr_warmup_epochs,
    "Epochs at the start in which the learning rate rises linearly.",
    0,
)
flags.DEFINE_float(
    "l2", TrainSettings.l2, "L2 penalty of all weights, part of the loss.", 0.0
)
flags.DEFINE_float(
    "label_smoothing",
    TrainSettings.label_smoothing,
    "Label smoothing of the softmax loss.",
    0.0,
    1.0,
)
flags.DEFINE_boolean("xla", TrainSettings.xla, "Compile the training step with XLA.")
shared_flags.register_epochs("milestones")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    has_classes = shared_flags.has_classes()
    with shared_flags.refusing():
        settings = read_settings()
        settings.check()
        strategy = shared_flags.connect()
        settings.check_batch(strategy.num_replicas_in_sync, has_classes)
    run_dir = pathlib.Path(shared_flags.RUN_DIR.value)
    found = train(
        shared_flags.read_classes() if has_classes else shared_flags.read_data(),
        run_dir,
        settings,
        strategy=strategy,
        restarts=shared_flags.RESTARTS.value,
        # The network's own file stands for --front.
        record=shared_flags.flag_values(__name__) | _of_front() | {"front": None},
        launched=shared_flags.LAUNCHED,
    )
    if found and has_classes:
        print(next_steps.after_classes(run_dir, str(settings.genotype)))
    elif found:
        print(next_steps.after_training(run_dir))


def read_settings() -> TrainSettings:
    """Returns the settings that the flags stand for, not yet checked.

    Raises:
      ValueError: there is no such network on the search's front, or it was found for
        another input size.
    """
    return TrainSettings(**shared_flags.values(TrainSettings) | _of_front())


def _of_front() -> dict[str, Any]:
    """What --front says of the network, in the place of other flags."""
    if _FRONT.value is None:
        return {}
    member = front.member(flags.FLAGS["genotype"].value, _FRONT.value)
    size = shared_flags.HEIGHT.value, shared_flags.WIDTH.value
    if size != (member.height, member.width):
        raise ValueError(
            f"front={_FRONT.value} was found for images of {member.height}x"
            f"{member.width}, where its costs hold, and not of {size[0]}x{size[1]}; "
            f"add --height={member.height} --width={member.width}."
        )
    return {
        "genotype": str(member.file),
        "width_multiplier": member.width_multiplier,
    }


if __name__ == "__main__":
    flags.mark_flag_as_required("run_dir")
    app.run(main, flags_parser=recipes.parse)
