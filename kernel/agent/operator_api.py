"""The operator API of the agent: `POST /api/v1` (spec: mesos-v1, section 4.2).

Reads of the state go through the core as views, so that nothing is shown which is not yet written; what a process
says about itself is answered here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from enum import Enum
from typing import Any

from aiohttp import web

from kernel.agent.config import AgentConfig
from kernel.agent.container_api import ContainerApi
from kernel.agent.effects import View
from kernel.agent.stream_api import StreamApi
from kernel.errors import CallError, NotSupported
from kernel.mainloop import MainLoop
from kernel.net import common, response
from kernel.net.errors import HttpError
from kernel.net.files import Files, in_thread, list_files, read_file
from kernel.net.logging_level import LoggingLevel
from kernel.net.metrics import Metrics
from kernel.net.request import JSON, RECORDIO, Request, acceptable, content_type, read_body
from kernel.wire import agent_operator as api
from kernel.wire import codec

MESSAGE_CONTENT_TYPE, MESSAGE_ACCEPT = "Message-Content-Type", "Message-Accept"

# Reads that views render: each is answered by the view named as the call, in lower case.
READS = ("GET_STATE", "GET_FRAMEWORKS", "GET_EXECUTORS", "GET_OPERATIONS", "GET_TASKS", "GET_AGENT", "GET_RESOURCE_PROVIDERS")
# Known and not built yet.
LATER = frozenset({
    "ADD_RESOURCE_PROVIDER_CONFIG",
    "UPDATE_RESOURCE_PROVIDER_CONFIG", "REMOVE_RESOURCE_PROVIDER_CONFIG", "MARK_RESOURCE_PROVIDER_GONE", "UNKNOWN",
})  # fmt: skip

Handler = Callable[[Request, Any], Awaitable[web.StreamResponse]]


Prune = Callable[[Collection[str]], Awaitable[None]]
Measure = Callable[[str, Any], Awaitable[bytes]]  # Renders a view of a name, with these arguments, of what containers use now.


class OperatorApi:
    """The handler. loop: gives the main loop, once the agent has recovered."""

    def __init__(
        self,
        config: AgentConfig,
        loop: Callable[[], MainLoop],
        files: Files,
        containers: ContainerApi,
        streams: StreamApi,
        level: LoggingLevel,
        metrics: Metrics,
        measure: Measure,
        prune: Prune,
    ) -> None:
        self._config, self._loop, self._files, self._level = config, loop, files, level
        self._measure, self._prune_images = measure, prune
        self._streams = streams
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
            **{kind: (handler, kind.lower()) for kind, handler in containers.handlers.items()},
        }

    async def handle(self, request: Request) -> web.StreamResponse:
        """Answer one call. Unlike elsewhere the headers are all looked at before the body."""
        streams = _check_headers(request)
        if streams is Streams.IN:
            return await self._streams.attach_input(request)
        call = codec.decode(await read_body(request), api.Call)
        kind = call.type or ""
        if kind in READS:
            return await response.json(request, await self._loop().submit(View(kind.lower())))
        if kind == "GET_CONTAINERS":
            return await response.json(request, await self._measure("get_containers", call.get_containers))
        if kind == "ATTACH_CONTAINER_INPUT":
            raise HttpError(415, f"Expecting 'Content-Type' of {RECORDIO} for ATTACH_CONTAINER_INPUT")
        if kind in self._streams.handlers:
            return await self._streams.handlers[kind](request, _part(call, kind.lower()), RECORDIO if streams is Streams.OUT else JSON)
        if streams is Streams.OUT and kind not in LATER:
            raise HttpError(406, f"Expecting 'Accept' to allow {JSON}")
        if kind in LATER:
            raise NotSupported(f"{kind} is not built yet")
        if kind not in self._handlers:
            raise CallError("Failed to validate agent::Call: Expecting 'type' to be present")
        handler, part = self._handlers[kind]
        return await handler(request, None if part is None else _part(call, part))

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


def _part(call: api.Call, name: str) -> Any:
    body = getattr(call, name)
    if body is None:
        raise CallError(f"Failed to validate agent::Call: Expecting '{name}' to be present")
    return body


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
