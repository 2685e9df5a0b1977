"""Says which rows of a bank each candidate CBlock runs: separate or shared rows.

A candidate with separate rows learns only in the steps that draw it. Shared rows learn
in every step, and the next block gets similar features from all candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# `branch`: nothing is shared; this is the paper's supernet. `body`: all candidates have
# the same convolutions around their streams, and the same gate. `nested`: the Lites are
# shared, too; a stream of two Lites is the beginning of a stream of three (after the
# nested kernels and depths of Cai et al., "Once-for-All").
SHARING = ("branch", "body", "nested")


class Rows(NamedTuple):
    """The rows of each candidate.

    Attributes:
      body: each candidate's row of the body.
      lites: each candidate's rows of Lites, those of the first stream first.
    """

    body: tuple[int, ...]
    lites: tuple[tuple[int, ...], ...]

    @property
    def counts(self) -> tuple[int, int]:
        """Number of rows of the body, and of Lites."""
        return max(self.body) + 1, max(map(max, self.lites)) + 1


def rows(lites: Sequence[tuple[int, int]], sharing: str) -> Rows:
    """Lays out the rows of a bank.

    Args:
      lites: (Lites in stream 1, in stream 2) of each candidate.
      sharing: one of `SHARING`.

    Raises:
      ValueError: the sharing is unknown.
    """
    if sharing not in SHARING:
        raise ValueError(f"sharing={sharing!r} is unknown; use one of {SHARING}.")
    body = range(len(lites)) if sharing == "branch" else [0] * len(lites)
    if sharing == "nested":
        second = max(first for first, _ in lites)  # where the second stream begins
        own = [(*range(a), *range(second, second + b)) for a, b in lites]
    else:
        starts = [sum(map(sum, lites[:i])) for i in range(len(lites))]
        own = [tuple(range(s, s + sum(pair))) for s, pair in zip(starts, lites)]
    return Rows(tuple(body), tuple(own))
