"""The networks that a search has judged: a table that is also its memory."""

from __future__ import annotations

import csv
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cdnet_tf import atomic_files
from cdnet_tf.nn import genotype
from cdnet_tf.supernet import costs

Choice = tuple[int, ...]
COLUMNS = ("genotype", "mAP", "parameters", "macs", "seconds")


class Candidate(NamedTuple):
    """A network that was judged.

    Attributes:
      genotype: of the network.
      mean_ap: its score, mAP on people whom no weight has learnt from, 0..1.
      parameters, macs: what it costs.
      seconds: that judging it took.
    """

    genotype: genotype.Genotype
    mean_ap: float
    parameters: int
    macs: int
    seconds: float


class Candidates:
    """candidates.csv: a line a network, in the order in which they were judged.

    A network is judged once, so a search that was killed and draws the same networks
    again comes to where it was in no time.

    Args:
      path: of the file; what is in it is taken up.
      space: the branches of each block.
      cost: of a network.
    """

    def __init__(
        self,
        path: pathlib.Path,
        space: Sequence[genotype.Branch],
        cost: Callable[[Sequence[int]], costs.Costs],
    ) -> None:
        self._path = path
        self._space = tuple(space)
        self._cost = cost
        self._judged = {each.genotype: each for each in read(path)}

    def __len__(self) -> int:
        return len(self._judged)

    def genotype_of(self, choice: Sequence[int]) -> genotype.Genotype:
        """The network of the branches with these indices in the space."""
        return genotype.Genotype(tuple(self._space[i] for i in choice))

    def judge(
        self, choice: Sequence[int], judge: Callable[[Choice], float]
    ) -> Candidate:
        """Returns what is known of a network; judges it if nothing is."""
        network = self.genotype_of(choice)
        if network not in self._judged:
            began = time.perf_counter()
            score = judge(tuple(int(i) for i in choice))
            seconds = time.perf_counter() - began
            self._judged[network] = Candidate(
                network, score, *self._cost(choice), seconds
            )
            write(self._path, self._judged.values())
        return self._judged[network]

    def best(self, count: int = 1) -> list[Candidate]:
        """The best ones, the best first; of equal ones the cheaper."""
        order = sorted(self._judged.values(), key=lambda c: (-c.mean_ap, c.macs))
        return order[:count]


def read(path: pathlib.Path) -> list[Candidate]:
    """Returns what candidates.csv holds; nothing where there is no file."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [
            Candidate(
                genotype.load(row["genotype"]),
                float(row["mAP"]),
                int(row["parameters"]),
                int(row["macs"]),
                float(row["seconds"]),
            )
            for row in csv.DictReader(file)
        ]


def write(path: pathlib.Path, judged) -> None:
    """Writes candidates.csv, whole or not at all."""
    with atomic_files.replacing(path) as partial:
        with open(partial, "w", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(COLUMNS)
            for each in judged:
                score, seconds = repr(each.mean_ap), f"{each.seconds:.2f}"
                cost = each.parameters, each.macs
                rows.writerow([each.genotype, score, *cost, seconds])


def report(best: Sequence[Candidate], judged: int) -> str:
    """Says which networks were the best of those judged."""
    lines = [f"The best of {judged} networks, by mAP on people not trained on:"]
    lines += [
        f"  {each.mean_ap:6.1%}  {each.macs / 1e6:8.1f} M MACs  {each.genotype}"
        for each in best
    ]
    return "\n".join(lines) + "\n"
