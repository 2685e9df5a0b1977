"""Sends the rows of an outbox to the service, and tries again after failures."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import urllib3

from cdnet_tf.service.outbox import Outbox

_ROWS = 200  # in a request
_TIMEOUT = urllib3.Timeout(connect=5, read=60)
_SHORTEST_S, _LONGEST_S = 0.2, 30.0  # pauses between two attempts
_LATER = (408, 425, 429)  # a status after which to try again, as after any from 500 on


class RefusedError(RuntimeError):
    """The service refuses the rows, and trying again would not help."""


class Sender:
    """Sends rows to one service, oldest first."""

    def __init__(
        self,
        url: str,
        token: str,
        outbox: Outbox,
        say: Callable[[str], None] = lambda _: None,
    ):
        """Connects only when there are rows to send.

        Args:
          url: address of the service, such as `https://HOST:8321/`.
          token: a token that the service accepts.
          outbox: holds the rows.
          say: is called with a message when the service is away and when it is back.
        """
        self._url = url.rstrip("/") + "/v1/rows"
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
        }
        self._outbox = outbox
        self._say = say
        self._away = False
        self._pool = urllib3.PoolManager(retries=False, timeout=_TIMEOUT)

    def drain(
        self, wait_s: float | None = None, stop: threading.Event | None = None
    ) -> int:
        """Sends rows until none waits, and tries again if the service does not answer.

        A row leaves the outbox only when the service has confirmed it. If the answer is
        lost, the row is sent again, and the service recognises it by its key.

        Args:
          wait_s: seconds to try without any success; None for no limit.
          stop: ends the work early when it is set.

        Returns:
          How many rows still wait.

        Raises:
          RefusedError: the service refuses the rows or the token. The rows stay.
        """
        stop = stop or threading.Event()
        pause, progress_at = _SHORTEST_S, time.monotonic()
        while (batch := self._outbox.waiting(_ROWS)).rows and not stop.is_set():
            failure = self._send(json.dumps(batch._asdict()).encode())
            if failure is None:
                self._outbox.sent([row["key"] for row in batch.rows])
                self._tell(None)
                pause, progress_at = _SHORTEST_S, time.monotonic()
                continue
            self._tell(failure)
            if wait_s is not None and time.monotonic() - progress_at >= wait_s:
                break
            stop.wait(pause)
            pause = min(2 * pause, _LONGEST_S)
        return len(self._outbox)

    def _tell(self, failure: str | None) -> None:
        if failure and not self._away:
            self._say(f"The service is away ({failure}); rows wait on the disk.")
        elif self._away and not failure:
            self._say("The service is back.")
        self._away = failure is not None

    def _send(self, body: bytes) -> str | None:
        """Sends one request; returns the reason to try again, or None on success."""
        try:
            answer = self._pool.request(
                "POST", self._url, body=body, headers=self._headers
            )
        except urllib3.exceptions.HTTPError as error:
            return str(error)
        if answer.status == 200:
            return None
        if answer.status in _LATER or answer.status >= 500:
            return f"status {answer.status}"
        raise RefusedError(
            f"{self._url} refuses the rows with status {answer.status}: "
            f"{answer.data[:1000].decode(errors='replace')} The rows stay on the disk; "
            "remove the cause and start again."
        )


class Background:
    """Sends rows in a thread while the network embeds."""

    def __init__(self, sender: Sender, outbox: Outbox, most_waiting: int = 200_000):
        """Starts the thread.

        Args:
          sender: sends the rows.
          outbox: holds the rows.
          most_waiting: `check` waits while there are more rows, so that the disk does
            not fill.
        """
        self._sender, self._outbox, self._most = sender, outbox, most_waiting
        self._end = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Blocks while too many rows wait.

        Raises:
          RefusedError: as `Sender.drain`. Any other error that ended the thread is
            raised, too.
        """
        while self._failure is None and len(self._outbox) > self._most:
            time.sleep(0.1)
        self._raise()

    def stop(self) -> None:
        """Ends the thread, while rows may still wait; raises as `check` does."""
        self._end.set()
        self._thread.join()
        self._raise()

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        try:
            while not self._end.wait(0.1):
                self._sender.drain(stop=self._end)
        except Exception as error:
            self._failure = error
