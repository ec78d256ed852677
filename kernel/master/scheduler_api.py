"""The scheduler API: `POST /api/v1/scheduler` (spec: mesos-v1, sections 1.2, 1.4 and 2.1).

Takes calls apart and hands them to the core, which alone knows frameworks. Our extension: a body of type
`application/recordio` holds many calls, decided in order and answered together.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

from aiohttp import web

from kernel.errors import CallError, KernelError, Unavailable
from kernel.mainloop import Batch, BatchRefused, MainLoop
from kernel.master.effects import SchedulerCall, StreamClosed, SubscribeFramework
from kernel.master.rate_limits import RateLimiter
from kernel.master.streams import Streams
from kernel.net.errors import HttpError, status_of
from kernel.net.request import BODY_BYTES_MAX, JSON, RECORDIO, Request, acceptable, content_type, read_body
from kernel.net.response import text
from kernel.wire import codec, scheduler
from kernel.wire.recordio import Decoder

STREAM_ID = "Mesos-Stream-Id"
STREAM_ID_BYTES_MAX = 128
CALLS_MAX = 10_000  # In one batch.
WAITING_MAX = 500  # Requests of one framework. Far less than the inbox takes, so a flood keeps nobody else out.

# The part of a call that each type needs, and what stands for it when it may be absent.
_BODIES: dict[str, tuple[str, Any]] = {
    "UNKNOWN": ("unknown", scheduler.Unknown()),
    "SUBSCRIBE": ("subscribe", None),
    "TEARDOWN": ("teardown", scheduler.Teardown()),
    "ACCEPT": ("accept", None),
    "DECLINE": ("decline", None),
    "ACCEPT_INVERSE_OFFERS": ("accept_inverse_offers", None),
    "DECLINE_INVERSE_OFFERS": ("decline_inverse_offers", None),
    "REVIVE": ("revive", scheduler.Revive()),
    "SUPPRESS": ("suppress", scheduler.Suppress()),
    "KILL": ("kill", None),
    "SHUTDOWN": ("shutdown", None),
    "ACKNOWLEDGE": ("acknowledge", None),
    "ACKNOWLEDGE_OPERATION_STATUS": ("acknowledge_operation_status", None),
    "RECONCILE": ("reconcile", None),
    "RECONCILE_OPERATIONS": ("reconcile_operations", None),
    "MESSAGE": ("message", None),
    "REQUEST": ("request", None),
    "UPDATE_FRAMEWORK": ("update_framework", None),
}


class SchedulerApi:
    """The handler. loop: gives the main loop of the master that leads."""

    def __init__(self, loop: Callable[[], MainLoop], streams: Streams, limiter: RateLimiter) -> None:
        self._loop, self._streams, self._limiter = loop, streams, limiter
        self._waiting: Counter[str] = Counter()  # Requests under way, by framework.
        self._principals: dict[str, str | None] = {}  # By stream: as the framework calls itself, where nobody is asked who he is.

    async def handle(self, request: Request) -> web.StreamResponse:
        """Answer one call, or a batch of them."""
        media = content_type(request, (JSON, RECORDIO))
        if media == RECORDIO:
            return await self._many(request, await read_body(request))
        call = codec.decode(await read_body(request), scheduler.Call)
        body = body_of(call)
        if type(body) is scheduler.Subscribe:
            return await self._subscribe(request, call, body)
        if type(body) is scheduler.ReconcileOperations:
            acceptable(request)
        await self._submit(request, _framework_id(call), _input(request, call, body), 1)
        return text(200 if type(body) is scheduler.UpdateFramework else 202)

    async def _submit(self, request: Request, framework_id: str, message: Any, calls: int) -> None:
        """Hand in calls of one framework, when it is their time. Raises KernelError as the core does, Unavailable for too many."""
        if self._waiting[framework_id] >= WAITING_MAX:
            raise Unavailable(f"{WAITING_MAX} requests of this framework wait already; try again")
        self._waiting[framework_id] += 1
        try:
            principal = request.principal or self._principals.get(request.headers.get(STREAM_ID, ""))
            wait_s = self._limiter.enter(principal, calls, asyncio.get_running_loop().time())
            if wait_s > 0.0:
                await asyncio.sleep(wait_s)
            await self._loop().submit(message)
        finally:
            self._waiting[framework_id] -= 1
            if not self._waiting[framework_id]:
                del self._waiting[framework_id]

    async def _subscribe(self, request: Request, call: scheduler.Call, body: scheduler.Subscribe) -> web.StreamResponse:
        media = acceptable(request)
        if STREAM_ID in request.headers:
            raise CallError(f"Subscribe calls should not include the '{STREAM_ID}' header")
        stream_id = str(uuid.uuid4())
        loop = self._loop()
        stream = self._streams.open(stream_id)
        try:
            await loop.submit(SubscribeFramework(stream_id, _framework_id(call), request.principal, body))
            self._principals[stream_id] = body.framework_info.principal
            return await stream.serve(request, {STREAM_ID: stream_id}, media)
        finally:  # Also when the client left while the core decided: it may have been subscribed.
            self._streams.close(stream_id)
            self._principals.pop(stream_id, None)
            loop.post(StreamClosed(stream_id))

    async def _many(self, request: Request, body: bytes) -> web.StreamResponse:
        decoder = Decoder(BODY_BYTES_MAX, CALLS_MAX)
        records = decoder.feed(body) if body else []
        decoder.finish()
        if not 0 < len(records) <= CALLS_MAX:
            raise CallError(f"a batch has 1 to {CALLS_MAX} calls, this one has {len(records)}")
        messages: list[SchedulerCall] = []
        unreadable: KernelError | None = None
        for record in records:
            try:
                messages.append(_batched(request, record))
            except KernelError as error:
                unreadable = error
                break
        try:
            if messages:
                await self._submit(request, messages[0].framework_id, Batch(tuple(messages)), len(messages))
            if unreadable is not None:
                raise BatchRefused(len(messages), unreadable)
        except BatchRefused as refused:
            raise HttpError(status_of(refused.error), str(refused), {"Meseta-Call": str(refused.index)}) from refused
        return text(202)


def _batched(request: Request, record: bytes) -> SchedulerCall:
    call = codec.decode(record, scheduler.Call)
    body = body_of(call)
    if type(body) is scheduler.Subscribe:
        raise CallError("SUBSCRIBE cannot be part of a batch")
    return _input(request, call, body)


def _input(request: Request, call: scheduler.Call, body: Any) -> SchedulerCall:
    stream_id = request.headers.get(STREAM_ID)
    if stream_id is not None and len(stream_id) > STREAM_ID_BYTES_MAX:
        raise CallError(f"'{STREAM_ID}' is longer than {STREAM_ID_BYTES_MAX} bytes")
    return SchedulerCall(_framework_id(call), stream_id, request.principal, body)


def _framework_id(call: scheduler.Call) -> str:
    return call.framework_id.value if call.framework_id is not None else ""


def body_of(call: scheduler.Call) -> Any:
    """Return the part of a call that its type names. Raises CallError when it is missing."""
    found = _BODIES.get(call.type or "")
    if found is None:
        raise CallError("Failed to validate scheduler::Call: Expecting 'type' to be present")
    name, absent = found
    if call.type != "SUBSCRIBE" and call.framework_id is None:
        raise CallError("Failed to validate scheduler::Call: Expecting 'framework_id' to be present")
    body = getattr(call, name, None) or absent
    if body is None:
        raise CallError(f"Failed to validate scheduler::Call: Expecting '{name}' to be present")
    return body
