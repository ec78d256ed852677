"""Probes of checks over the network: one GET, or one connection. Commands are the launcher's (`kernel.agent.containerizer`).

Probes leave from the agent's own network; one of a task that has a network of its own has to leave from there (not built).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from kernel.agent.effects import Probe, Probed
from kernel.executor.checks import HttpTarget, TcpTarget, answered, connected, nothing
from kernel.wire.command import CheckStatusInfo, CheckType

REDIRECTS_MAX = 50  # As many as curl follows, which Mesos uses.
BODY_BYTES_MAX = 256 * 1024  # Read of an answer, so that honest servers get rid of it; its status is known by then.
_AS_IT_IS = "%/?#[]@!$&'()*+,;=:"  # What may stand in a path and query; the rest is encoded.


class Prober:
    """Performs probes, all at once. For the event loop's own thread."""

    def __init__(self, post: Callable[[Any], None]) -> None:
        """post: takes the core's inputs."""
        self._post = post
        self._running: dict[str, asyncio.Task[None]] = {}
        self._session: aiohttp.ClientSession | None = None

    def probe(self, effect: Probe) -> None:
        running = self._running[effect.probe_id] = asyncio.create_task(self._probe(effect))
        running.add_done_callback(lambda _: self._running.pop(effect.probe_id))

    def drop(self, probe_id: str) -> None:
        running = self._running.get(probe_id)
        if running is not None:
            running.cancel()

    async def close(self) -> None:
        """End what is under way; nothing is told of it."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _probe(self, effect: Probe) -> None:
        match effect.target:
            case HttpTarget() as target:
                if self._session is None:
                    self._session = _open_session()
                found = await get(self._session, target)
            case TcpTarget() as target:
                found = await connect(target)
        self._post(Probed(effect.probe_id, found))


async def get(session: aiohttp.ClientSession, target: HttpTarget) -> CheckStatusInfo:
    """The status of the last answer after all redirects."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    try:
        url = URL(f"{target.scheme}://{host}:{target.port}{quote(target.path, safe=_AS_IT_IS)}", encoded=True)
        async with session.get(url, max_redirects=REDIRECTS_MAX) as response:
            left = BODY_BYTES_MAX
            async for piece in response.content.iter_any():
                left -= len(piece)
                if left <= 0:
                    break
            return answered(response.status)
    except (aiohttp.ClientError, OSError, ValueError):
        return nothing(CheckType.HTTP)


async def connect(target: TcpTarget) -> CheckStatusInfo:
    """Whether a connection is taken; nothing is said on it."""
    try:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, target.host, target.port)
    except (OSError, ValueError, OverflowError):
        return connected(False)
    transport.close()
    return connected(True)


def _open_session() -> aiohttp.ClientSession:
    """Each probe has a connection of its own, without cookies and proxies. A certificate is of no use: it cannot be one for localhost."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=False, limit=0, force_close=True),
        headers={"Accept-Encoding": "identity", "User-Agent": "meseta"},
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        auto_decompress=False,
    )
