"""The table of the networks that a search has judged, which is also its memory."""

from __future__ import annotations

import csv
import pathlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from cdnet_tf import atomic_files
from cdnet_tf.nn import genotype
from cdnet_tf.strategies.space import Choice, Network, Space


class Candidate(NamedTuple):
    """A network that was judged.

    Attributes:
      genotype, width_multiplier: the network.
      mean_ap: its score: mAP, 0..1, on people from whom no weight has learnt.
      parameters, macs: its costs.
      ms: milliseconds on the device of the search; None if there is no device.
      seconds: time that judging it took; 0 if it was not run.
    """

    genotype: genotype.Genotype
    width_multiplier: float
    mean_ap: float
    parameters: int
    macs: int
    ms: float | None = None
    seconds: float = 0.0

    @property
    def network(self) -> Network:
        return Network(self.genotype, self.width_multiplier)

    def to_csv(self) -> dict[str, str]:
        """Returns the values of a line of a file, by the names in `COLUMNS`."""
        floats = {"mAP": self.mean_ap, "ms": self.ms}
        return {
            "genotype": str(self.genotype),
            "width_multiplier": f"{self.width_multiplier:g}",
            "parameters": str(self.parameters),
            "macs": str(self.macs),
            "seconds": f"{self.seconds:.2f}",
            **{k: "" if v is None else repr(v) for k, v in floats.items()},
        }

    @classmethod
    def from_csv(cls, row: Mapping[str, str]) -> Candidate:
        """Reads what `to_csv` gives; `seconds` may be missing."""
        return cls(
            genotype.load(row["genotype"]),
            float(row["width_multiplier"]),
            float(row["mAP"]),
            int(row["parameters"]),
            int(row["macs"]),
            float(row["ms"]) if row["ms"] else None,
            float(row.get("seconds", 0)),
        )


COLUMNS = (
    *("genotype", "width_multiplier", "mAP", "parameters", "macs", "ms"),
    "seconds",
)


def of(
    space: Space, choice: Sequence[int], mean_ap: float, seconds: float = 0.0
) -> Candidate:
    """Returns a network of a space with its costs."""
    costs = space.costs(choice)
    sizes = int(costs["parameters"]), int(costs["macs"])
    return Candidate(*space.network(choice), mean_ap, *sizes, costs.get("ms"), seconds)


class Candidates:
    """The judged networks of a run, in the order of judging, kept in candidates.csv.

    A network is judged once. A search that was killed draws the same networks again,
    finds them here, and so goes on at once where it stopped.

    Args:
      path: the file; the networks in it count as judged.
      space: the networks that a choice may stand for.
    """

    def __init__(self, path: pathlib.Path, space: Space) -> None:
        self._path = path
        self._space = space
        self._judged = {each.network: each for each in read(path)}

    def __len__(self) -> int:
        return len(self._judged)

    def judge(
        self, choice: Sequence[int], judge: Callable[[Choice], float]
    ) -> Candidate:
        """Returns a network from the table, and judges it first if it is missing.

        Args:
          choice: a choice of the space.
          judge: returns the mAP of a choice, 0..1.
        """
        network = self._space.network(choice)
        if network not in self._judged:
            began = time.perf_counter()
            score = judge(tuple(int(i) for i in choice))
            seconds = time.perf_counter() - began
            self._judged[network] = of(self._space, choice, score, seconds)
            write(self._path, self._judged.values())
        return self._judged[network]

    def all(self) -> list[Candidate]:
        """Returns all networks, in the order in which they were judged."""
        return list(self._judged.values())

    def best(self, count: int = 1) -> list[Candidate]:
        """Returns the networks of highest mAP, best first; of equals the cheaper."""
        order = sorted(self._judged.values(), key=lambda c: (-c.mean_ap, c.macs))
        return order[:count]


def read(path: pathlib.Path) -> list[Candidate]:
    """Returns the networks in candidates.csv, or none if there is no file.

    Raises:
      ValueError: the file has other columns.
    """
    if not path.exists():
        return []
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(
                f"{path} has the columns {', '.join(reader.fieldnames or ())} and not "
                f"{', '.join(COLUMNS)}: another version of this program wrote it. "
                "Choose another --run_dir."
            )
        return [Candidate.from_csv(row) for row in reader]


def write(path: pathlib.Path, judged: Iterable[Candidate]) -> None:
    """Writes candidates.csv, whole or not at all."""
    atomic_files.write_csv(path, COLUMNS, (each.to_csv() for each in judged))


def report(best: Sequence[Candidate], judged: int) -> str:
    """Returns a text for the user about the best of the judged networks."""
    lines = [f"The best of {judged} networks, by mAP on people not trained on:"]
    return "\n".join([*lines, *map(described, best)]) + "\n"


def described(candidate: Candidate) -> str:
    """Returns a line for the user about a network."""
    ms = "" if candidate.ms is None else f"  {candidate.ms:6.2f} ms"
    return (
        f"  {candidate.mean_ap:6.1%}{ms}  {candidate.macs / 1e6:8.1f} M MACs  "
        f"{candidate.network}"
    )
