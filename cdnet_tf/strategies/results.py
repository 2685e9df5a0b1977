"""Writes what a search has found: a network and, if cost matters, a front."""

from __future__ import annotations

import pathlib
import time

from cdnet_tf import atomic_files
from cdnet_tf.search_settings import SearchSettings
from cdnet_tf.strategies import front, front_picture
from cdnet_tf.strategies.run import Found
from cdnet_tf.supernet import costs


def write(
    found: Found,
    run_dir: pathlib.Path,
    settings: SearchSettings,
    provenance: dict,
    launched: float,
) -> None:
    """Writes genotype.json, which marks the search as finished, and tells the user.

    Args:
      found: the search's result.
      run_dir: folder of the results.
      settings: the search's settings.
      provenance: the result's origin, ready for JSON.
      launched: `time.perf_counter()` when the search began.
    """
    width = found.width_multiplier or settings.width_multiplier
    choice = [settings.branches.index(each) for each in found.genotype.layers]
    options = settings.network_options | {"width_multiplier": width}
    cost = costs.of_space(settings.branches, **options)(choice)
    if found.front:
        _write_front(found.front, run_dir, settings, provenance)
    text = found.genotype.to_json(
        space_searched=settings.space,
        search_strategy=settings.search_strategy,
        branches=[list(branch) for branch in settings.branches],
        width_multiplier=width,
        **found.record,
        provenance=provenance,
    )
    atomic_files.write_text(run_dir / "genotype.json", text + "\n")
    print(f"\n{found.report}")
    rows = {
        "found genotype": str(found.genotype),
        "width multiplier": f"{width:g}",
        "parameters": f"{cost.parameters:,}",
        "multiply-accumulates": f"{cost.macs:,}",
        "minutes": f"{(time.perf_counter() - launched) / 60:.1f}",
        "results": str(run_dir),
    }
    for name, value in rows.items():
        print(f"{name:<22}{value}")


def _write_front(
    found: front.Front,
    run_dir: pathlib.Path,
    settings: SearchSettings,
    provenance: dict,
) -> None:
    """Writes front.csv, front.png and a genotype file of each point."""
    front.write(
        run_dir,
        found,
        height=settings.height,
        width=settings.width,
        search_strategy=settings.search_strategy,
        provenance=provenance,
    )
    title = front_picture.title(settings.search_strategy)
    front_picture.draw(
        run_dir / "front.png",
        {title: front_picture.searched(found)},
        found.by,
        settings.limits.get(found.by),
    )
    print(f"\n{front.report(found)}")
