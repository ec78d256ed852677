"""The calls of the agent's operator API on containers: launch them, end them, wait for their end (spec: mesos-v1, section 4.2).

Those that stream are in `kernel.agent.stream_api`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

from aiohttp import web

from kernel.agent.effects import ContainerBegan, ContainerEnded, KillContainer, LaunchOperated, RemoveOperated, View
from kernel.agent.sessions import Sessions
from kernel.agent.state import Ending
from kernel.errors import CallError, Conflict
from kernel.executor.command import describe
from kernel.mainloop import MainLoop
from kernel.net import response
from kernel.net.errors import HttpError
from kernel.net.request import Request
from kernel.wire import agent_operator as api
from kernel.wire import codec
from kernel.wire.ids import ContainerID, validate_id
from kernel.wire.task import TaskResourceLimitation, TaskState

SIGKILL = 9
CONTAINER_ID_BYTES_MAX = 242

Handler = Callable[[Request, Any], Awaitable[web.StreamResponse]]


T = TypeVar("T")


class Waiters(Generic[T]):
    """Those who wait for something to be told of containers, by their names: PARENT.ID for one inside another."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[asyncio.Future[T]]] = {}

    def wait(self, name: str) -> asyncio.Future[T]:
        """Return what is told next."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(name, []).append(future)
        future.add_done_callback(lambda done: self._leave(name, done))
        return future

    def tell(self, name: str, news: T) -> None:
        for future in self._waiting.pop(name, ()):
            if not future.done():
                future.set_result(news)

    def _leave(self, name: str, future: asyncio.Future[T]) -> None:
        waiting = self._waiting.get(name, [])
        if future in waiting:
            waiting.remove(future)
            if not waiting:
                del self._waiting[name]


class ContainerApi:
    """The handlers, by the type of the call."""

    def __init__(
        self,
        loop: Callable[[], MainLoop],
        starting: Waiters[ContainerBegan],
        waiters: Waiters[ContainerEnded],
        sessions: Sessions,
        discard: Callable[[str], Awaitable[None]],
    ) -> None:
        """discard: takes away a sandbox; raises OSError."""
        self._loop, self._starting, self._waiters, self._sessions, self._discard = loop, starting, waiters, sessions, discard
        self.handlers: Mapping[str, Handler] = {
            "LAUNCH_CONTAINER": lambda request, body: self._launch(path(body.container_id), body),
            "LAUNCH_NESTED_CONTAINER": self._launch_nested,
            "KILL_CONTAINER": lambda request, body: self._kill(path(body.container_id), body.signal),
            "KILL_NESTED_CONTAINER": lambda request, body: self._kill(nested_path(body.container_id), body.signal),
            "WAIT_CONTAINER": self._wait_container,
            "WAIT_NESTED_CONTAINER": self._wait_nested_container,
            "REMOVE_CONTAINER": lambda request, body: self._remove(path(body.container_id)),
            "REMOVE_NESTED_CONTAINER": lambda request, body: self._remove(nested_path(body.container_id)),
        }

    async def _launch_nested(self, request: Request, body: api.LaunchNestedContainer) -> web.StreamResponse:
        asked = api.LaunchContainer(body.container_id, body.command, container=body.container)
        return await self._launch(nested_path(body.container_id), asked)

    async def _launch(self, name: str, asked: api.LaunchContainer) -> web.StreamResponse:
        """200 once it has a process, 202 when it is there already."""
        if self._sessions.get(name) is not None:
            return response.text(202)
        starting = self._starting.wait(name)
        try:
            if not await self._loop().submit(LaunchOperated(name, asked)):
                return response.text(202)
            began = await starting
        finally:
            starting.cancel()
        if began.problem:
            raise CallError(f"Failed to launch container: {began.problem}")
        return response.text(200)

    async def _remove(self, name: str) -> web.StreamResponse:
        """Its sandbox first: what is forgotten must have left nothing behind."""
        if self._sessions.get(name) is not None:
            raise Conflict(f"Container {name} has not terminated yet")
        if not self._sessions.forget(name):
            sandbox = await self._loop().submit(View("removable", name))
            try:
                await self._discard(sandbox)
            except OSError as error:
                raise HttpError(500, f"Failed to remove the sandbox directory: {error.strerror}") from error
            await self._loop().submit(RemoveOperated(name))
        return response.text(200)

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
        ended = api.WaitContainer(**_told(await self._end(path(body.container_id))))
        return await response.json(request, codec.encode(api.Response("WAIT_CONTAINER", wait_container=ended)))

    async def _wait_nested_container(self, request: Request, body: api.WaitNestedContainerCall) -> web.StreamResponse:
        ended = api.WaitNestedContainer(**_told(await self._end(nested_path(body.container_id))))
        return await response.json(request, codec.encode(api.Response("WAIT_NESTED_CONTAINER", wait_nested_container=ended)))

    async def _end(self, name: str) -> Ending:
        """How a container ends, or has ended. Raises NotFound."""
        session = self._sessions.get(name)
        if session is not None:
            await asyncio.shield(session.over)
        over, status = self._sessions.status(name)
        if over:
            return Ending(status, describe(status))
        waiting = self._waiters.wait(name)
        try:
            known: Ending | None = await self._loop().submit(View("container", name))
            if known is not None:
                return known
            ended = await waiting
        finally:
            waiting.cancel()
        if ended.exit is None:
            return Ending(None, "the container was not started")
        return Ending(ended.exit.status, describe(ended.exit.status), ended.limitation)


def _told(ended: Ending) -> dict[str, Any]:
    """The fields of an answer."""
    told: dict[str, Any] = {"exit_status": ended.status, "message": ended.message}
    limitation = ended.limitation
    if limitation is not None:
        told |= {"state": TaskState.TASK_FAILED, "reason": limitation.reason, "message": limitation.message}
        told |= {"limitation": TaskResourceLimitation(limitation.resources)}
    return told


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
