"""Measures how well a search strategy scores networks whose true mAP a table has.

The strategy scores the networks at some of its epochs. Its scores are compared with
predictions that need no search: costs, and a ridge regression on some trainings of the
table.
"""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from cdnet_tf import atomic_files
from cdnet_tf.bench import agreement, table
from cdnet_tf.data import datasets
from cdnet_tf.learn import callbacks, search_log
from cdnet_tf.nn import genotype
from cdnet_tf.search_settings import SearchSettings
from cdnet_tf.strategies import ridge, single_path, top_k
from cdnet_tf.strategies.run import Run
from cdnet_tf.strategies.space import Choice

COLUMNS = ("epoch", "genotype", "score")
Scores = dict[int, dict[genotype.Genotype, float]]  # by epoch

_TRAININGS = (16, 32)  # from which a ridge regression learns
_DRAWS = 200  # of these trainings
_NAME, _CELL = 34, 24  # widths of the report's columns


def score(
    data: datasets.ReidDataset,
    settings: SearchSettings,
    run: Run,
    networks: Sequence[genotype.Genotype],
    epochs: Sequence[int],
) -> Scores:
    """Runs a search, and scores networks at some of its epochs.

    `single_path` scores a network by its mAP on query and gallery with the supernet's
    weights; `top_k` by the sum of its branches' log-probabilities under alpha. A score
    is written to scores.csv in the run's directory as soon as it is known, and is not
    computed again.

    Args:
      data: the search learns from its training split.
      settings: the search's settings.
      run: where and how it runs, on one worker.
      networks: networks of the search's space.
      epochs: epochs in ascending order, none beyond the search's last.

    Returns:
      The scores of each epoch. A network is missing where the weights of that epoch are
      gone, because it was first asked for when the supernet had trained further.

    Raises:
      ValueError: the strategy scores only networks that it trains, or several workers
        run it.
    """
    if settings.search_strategy not in _SCORERS:
        raise ValueError(
            f"search_strategy={settings.search_strategy} scores only the networks that "
            f"it trains; use {' or '.join(_SCORERS)}."
        )
    path = run.directory / "scores.csv"
    known = read(path)
    for epoch in epochs:
        scores = known.setdefault(epoch, {})
        missing = [network for network in networks if network not in scores]
        if not missing:
            continue
        scorer = _SCORERS[settings.search_strategy](data, settings, run, epoch)
        if scorer is None:
            continue
        for network in missing:
            choice = tuple(map(settings.branches.index, network.layers))
            scores[network] = scorer(choice)
            _write(path, known)
    return known


def _by_retrieval(
    data: datasets.ReidDataset, settings: SearchSettings, run: Run, epoch: int
) -> Callable[[Choice], float] | None:
    if callbacks.last_epoch(run.directory / "checkpoint") > epoch:
        return None
    net = single_path.train_supernet(data, settings, run, until=epoch)
    if net is None:
        raise ValueError(
            "strategy=multi_worker cannot score networks; run the search on one worker."
        )
    return single_path.Judge(net, data, settings)


def _by_alpha(
    data: datasets.ReidDataset, settings: SearchSettings, run: Run, epoch: int
) -> Callable[[Choice], float]:
    history = search_log.AlphaHistory(run.directory / "alpha.csv", settings.branches)
    if not history.exists() or len(history.read()) <= settings.epochs:
        top_k.search(data, settings, run)
    alpha = history.read()[epoch]
    logs = alpha - np.log(np.exp(alpha).sum(axis=1, keepdims=True))
    return lambda choice: float(sum(row[i] for row, i in zip(logs, choice)))


_SCORERS = {"single_path": _by_retrieval, "top_k": _by_alpha}


def read(path: pathlib.Path) -> Scores:
    """Returns the scores in scores.csv, or none if there is no file."""
    scores: Scores = {}
    if path.exists():
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                own = scores.setdefault(int(row["epoch"]), {})
                own[genotype.load(row["genotype"])] = float(row["score"])
    return scores


def _write(path: pathlib.Path, scores: Scores) -> None:
    lines = (
        {"epoch": epoch, "genotype": str(network), "score": repr(each)}
        for epoch, own in scores.items()
        for network, each in own.items()
    )
    atomic_files.write_csv(path, COLUMNS, lines)


def report(entries: Sequence[table.Entry], scores: Scores) -> str:
    """Returns a text table of Kendall's tau between predictors and the test mAP.

    Args:
      entries: entries of a table, trained under the same conditions.
      scores: scores of their genotypes, by epoch. Genotypes that lack one are left out.

    Returns:
      A line for each predictor: tau over all genotypes and within one depth, with its
      95 % interval in brackets. The tau of a regression is a mean over N draws of the
      networks from which it learns; its brackets hold "mean of N".
    """
    entries = [
        entry
        for entry in entries
        if all(entry.genotype in known for known in scores.values())
    ]
    genotypes, by_seed = table.matrix(entries)
    truth = np.nanmean(by_seed, axis=1)
    depths = np.array([network.depth for network in genotypes])
    lines = [
        f"Kendall's tau with the mAP of {len(genotypes)} trained networks:",
        _line("", "all", "within one depth"),
    ]
    predictors = {
        f"score after {epoch} epochs": [own[network] for network in genotypes]
        for epoch, own in sorted(scores.items())
    }
    last = list(predictors.values())[-1] if predictors else None
    for name, column in (("depth", "depth"), ("MACs", "macs"), ("size", "parameters")):
        predictors[name] = list(table.means(entries, column).values())
    for name, predictor in predictors.items():
        lines.append(_line(name, *_taus(predictor, truth, depths)))
    for number in _TRAININGS:
        if 2 * number > len(genotypes):
            continue
        for name, known in (("", None), (" and last score", last)):
            taus = ridge_taus(entries, number, known)
            cells = (f"{tau:.2f} (mean of {_DRAWS})" for tau in taus)
            lines.append(_line(f"ridge on {number} trainings{name}", *cells))
    cells = (f"{agreement.seed_tau(by_seed, within):.2f}" for within in (None, depths))
    lines.append(_line("one seed with another", *cells))
    return "\n".join(lines)


def ridge_taus(
    entries: Sequence[table.Entry], trainings: int, known: Sequence[float] | None = None
) -> tuple[float, float]:
    """Measures how well a ridge regression ranks networks that it has not seen.

    The regression learns the select mAP of one seed, which is what a search has. It is
    judged by the test mAP of the other networks. The result is a mean over draws of the
    networks from which it learns.

    Args:
      entries: entries of a table, trained under the same conditions.
      trainings: number of networks from which it learns.
      known: another predictor that the regression is given, for each genotype in the
        table's order.

    Returns:
      Kendall's tau over all genotypes, and within one depth.
    """
    genotypes, select = table.matrix(entries, "select_mAP")
    truth = np.array(list(table.means(entries).values()))
    depths = np.array([network.depth for network in genotypes])
    first = np.array([row[~np.isnan(row)][0] for row in select])
    random, taus = np.random.default_rng(0), []
    for _ in range(_DRAWS):
        order = random.permutation(len(genotypes))
        seen, unseen = order[:trainings], order[trainings:]
        seen_networks, unseen_networks = (
            [genotypes[i] for i in part] for part in (seen, unseen)
        )
        told = [None if known is None else np.asarray(known)[p] for p in (seen, unseen)]
        fitted = ridge.Ridge(seen_networks, first[seen], told[0])
        found = fitted.predict(unseen_networks, told[1])
        taus.append(
            [
                agreement.tau(found, truth[unseen], within)
                for within in (None, depths[unseen])
            ]
        )
    overall, within = np.nanmean(taus, axis=0)
    return float(overall), float(within)


def _taus(predictor: Sequence[float], truth: np.ndarray, depths: np.ndarray):
    for within in (None, depths):
        yield agreement.estimate(agreement.tau, predictor, truth, within).text()


def _line(name: str, *cells: str) -> str:
    return f"{name:<{_NAME}}" + "".join(f"{cell:>{_CELL}}" for cell in cells)
