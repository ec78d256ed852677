"""The endpoints that tell metrics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
import uvloop

from kernel.net.metrics import Metrics
from kernel.net.server import HttpServer, Routes


class Daemon:
    """Whose core tells a number when it is not busy."""

    def __init__(self) -> None:
        self.idle = asyncio.Event()
        self.idle.set()
        self.metrics = Metrics(lambda: {"a/b": 1.0}, self._ask)

    async def _ask(self) -> list[dict[str, float]]:
        await self.idle.wait()
        return [{"c": 2.0}, {}, {"frameworks/x": 3.0}]


@asynccontextmanager
async def served(daemon: Daemon) -> AsyncIterator[aiohttp.ClientSession]:
    routes = Routes()
    routes.add("/metrics/snapshot", daemon.metrics.snapshot, realm=None)
    routes.add("/metrics", daemon.metrics.prometheus, realm=None)
    routes.add("/system/stats.json", daemon.metrics.system, realm=None)
    server = HttpServer(routes)
    port = await server.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client, asyncio.timeout(20):
            yield client
    finally:
        await server.stop(0.1)


async def text(client: aiohttp.ClientSession, path: str) -> str:
    async with client.get(path) as answer:
        assert answer.status == 200
        return await answer.text()


def test_a_snapshot_has_what_is_at_hand_what_the_core_tells_and_the_machine() -> None:
    async def test() -> None:
        async with served(Daemon()) as client:
            found = json.loads(await text(client, "/metrics/snapshot"))
            assert {name: found[name] for name in ("a/b", "c", "frameworks/x")} == {"a/b": 1.0, "c": 2.0, "frameworks/x": 3.0}
            assert found["system/cpus_total"] >= 1.0
            assert 0 < found["system/mem_free_bytes"] <= found["system/mem_total_bytes"]
            assert (await text(client, "/metrics/snapshot?jsonp=f")).startswith("f({")

    uvloop.run(test())


@pytest.mark.parametrize("path", ["/metrics/snapshot?timeout=10ms", "/metrics?timeout=0.01secs"])
def test_what_a_busy_core_does_not_tell_in_time_is_left_out(path: str) -> None:
    async def test() -> None:
        daemon = Daemon()
        daemon.idle.clear()
        async with served(daemon) as client:
            found = await text(client, path)
            assert "a/b" in found or "meseta_a_b" in found
            assert "frameworks" not in found

    uvloop.run(test())


@pytest.mark.parametrize("timeout", ["soon", "", "1.2.3secs", "5parsecs"])
def test_a_timeout_is_a_duration(timeout: str) -> None:
    async def test() -> None:
        async with served(Daemon()) as client, client.get(f"/metrics/snapshot?timeout={timeout}") as answer:
            assert answer.status == 400

    uvloop.run(test())


def test_the_machine_alone_has_an_endpoint_of_its_own() -> None:
    async def test() -> None:
        async with served(Daemon()) as client:
            found = json.loads(await text(client, "/system/stats.json"))
            assert {"cpus_total", "avg_load_1min", "mem_total_bytes", "mem_free_bytes"} <= found.keys()

    uvloop.run(test())
