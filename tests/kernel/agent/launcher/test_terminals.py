"""Terminals of tasks, held by a real launcher."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from kernel.agent.launcher import protocol
from kernel.agent.launcher.core import VERSION, BadCommand
from kernel.errors import NotFound
from tests.kernel.agent.launcher.host import Host, until

pytestmark = pytest.mark.e2e


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def shown(host: Host, name: str) -> str:
    file = host.sandbox / f"{name}.out"
    return file.read_text().replace("\r\n", "\n") if file.exists() else ""


def test_what_is_typed_gets_there_and_what_is_shown_is_in_the_file(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host(tmp_path) as host:
            host.launch("c", "/bin/sh", "-c", "stty size; tty; read line; echo $line >&2; exit 3", terminal=(33, 99))
            await until(lambda: "/dev/pts/" in shown(host, "c"))  # Else the echo of what is typed may come first.
            ours = await host.client.terminal("c")
            os.write(ours, b"typed\n")
            os.close(ours)
            assert await host.exited("c") == 3 << 8
            first, second, *rest = shown(host, "c").splitlines()
            assert first == "33 99"
            assert second.startswith("/dev/pts/")
            assert rest == ["typed", "typed"], "echoed by the terminal, then by the task: all of it, before its end is told"
            with pytest.raises(NotFound):
                await host.client.terminal("c")

    run(test())


def test_it_is_the_controlling_one_and_its_window_changes(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host(tmp_path) as host:
            host.launch(
                "c", "/bin/bash", "-c", "trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.05; done", terminal=(24, 80)
            )
            await until(lambda: "ready" in shown(host, "c"))
            ours = await host.client.terminal("c")
            fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 150, 0, 0))
            assert await host.exited("c") == 5 << 8
            os.close(ours)
            assert "50 150" in shown(host, "c")
            host.launch("d", "/bin/sh", "-c", "echo ready; exec sleep 1000", terminal=(24, 80))
            await until(lambda: "ready" in shown(host, "d"))
            ours = await host.client.terminal("d")
            os.write(ours, b"\x03")  # Ctrl-C.
            assert await host.exited("d") == signal.SIGINT
            os.close(ours)

    run(test())


def test_it_outlives_the_agent_and_an_upgrade_of_the_launcher(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host(tmp_path) as host:
            host.launch("c", "/bin/sh", "-c", "echo ready; read line; echo got $line; exit 4", terminal=(24, 80))
            await until(lambda: "ready" in shown(host, "c"))
            await host.leave()
        async with Host(tmp_path) as host:
            pid = host.client.pid
            host.client._replace("is replaced by the test")
            await until(lambda: not host.client.connected)
            await host.client.wait_connected()
            assert host.client.pid == pid
            ours = await host.client.terminal("c")
            os.write(ours, b"on\n")
            os.close(ours)
            assert await host.exited("c") == 4 << 8
            assert shown(host, "c") == "ready\non\ngot on\n"

    run(test())


def test_one_that_cannot_be_started_leaves_none(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host(tmp_path) as host:
            host.launch("c", "/no/such/program", terminal=(24, 80))
            await host.failed("c")
            with pytest.raises(NotFound):
                await host.client.terminal("c")

    run(test())


@pytest.mark.parametrize("value", ["[1]", "[1,2,3]", "[-1,2]", "[1,65536]", '["1",2]', "[true,2]", "{}", "24"])
def test_a_window_is_two_numbers(value: str) -> None:
    line = f'{{"type":"launch","container":"c","argv":["x"],"cwd":"/","stdout":"o","stderr":"e","terminal":{value}}}'
    with pytest.raises(BadCommand, match="terminal: must be"):
        protocol.decode(line.encode(), VERSION)
