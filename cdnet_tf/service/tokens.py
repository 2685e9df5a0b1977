"""The named tokens that admit a client to the service; only checksums are kept."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import pathlib
import secrets

from cdnet_tf import atomic_files

_BYTES = 32  # of a generated token
_SHORTEST = 16  # characters of a token that somebody chose


class Tokens:
    """The accepted tokens; the audit records the name of a token, not the token."""

    def __init__(self, checksums: dict[str, str]):
        """Takes the hexadecimal SHA-256 of each token by name; see `of` and `read`."""
        self._checksums = dict(checksums)

    @classmethod
    def of(cls, **tokens: str) -> Tokens:
        """Accepts the given tokens.

        Raises:
          ValueError: a token has fewer than 16 characters.
        """
        for name, token in tokens.items():
            if len(token) < _SHORTEST:
                raise ValueError(
                    f"The token of {name!r} has {len(token)} characters and is easily "
                    f"guessed; use at least {_SHORTEST}, or let one be generated."
                )
        return cls({name: _checksum(token) for name, token in tokens.items()})

    @classmethod
    def read(cls, path: str | os.PathLike) -> Tokens:
        """Reads the file of checksums; there are no tokens if there is no file.

        Raises:
          ValueError: the file is broken.
        """
        path = pathlib.Path(path)
        if not path.exists():
            return cls({})
        try:
            return cls(dict(json.loads(path.read_text("utf-8"))))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{path} does not hold the checksums of tokens ({error}); remove the "
                "file, and a new token is generated."
            ) from error

    def __len__(self) -> int:
        return len(self._checksums)

    def generate(self, name: str, path: str | os.PathLike) -> str:
        """Makes a token, writes its checksum to a file, and returns the token.

        The token cannot be read again. A token of the same name is replaced.
        """
        token = secrets.token_urlsafe(_BYTES)
        self._checksums[name] = _checksum(token)
        with atomic_files.replacing(path) as partial:
            partial.touch(mode=0o600)
            partial.write_text(json.dumps(self._checksums, indent=1) + "\n", "utf-8")
        return token

    def name_of(self, token: str) -> str | None:
        """Returns the name of a token, or None if the token is not accepted.

        All checksums are compared, each in constant time, so that the time of an answer
        tells nothing about a token.
        """
        given, found = _checksum(token), None
        for name, checksum in self._checksums.items():
            if hmac.compare_digest(given, checksum):
                found = name
        return found


def _checksum(token: str) -> str:
    # A generated token has 256 random bits. Unlike a password, it needs no slow hash.
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
