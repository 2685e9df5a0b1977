"""Deletes rows of a gallery, and erases their bytes."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np

from cdnet_tf.gallery import rows
from cdnet_tf.gallery.records import Removal, Where
from cdnet_tf.gallery.store import Store


class Retention:
    """The part of a gallery that deletes; `gallery.Gallery` has the rest."""

    _store: Store

    def delete(
        self,
        *,
        before: datetime.datetime | None = None,
        camera: Any = None,
        track: Any = None,
        key: str | None = None,
    ) -> Removal:
        """Deletes the rows that meet all conditions; no search finds them any more.

        Their bytes stay in the files until `erase` or `expire` removes them.

        Raises:
          ValueError: there is no condition, or `Gallery.add` would refuse its value.
        """
        if all(each is None for each in (before, camera, track, key)):
            raise ValueError(
                "delete() without a condition would empty the gallery; pass before=, "
                "camera=, track= or key=."
            )
        where = Where(
            cameras=None if camera is None else (rows.text(camera, "camera"),),
            until=None if before is None else rows.moment(before, "before"),
            tracks=None if track is None else (rows.text(track, "track"),),
            keys=None if key is None else (rows.text(key, "key"),),
        )
        return Removal(self._store.delete(where), None)

    def erase(self) -> Removal:
        """Removes the bytes of all deleted rows from the gallery's files.

        The call waits until nobody reads, so a thread must not make it in the middle of
        its own `scan`. Additions wait until it is done. The disk needs room for a copy
        of the files that hold deleted rows. Copies elsewhere stay, such as backups,
        exports, and pictures that were added as paths.
        """
        self._store.erase()
        return Removal(0, _now())

    def keep(self, days: int | None) -> None:
        """Sets for how many days rows may stay; `expire` removes older rows.

        Args:
          days: number of days, at least 1; None for no limit.

        Raises:
          ValueError: `days` is below 1 or no whole number.
        """
        self._store.keep(None if days is None else _checked_days(days))

    def expire(self, days: int | None = None) -> Removal:
        """Deletes the rows that are older than the retention, and erases their bytes.

        Call it once a day, for a gallery does not call it by itself. It also erases
        rows that were deleted earlier, and waits as `erase` does.

        Args:
          days: for how many days rows may stay; None for what `keep` has set.

        Returns:
          How many rows were too old, and when the work was done.

        Raises:
          ValueError: no retention is set, or `days` is below 1 or no whole number.
        """
        if days is None:
            days = self._store.settings().retention_days
        if days is None:
            raise ValueError(
                "The gallery has no retention; set one with keep(days=30), or pass "
                "days=30."
            )
        before = _now() - datetime.timedelta(days=_checked_days(days))
        count = self._store.expire(before)
        return Removal(count, _now())


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def _checked_days(days: int) -> int:
    if isinstance(days, bool) or not isinstance(days, (int, np.integer)) or days < 1:
        raise ValueError(
            f"days={days!r} is no retention; use a whole number from 1 on."
        )
    return int(days)
