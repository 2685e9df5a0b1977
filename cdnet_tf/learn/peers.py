"""Waits with a time limit until all workers of a training have started.

TensorFlow is not imported.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence

_POLL_S = 0.5
_CONNECT_S = 2.0


def wait(workers: Sequence[str], index: int, limit_s: float) -> None:
    """Returns when every worker listens at its address.

    TensorFlow waits without limit, and holds Python's lock meanwhile, so that no timer
    could end it. Here this worker listens at its port so that the others see it;
    TensorFlow takes the port over afterwards.

    Args:
      workers: addresses, host:port, in order.
      index: this worker's place among them.
      limit_s: seconds.

    Raises:
      TimeoutError: a worker does not listen; all such workers are named.
      OSError: this worker's port cannot be listened on.
    """
    others = [(i, each) for i, each in enumerate(workers) if i != index]
    deadline = time.monotonic() + limit_s
    with _listening(workers[index]) as server:
        # All are asked each time, because a worker that was seen may have left.
        while missing := [(i, each) for i, each in others if not _listens(each)]:
            if time.monotonic() > deadline:
                names = ", ".join(f"worker {i} ({each})" for i, each in missing)
                raise TimeoutError(
                    f"Worker {index} has waited {limit_s / 60:.3g} minutes for {names}."
                    " Start every worker with the same command; the run goes on after "
                    "its last whole epoch. --wait_minutes sets the limit."
                )
            time.sleep(_POLL_S)
            _hang_up(server)


@contextlib.contextmanager
def _listening(address: str) -> Iterator[socket.socket]:
    port = int(address.rpartition(":")[2])
    try:
        server = _server(port)
    except OSError as error:
        raise OSError(
            f"Port {port} of this worker ({address}) cannot be listened on ({error}); "
            "end the process that uses it, or give the worker another port."
        ) from error
    with server:
        server.setblocking(False)
        yield server


def _server(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True
            )
    return socket.create_server(("", port))


def _hang_up(server: socket.socket) -> None:
    """Accepts and closes the others' connections, which would fill the queue."""
    with contextlib.suppress(BlockingIOError):
        while True:
            server.accept()[0].close()


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except OSError:
        return False
    return True
