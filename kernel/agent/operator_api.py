"""The operator API of the agent: `POST /api/v1` (spec: mesos-v1, section 4.2).

Reads of the state go through the core as views, so that nothing is shown which is not yet written; what a process
says about itself is answered here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from enum import Enum
from typing import Any

from aiohttp import web

from kernel.agent.config import AgentConfig
from kernel.agent.effects import ContainerEnded, KillContainer, View
from kernel.agent.session_api import SessionApi
from kernel.agent.sessions import Sessions
from kernel.errors import CallError, NotSupported
from kernel.executor.command import describe
from kernel.mainloop import MainLoop
from kernel.net import common, response
from kernel.net.errors import HttpError
from kernel.net.files import Files, in_thread, list_files, read_file
from kernel.net.logging_level import LoggingLevel
from kernel.net.metrics import Metrics
from kernel.net.request import JSON, RECORDIO, Request, acceptable, content_type, read_body
from kernel.wire import agent_operator as api
from kernel.wire import codec
from kernel.wire.ids import ContainerID, validate_id

SIGKILL = 9
CONTAINER_ID_BYTES_MAX = 242
MESSAGE_CONTENT_TYPE, MESSAGE_ACCEPT = "Message-Content-Type", "Message-Accept"

# Reads that views render: each is answered by the view named as the call, in lower case.
READS = ("GET_STATE", "GET_FRAMEWORKS", "GET_EXECUTORS", "GET_OPERATIONS", "GET_TASKS", "GET_AGENT", "GET_RESOURCE_PROVIDERS")
# Known and not built yet.
LATER = frozenset({
    "LAUNCH_CONTAINER", "REMOVE_CONTAINER", "LAUNCH_NESTED_CONTAINER", "REMOVE_NESTED_CONTAINER", "ADD_RESOURCE_PROVIDER_CONFIG",
    "UPDATE_RESOURCE_PROVIDER_CONFIG", "REMOVE_RESOURCE_PROVIDER_CONFIG", "MARK_RESOURCE_PROVIDER_GONE", "UNKNOWN",
    "ATTACH_CONTAINER_OUTPUT",
})  # fmt: skip

OfContainer = api.KillContainer | api.KillNestedContainer | api.WaitContainerCall | api.WaitNestedContainerCall
Handler = Callable[[Request, Any], Awaitable[web.StreamResponse]]


class Waiters:
    """Those who wait for the end of containers."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[asyncio.Future[ContainerEnded]]] = {}

    def wait(self, container_id: str) -> asyncio.Future[ContainerEnded]:
        """Return the future end of a container that runs."""
        future: asyncio.Future[ContainerEnded] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(container_id, []).append(future)
        future.add_done_callback(lambda done: self._leave(container_id, done))
        return future

    def ended(self, effect: ContainerEnded) -> None:
        for future in self._waiting.pop(effect.container_id, ()):
            if not future.done():
                future.set_result(effect)

    def _leave(self, container_id: str, future: asyncio.Future[ContainerEnded]) -> None:
        waiting = self._waiting.get(container_id, [])
        if future in waiting:
            waiting.remove(future)
            if not waiting:
                del self._waiting[container_id]


Prune = Callable[[Collection[str]], Awaitable[None]]
Measure = Callable[[str, Any], Awaitable[bytes]]  # Renders a view of a name, with these arguments, of what containers use now.


class OperatorApi:
    """The handler. loop: gives the main loop, once the agent has recovered."""

    def __init__(
        self,
        config: AgentConfig,
        loop: Callable[[], MainLoop],
        files: Files,
        waiters: Waiters,
        sessions: Sessions,
        session_api: SessionApi,
        level: LoggingLevel,
        metrics: Metrics,
        measure: Measure,
        prune: Prune,
    ) -> None:
        self._config, self._loop, self._files, self._waiters, self._level = config, loop, files, waiters, level
        self._measure, self._prune_images = measure, prune
        self._sessions, self._session_api = sessions, session_api
        self._measured = metrics
        # Type -> (handler, the part of the call it needs).
        self._handlers: dict[str, tuple[Handler, str | None]] = {
            "GET_HEALTH": (self._health, None),
            "GET_FLAGS": (self._flags, None),
            "GET_VERSION": (self._version, None),
            "GET_METRICS": (self._metrics, "get_metrics"),
            "GET_LOGGING_LEVEL": (self._logging_level, None),
            "SET_LOGGING_LEVEL": (self._set_logging_level, "set_logging_level"),
            "LIST_FILES": (self._list_files, "list_files"),
            "READ_FILE": (self._read_file, "read_file"),
            "PRUNE_IMAGES": (self._prune, "prune_images"),
            "KILL_CONTAINER": (self._kill, "kill_container"),
            "KILL_NESTED_CONTAINER": (self._kill, "kill_nested_container"),
            "WAIT_CONTAINER": (self._wait, "wait_container"),
            "WAIT_NESTED_CONTAINER": (self._wait, "wait_nested_container"),
        }

    async def handle(self, request: Request) -> web.StreamResponse:
        """Answer one call. Unlike elsewhere the headers are all looked at before the body."""
        streams = _check_headers(request)
        if streams is Streams.IN:
            return await self._session_api.attach_input(request, _nested)
        call = codec.decode(await read_body(request), api.Call)
        kind = call.type or ""
        if kind in READS:
            return await response.json(request, await self._loop().submit(View(kind.lower())))
        if kind == "GET_CONTAINERS":
            return await response.json(request, await self._measure("get_containers", call.get_containers))
        if kind == "ATTACH_CONTAINER_INPUT":
            raise HttpError(415, f"Expecting 'Content-Type' of {RECORDIO} for ATTACH_CONTAINER_INPUT")
        if kind == "LAUNCH_NESTED_CONTAINER_SESSION":
            asked = call.launch_nested_container_session
            if asked is None:
                raise CallError("Failed to validate agent::Call: Expecting 'launch_nested_container_session' to be present")
            return await self._session_api.launch(request, _nested(asked.container_id), asked)
        if streams is Streams.OUT and kind not in LATER:
            raise HttpError(406, f"Expecting 'Accept' to allow {JSON}")
        if kind in LATER:
            raise NotSupported(f"{kind} is not built yet")
        if kind not in self._handlers:
            raise CallError("Failed to validate agent::Call: Expecting 'type' to be present")
        handler, part = self._handlers[kind]
        body = getattr(call, part) if part is not None else None
        if part is not None and body is None:
            raise CallError(f"Failed to validate agent::Call: Expecting '{part}' to be present")
        return await handler(request, body)

    async def _answer(self, request: Request, kind: str, **parts: Any) -> web.StreamResponse:
        return await response.json(request, codec.encode(api.Response(kind, **parts)))

    # ---- The process itself -----------------------------------------------------------------------------

    async def _health(self, request: Request, body: None) -> web.StreamResponse:
        return await self._answer(request, "GET_HEALTH", get_health=api.GetHealth(True))

    async def _flags(self, request: Request, body: None) -> web.StreamResponse:
        return await self._answer(request, "GET_FLAGS", get_flags=api.GetFlags(common.flag_messages(self._config)))

    async def _version(self, request: Request, body: None) -> web.StreamResponse:
        return await self._answer(request, "GET_VERSION", get_version=api.GetVersion(common.version_info()))

    async def _metrics(self, request: Request, body: api.GetMetricsCall) -> web.StreamResponse:
        return await self._measured.call(request, body.timeout.nanoseconds / 1e9 if body.timeout is not None else None)

    async def _logging_level(self, request: Request, body: None) -> web.StreamResponse:
        return await self._answer(request, "GET_LOGGING_LEVEL", get_logging_level=api.GetLoggingLevel(self._level.get()))

    async def _set_logging_level(self, request: Request, body: api.SetLoggingLevel) -> web.StreamResponse:
        self._level.set(body.level, body.duration.nanoseconds / 1e9)
        return response.text(200)

    async def _list_files(self, request: Request, body: api.ListFilesCall) -> web.StreamResponse:
        return await self._answer(request, "LIST_FILES", list_files=await in_thread(list_files, self._files, body))

    async def _read_file(self, request: Request, body: api.ReadFileCall) -> web.StreamResponse:
        return await self._answer(request, "READ_FILE", read_file=await in_thread(read_file, self._files, body))

    async def _prune(self, request: Request, body: api.PruneImages) -> web.StreamResponse:
        await self._prune_images([image.docker.name for image in body.excluded_images if image.docker is not None])
        return response.text(200)

    # ---- Containers -------------------------------------------------------------------------------------

    async def _kill(self, request: Request, body: api.KillContainer | api.KillNestedContainer) -> web.StreamResponse:
        number = SIGKILL if body.signal is None else body.signal
        if not 0 < number <= 64:
            raise CallError(f"kill_container.signal: {number} is no signal")
        session = self._sessions.get(_name(body))
        if session is not None:
            session.signal(number)
        else:
            await self._loop().submit(KillContainer(_name(body), number))
        return response.text(200)

    async def _wait(self, request: Request, body: api.WaitContainerCall | api.WaitNestedContainerCall) -> web.StreamResponse:
        name = _name(body)
        session = self._sessions.get(name)
        if session is not None:
            await asyncio.shield(session.over)
        over, status = self._sessions.status(name)
        if over:
            return await self._ended(request, body, status, describe(status))
        waiting = self._waiters.wait(body.container_id.value)
        try:
            await self._loop().submit(View("container", name))  # Raises NotFound.
            ended = await waiting
        finally:
            waiting.cancel()
        status = None if ended.exit is None else ended.exit.status
        return await self._ended(request, body, status, "the container was not started" if ended.exit is None else describe(status))

    async def _ended(
        self, request: Request, body: api.WaitContainerCall | api.WaitNestedContainerCall, status: int | None, message: str
    ) -> web.StreamResponse:
        if isinstance(body, api.WaitContainerCall):
            return await self._answer(request, "WAIT_CONTAINER", wait_container=api.WaitContainer(status, message=message))
        return await self._answer(request, "WAIT_NESTED_CONTAINER", wait_nested_container=api.WaitNestedContainer(status, message=message))


class Streams(Enum):
    """Whether a call's body is records, or its answer is to be."""

    NOT = "not"
    IN = "in"
    OUT = "out"


def _check_headers(request: Request) -> Streams:
    """Only ATTACH_CONTAINER_INPUT has a body of records. Raises CallError, HttpError 406 and 415."""
    media, of_records = content_type(request, (JSON, RECORDIO)), request.headers.get(MESSAGE_CONTENT_TYPE)
    if media == RECORDIO:
        if of_records is None:
            raise CallError(f"Expecting '{MESSAGE_CONTENT_TYPE}' to be present")
        if of_records != JSON:
            raise HttpError(415, f"Expecting '{MESSAGE_CONTENT_TYPE}' of {JSON}")
        return Streams.IN
    if of_records is not None:
        raise HttpError(415, f"Expecting '{MESSAGE_CONTENT_TYPE}' to be not set for this 'Content-Type'")
    of_answer = request.headers.get(MESSAGE_ACCEPT)
    if acceptable(request, (JSON, RECORDIO)) == RECORDIO:
        if of_answer is not None and JSON not in of_answer and "*/*" not in of_answer:
            raise HttpError(406, f"Expecting '{MESSAGE_ACCEPT}' to allow {JSON}")
        return Streams.OUT
    if of_answer is not None:
        raise HttpError(406, f"Expecting '{MESSAGE_ACCEPT}' to be not set for this 'Accept'")
    return Streams.NOT


def _name(call: OfContainer) -> str:
    """The container that a call names, as the core knows it: PARENT.ID for one inside another. Raises CallError."""
    if isinstance(call, api.KillNestedContainer | api.WaitNestedContainerCall):
        return _nested(call.container_id)
    return _path(call.container_id)


def _nested(container_id: ContainerID) -> str:
    if container_id.parent is None:
        raise CallError("Failed to validate agent::Call: Expecting 'container_id.parent' to be present")
    return _path(container_id)


def _path(leaf: ContainerID) -> str:
    container_id: ContainerID | None = leaf
    names: list[str] = []
    while container_id is not None:
        validate_id(container_id.value, "container_id")
        if "." in container_id.value or " " in container_id.value or len(container_id.value.encode()) > CONTAINER_ID_BYTES_MAX:
            raise CallError(f"container_id: has at most {CONTAINER_ID_BYTES_MAX} bytes and neither periods nor spaces")
        names.append(container_id.value)
        container_id = container_id.parent
    return ".".join(reversed(names))
