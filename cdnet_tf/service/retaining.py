"""Makes a service delete and erase old rows, and index new ones, at intervals."""

from __future__ import annotations

import contextlib
import datetime
import sys
import threading
from collections.abc import Iterator

from cdnet_tf.service.service import Service


@contextlib.contextmanager
def retaining(service: Service, hours: float) -> Iterator[None]:
    """Calls the service's `retain` and `index` in a thread, now and every `hours`.

    An error is printed, and the next call is made all the same.
    """
    stop = threading.Event()

    def work() -> None:
        while True:
            now = datetime.datetime.now(datetime.timezone.utc)
            service.next_erasure = now + datetime.timedelta(hours=hours)
            try:
                service.retain()
                service.index()
            except Exception as error:  # The next call may succeed.
                print(f"Retention failed: {error}", file=sys.stderr, flush=True)
            if stop.wait(hours * 3600):
                return

    # An erasure may take minutes. The end of the program does not wait for a daemon.
    threading.Thread(target=work, name="retention", daemon=True).start()
    try:
        yield
    finally:
        stop.set()
