"""What a gallery is asked and what it answers; imports no database or TensorFlow."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any, Protocol

from cdnet_tf.deploy.identity import Network


class NetworkLike(Protocol):
    """Anything with the two fields of `deploy.identity.Network`."""

    @property
    def name(self) -> str: ...

    @property
    def checksum(self) -> str: ...


@dataclasses.dataclass(frozen=True)
class Match:
    """A row of the gallery, or a track of it, and how far it is from the query.

    Attributes:
      key: the row's key; for a track, the key of its row that is nearest to the query.
      distance: Euclidean distance of the L2-normalised embeddings, 0..2.
      camera: the row's camera.
      time: the row's time, in UTC.
      track: the row's track; None if it has none.
      picture: path or bytes of the row's small picture; None if it has none.
      metadata: what was added with the row.
      rows: number of rows whose mean was compared; 1 unless tracks were pooled.
    """

    key: str
    distance: float
    camera: str
    time: datetime.datetime
    track: str | None
    picture: str | bytes | None
    metadata: dict[str, Any]
    rows: int = 1


@dataclasses.dataclass(frozen=True)
class Removal:
    """What a deletion did.

    Attributes:
      rows: how many rows were deleted. No search finds them any more.
      erased_at: time (UTC) by which their bytes were gone from the gallery's files.
        None while the files still hold them, until `Gallery.erase` is called.
    """

    rows: int
    erased_at: datetime.datetime | None


@dataclasses.dataclass(frozen=True)
class Where:
    """Chooses the rows that meet every condition which is not None.

    Attributes:
      cameras: the row's camera is one of these.
      not_cameras: the row's camera is none of these.
      since: the row's time is not before it (UTC).
      until: the row's time is before it (UTC).
      tracks: the row's track is one of these.
      keys: the row's key is one of these.
    """

    cameras: tuple[str, ...] | None = None
    not_cameras: tuple[str, ...] | None = None
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    tracks: tuple[str, ...] | None = None
    keys: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a gallery as a whole.

    Attributes:
      network: the network that made its embeddings; None before the first row.
      dimensions: numbers in an embedding; None before the first row.
      retention_days: for how many days rows may stay; None for no limit.
      unerased_since: time (UTC) of the first deletion whose rows are not erased yet;
        None if there is no such deletion.
    """

    network: Network | None = None
    dimensions: int | None = None
    retention_days: int | None = None
    unerased_since: datetime.datetime | None = None
