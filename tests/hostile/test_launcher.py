"""Garbage on the launcher's socket, while it owns a task: the task runs on, the agent is obeyed. (Only root and the launcher's own
user get so far, see `tests/e2e/test_permissions.py`.)"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
from pathlib import Path

import pytest

from kernel.agent.launcher.protocol import SOCKET
from tests.hostile.anything import TEXTS, mutated
from tests.kernel.agent.launcher.host import DEADLINE_S, Host, open_gate

pytestmark = pytest.mark.e2e

COMMANDS = [
    {"type": "launch", "container": "x", "argv": ["/bin/true"], "env": {}, "cwd": "/", "stdout": "/dev/null", "stderr": "/dev/null"},
    {"type": "signal", "container": "c", "signal": 9, "whole_group": True},
    {"type": "forget", "container": "c"},
    {"type": "exit", "kill_all": True},
]


def told(path: str, data: bytes) -> bytes:
    """What the launcher says to a peer that says this and nothing more."""
    answer = b""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(DEADLINE_S)
        peer.connect(path)
        try:
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
            while piece := peer.recv(65536):
                answer += piece
        except ConnectionError:
            pass
    return answer


def garbage(chance: random.Random) -> bytes:
    """Anything but a hello first: who says that is the agent."""
    match chance.randrange(5):
        case 0:
            return chance.randbytes(chance.randrange(3000))
        case 1:
            return b"\n" * chance.randrange(3000)
        case 2:
            return mutated(json.dumps(chance.choice(COMMANDS)).encode(), chance) + b"\n"
        case 3:
            fields = {
                chance.choice(["type", "container", "argv", "signal", "env"]): chance.choice([*TEXTS, 1e999, -1, [], {}]) for _ in range(4)
            }
            return json.dumps(fields).encode() + b"\n"
        case _:
            return json.dumps(chance.choice(COMMANDS)).encode() + b"\n" * chance.randrange(2)


def test_garbage_on_the_socket_harms_no_task(tmp_path: Path) -> None:
    async def test() -> None:
        chance = random.Random(3)
        async with Host(tmp_path) as host:
            gate = host.fifo("gate")
            host.launch("c", "/bin/sh", "-c", "read x < gate; exit 7")
            await host.started("c")
            path = f"/proc/self/fd/{os.open(tmp_path / 'launcher', os.O_PATH | os.O_DIRECTORY)}/{SOCKET}"
            pid = host.client.pid
            for data in [garbage(chance) for _ in range(100)] + [b"x" * 3_000_000, b"[" * 1_000_000 + b"\n", b"\xff" * 1000 + b"\n"]:
                answer = await asyncio.to_thread(told, path, data)
                assert b"started" not in answer
                assert b"exited" not in answer
            assert (host.client.pid, host.client.connected) == (pid, True)
            host.launch("d", "/bin/true")
            assert await host.exited("d") == 0
            assert host.of(type(host.events[-1]), "c") == []
            await open_gate(gate)
            assert await host.exited("c") == 7 << 8

    asyncio.run(test())
