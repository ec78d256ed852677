"""A daemon that does nothing but answer, for the tests of `meseta up`: what it does wrong is said by files in its work dir."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import click

from kernel.daemons import Daemon, Embedded


@click.command()
@click.option("--work-dir", required=True)
@click.option("--port", type=int, required=True)
def command(work_dir: str, port: int) -> None:
    """Answer every request with 200 until told to stop."""
    home = Path(work_dir)
    home.mkdir(parents=True, exist_ok=True)
    if (home / "broken").exists():
        print("this daemon is broken", file=sys.stderr)
        sys.exit(1)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, _: (home / "told").write_text(signal.Signals(number).name) and os._exit(0))
    with socket.create_server(("127.0.0.1", port)) as server:
        print(f"listening on {port}", flush=True)
        while True:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def _arguments(place: Embedded) -> list[str]:
    return ["--port", str(place.ports[0]), "--work-dir", place.work_dir]


MASTER = Daemon("master", "fake_daemon:command", (5050,), "/health", _arguments, stop_phase=2)
AGENT = Daemon("agent", "fake_daemon:command", (5051,), "/health", _arguments, many_port=15050, end_signal=signal.SIGUSR1, stop_phase=1)
