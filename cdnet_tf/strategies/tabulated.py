"""A search that trains nothing: it predicts networks from a table of trainings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cdnet_tf.bench import table
from cdnet_tf.learn import distributed
from cdnet_tf.search_settings import SearchSettings
from cdnet_tf.strategies import candidates, front, limits, ridge
from cdnet_tf.strategies.run import Found, Run
from cdnet_tf.strategies.space import Network


class Trainings(NamedTuple):
    """The trainings from which a search predicts; they stand where others have images.

    Attributes:
      name: the file, as a result's origin names it.
      entries: trained under the same conditions.
    """

    name: str
    entries: Sequence[table.Entry]

    def counts(self) -> dict[str, dict[str, int]]:
        """Counts trainings and their networks, in the form of data sets' counts."""
        networks = len({entry.genotype for entry in self.entries})
        return {"table": {"trainings": len(self.entries), "networks": networks}}


def read(settings: SearchSettings) -> Trainings:
    """Reads the longest trainings of the table, which are those of the most epochs.

    Raises:
      FileNotFoundError: there is no table.
      ValueError: it cannot be read, or the search is for several widths.
    """
    if len(settings.widths) > 1:
        widths = ",".join(f"{width:g}" for width in settings.widths)
        raise ValueError(
            f"width_multipliers={widths}: search_strategy=table cannot tell what a "
            "width is worth, because its table has networks of one width; search for "
            "one width at a time, or use search_strategy=regression."
        )
    name = settings.table or f"{table.SHIPPED.name} of the package"
    return Trainings(name, table.longest(table.load(settings.table)))


def search(trainings: Trainings, settings: SearchSettings, run: Run) -> Found | None:
    """Predicts the mAP of all networks that keep the limits, and takes the best.

    A ridge regression learns from each network's mean mAP on the select people. Its
    predictions are sums over the blocks, so the front is exact. They are what networks
    reach at the size of the table's; at another size they stand for the order alone.

    Args:
      trainings: from `read`.
      settings: the search's settings.
      run: where it runs.

    Returns:
      None on a worker that is not the chief.
    """
    if distributed.place(run.strategy)[0] > 0:
        return None
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
    own = front.of_predicted(space, {width: fitted.as_sum(space.branches)}, judged)
    best = own.points[-1]
    sizes = table.means(trainings.entries, "macs")
    is_of_this_size = all(each.macs == sizes[each.genotype] for each in judged)
    record = {
        "candidates": len(judged),
        "predicted_mAP": best.mean_ap,
        "predicted_for_this_size": is_of_this_size,
    }
    text = _report(trainings, is_of_this_size)
    return Found(best.genotype, text, record, width, own)


def _report(trainings: Trainings, is_of_this_size: bool) -> str:
    counts = trainings.counts()["table"]
    first = trainings.entries[0]
    text = (
        f"Predicted from {counts['trainings']} trainings of {counts['networks']} "
        f"networks, each of {first.epochs} epochs on {first.people} people: "
        f"{trainings.name}\n"
    )
    if not is_of_this_size:
        text += (
            "Those networks have another width or input size, so take the order of the "
            "networks from\nthis front, and not their mAP. The costs are of the size "
            "that you asked for.\n"
        )
    return text
