"""Checks token, size and rate of every request before the service sees it.

Every path needs a token unless it is named as public, so that a path which is added
later is closed by default. A request must say the length of its body. Every answer gets
headers that tell a browser what the page may do.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import limits
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from cdnet_tf.service.metrics import Metrics
from cdnet_tf.service.tokens import Tokens

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

# A page loads nothing from elsewhere, sends nothing there, and has no inline script.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
_WRONG_TOKENS = "20/minute"  # from one address


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one client may do.

    Attributes:
      body_bytes: greatest length of a request's body.
      rate: greatest rate of requests with one token from one address, such as
        `600/minute`. Requests for public paths have the same limit per address.
    """

    body_bytes: int = 2**24
    rate: str = "600/minute"


@dataclasses.dataclass(frozen=True)
class Caller:
    """Who sent a request: the name of the token, and the address."""

    name: str
    address: str


class _Refused(Exception):
    def __init__(self, status: int, reason: str, **headers: str):
        super().__init__(reason)
        self.status = status
        self.headers = {k.replace("_", "-"): v for k, v in headers.items()}


class Guard:
    """An ASGI application around another one; adds a `Caller` to a request's state."""

    def __init__(
        self,
        app: App,
        tokens: Tokens,
        allowed: Limits,
        public: frozenset[str],
        metrics: Metrics,
    ):
        """Wraps `app`, whose paths need a token unless they are in `public`.

        Raises:
          ValueError: `allowed.rate` is no rate.
        """
        self._app = app
        self._tokens = tokens
        self._body_bytes = allowed.body_bytes
        self._public = public
        self._metrics = metrics
        try:
            self._rate = limits.parse(allowed.rate)
        except ValueError as error:
            raise ValueError(
                f"rate={allowed.rate!r} is no rate; write it as 600/minute or "
                "20/second."
            ) from error
        self._wrong = limits.parse(_WRONG_TOKENS)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Refuses a request, or passes it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _http(self, scope: Message, receive: Receive, send: Send) -> None:
        began, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"]] + [
                    (name.encode(), value.encode())
                    for name, value in _HEADERS.items()
                    if name.encode() not in present
                ]
            await send(message)

        try:
            scope.setdefault("state", {})["caller"] = self._admit(scope)
        except _Refused as refused:
            await _answer(refused, sending)
        else:
            await self._app(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.answered(route, status, time.perf_counter() - began)

    def _admit(self, scope: Message) -> Caller:
        headers = {
            k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]
        }
        address = scope["client"][0] if scope.get("client") else "unknown"
        name = "public" if scope["path"] in self._public else None
        name = name or self._name(headers.get("authorization", ""), address)
        if not self._limiter.hit(self._rate, name, address):
            raise _Refused(
                429,
                f"You sent more requests than {self._rate}; ask again later.",
                retry_after="5",
            )
        if "transfer-encoding" in headers:
            raise _Refused(411, "Send the length of the body (Content-Length).")
        if int(headers.get("content-length", 0)) > self._body_bytes:
            raise _Refused(
                413,
                f"The body has {headers['content-length']} bytes, and the limit is "
                f"{self._body_bytes}; send a smaller picture or fewer rows.",
                connection="close",
            )
        return Caller(name, address)

    def _name(self, authorization: str, address: str) -> str:
        kind, _, token = authorization.partition(" ")
        name = self._tokens.name_of(token.strip()) if kind.lower() == "bearer" else None
        if name is not None:
            return name
        if not self._limiter.hit(self._wrong, "wrong", address):
            raise _Refused(
                429,
                "Too many requests from your address had a wrong token; wait a minute.",
                retry_after="60",
            )
        raise _Refused(
            401,
            "A token is needed: send the header `Authorization: Bearer TOKEN`.",
            www_authenticate="Bearer",
        )


async def _answer(refused: _Refused, send: Send) -> None:
    body = json.dumps({"detail": str(refused)}).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **refused.headers,
    }
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    start = {"type": "http.response.start", "status": refused.status, "headers": raw}
    await send(start)
    await send({"type": "http.response.body", "body": body})
