"""The endpoints that tell metrics, the same for every daemon (spec: mesos-v1, section 5.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

import msgspec
from aiohttp import web

from kernel.config import duration
from kernel.errors import CallError
from kernel.net import response
from kernel.net.machine import machine
from kernel.net.prometheus import exposition
from kernel.net.request import Request

Numbers = Mapping[str, float]


class Metrics:
    """Numbers by name, in the forms clients want them."""

    def __init__(self, at_hand: Callable[[], dict[str, float]], asked: Callable[[], Awaitable[Iterable[Numbers]]]) -> None:
        """at_hand: what the process knows. asked: what the core must be asked for; it may be busy."""
        self._at_hand, self._asked = at_hand, asked

    async def numbers(self, timeout_s: float | None = None) -> Iterable[Numbers]:
        """All of them, in parts that are made as they are taken. timeout_s: what the core does not tell in time is left out."""
        parts: list[Iterable[Numbers]] = [(self._at_hand() | machine(),)]
        try:
            async with asyncio.timeout(timeout_s):
                parts.append(await self._asked())
        except TimeoutError:
            pass
        return (numbers for part in parts for numbers in part)

    async def snapshot(self, request: Request) -> web.StreamResponse:
        """Answer `/metrics/snapshot`. Raises CallError for a timeout that is no duration."""
        return await response.json(request, _object(await self.numbers(_timeout_s(request))))

    async def prometheus(self, request: Request) -> web.StreamResponse:
        """Answer `/metrics`, which Prometheus reads."""
        found = {name: value for part in await self.numbers(_timeout_s(request)) for name, value in part.items()}
        body, media = await asyncio.get_running_loop().run_in_executor(None, exposition, found, request.headers.get("Accept"))
        return web.Response(body=body, headers={"Content-Type": media})

    async def call(self, request: Request, timeout_s: float | None) -> web.StreamResponse:
        """Answer GET_METRICS."""
        return await response.json(request, _messages(await self.numbers(timeout_s)))

    async def system(self, request: Request) -> web.StreamResponse:
        """Answer `/system/stats.json`."""
        prefix = "system/"
        shown = {
            name.removeprefix(prefix).replace("load_", "avg_load_"): value for name, value in machine().items() if name.startswith(prefix)
        }
        return await response.json(request, msgspec.json.encode(shown))


def _object(parts: Iterable[Numbers]) -> Iterator[bytes]:
    yield b"{"
    comma = b""
    for part in parts:
        if part:
            yield comma + msgspec.json.encode(part)[1:-1]
            comma = b","
    yield b"}"


def _messages(parts: Iterable[Numbers]) -> Iterator[bytes]:
    yield b'{"type":"GET_METRICS","get_metrics":{"metrics":['
    comma = b""
    for part in parts:
        if part:
            yield comma + msgspec.json.encode([{"name": name, "value": value} for name, value in part.items()])[1:-1]
            comma = b","
    yield b"]}}"


def _timeout_s(request: Request) -> float | None:
    text = request.query.get("timeout")
    if text is None:
        return None
    try:
        return duration(text)
    except ValueError as error:
        raise CallError(f"timeout: {error}") from None
