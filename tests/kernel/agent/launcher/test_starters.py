"""Containers whose process is started by another program, as container runtimes do: what becomes of either."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.agent.launcher.host import Host, gone, open_gate, until

pytestmark = pytest.mark.e2e


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def launch(host: Host, name: str, script: str, before: str = "", after: str = "") -> None:
    """Have a shell start `script` in a session of its own, note its pid, and end."""
    start = f'setsid env -u MESETA_STARTER_OF MESETA_CONTAINER_ID={name} sh -c "{script}" & echo $! > {name}.pid'
    pidfile = str(host.sandbox / f"{name}.pid")
    host.launch(name, "/bin/sh", "-c", f"{before} {start}; {after} true", pidfile=pidfile, stderr=str(host.sandbox / f"{name}.err"))


def test_the_process_told_of_is_the_one_in_the_file(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host(tmp_path) as host:
            gate = host.fifo("gate")
            launch(host, "c", "read x < gate; exit 7")
            pid = await host.started("c")
            assert pid == int((host.sandbox / "c.pid").read_text())
            await open_gate(gate)
            assert await host.exited("c") == 7 << 8

    run(test())


def test_one_that_ends_at_once_is_not_missed(tmp_path: Path) -> None:
    """Be it noticed before or after its starter; which, unlike a shell, does not look after it."""
    starter = """
import os, sys
name, status = sys.argv[1:]
environment = {"PATH": os.environ["PATH"], "MESETA_CONTAINER_ID": name}
pid = os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {status}"], environment, setsid=True)
with open(f"{name}.pid", "w") as file:
    file.write(str(pid))
"""

    async def test() -> None:
        async with Host(tmp_path) as host:
            for number in range(20):
                name = f"c{number}"
                host.launch(name, sys.executable, "-S", "-E", "-c", starter, name, str(number), pidfile=str(host.sandbox / f"{name}.pid"))
            for number in range(20):
                assert await host.exited(f"c{number}") == number << 8

    run(test())


def test_a_signal_waits_for_the_process(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host(tmp_path) as host:
            gate = host.fifo("gate")
            begun = "until [ -e begun ]; do :; done;"  # A runtime ends when its container has a session of its own.
            launch(host, "c", "touch begun; exec sleep 1000", before="read x < gate;", after=begun)
            host.client.signal("c", signal.SIGTERM)
            await open_gate(gate)
            assert await host.exited("c") == signal.SIGTERM

    run(test())


def test_a_starter_that_fails_says_why_with_its_last_words(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host(tmp_path) as host:
            host.launch(
                "c", "/bin/sh", "-c", "echo no such image >&2; exit 1", pidfile=str(host.sandbox / "p"), stderr=str(host.sandbox / "c.err")
            )
            failure = await host.failed("c")
            assert (failure.reason, failure.message) == ("runtime", "no such image")

    run(test())


def test_a_launcher_that_dies_meanwhile_is_followed_by_one_that_starts_nothing_twice(tmp_path: Path) -> None:
    """A process that was started is found; a starter that has not come so far is ended."""

    async def test() -> None:
        host = Host(tmp_path)
        async with host:
            gate = host.fifo("gate")
            launch(host, "begun", "echo \\$\\$ > pid; exec sleep 1000", after="read x < gate;")
            launch(host, "waits", "exec sleep 1000", before="echo $$ > starter; read x < gate;")
            await until(lambda: all((host.sandbox / name).exists() and (host.sandbox / name).read_text() for name in ("pid", "starter")))
            await host.kill_launcher()
        again = Host(tmp_path)
        async with again:
            pid, starter = (int((host.sandbox / name).read_text()) for name in ("pid", "starter"))
            await until(lambda: gone(starter))
            reports = {report.container: report for report in again.state().containers}
            assert reports["begun"].pid == pid
            assert reports["waits"].exit is not None
            assert reports["waits"].exit.status is None
            again.client.signal("begun", signal.SIGKILL)
            await again.exited("begun")
        assert gone(pid)
        assert gate.exists()

    run(test())
