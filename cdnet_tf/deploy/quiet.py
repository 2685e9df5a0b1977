"""Hides what TensorFlow Lite prints from C++; errors stay visible.

The converter prints a table of operations and lines such as `(f32: 22)` for every file,
and the interpreter announces its kernels. No option turns these off.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator

_STDERR = 2
_ONE_THREAD = threading.RLock()


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Holds back what the body writes to standard error, and shows it on an exception.

    Both `sys.stderr` and the file descriptor are redirected, because C++ writes to the
    latter. They belong to the whole process, so the output of other threads is held
    back, too, and a second thread that enters has to wait.

        with quiet.held_back():
            content = converter.convert()
    """
    with _ONE_THREAD:
        sys.stderr.flush()
        console = os.dup(_STDERR)
        with tempfile.TemporaryFile("w+", errors="replace") as held:
            os.dup2(held.fileno(), _STDERR)
            failed = True
            try:
                with contextlib.redirect_stderr(held):
                    yield
                failed = False
            finally:
                held.flush()
                os.dup2(console, _STDERR)
                os.close(console)
                if failed:
                    held.seek(0)
                    sys.stderr.write(held.read())
                    sys.stderr.flush()
