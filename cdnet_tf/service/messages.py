"""What clients send and what they get; pydantic checks it, and /docs describes it."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Annotated, Any

import pydantic
from pydantic import AwareDatetime, Base64Bytes, BaseModel, Field

_MOST_ROWS = 1_000
_MOST_MATCHES = 200
_MOST_CAMERAS = 1_000

Name = Annotated[str, Field(min_length=1, max_length=1000)]
Names = Annotated[list[Name], Field(max_length=_MOST_CAMERAS)]


class _Strict(BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")


class NetworkId(_Strict):
    """The network that made the embeddings, which must be the gallery's."""

    name: Name
    checksum: str = Field(description="SHA-256 of the network's file, 64 hex digits.")


class NewRow(_Strict):
    """An image of a person, as the network embedded it."""

    embedding: list[float] = Field(min_length=2, max_length=8192)
    camera: Name
    time: AwareDatetime
    key: Name | None = Field(
        None, description="A row whose key is in the gallery already is left out."
    )
    track: Name | None = None
    picture: Base64Bytes | None = Field(
        None, description="A small JPEG, PNG or WebP file, in base 64."
    )
    metadata: dict[str, Any] = {}


class NewRows(_Strict):
    """Rows that are added together: all of them or none."""

    network: NetworkId
    rows: list[NewRow] = Field(min_length=1, max_length=_MOST_ROWS)


class NewPhoto(_Strict):
    """Describes a picture that the service shall embed and add."""

    camera: Name
    time: AwareDatetime
    key: Name | None = None
    track: Name | None = None


class Wanted(_Strict):
    """How many matches are wanted, and which rows are searched."""

    k: int = Field(20, ge=1, le=_MOST_MATCHES)
    cameras: Names = Field([], description="Search these cameras; all if it is empty.")
    not_cameras: Names = Field([], description="Leave out these cameras.")
    since: AwareDatetime | None = Field(None, description="Search from this time on.")
    until: AwareDatetime | None = Field(None, description="Search before this time.")
    exact: bool = Field(False, description="Compare with every row, without an index.")
    pool_tracks: bool = Field(False, description="Rank tracks instead of rows.")

    def conditions(self) -> dict[str, Any]:
        """Returns the conditions that are set, as arguments of `Gallery.search`."""
        found = self.model_dump(include={"cameras", "not_cameras", "since", "until"})
        return {name: value for name, value in found.items() if value}


class WantedRow(Wanted):
    """A search for who looks like the person in a row of the gallery."""

    key: Name


class Which(_Strict):
    """Chooses the rows to delete, which meet all conditions; at least one is needed."""

    key: Name | None = None
    camera: Name | None = None
    track: Name | None = None
    before: AwareDatetime | None = None


@dataclasses.dataclass(frozen=True)
class Found:
    """A match.

    Attributes:
      same_person: whether the distance is below the threshold; None if there is none.
      picture: a small JPEG as a data URL, or None.
    """

    key: str
    distance: float
    same_person: bool | None
    camera: str
    time: datetime.datetime
    track: str | None
    rows: int
    metadata: dict[str, Any]
    picture: str | None


@dataclasses.dataclass(frozen=True)
class Matches:
    """Matches, nearest first, and the time that they took in the service."""

    matches: list[Found]
    threshold: float | None
    milliseconds: float


@dataclasses.dataclass(frozen=True)
class Added:
    """How many rows were new."""

    added: int


@dataclasses.dataclass(frozen=True)
class Deleted:
    """How many rows were deleted.

    Attributes:
      erased_from: when the service begins to erase their bytes from the disk (UTC);
        None if nothing is planned. The audit says when it was done.
    """

    rows: int
    erased_from: datetime.datetime | None


@dataclasses.dataclass(frozen=True)
class Histogram:
    """Rows over time: `counts` of equal spans between `since` and `until`."""

    since: datetime.datetime | None
    until: datetime.datetime | None
    counts: list[int]


@dataclasses.dataclass(frozen=True)
class Overview:
    """What is in the gallery.

    Attributes:
      cameras: number of rows by camera.
      histogram: the rows of the cameras that were asked for, over time.
      threshold: distance below which two images show one person, or None.
      false_accept_rate: measured share of pairs of two people below the threshold.
    """

    rows: int
    cameras: dict[str, int]
    histogram: Histogram
    network: str
    threshold: float | None
    false_accept_rate: float | None
    retention_days: int | None
