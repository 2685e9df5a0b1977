"""Runs several calls at once in threads, for functions that compute outside of Python.

Two batches on one core each take less time than one batch after another on two cores,
because most operations of a network are too small to be split.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import TypeVar

import tensorflow as tf

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_MOST = 8  # threads, each of which needs memory for a batch


def threads() -> int:
    """Returns how many batches to embed at once: one per core, or two on a GPU."""
    if tf.config.list_physical_devices("GPU"):
        return 2
    if hasattr(os, "sched_getaffinity"):  # `taskset` and Slurm may take cores away.
        return min(len(os.sched_getaffinity(0)), _MOST)
    return min(os.cpu_count() or 1, _MOST)


def in_order(
    function: Callable[[_Item], _Result], items: Iterable[_Item], threads: int
) -> Iterator[_Result]:
    """Yields `function` of each item, in the order of the items.

    The caller's thread draws the items when they are needed, so that few are in memory
    at a time. Errors of the items or of the function reach the caller unchanged.

    Args:
      function: called by several threads at once.
      items: its arguments.
      threads: calls at once; with 1 the caller's thread does everything.
    """
    if threads == 1:
        yield from map(function, items)
        return
    waiting: collections.deque[futures.Future] = collections.deque()
    with futures.ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            # One more call than there are threads waits, so that no thread is idle.
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
