"""Probes of checks over the network: one GET, or one connection. Commands are the launcher's (`kernel.agent.containerizer`).

Of a task that has a network of its own they leave from there: their sockets are made in it (`kernel.agent.containerizer.netns`), so they
see the task's loopback as it does itself. Only names, to which a redirect may lead, are looked up from here.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

import aiohttp
from msgspec.structs import replace
from yarl import URL

from kernel.agent.containerizer import netns
from kernel.agent.effects import Probe, Probed
from kernel.executor.checks import HttpTarget, TcpTarget, answered, connected, nothing
from kernel.wire.command import CheckStatusInfo, CheckType

REDIRECTS_MAX = 50  # As many as curl follows, which Mesos uses.
BODY_BYTES_MAX = 256 * 1024  # Read of an answer, so that honest servers get rid of it; its status is known by then.
_AS_IT_IS = "%/?#[]@!$&'()*+,;=:"  # What may stand in a path and query; the rest is encoded.

Opens = Callable[[int, int, int], socket.socket]  # Family, type, protocol.


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
        found = nothing(CheckType.HTTP if isinstance(effect.target, HttpTarget) else CheckType.TCP)
        try:
            target, opens = _way(effect)
        except OSError:  # Its process has just ended.
            pass
        else:
            found = await (self._get(target, opens) if isinstance(target, HttpTarget) else connect(target, opens))
        self._post(Probed(effect.probe_id, found))

    async def _get(self, target: HttpTarget, opens: Opens | None) -> CheckStatusInfo:
        if opens is not None:
            async with _open_session(opens) as session:
                return await get(session, target)
        if self._session is None:
            self._session = _open_session()
        return await get(self._session, target)


def _way(effect: Probe) -> tuple[HttpTarget | TcpTarget, Opens | None]:
    """What to connect to, and by which sockets where our own will not do. Raises OSError."""
    try:
        if effect.pid and not netns.is_ours(effect.pid):
            return effect.target, partial(netns.open_socket, effect.pid)
    except OSError:  # An agent that is not root may use an engine, too, but look into nothing.
        if not effect.ip:
            raise
    return replace(effect.target, host=effect.ip) if effect.ip else effect.target, None


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


async def connect(target: TcpTarget, opens: Opens | None = None) -> CheckStatusInfo:
    """Whether a connection is taken; nothing is said on it."""
    family = socket.AF_INET6 if ":" in target.host else socket.AF_INET
    try:
        with (opens or socket.socket)(family, socket.SOCK_STREAM, 0) as connection:
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, (target.host, target.port))
    except (OSError, ValueError, OverflowError):
        return connected(False)
    return connected(True)


def _open_session(opens: Opens | None = None) -> aiohttp.ClientSession:
    """Each probe has a connection of its own, without cookies and proxies. A certificate is of no use: it cannot be one for localhost."""
    factory = None if opens is None else lambda address: opens(*address[:3])
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=False, limit=0, force_close=True, socket_factory=factory),
        headers={"Accept-Encoding": "identity", "User-Agent": "meseta"},
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        auto_decompress=False,
    )
