"""Has a service forget what it should, again and again."""

from __future__ import annotations

import contextlib
import datetime
import sys
import threading
from collections.abc import Iterator

from cdnet_tf.service.service import Service


@contextlib.contextmanager
def retaining(service: Service, hours: float) -> Iterator[None]:
    """Calls `service.retain` now and every so many hours, in a thread.

    A failure is printed, and the next call is made all the same.
    """
    stop = threading.Event()

    def work() -> None:
        while True:
            now = datetime.datetime.now(datetime.timezone.utc)
            service.next_erasure = now + datetime.timedelta(hours=hours)
            try:
                service.retain()
            except Exception as error:  # The next time it may work.
                print(f"Retention failed: {error}", file=sys.stderr, flush=True)
            if stop.wait(hours * 3600):
                return

    # As a daemon: an erasure may take minutes, and whoever stops the program should not
    # wait for it.
    threading.Thread(target=work, name="retention", daemon=True).start()
    try:
        yield
    finally:
        stop.set()
