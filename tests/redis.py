"""A Redis server of the tests' own: on a free port, without a file. Where none is installed the tests are skipped."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster import eventually


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(100).startswith(b"+PONG")
    except OSError:
        return False


@contextmanager
def started(folder: Path) -> Iterator[str]:
    """Its URL."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("there is no redis-server; tests/setup_redis.sh installs it")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: _answers(port), 20, "Redis answers")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.kill()
        server.wait()
