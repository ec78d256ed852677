"""The operator API: `POST /api/v1` (spec: mesos-v1, section 4).

Reads of the state go through the core as views, so that nothing is shown which is not yet written; what a
process says about itself is answered here.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiohttp import web

from kernel.errors import CallError, Conflict, NotSupported
from kernel.mainloop import MainLoop
from kernel.master import reservation_api
from kernel.master.config import MasterConfig
from kernel.master.effects import (
    DeactivateAgent,
    DrainAgent,
    KillTaskByOperator,
    MarkAgentGone,
    ReactivateAgent,
    StartMaintenance,
    StopMaintenance,
    StreamClosed,
    SubscribeOperator,
    TeardownFramework,
    UpdateSchedule,
    View,
)
from kernel.master.streams import Streams
from kernel.net import common, response
from kernel.net.files import Files, in_thread, list_files, read_file
from kernel.net.logging_level import LoggingLevel
from kernel.net.metrics import Metrics
from kernel.net.request import Request, acceptable, content_type, read_body
from kernel.wire import codec, operator

log = logging.getLogger(__name__)

# Reads that views render: each is answered by the view named as the call, in lower case.
READS = frozenset({
    "GET_STATE", "GET_AGENTS", "GET_FRAMEWORKS", "GET_EXECUTORS", "GET_OPERATIONS", "GET_TASKS", "GET_ROLES", "GET_MASTER", "GET_WEIGHTS",
    "GET_QUOTA", "GET_MAINTENANCE_STATUS", "GET_MAINTENANCE_SCHEDULE",
})  # fmt: skip
# The core takes the body as it is and answers nothing.
SUBMITTED = ("UPDATE_WEIGHTS", "UPDATE_QUOTA", "SET_QUOTA", "REMOVE_QUOTA")

Handler = Callable[[Request, Any], Awaitable[web.StreamResponse]]


class OperatorApi:
    """The handler. loop: gives the main loop of the master that leads."""

    def __init__(
        self, config: MasterConfig, loop: Callable[[], MainLoop], streams: Streams, files: Files, level: LoggingLevel, metrics: Metrics
    ) -> None:
        self._config, self._loop, self._streams, self._files, self._level = config, loop, streams, files, level
        self._measured = metrics
        # Type -> (handler, the part of the call it needs).
        self._handlers: dict[str, tuple[Handler, str | None]] = {
            "SUBSCRIBE": (self._subscribe, None),
            "GET_HEALTH": (self._health, None),
            "GET_FLAGS": (self._flags, None),
            "GET_VERSION": (self._version, None),
            "GET_METRICS": (self._metrics, "get_metrics"),
            "GET_LOGGING_LEVEL": (self._logging_level, None),
            "SET_LOGGING_LEVEL": (self._set_logging_level, "set_logging_level"),
            "LIST_FILES": (self._list_files, "list_files"),
            "READ_FILE": (self._read_file, "read_file"),
            "TEARDOWN": (self._teardown, "teardown"),
            **{kind: (partial(self._operate, kind), kind.lower()) for kind in reservation_api.CALLS},
            "MARK_AGENT_GONE": (self._mark_agent_gone, "mark_agent_gone"),
            "KILL_TASK": (self._kill_task, "kill_task"),
            **{name: (self._submit, name.lower()) for name in SUBMITTED},
            "DRAIN_AGENT": (self._drain_agent, "drain_agent"),
            "DEACTIVATE_AGENT": (self._deactivate_agent, "deactivate_agent"),
            "REACTIVATE_AGENT": (self._reactivate_agent, "reactivate_agent"),
            "UPDATE_MAINTENANCE_SCHEDULE": (self._update_schedule, "update_maintenance_schedule"),
            "START_MAINTENANCE": (self._start_maintenance, "start_maintenance"),
            "STOP_MAINTENANCE": (self._stop_maintenance, "stop_maintenance"),
        }

    async def handle(self, request: Request) -> web.StreamResponse:
        """Answer one call."""
        content_type(request)
        call = codec.decode(await read_body(request), operator.Call)
        kind = call.type or ""
        if kind in READS:
            acceptable(request)
            return await response.json(request, await self._loop().submit(View(kind.lower())))
        if kind == "UNKNOWN":
            raise NotSupported("UNKNOWN is no call")
        if kind not in self._handlers:
            raise CallError("Failed to validate master::Call: Expecting 'type' to be present")
        handler, part = self._handlers[kind]
        body = getattr(call, part) if part is not None else None
        if part is not None and body is None:
            raise CallError(f"Failed to validate master::Call: Expecting '{part}' to be present")
        acceptable(request)
        return await handler(request, body)

    async def _answer(self, request: Request, kind: str, **parts: Any) -> web.StreamResponse:
        return await response.json(request, codec.encode(operator.Response(kind, **parts)))

    # ---- The process itself -----------------------------------------------------------------------------

    async def _health(self, request: Request, body: None) -> web.StreamResponse:
        return await self._answer(request, "GET_HEALTH", get_health=operator.GetHealth(True))

    async def _flags(self, request: Request, body: None) -> web.StreamResponse:
        return await self._answer(request, "GET_FLAGS", get_flags=operator.GetFlags(common.flag_messages(self._config)))

    async def _version(self, request: Request, body: None) -> web.StreamResponse:
        return await self._answer(request, "GET_VERSION", get_version=operator.GetVersion(common.version_info()))

    async def _metrics(self, request: Request, body: operator.GetMetricsCall) -> web.StreamResponse:
        return await self._measured.call(request, body.timeout.nanoseconds / 1e9 if body.timeout is not None else None)

    async def _logging_level(self, request: Request, body: None) -> web.StreamResponse:
        return await self._answer(request, "GET_LOGGING_LEVEL", get_logging_level=operator.GetLoggingLevel(self._level.get()))

    async def _set_logging_level(self, request: Request, body: operator.SetLoggingLevel) -> web.StreamResponse:
        self._level.set(body.level, body.duration.nanoseconds / 1e9)
        return response.text(200)

    async def _list_files(self, request: Request, body: operator.ListFilesCall) -> web.StreamResponse:
        return await self._answer(request, "LIST_FILES", list_files=await in_thread(list_files, self._files, body))

    async def _read_file(self, request: Request, body: operator.ReadFileCall) -> web.StreamResponse:
        return await self._answer(request, "READ_FILE", read_file=await in_thread(read_file, self._files, body))

    # ---- The cluster ------------------------------------------------------------------------------------

    async def _subscribe(self, request: Request, body: None) -> web.StreamResponse:
        stream_id = str(uuid.uuid4())
        loop = self._loop()
        stream = self._streams.open(stream_id)
        try:
            await loop.submit(SubscribeOperator(stream_id))
            return await stream.serve(request, {})
        finally:
            self._streams.close(stream_id)
            loop.post(StreamClosed(stream_id))

    async def _submit(self, request: Request, body: Any) -> web.StreamResponse:
        await self._loop().submit(body)
        return response.text(200)

    async def _teardown(self, request: Request, body: operator.Teardown) -> web.StreamResponse:
        await self._loop().submit(TeardownFramework(body.framework_id.value))
        return response.text(200)

    async def _operate(self, kind: str, request: Request, body: Any) -> web.StreamResponse:
        await self._loop().submit(reservation_api.of_call(kind, body, request.principal))
        return response.text(202)

    async def _mark_agent_gone(self, request: Request, body: operator.MarkAgentGone) -> web.StreamResponse:
        await self._loop().submit(MarkAgentGone(body.agent_id.value))
        return response.text(200)

    async def _kill_task(self, request: Request, body: operator.KillTask) -> web.StreamResponse:
        await self._loop().submit(KillTaskByOperator(body.framework_id.value, body.task_id.value, body.kill_policy))
        return response.text(200)

    async def _drain_agent(self, request: Request, body: operator.DrainAgent) -> web.StreamResponse:
        grace_ns = body.max_grace_period.nanoseconds if body.max_grace_period is not None else None
        await self._loop().submit(DrainAgent(body.agent_id.value, grace_ns, body.mark_gone))
        return response.text(200)

    async def _deactivate_agent(self, request: Request, body: operator.DeactivateAgent) -> web.StreamResponse:
        await self._loop().submit(DeactivateAgent(body.agent_id.value))
        return response.text(200)

    async def _reactivate_agent(self, request: Request, body: operator.ReactivateAgent) -> web.StreamResponse:
        if not await self._loop().submit(ReactivateAgent(body.agent_id.value)):
            raise Conflict(f"agent_id: agent '{body.agent_id.value}' is not registered now; it is offered again when it is")
        return response.text(200)

    async def _update_schedule(self, request: Request, body: operator.UpdateMaintenanceSchedule) -> web.StreamResponse:
        await self._loop().submit(UpdateSchedule(body.schedule))
        return response.text(200)

    async def _start_maintenance(self, request: Request, body: operator.StartMaintenance) -> web.StreamResponse:
        await self._loop().submit(StartMaintenance(body.machines))
        return response.text(200)

    async def _stop_maintenance(self, request: Request, body: operator.StopMaintenance) -> web.StreamResponse:
        await self._loop().submit(StopMaintenance(body.machines))
        return response.text(200)
