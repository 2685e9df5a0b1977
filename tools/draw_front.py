"""Draws the front of a search again, beside what its networks reach once trained.

The picture gets a second panel, and the means over seeds are printed.

    python tools/draw_front.py --run_dir=RUN --trained=FILE

RUN is a search under limits. FILE is a CSV file with a row for each training, all of
one length and judged on the same people: `genotype`, which is a name such as cdnet or
osnet, a genotype file, or the branches; `test_mAP` or `mAP`, in %; `width_multiplier`,
where the front has several; and `ms`, where it is known. Tables of
tools/bench_space.py are such files. Several rows of a network are its seeds.

The picture is RUN/front.png. Networks outside of the search space, such as OSNet, have
the time that the column `ms` says, or Vela's where the device is an Ethos-U; otherwise
they are left out, and named.
"""

from __future__ import annotations

import csv
import json
import pathlib
import tempfile
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from cdnet_tf import shared_flags  # isort: skip  (quiets TensorFlow)
from absl import app, flags

from cdnet_tf import recipes
from cdnet_tf.deploy import latency, latency_files, npu, rewrite
from cdnet_tf.nn import counting, genotype, networks
from cdnet_tf.search_settings import SearchSettings
from cdnet_tf.strategies import front, front_picture, limits
from cdnet_tf.strategies.front_picture import Scored
from cdnet_tf.strategies.space import COSTS, Network

_TRAINED = flags.DEFINE_string("trained", None, "CSV file of trainings.")
_OUTSIDE = ("cdnet_std", *networks.BASELINES)  # of the search space

Key = tuple[str | genotype.Genotype, float]  # a network, and its width multiplier


class Row(NamedTuple):
    """A training.

    Attributes:
      mean_ap: 0..1.
      ms: milliseconds, where the file says them.
    """

    mean_ap: float
    ms: float | None


class Search(NamedTuple):
    """What the costs of a search are and hold for.

    Attributes:
      strategy: that it went by.
      by: the cost of its front, one of `space.COSTS`.
      limit: of this cost, if there was one.
      device: a name or a file, if there was one.
      height, width: of the input, pixels.
    """

    strategy: str
    by: str
    limit: float | None
    device: str | None
    height: int
    width: int


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    run_dir = pathlib.Path(shared_flags.RUN_DIR.value)
    with shared_flags.refusing():
        found = front.load(run_dir)
        widths = {each.width_multiplier for each in found.points}
        rows = read(pathlib.Path(_TRAINED.value), widths)
        search = _search(run_dir, found.by)
        trained = scored(rows, search)
    numbers = {each.network: f"front {i}" for i, each in enumerate(found.points, 1)}
    points = {numbers[key]: trained[key] for key in numbers if key in trained}
    others = {_name(key): each for key, each in trained.items() if key not in numbers}
    panels = {
        front_picture.title(search.strategy): front_picture.searched(found),
        "as trained": front_picture.trained(points, others),
    }
    front_picture.draw(run_dir / "front.png", panels, found.by, search.limit)
    print(f"{report(points, others, found.by)}\nPicture: {run_dir / 'front.png'}")


def _search(run_dir: pathlib.Path, by: str) -> Search:
    said = json.loads(front.member(run_dir, 1).file.read_text())
    given = said["provenance"]["flags"]
    return Search(
        said["search_strategy"],
        by,
        given.get(COSTS[by]),
        given.get("device"),
        said["height"],
        said["width"],
    )


def read(path: pathlib.Path, widths: Collection[float]) -> dict[Key, list[Row]]:
    """Reads the trainings of each network.

    Args:
      path: of the CSV file.
      widths: of the front; where it is one, rows need not say theirs.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a row lacks what it must say.
    """
    if not path.is_file():
        raise FileNotFoundError(f"trained={path} is no file.")
    found: dict[Key, list[Row]] = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            score = row.get("test_mAP") or row.get("mAP")
            width = row.get("width_multiplier")
            if not width and len(widths) == 1:
                width = str(*widths)
            if not (row.get("genotype") and score and width):
                raise ValueError(
                    f"{path}: {row} must say genotype, test_mAP or mAP, and, as the "
                    f"front has {len(widths)} widths, width_multiplier."
                )
            name = row["genotype"]
            key = name if name in _OUTSIDE else genotype.load(name)
            ms = float(row["ms"]) if row.get("ms") else None
            training = Row(float(score) / 100, ms)
            found.setdefault((key, float(width)), []).append(training)
    return found


def scored(rows: Mapping[Key, Sequence[Row]], search: Search) -> dict[Key, Scored]:
    """Each network with its cost; says which are left out because it is not known."""
    found = {}
    for key, each in rows.items():
        said = next((row.ms for row in each if row.ms is not None), None)
        cost = said if said and search.by == "ms" else _cost(key, search)
        if cost is None:
            print(f"{_name(key)} is left out: nobody says its ms; add a column ms.")
        else:
            found[key] = Scored(cost, [row.mean_ap for row in each])
    return found


def _cost(key: Key, search: Search) -> float | None:
    network, width = key
    if isinstance(network, genotype.Genotype):
        settings = SearchSettings(
            search_strategy="random",
            device=search.device,
            height=search.height,
            width=search.width,
            width_multiplier=width,
        )
        space = limits.space_of(settings)
        return space.costs(space.choice(Network(network, width)))[search.by]
    built = networks.build_named(network, (search.height, search.width, 3), width)
    if search.by == "ms":
        return by_vela(built, latency.load(search.device)) if search.device else None
    count = {"macs": counting.macs, "parameters": counting.parameters}[search.by]
    return count(built)


def by_vela(network, device: latency.Device) -> float | None:
    """Milliseconds of a network on an Ethos-U; None where Vela cannot tell.

    The file is made as those from which the device's times were learnt.
    """
    said = device.conditions
    if said.get("accelerator") not in npu.ACCELERATORS:
        return None
    try:
        (target,) = npu.targets(
            [said["accelerator"]], said["system_config"], said["memory_mode"]
        )
    except npu.NpuError as error:
        print(f"No time of {network.name}: {error}")
        return None
    if said["rewrite"]:
        network = rewrite.rewrite(network, said["rewrite"])
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / f"{network.name}.tflite"
        path.write_bytes(latency_files.of_network(network))
        _, measured = npu.compiled(path, target)
        npu.refuse_cpu(measured, path)
    return measured["milliseconds"]


def _name(key: Key) -> str:
    network, width = key
    if isinstance(network, genotype.Genotype):
        names = (n for n in genotype.published_names() if genotype.load(n) == network)
        network = next(names, str(network))
    return f"{network} x{width:g}"


def report(points: Mapping[str, Scored], others: Mapping[str, Scored], by: str) -> str:
    """What was trained, and which points of the front beat which other network."""
    lines = [f"{by:>12}{'mAP, %':>9}  seeds  network"]
    for name, each in [*points.items(), *others.items()]:
        cost = f"{each.cost:.2f}" if by == "ms" else f"{each.cost:,}"
        lines.append(f"{cost:>12}{100 * _mean(each):9.2f}{len(each.scores):7}  {name}")
    for name, other in others.items():
        better = [
            point
            for point, own in points.items()
            if own.cost < other.cost and _mean(own) >= _mean(other)
        ]
        found = ", ".join(better) or "no network of the front that was trained"
        lines.append(f"Cheaper than {name} and no worse in mAP: {found}.")
    return "\n".join(lines)


def _mean(network: Scored) -> float:
    return sum(network.scores) / len(network.scores)


if __name__ == "__main__":
    flags.mark_flags_as_required(["run_dir", "trained"])
    app.run(main, flags_parser=recipes.parse)
