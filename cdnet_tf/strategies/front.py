"""The front that a search leaves if cost matters, and its files.

front.csv has the points of the front, the cheapest first. front/N.json is the genotype
file of the N-th point, with its width multiplier and its input size.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import pathlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cdnet_tf import atomic_files
from cdnet_tf.bench import fronts
from cdnet_tf.nn import genotype
from cdnet_tf.strategies import candidates
from cdnet_tf.strategies.candidates import Candidate
from cdnet_tf.strategies.space import Choice, Network, Space, Sum

_POINTS = 12  # greatest number of points, each of which a user may want to train
_COLUMNS = tuple(name for name in candidates.COLUMNS if name != "seconds")


@dataclasses.dataclass(frozen=True)
class Front:
    """The networks that are the best for what they cost.

    Attributes:
      by: the cost, one of `space.COSTS`.
      points: the cheapest first, at most twelve.
      judged: all networks that were run or trained to find them.
      peers: published networks of the space by their names, scored like the points;
        empty if the search scores only networks that it trains.
    """

    by: str
    points: Sequence[Candidate]
    judged: Sequence[Candidate]
    peers: dict[str, Candidate] = dataclasses.field(default_factory=dict)


def of_judged(
    space: Space, judged: Sequence[Candidate], peers: dict[str, Candidate] | None = None
) -> Front:
    """Returns the front of networks that were judged; see `Front`."""
    costs = [getattr(each, space.by) for each in judged]
    best = fronts.pareto(costs, [each.mean_ap for each in judged])
    return Front(
        space.by, spread([judged[i] for i in best], space.by), judged, peers or {}
    )


def of_predicted(
    space: Space, scores: Mapping[float, Sum], judged: Sequence[Candidate]
) -> Front:
    """Returns the front of all networks that keep the limits, by predicted scores.

    Args:
      space: the search's space.
      scores: predictions of mAP, 0..1, for the networks of each width, as a sum over
        the blocks. A width without predictions is left out.
      judged: the networks that were trained to predict the others.
    """

    def predicted(choice: Choice) -> Candidate:
        width = space.network(choice).width_multiplier
        score = scores[width].of([choice[: genotype.NUM_BLOCKS]])[0].item()
        return candidates.of(space, choice, score)

    points = [candidates.of(space, *each) for each in space.front(scores)]
    peers = published(space, scores).items()
    return Front(
        space.by,
        spread(points, space.by),
        judged,
        {name: predicted(choice) for name, choice in peers},
    )


def spread(points: Sequence[Candidate], by: str) -> list[Candidate]:
    """Returns at most twelve points of a front, their costs about evenly spaced."""
    costs = [getattr(each, by) for each in points]
    return [points[i] for i in fronts.spread(costs, _POINTS)]


def published(
    space: Space, widths: Collection[float] | None = None
) -> dict[str, Choice]:
    """Returns the choices of the published networks that are in a space, by name.

    Args:
      space: the search's space.
      widths: some width multipliers of the space; by default all.
    """
    widths = space.widths if widths is None else sorted(widths)
    found = {}
    for name in genotype.published_names():
        layers = genotype.load(name)
        if not set(layers.layers) <= set(space.branches):
            continue
        for width in widths:
            label = name if len(space.widths) == 1 else f"{name} x{width:g}"
            found[label] = space.choice(Network(layers, width))
    return found


def load(run_dir: str | os.PathLike) -> Front:
    """Reads the front that a search left.

    Raises:
      ValueError: there is none.
    """
    directory = pathlib.Path(run_dir)
    said = json.loads(member(run_dir, 1).file.read_text())
    return Front(
        said["by"],
        list(read(directory / "front.csv").values()),
        candidates.read(directory / "candidates.csv"),
        read(directory / "peers.csv"),
    )


def write(directory: pathlib.Path, front: Front, **record: Any) -> None:
    """Writes a front's files into a run's directory.

    Args:
      directory: the run's directory.
      front: the front that the run found.
      **record: more entries of each genotype file, ready for JSON.
    """
    (directory / "front").mkdir(exist_ok=True)
    for number, each in enumerate(front.points, 1):
        text = each.genotype.to_json(
            width_multiplier=each.width_multiplier,
            mAP=each.mean_ap,
            parameters=each.parameters,
            macs=each.macs,
            ms=each.ms,
            by=front.by,
            **record,
        )
        atomic_files.write_text(directory / "front" / f"{number}.json", text + "\n")
    _write_rows(directory / "front.csv", "front", enumerate(front.points, 1))
    _write_rows(directory / "peers.csv", "network", front.peers.items())


def _write_rows(
    path: pathlib.Path, key: str, rows: Iterable[tuple[Any, Candidate]]
) -> None:
    lines = ({key: name, **each.to_csv()} for name, each in rows)
    atomic_files.write_csv(path, (key, *_COLUMNS), lines)


def read(path: pathlib.Path) -> dict[str, Candidate]:
    """Reads front.csv or peers.csv.

    Returns:
      The rows of front.csv by their number, or those of peers.csv by their name; none
      if there is no file.
    """
    if not path.exists():
        return {}
    with open(path, newline="") as file:
        rows = csv.DictReader(file)
        key = (rows.fieldnames or ["front"])[0]
        return {row[key]: Candidate.from_csv(row) for row in rows}


class Member(NamedTuple):
    """A point of a front, as a training takes it.

    Attributes:
      file: its genotype file.
      width_multiplier: its width multiplier.
      height, width: the input size, pixels, for which its costs are valid.
    """

    file: pathlib.Path
    width_multiplier: float
    height: int
    width: int


def member(run_dir: str | os.PathLike, number: int) -> Member:
    """Returns a point of a front.

    Args:
      run_dir: the search's run directory.
      number: 1 is the cheapest.

    Raises:
      ValueError: there is no front, or no such point.
    """
    directory = pathlib.Path(run_dir)
    last = len(read(directory / "front.csv"))
    if not last:
        raise ValueError(
            f"{run_dir} has no front.csv; a search leaves one if it has a device, or a "
            "limit such as --max_macs."
        )
    if not 1 <= number <= last:
        raise ValueError(
            f"front={number} is not on the front of {run_dir}, which has 1 to {last}; "
            f"see {directory / 'front.csv'}."
        )
    path = directory / "front" / f"{number}.json"
    said = json.loads(path.read_text())
    return Member(path, said["width_multiplier"], said["height"], said["width"])


def report(front: Front) -> str:
    """Returns a text for the user about the networks on the front."""
    lines = [f"The front, from {len(front.judged)} networks that were compared:"]
    for number, each in enumerate(front.points, 1):
        lines.append(f"{number:>3}{candidates.described(each)}")
    return "\n".join(lines) + "\n"
