"""A master's edge over a core of the test's own making, on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import uvloop

from kernel.clock import Now, SystemClock
from kernel.election.election import Leader
from kernel.mainloop import MainLoop, Tick
from kernel.master.config import MasterConfig
from kernel.master.leadership import Leadership
from kernel.master.server import MasterServer
from kernel.net.auth import Authenticator
from kernel.store.memory import MemoryStore

LIMIT_S = 20.0
ME = Leader("m1", "127.0.0.1", "127.0.0.1", 5050)

Answer = Callable[[Any], Sequence[Any]]


class ScriptedCore:
    """Notes every input and answers as `answer` says (a sequence of effects, or a KernelError to raise)."""

    unsettled = False

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.inputs: list[Any] = []

    def receive(self, message: Any, now: Now) -> Sequence[Any]:
        if isinstance(message, Tick):
            return ()
        self.inputs.append(message)
        return self.answer(message)

    def settle(self, now: Now, budget_s: float) -> Sequence[Any]:
        return ()


class Edge:
    """url: of the master; core: what it was told; client: to call it with."""

    def __init__(self, url: str, core: ScriptedCore, loop: MainLoop, server: MasterServer, client: aiohttp.ClientSession) -> None:
        self.url, self.core, self.loop, self.server, self.client = url, core, loop, server, client

    async def post(self, path: str, body: bytes, **headers: str) -> tuple[int, str]:
        """Send a body; return status and text. Content-Type is JSON unless given (empty: none)."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named.setdefault("Content-Type", "application/json")
        if not named["Content-Type"]:
            del named["Content-Type"]
        async with self.client.post(self.url + path, data=body, headers=named, allow_redirects=False) as answer:
            return answer.status, await answer.text()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(LIMIT_S):
            while not condition():  # noqa: ASYNC110 - whatever the test looks at tells no event.
                await asyncio.sleep(0.005)

    def told(self, kind: type[Any]) -> list[Any]:
        """The inputs of one class."""
        return [message for message in self.core.inputs if isinstance(message, kind)]


@asynccontextmanager
async def edge(
    answer: Answer, *, authenticator: Authenticator | None = None, leads: bool = True, leader: Leader | None = ME, **settings: Any
) -> AsyncIterator[Edge]:
    leadership = Leadership(ME)
    leadership.leader = leader
    server = MasterServer(MasterConfig(registry="in_memory", **settings), leadership, authenticator)
    core = ScriptedCore(answer)
    loop = MainLoop(core, MemoryStore(), server.perform, server.flush, SystemClock())
    if leads:
        leadership.begin(loop)
    port = await server.start("127.0.0.1", 0)
    running = asyncio.create_task(loop.run())
    skipped = ["Content-Type", "Accept", "Accept-Encoding"]
    try:
        async with aiohttp.ClientSession(skip_auto_headers=skipped) as client:
            yield Edge(f"http://127.0.0.1:{port}", core, loop, server, client)
    finally:
        loop.stop()
        await running
        await server.stop()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run an asynchronous test within its time."""
    uvloop.run(asyncio.wait_for(test(), LIMIT_S))
