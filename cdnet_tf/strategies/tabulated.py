"""A search that trains nothing: it predicts networks from a table of trainings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cdnet_tf.bench import table
from cdnet_tf.search_settings import SearchSettings
from cdnet_tf.strategies import candidates, front, limits, ridge
from cdnet_tf.strategies.run import Found, Run
from cdnet_tf.strategies.space import Network, Space

_BEST = 5  # predicted networks that are told to the user


class Trainings(NamedTuple):
    """The trainings from which a search predicts; they stand where others have images.

    Attributes:
      name: the file, as a result's origin names it.
      entries: trained under the same conditions.
    """

    name: str
    entries: Sequence[table.Entry]

    def counts(self) -> dict[str, dict[str, int]]:
        """Returns how many trainings, and of how many networks, by the table's part."""
        networks = len({entry.genotype for entry in self.entries})
        return {"table": {"trainings": len(self.entries), "networks": networks}}


def read(settings: SearchSettings) -> Trainings:
    """Reads the longest trainings of the table, which are those of the most epochs.

    Raises:
      FileNotFoundError: there is no table.
      ValueError: it cannot be read, or its networks are of another size.
    """
    name = settings.table or f"{table.SHIPPED.name} of the package"
    trainings = Trainings(name, table.longest(table.load(settings.table)))
    _check_size(trainings, limits.space_of(settings), settings)
    return trainings


def search(trainings: Trainings, settings: SearchSettings, run: Run) -> Found:
    """Predicts the mAP of all networks that keep the limits, and takes the best.

    A ridge regression learns from each network's mean mAP on the select people. Its
    predictions are sums over the blocks, so the front is exact.

    Args:
      trainings: from `read`.
      settings: the search's settings.
      run: where it runs.
    """
    space = limits.space_of(settings)
    scores = {
        network: mean_ap / 100
        for network, mean_ap in table.means(trainings.entries, "select_mAP").items()
    }
    fitted = ridge.Ridge(list(scores), list(scores.values()))
    width = space.widths[0]
    judged = [
        candidates.of(space, space.choice(Network(genotype, width)), score)
        for genotype, score in scores.items()
        if set(genotype.layers) <= set(space.branches)
    ]
    candidates.write(run.directory / "candidates.csv", judged)
    predictions = {width: fitted.as_sum(space.branches)}
    own = front.of_predicted(space, predictions, judged)
    best = own.points[-1]
    record = {"candidates": len(judged), "predicted_mAP": best.mean_ap}
    return Found(best.genotype, _report(trainings), record, width, own)


def _report(trainings: Trainings) -> str:
    counts = trainings.counts()["table"]
    first = trainings.entries[0]
    return (
        f"Predicted from {counts['trainings']} trainings of {counts['networks']} "
        f"networks, each of {first.epochs} epochs on {first.people} people: "
        f"{trainings.name}\n"
    )


def _check_size(trainings: Trainings, space: Space, settings: SearchSettings) -> None:
    """Raises a ValueError unless the table's networks cost what the space's do."""
    height, width = settings.height, settings.width
    asked = ",".join(f"{each:g}" for each in space.widths)
    for entry in trainings.entries:
        if not set(entry.genotype.layers) <= set(space.branches):
            continue
        costs = space.costs(space.choice(Network(entry.genotype, space.widths[0])))
        if len(space.widths) > 1 or costs["macs"] != entry.macs:
            raise ValueError(
                f"search_strategy=table cannot predict networks of width_multiplier="
                f"{asked} at {height}x{width} from {trainings.name}, whose networks "
                f"have another size: {entry.genotype} takes {entry.macs:,} "
                "multiply-accumulates there. The package's own table is of "
                "--width_multiplier=0.25 --height=128 --width=64; "
                "tools/bench_space.py makes others."
            )
