"""What the service does for a caller, apart from HTTP.

Every search, addition and deletion is in the audit before it is answered.
"""

from __future__ import annotations

import datetime
import pathlib
import threading
import time
from typing import Any, Protocol

import numpy as np
import PIL.Image

from cdnet_tf.deploy.identity import Network
from cdnet_tf.gallery.gallery import Gallery
from cdnet_tf.gallery.records import Match, NetworkLike
from cdnet_tf.service import photos
from cdnet_tf.service.audit import Audit
from cdnet_tf.service.guard import Caller
from cdnet_tf.service.messages import (
    Deleted,
    Found,
    Matches,
    NewPhoto,
    NewRows,
    Overview,
    Wanted,
    Which,
)
from cdnet_tf.service.metrics import Metrics
from cdnet_tf.service.overview import Contents

_AT_ONCE = 2  # pictures that are decoded and embedded at the same time


class Reid(Protocol):
    """What is needed of the object that `cdnet_tf.load` returns."""

    @property
    def network(self) -> NetworkLike: ...

    def __call__(
        self, images: PIL.Image.Image, *, progress: bool = True
    ) -> np.ndarray: ...

    def threshold(self, false_accept_rate: float = 0.001) -> Any: ...


class Service:
    """One gallery and one network. Methods may be called from several threads.

    Attributes:
      metrics: counts of answers and rows.
      no_threshold: why no match is marked as the same person; empty if matches are.
      next_erasure: time (UTC) of the next call of `retain`; None if it is unknown.
    """

    def __init__(
        self,
        gallery: Gallery,
        reid: Reid,
        audit: Audit,
        pictures_dir: pathlib.Path | None = None,
        false_accept_rate: float = 0.001,
    ):
        """Takes the parts; does not close them.

        Args:
          gallery: opened with the network of `reid`.
          reid: embeds the pictures that callers send.
          audit: records every search, addition and deletion.
          pictures_dir: a picture that the gallery knows by its path is shown only if it
            is below this folder; None shows no such picture.
          false_accept_rate: chooses the threshold by which matches are marked as the
            same person.
        """
        self.metrics = Metrics()
        self.no_threshold = ""
        self.next_erasure: datetime.datetime | None = None
        self._gallery = gallery
        self._reid = reid
        self._audit = audit
        self._pictures_dir = pictures_dir and pictures_dir.resolve()
        self._contents = Contents(gallery)
        self._embedding = threading.Semaphore(_AT_ONCE)
        self._threshold, self._rate = None, None
        try:
            found = reid.threshold(false_accept_rate)
            self._threshold, self._rate = found.distance, found.false_accept_rate
        except ValueError as error:  # No threshold was measured on this network.
            self.no_threshold = str(error)

    def add_rows(self, caller: Caller, new: NewRows) -> int:
        """Adds embeddings that a camera made; returns how many were new.

        Raises:
          ValueError: as `Gallery.add`, or a picture is refused.
          OSError: the gallery cannot be written.
        """
        pictures = [
            photos.thumbnail(photos.decode(row.picture)) if row.picture else None
            for row in new.rows
        ]
        keys = [row.key for row in new.rows]
        if None in keys and any(keys):
            raise ValueError(
                "Some rows have a key and some have none; send keys for all or none."
            )
        return self._add(
            caller,
            np.array(_equally_long([row.embedding for row in new.rows]), np.float32),
            [row.camera for row in new.rows],
            [row.time for row in new.rows],
            keys=None if None in keys else keys,
            tracks=[row.track for row in new.rows],
            pictures=pictures,
            metadata=[row.metadata for row in new.rows],
            network=Network(new.network.name, new.network.checksum),
        )

    def add_photo(self, caller: Caller, content: bytes, new: NewPhoto) -> int:
        """Embeds a picture and adds it; returns 1, or 0 if its key was there."""
        picture, embedding = self._embed(content)
        return self._add(
            caller,
            embedding,
            new.camera,
            new.time,
            keys=None if new.key is None else [new.key],
            tracks=[new.track],
            pictures=[photos.thumbnail(picture)],
        )

    def search_photo(self, caller: Caller, content: bytes, wanted: Wanted) -> Matches:
        """Finds who looks like the person in a picture.

        Raises:
          ValueError: the picture or a condition is refused.
          OSError: the gallery cannot be read, or the audit cannot be written.
        """
        began = time.perf_counter()
        _, embedding = self._embed(content)
        return self._search(caller, embedding[0], wanted, began, by="photo")

    def search_row(self, caller: Caller, key: str, wanted: Wanted) -> Matches:
        """Finds who looks like the person in a row; the row is among the matches."""
        began = time.perf_counter()
        return self._search(caller, key, wanted, began, by="row", key=key)

    def delete(self, caller: Caller, which: Which) -> Deleted:
        """Deletes rows, which no search finds any more; the next erasure erases them.

        Raises:
          ValueError: there is no condition.
        """
        conditions = which.model_dump(exclude_none=True)
        removal = self._gallery.delete(**conditions)
        self._contents.forget()
        self.metrics.deleted(removal.rows)
        self._note(caller, "delete", filters=conditions, count=removal.rows)
        return Deleted(removal.rows, self.next_erasure)

    def overview(self, cameras: list[str], bins: int) -> Overview:
        """Says how many rows there are, by camera and over time."""
        settings = self._gallery.settings
        return Overview(
            rows=self._contents.rows(),
            cameras=self._contents.cameras(),
            histogram=self._contents.histogram(cameras, bins),
            network=self._reid.network.name,
            threshold=self._threshold,
            false_accept_rate=self._rate,
            retention_days=settings.retention_days,
        )

    def count(self) -> int:
        """Counts the rows of the gallery."""
        return self._gallery.count()

    def retain(self) -> int:
        """Deletes rows that are older than the retention, and erases all deleted rows.

        Returns:
          How many rows were too old.
        """
        settings = self._gallery.settings
        if settings.retention_days is not None:
            removal = self._gallery.expire()
        elif settings.unerased_since is not None:
            removal = self._gallery.erase()
        else:
            return 0
        self._contents.forget()
        own = Caller("retention", "the service itself")
        self._note(own, "erase", count=removal.rows, erased_at=removal.erased_at)
        return removal.rows

    def index(self) -> None:
        """Builds the gallery's index, or adds newer rows to it, where it is needed."""
        if not self._gallery.prepare():
            self._gallery.index()

    def _embed(self, content: bytes) -> tuple[PIL.Image.Image, np.ndarray]:
        with self._embedding:
            picture = photos.decode(content)
            return picture, self._reid(picture, progress=False)

    def _add(self, caller: Caller, embeddings, cameras, times, **more: Any) -> int:
        count = self._gallery.add(embeddings, cameras, times, **more)
        self._contents.forget()
        self.metrics.added(count)
        self._note(caller, "add", count=count)
        return count

    def _search(
        self,
        caller: Caller,
        query: np.ndarray | str,
        wanted: Wanted,
        began: float,
        **described: str,
    ) -> Matches:
        conditions = wanted.conditions()
        matches = self._gallery.search(
            query,
            wanted.k,
            exact=wanted.exact,
            pool_tracks=wanted.pool_tracks,
            **conditions,
        )
        found = [self._found(match) for match in matches]
        self._note(
            caller, "search", **described, filters=conditions, count=len(matches)
        )
        return Matches(found, self._threshold, 1000 * (time.perf_counter() - began))

    def _found(self, match: Match) -> Found:
        near = None if self._threshold is None else match.distance < self._threshold
        return Found(
            key=match.key,
            distance=match.distance,
            same_person=near,
            camera=match.camera,
            time=match.time,
            track=match.track,
            rows=match.rows,
            metadata=match.metadata,
            picture=photos.data_url(self._picture(match.picture)),
        )

    def _picture(self, picture: str | bytes | None) -> bytes | None:
        if not isinstance(picture, str):
            return picture
        # A path may come from anywhere, and must not expose files of other folders.
        path = pathlib.Path(picture).resolve()
        if self._pictures_dir is None or not path.is_relative_to(self._pictures_dir):
            return None
        try:
            return path.read_bytes()
        except OSError:
            return None

    def _note(self, caller: Caller, kind: str, **details: Any) -> None:
        self._audit.write(caller.name, kind, address=caller.address, **details)


def _equally_long(embeddings: list[list[float]]) -> list[list[float]]:
    lengths = sorted({len(each) for each in embeddings})
    if len(lengths) > 1:
        raise ValueError(
            f"The embeddings have {lengths[0]} to {lengths[-1]} numbers; send those of "
            "one network, which have the same number."
        )
    return embeddings
