"""The calls of the agent's operator API on containers: end them, wait for their end (spec: mesos-v1, section 4.2).

Those that stream are in `kernel.agent.stream_api`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from kernel.agent.effects import ContainerEnded, KillContainer, View
from kernel.agent.sessions import Sessions
from kernel.errors import CallError
from kernel.executor.command import describe
from kernel.mainloop import MainLoop
from kernel.net import response
from kernel.net.request import Request
from kernel.wire import agent_operator as api
from kernel.wire import codec
from kernel.wire.ids import ContainerID, validate_id

SIGKILL = 9
CONTAINER_ID_BYTES_MAX = 242

Handler = Callable[[Request, Any], Awaitable[web.StreamResponse]]


class Waiters:
    """Those who wait for the end of containers."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[asyncio.Future[ContainerEnded]]] = {}

    def wait(self, name: str) -> asyncio.Future[ContainerEnded]:
        """Return the future end of a container that runs. name: PARENT.ID for one inside another."""
        future: asyncio.Future[ContainerEnded] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(name, []).append(future)
        future.add_done_callback(lambda done: self._leave(name, done))
        return future

    def ended(self, effect: ContainerEnded) -> None:
        for future in self._waiting.pop(effect.name, ()):
            if not future.done():
                future.set_result(effect)

    def _leave(self, name: str, future: asyncio.Future[ContainerEnded]) -> None:
        waiting = self._waiting.get(name, [])
        if future in waiting:
            waiting.remove(future)
            if not waiting:
                del self._waiting[name]


class ContainerApi:
    """The handlers, by the type of the call."""

    def __init__(self, loop: Callable[[], MainLoop], waiters: Waiters, sessions: Sessions) -> None:
        self._loop, self._waiters, self._sessions = loop, waiters, sessions
        self.handlers: Mapping[str, Handler] = {
            "KILL_CONTAINER": lambda request, body: self._kill(path(body.container_id), body.signal),
            "KILL_NESTED_CONTAINER": lambda request, body: self._kill(nested_path(body.container_id), body.signal),
            "WAIT_CONTAINER": self._wait_container,
            "WAIT_NESTED_CONTAINER": self._wait_nested_container,
        }

    async def _kill(self, name: str, number: int | None) -> web.StreamResponse:
        number = SIGKILL if number is None else number
        if not 0 < number <= 64:
            raise CallError(f"kill_container.signal: {number} is no signal")
        session = self._sessions.get(name)
        if session is not None:
            session.signal(number)
        else:
            await self._loop().submit(KillContainer(name, number))
        return response.text(200)

    async def _wait_container(self, request: Request, body: api.WaitContainerCall) -> web.StreamResponse:
        status, message = await self._end(path(body.container_id))
        return await _answer(request, api.Response("WAIT_CONTAINER", wait_container=api.WaitContainer(status, message=message)))

    async def _wait_nested_container(self, request: Request, body: api.WaitNestedContainerCall) -> web.StreamResponse:
        status, message = await self._end(nested_path(body.container_id))
        ended = api.WaitNestedContainer(status, message=message)
        return await _answer(request, api.Response("WAIT_NESTED_CONTAINER", wait_nested_container=ended))

    async def _end(self, name: str) -> tuple[int | None, str]:
        """How a container ends: its wait status, and that in words."""
        session = self._sessions.get(name)
        if session is not None:
            await asyncio.shield(session.over)
        over, status = self._sessions.status(name)
        if over:
            return status, describe(status)
        waiting = self._waiters.wait(name)
        try:
            await self._loop().submit(View("container", name))  # Raises NotFound.
            ended = await waiting
        finally:
            waiting.cancel()
        return (None, "the container was not started") if ended.exit is None else (ended.exit.status, describe(ended.exit.status))


async def _answer(request: Request, body: api.Response) -> web.StreamResponse:
    return await response.json(request, codec.encode(body))


def nested_path(container_id: ContainerID) -> str:
    """The same for a call that is about containers inside others only. Raises CallError."""
    if container_id.parent is None:
        raise CallError("Failed to validate agent::Call: Expecting 'container_id.parent' to be present")
    return path(container_id)


def path(leaf: ContainerID) -> str:
    """A container's name as the core knows it: PARENT.ID for one inside another. Raises CallError."""
    container_id: ContainerID | None = leaf
    names: list[str] = []
    while container_id is not None:
        validate_id(container_id.value, "container_id")
        if "." in container_id.value or " " in container_id.value or len(container_id.value.encode()) > CONTAINER_ID_BYTES_MAX:
            raise CallError(f"container_id: has at most {CONTAINER_ID_BYTES_MAX} bytes and neither periods nor spaces")
        names.append(container_id.value)
        container_id = container_id.parent
    return ".".join(reversed(names))
