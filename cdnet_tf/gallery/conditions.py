"""Turns the conditions of a search, as a caller writes them, into a `Where`."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np

from cdnet_tf.gallery import rows
from cdnet_tf.gallery.records import Where


def meant(
    cameras: Sequence[Any] | None = None,
    not_cameras: Sequence[Any] | None = None,
    since: datetime.datetime | None = None,
    until: datetime.datetime | None = None,
) -> Where:
    """Checks the conditions of a search; a single camera counts as a list of one.

    Raises:
      ValueError: `Gallery.add` would refuse a camera or a time, too.
    """
    return Where(
        cameras=_cameras(cameras),
        not_cameras=_cameras(not_cameras),
        since=None if since is None else rows.moment(since, "since"),
        until=None if until is None else rows.moment(until, "until"),
    )


def _cameras(values: Any) -> tuple[str, ...] | None:
    if values is None:
        return None
    single = isinstance(values, (str, int, np.integer))
    return tuple(rows.text(v, "camera") for v in ([values] if single else values))
