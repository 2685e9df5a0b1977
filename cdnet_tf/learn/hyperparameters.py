"""The flags that a study tunes in each program, and the values to try.

A value is the text of a flag, so that a trial can be written as a flag file. This is
plain Python, without TensorFlow.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping


@dataclasses.dataclass(frozen=True)
class Interval:
    """Numbers drawn evenly from `low` to `high`; with `log`, their logarithms are."""

    low: float
    high: float
    log: bool = False


@dataclasses.dataclass(frozen=True)
class Choice:
    """Texts that are all equally likely."""

    values: tuple[str, ...]


Domain = Interval | Choice
Space = dict[str, Domain]

# One name for batch_size and images_per_id, so that batches hold whole identities.
P_X_K = "p_x_k"

# The values of flags/market1501.cfg lie in this space.
TRAIN: Space = {
    "lr": Interval(0.01, 0.2, log=True),
    "schedule": Choice(("cosine", "multi_step")),
    "l2": Interval(5e-5, 5e-3, log=True),
    "dropout": Interval(0.0, 0.5),
    "margin": Interval(0.1, 0.6),
    "label_smoothing": Interval(0.0, 0.2),
    "random_erasing": Interval(0.0, 0.7),
    "parts": Choice(("0", "1", "2", "3", "4")),
    P_X_K: Choice(("8x4", "16x4", "32x4", "8x8")),
}
# The values of flags/cs.cfg lie in this space.
SEARCH: Space = {
    "alpha_lr": Interval(1e-4, 1e-2, log=True),
    "exploration": Choice(("none", "gumbel", "uniform_warmup")),
    "top_k": Choice(("1", "2", "4")),
}
SPACES = {"train": TRAIN, "search": SEARCH}


@dataclasses.dataclass(frozen=True)
class _Epochs:
    """A flag that counts epochs.

    Attributes:
      shipped: the flag's default epochs in a run of `whole` epochs; () if its default
        follows the number of epochs by itself, or is 0.
      least: the smallest epoch allowed. It is 1 for a milestone, because a drop at
        epoch 0 would lower the rate from the start.
      only: for a flag that counts in some cases alone: the flag that decides it, the
        value of that flag with which this one counts, and that flag's default.
    """

    shipped: tuple[int, ...] = ()
    whole: int = 1
    least: int = 0
    only: tuple[str, str, str] = ("", "", "")


_EPOCHS = {
    "train": {
        "milestones": _Epochs(least=1, only=("schedule", "multi_step", "multi_step")),
        "lr_warmup_epochs": _Epochs(),
    },
    "search": {
        "alpha_milestones": _Epochs(least=1),
        "warmup_epochs": _Epochs(
            (20,), 240, 0, ("exploration", "uniform_warmup", "none")
        ),
    },
}
_REMEDY = "write name=low:high, name=low:high:log or name=a,b,c (name= leaves it out)."


def override(space: Space, ranges: Iterable[str]) -> Space:
    """Replaces or adds flags of a space; an empty range takes a flag out.

    Raises:
      ValueError: as `parse`, or no flag is left to tune.
    """
    space = dict(space)
    for text in ranges:
        name, domain = parse(text)
        space.pop(name, None)
        if domain is not None:
            space[name] = domain
    if not space:
        raise ValueError("The ranges leave nothing to tune; leave out fewer flags.")
    return space


def parse(text: str) -> tuple[str, Domain | None]:
    """Reads `lr=0.01:0.1:log`, `dropout=0:0.5`, `schedule=cosine,multi_step`.

    Returns:
      The flag and its values; None for `parts=`.

    Raises:
      ValueError: the text does not parse, or the interval is empty.
    """
    name, equals, values = text.partition("=")
    if not re.fullmatch(r"[a-z]\w*", name) or not equals:
        raise ValueError(f"range={text!r} names no flag; {_REMEDY}")
    if not values:
        return name, None
    if ":" in values:
        return name, _interval(text, values)
    choices = tuple(values.split(","))
    if "" in choices or len(set(choices)) < len(choices):
        raise ValueError(f"range={text!r} has an empty or repeated value; {_REMEDY}")
    for choice in choices if name == P_X_K else ():
        _batch(choice)
    return name, Choice(choices)


def _interval(text: str, values: str) -> Interval:
    number = r"([-+.\de]+)"
    match = re.fullmatch(f"{number}:{number}(:log)?", values)
    try:
        low, high = (float(group) for group in match.groups()[:2])  # type: ignore
    except (AttributeError, ValueError):
        raise ValueError(f"range={text!r} is no interval; {_REMEDY}") from None
    log = values.endswith(":log")
    if not low < high or log and low <= 0:
        raise ValueError(
            f"range={text!r}: low must be less than high"
            + (", and more than 0 for logarithms." if log else ".")
        )
    return Interval(low, high, log)


def as_flags(values: Mapping[str, float | str]) -> dict[str, str]:
    """Writes drawn values as flags, with 4 digits, so that records show what ran."""
    texts: dict[str, str] = {}
    for name, value in values.items():
        if name == P_X_K:
            p, k = _batch(str(value))
            texts |= {"batch_size": str(p * k), "images_per_id": str(k)}
        else:
            texts[name] = value if isinstance(value, str) else f"{value:.4g}"
    return texts


def of_recipe(space: Space, said: Mapping[str, object]) -> dict[str, str]:
    """Returns a recipe's values of the flags in a space, as texts.

    Args:
      space: what is tuned.
      said: every flag of the program as the recipe sets it.
    """
    texts = {name: str(said[name]) for name in space if name != P_X_K}
    if P_X_K in space:
        k = int(str(said["images_per_id"]))
        texts[P_X_K] = f"{int(str(said['batch_size'])) // k}x{k}"
    return texts


def nearest(space: Space, texts: Mapping[str, str]) -> dict[str, float | str]:
    """Moves values into a space: to an interval's nearest end, or the first choice."""
    values: dict[str, float | str] = {}
    for name, domain in space.items():
        text = texts[name]
        if isinstance(domain, Choice):
            values[name] = text if text in domain.values else domain.values[0]
        else:
            values[name] = min(max(float(text), domain.low), domain.high)
    return values


def in_epochs(
    program: str, said: Mapping[str, str], drawn: Mapping[str, str], whole: int
) -> dict[str, str]:
    """Returns a trial's flags that count epochs, moved to the same share of its epochs.

    The recipe's values are moved or, if it gives none, the shipped warm-up; default
    milestones follow the epochs by themselves. Only trials that have their own number
    of epochs, or drew the schedule or exploration that uses a flag, need this.

    Args:
      program: `train` or `search`.
      said: flags of the recipe.
      drawn: flags of the trial.
      whole: epochs of the recipe.
    """
    trial, texts = {**said, **drawn}, {}
    epochs = int(drawn.get("epochs", whole))
    for name, flag in _EPOCHS[program].items():
        switch, value, default = flag.only
        needed = "epochs" in drawn or switch in drawn
        if not needed or trial.get(switch, default) != value:
            continue
        numbers, of = flag.shipped, flag.whole
        if name in trial:
            numbers, of = tuple(map(int, filter(None, trial[name].split(",")))), whole
        # A drop must come before the end; after a warm-up an epoch must be left.
        most = epochs - 1
        scaled = (int(each * epochs / of + 0.5) for each in numbers)
        if numbers:
            kept = [str(min(max(each, flag.least), most)) for each in scaled]
            texts[name] = ",".join(kept if flag.least <= most else [])
    return texts


def corners(space: Space) -> list[str]:
    """Returns all choices and both ends of each interval as arguments to test-parse."""
    drawn = [
        {name: value}
        for name, domain in space.items()
        for value in (
            domain.values if isinstance(domain, Choice) else (domain.low, domain.high)
        )
    ]
    return [f"--{k}={v}" for each in drawn for k, v in as_flags(each).items()]


def _batch(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match or int(match[1]) < 2 or int(match[2]) < 2:
        raise ValueError(
            f"{P_X_K}={text!r} is no batch; write identities x images of each, 2 or "
            "more, as in 16x4."
        )
    return int(match[1]), int(match[2])
