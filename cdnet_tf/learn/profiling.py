"""Measures where the time of a TensorFlow step goes, by kind of op."""

from __future__ import annotations

import collections
import pathlib
import re
import tempfile
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

# The profiler's name of an op that ran. Function calls are left out, because they last
# as long as the ops within them.
_OP = re.compile(r"[^:]+:(?P<op>(?!.*(Call|Case|If|While))\w+)")


class Spent(NamedTuple):
    """The time of all ops of one kind in a step, summed over threads.

    Attributes:
      milliseconds: of all these ops together.
      calls: number of these ops that ran.
    """

    milliseconds: float
    calls: float


def by_op(run: Callable[[int], None], steps: int) -> dict[str, Spent]:
    """Profiles some steps on the CPU.

    Args:
      run: runs a step, given its number.
      steps: number of steps to run.

    Returns:
      Kind of op -> its time in a step, the longest first.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    trace = xplane_pb2.XSpace()
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        for step in range(steps):
            run(step)
        tf.profiler.experimental.stop()
        (path,) = pathlib.Path(folder).glob("**/*.xplane.pb")
        trace.ParseFromString(path.read_bytes())
    spent: dict[str, list[float]] = collections.defaultdict(list)
    for plane in trace.planes:
        names = plane.event_metadata
        for event in (event for line in plane.lines for event in line.events):
            op = _OP.fullmatch(names[event.metadata_id].name)
            if op and plane.name == "/host:CPU":
                spent[op["op"]].append(event.duration_ps / 1e9)
    totals = {
        op: Spent(sum(times) / steps, len(times) / steps) for op, times in spent.items()
    }
    return dict(sorted(totals.items(), key=lambda item: -item[1].milliseconds))


def is_product(op: str) -> bool:
    """Whether a kind of op is a matrix product or a convolution."""
    return "MatMul" in op or "Conv" in op
