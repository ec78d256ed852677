"""The executor API: `POST /api/v1/executor` (spec: mesos-v1, sections 1.2 and 3).

Takes calls apart and hands them to the core, which alone knows executors.
"""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Callable
from typing import Any

from aiohttp import web

from kernel.agent.effects import ExecutorData, ExecutorStreamClosed, ExecutorUnknown, ExecutorUpdate, SubscribeExecutor
from kernel.agent.token import BadToken, Claims, verify
from kernel.errors import CallError, Forbidden
from kernel.mainloop import MainLoop
from kernel.net.errors import HttpError
from kernel.net.request import Request, acceptable, content_type, read_body
from kernel.net.response import text
from kernel.net.stream import RecordStream
from kernel.wire import codec, executor

REALM = "mesos-agent-executor"
HEARTBEAT = codec.encode(executor.Event("HEARTBEAT"))
HEARTBEAT_S = 30 * 60.0


class ExecutorStreams:
    """The event streams of executors, by name."""

    def __init__(self) -> None:
        self._streams: dict[str, RecordStream] = {}

    def open(self, name: str) -> RecordStream:
        """Begin a stream, before anything is sent on it."""
        stream = self._streams[name] = RecordStream()
        stream.beat(HEARTBEAT, HEARTBEAT_S)
        return stream

    def send(self, name: str, event: executor.Event) -> None:
        """Send an event; nothing happens when the executor is gone."""
        stream = self._streams.get(name)
        if stream is not None:
            stream.send(codec.encode(event))

    def close(self, name: str) -> None:
        """End a stream after what was sent on it."""
        stream = self._streams.pop(name, None)
        if stream is not None:
            stream.close()

    def close_all(self) -> None:
        for name in list(self._streams):
            self.close(name)


class ExecutorApi:
    """The handler. loop: gives the main loop; raises Unavailable until the agent knows what runs on it.

    key: executors must show a token signed with it; without one they are believed, but must call from this machine.
    """

    def __init__(self, loop: Callable[[], MainLoop], streams: ExecutorStreams, key: bytes = b"", *, anywhere: bool = False) -> None:
        """anywhere: also who shows nothing may call from other machines."""
        self._loop, self._streams, self._key, self._anywhere = loop, streams, key, anywhere

    async def handle(self, request: Request) -> web.StreamResponse:
        """Answer one call."""
        claims = self._claims(request)
        content_type(request)
        call = codec.decode(await read_body(request), executor.Call)
        if call.type == "HEARTBEAT":
            return text(202)
        body = _body_of(call)
        loop = self._loop()
        ids = call.framework_id.value, call.executor_id.value
        if isinstance(body, executor.Subscribe):
            return await self._subscribe(request, ids, body, claims)
        if isinstance(body, executor.Update):
            await loop.submit(ExecutorUpdate(*ids, body, claims))
        elif body is None:
            await loop.submit(ExecutorUnknown(*ids, claims))
        else:
            await loop.submit(ExecutorData(*ids, body.data, claims))
        return text(202)

    def _claims(self, request: Request) -> Claims | None:
        """Who the caller proves to be, None where nobody is asked. Raises HttpError 401, Forbidden."""
        if not self._key:
            if not self._anywhere and not _is_local(request):
                raise Forbidden("executors call from the agent's own machine")
            return None
        scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
        try:
            return verify(shown.strip() if scheme.lower() == "bearer" else "", self._key)
        except BadToken:
            raise HttpError(401, "Authentication required", {"WWW-Authenticate": f'Bearer realm="{REALM}"'}) from None

    async def _subscribe(
        self, request: Request, ids: tuple[str, str], body: executor.Subscribe, claims: Claims | None
    ) -> web.StreamResponse:
        media = acceptable(request)
        loop, name = self._loop(), str(uuid.uuid4())
        stream = self._streams.open(name)
        try:
            await loop.submit(SubscribeExecutor(name, *ids, body, claims))
            return await stream.serve(request, {}, media)
        finally:
            self._streams.close(name)
            loop.post(ExecutorStreamClosed(name))


def _is_local(request: Request) -> bool:
    transport = request.transport
    if transport is None:
        return False
    peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    return peer is not None and (peer[0] == own[0] or ipaddress.ip_address(peer[0].partition("%")[0]).is_loopback)


def _body_of(call: executor.Call) -> Any:
    """Return the part that the type names, None for UNKNOWN. Raises CallError when it is missing."""
    if call.type == "UNKNOWN":
        return None
    if call.type not in ("SUBSCRIBE", "UPDATE", "MESSAGE"):
        raise CallError("Failed to validate executor::Call: Expecting 'type' to be present")
    name = call.type.lower()
    body = getattr(call, name)
    if body is None:
        raise CallError(f"Failed to validate executor::Call: Expecting '{name}' to be present")
    return body
