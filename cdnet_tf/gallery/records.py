"""What a gallery is asked for and what it answers; no database and no TensorFlow."""

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
      key: of the row; of a track, the key of its row that is nearest to the query.
      distance: Euclidean distance of the L2-normalised embeddings, 0..2.
      camera: as text.
      time: of that row, in UTC.
      track: as text; None if the row has none.
      picture: path or bytes of a small picture; None if the row has none.
      metadata: what was added with the row.
      rows: how many rows the embedding is the mean of; 1 unless tracks were pooled.
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
      erased_at: when their bytes were gone from the gallery's files, in UTC. None while
        the files still hold them; `Gallery.erase` removes them.
    """

    rows: int
    erased_at: datetime.datetime | None


@dataclasses.dataclass(frozen=True)
class Where:
    """Which rows are meant: those that meet every condition which is not None.

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

    @property
    def everything(self) -> bool:
        """Whether there is no condition at all."""
        return self == Where()


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a gallery as a whole is fixed to.

    Attributes:
      network: whose embeddings it holds; None before the first row.
      dimensions: of an embedding; None before the first row.
      retention_days: how long rows may stay; None for no limit.
      unerased_since: time (UTC) of the first deletion whose bytes are still there;
        None if there is no such deletion.
    """

    network: Network | None = None
    dimensions: int | None = None
    retention_days: int | None = None
    unerased_since: datetime.datetime | None = None
