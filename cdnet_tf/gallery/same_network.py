"""Checks that embeddings which are compared come from one network."""

from __future__ import annotations

import re

from cdnet_tf.deploy.identity import Network
from cdnet_tf.gallery.records import NetworkLike, Settings


def checked(network: NetworkLike) -> Network:
    """Checks a network's name and checksum, and returns both.

    Raises:
      ValueError: there is no name, or the checksum is no SHA-256.
    """
    name, checksum = getattr(network, "name", None), getattr(network, "checksum", None)
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError(
            f"network={network!r} has no name; pass cdnet_tf.load(...).network, or "
            "cdnet_tf.Network(name, checksum)."
        )
    if not isinstance(checksum, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", checksum):
        raise ValueError(
            f"The checksum {checksum!r} of the network {name!r} is no SHA-256; pass "
            "the 64 hexadecimal digits that `sha256sum` prints for its file."
        )
    return Network(name, checksum.lower())


def check(settings: Settings, network: Network | None, location: str) -> None:
    """Refuses a network that is not the gallery's.

    Raises:
      ValueError: both networks are known, and they differ.
    """
    if network is not None:
        check_same(settings.network, network, f"The gallery {location}")


def check_same(theirs: Network | None, ours: Network, what: str) -> None:
    """Refuses to compare embeddings of two networks.

    Args:
      theirs: the network of embeddings that are there; None if it is unknown.
      ours: the network of the caller's embeddings.
      what: what holds the embeddings of `theirs`, for the message.

    Raises:
      ValueError: both networks are known, and they differ.
    """
    if theirs is not None and theirs.checksum != ours.checksum:
        raise ValueError(
            f"{what} holds embeddings of the network {theirs.name} (SHA-256 "
            f"{theirs.checksum[:12]}...), which cannot be compared with those of "
            f"{ours.name} ({ours.checksum[:12]}...); use that network, or embed the "
            "images again into a new gallery."
        )


def check_dimensions(settings: Settings, dimensions: int, location: str) -> None:
    """Refuses embeddings with another number of dimensions than the gallery's.

    Raises:
      ValueError: the gallery's number is known, and it is not `dimensions`.
    """
    if settings.dimensions not in (None, dimensions):
        raise ValueError(
            f"The embeddings have {dimensions} dimensions, and those in the gallery "
            f"{location} have {settings.dimensions}; embed with the network "
            f"{settings.network.name if settings.network else ''} alone."
        )
