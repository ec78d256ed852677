"""The streaming calls of the agent's operator API: sessions, the input and the output of containers (spec: mesos-v1, sections 1.3 and 4.2).

Output goes out as records of an answer that stays open, input comes in as records of a request that does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from aiohttp import web

from kernel.agent.container_api import Waiters, nested_path, path
from kernel.agent.effects import ContainerEnded, LaunchContainer, View
from kernel.agent.follow import ends, follow
from kernel.agent.sessions import Entry, Guest, Session, Sessions
from kernel.agent.terminals import Terminal
from kernel.errors import CallError, Conflict, Unavailable
from kernel.mainloop import MainLoop
from kernel.net import response
from kernel.net.files import Files
from kernel.net.request import JSON, RECORDIO, Request
from kernel.net.stream import RecordStream
from kernel.wire import agent_operator as api
from kernel.wire import codec
from kernel.wire.command import CommandInfo
from kernel.wire.common import DurationInfo
from kernel.wire.container import ContainerInfo, WindowSize
from kernel.wire.recordio import Decoder

RECORD_BYTES_MAX = 1 << 20
UNREAD_BYTES_MAX = 1 << 20  # Of output; then its files are not read on.
LOOK_S = 0.02
FOLLOWERS_MAX = 200
BUSY = "somebody else sends the input of this container"
HEARTBEAT_S = 15.0  # Mesos: 30 s, which is also how long its own command waits for anything at all.
MESSAGE_CONTENT_TYPE = "Message-Content-Type"

Handler = Callable[[Request, Any, str], Awaitable[web.StreamResponse]]


class Enters(Protocol):
    """Whoever runs containers: how a process gets into one."""

    async def entry(self, place: LaunchContainer, guest: Guest) -> Entry:
        """place: how the container was launched. Raises CallError where that is not possible."""

    async def terminal(self, container_id: str) -> int:
        """The end of its terminal on which one types. Raises NotFound, Unavailable."""


class Sink(Protocol):
    """What takes the input of a container."""

    over: asyncio.Future[Any]

    async def write(self, data: bytes) -> None:
        """Give it input, when there is room; none ends it, as the end of a file, or as Ctrl-D on a terminal."""

    def resize(self, size: WindowSize) -> None:
        """Tell a terminal how large its window is."""


class StreamApi:
    """The handlers, by the type of the call; the type of the answer's records is said by the caller."""

    def __init__(
        self, loop: Callable[[], MainLoop], files: Files, waiters: Waiters[ContainerEnded], sessions: Sessions, enters: Callable[[], Enters]
    ) -> None:
        self._loop, self._files, self._waiters, self._sessions, self._enters = loop, files, waiters, sessions, enters
        self._followers = 0
        self._typing: set[str] = set()  # Containers on whose terminals somebody types.
        self.handlers: Mapping[str, Handler] = {
            "LAUNCH_NESTED_CONTAINER_SESSION": self._launch,
            "ATTACH_CONTAINER_OUTPUT": self._attach_output,
        }

    async def _launch(self, request: Request, body: api.LaunchNestedContainerSession, media: str) -> web.StreamResponse:
        """The process lives as long as the answer is read."""
        name = nested_path(body.container_id)
        parent, _, _ = name.rpartition(".")
        place: LaunchContainer = await self._loop().submit(View("place", parent))
        command = body.command or CommandInfo()
        window, terminal = _terminal(body.container)
        env = dict(place.env)
        if terminal:
            env.setdefault("TERM", "xterm")
        if command.environment is not None:
            env.update((variable.name, variable.value or "") for variable in command.environment.variables)
        entry = await self._enters().entry(place, Guest(_argv(command), env, command.user, terminal))
        session = await self._sessions.start(name, place.container_id, entry, window, terminal)
        try:
            return await _serve(request, session.output, media)
        finally:
            await asyncio.shield(session.end())

    async def _attach_output(self, request: Request, body: api.AttachContainerOutput, media: str) -> web.StreamResponse:
        """What a container prints from now on, until it ends or nobody reads."""
        name = path(body.container_id)
        session = self._sessions.get(name)
        if session is not None:
            watcher = RecordStream()
            session.watchers.add(watcher)
            try:
                return await _serve(request, watcher, media)
            finally:
                session.watchers.discard(watcher)
        ended = self._waiters.wait(name)
        try:
            place: LaunchContainer = await self._loop().submit(View("attachable", name))
            if self._followers >= FOLLOWERS_MAX:
                raise Unavailable(f"the output of {FOLLOWERS_MAX} containers is being read already")
            self._followers += 1
            try:
                return await self._follow(request, place.directory, ended, media)
            finally:
                self._followers -= 1
        finally:
            ended.cancel()

    async def _follow(self, request: Request, sandbox: str, ended: asyncio.Future[ContainerEnded], media: str) -> web.StreamResponse:
        stream, offsets = RecordStream(), await ends(self._files, sandbox)

        async def take(kind: api.DataType, data: bytes) -> None:
            stream.send(codec.encode(api.ProcessIO(api.ProcessIOType.DATA, api.Data(kind, data))))
            while stream.unread_bytes > UNREAD_BYTES_MAX and not stream.closed:  # noqa: ASYNC110 - a transport tells no event to others.
                await asyncio.sleep(LOOK_S)

        following = asyncio.create_task(follow(self._files, sandbox, offsets, ended, take))
        following.add_done_callback(lambda _: stream.close())
        try:
            return await _serve(request, stream, media)
        finally:
            following.cancel()

    async def attach_input(self, request: Request) -> web.StreamResponse:
        """ATTACH_CONTAINER_INPUT: a request whose body goes on; the first record names the container.

        The end of the request is not the end of the input, which has a record of its own: Mesos's own command first tries with a request
        that only names the container. Input for one that has just ended goes nowhere, as does what comes right before an end.
        """
        sink: Sink | None = None
        name, decoder = "", Decoder(RECORD_BYTES_MAX)
        try:
            while piece := await _next(request, sink):
                for record in decoder.feed(piece):
                    body = codec.decode(record, api.Call).attach_container_input
                    if body is None:
                        raise CallError("Failed to validate agent::Call: Expecting 'attach_container_input' to be present")
                    if sink is None:
                        name = _named(body)
                        if self._sessions.status(name)[0]:
                            return response.text(200)
                        sink = await self._attach(name)
                    else:
                        await _input(sink, body)
            if sink is None:
                raise CallError("the first record must name the container")
            if not sink.over.done():
                decoder.finish()
            return response.text(200)
        finally:
            if sink is not None:
                self._detach(name, sink)

    async def _attach(self, name: str) -> Sink:
        """Take the input of a container, if nobody else has it. Raises NotFound, Conflict."""
        if name in self._typing:
            raise Conflict(BUSY)
        session = self._sessions.get(name)
        if session is not None:
            if session.attached:
                raise Conflict(BUSY)
            session.attached = True
            return session
        self._typing.add(name)
        over = self._waiters.wait(name)
        try:
            place: LaunchContainer = await self._loop().submit(View("attachable", name))
            if place.terminal is None:
                raise Conflict(f"Container {name} was launched without a terminal (tty_info), so its input cannot be attached")
            return Terminal(await self._enters().terminal(place.container_id), over)
        except BaseException:
            self._typing.discard(name)
            over.cancel()
            raise

    def _detach(self, name: str, sink: Sink) -> None:
        if isinstance(sink, Session):
            sink.attached = False
        if isinstance(sink, Terminal):
            self._typing.discard(name)
            sink.over.cancel()
            sink.close()


async def _serve(request: Request, stream: RecordStream, media: str) -> web.StreamResponse:
    """Answer with a stream, in which also silence says something now and then: clients give up on one that says nothing."""
    interval = api.Heartbeat(DurationInfo(round(HEARTBEAT_S * 1e9)))
    beat = api.ProcessIO(api.ProcessIOType.CONTROL, control=api.Control(api.ControlType.HEARTBEAT, heartbeat=interval))
    stream.beat(codec.encode(beat), HEARTBEAT_S)
    return await stream.serve(request, {MESSAGE_CONTENT_TYPE: JSON} if media == RECORDIO else {}, media)


async def _next(request: Request, sink: Sink | None) -> bytes:
    """The next piece of the body; nothing once its container has ended."""
    if sink is None:
        return await request.content.readany()
    reading = asyncio.ensure_future(request.content.readany())
    waited: set[asyncio.Future[Any]] = {reading, sink.over}
    try:
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        return reading.result() if reading.done() and not sink.over.done() else b""
    finally:
        reading.cancel()


def _named(body: api.AttachContainerInput) -> str:
    if body.type is not api.AttachInputType.CONTAINER_ID or body.container_id is None:
        raise CallError("the first record must be of type CONTAINER_ID")
    return path(body.container_id)


async def _input(sink: Sink, body: api.AttachContainerInput) -> None:
    process_io = body.process_io
    if body.type is not api.AttachInputType.PROCESS_IO or process_io is None:
        raise CallError("records after the first must be of type PROCESS_IO")
    if process_io.type is api.ProcessIOType.DATA and process_io.data is not None:
        if process_io.data.type is not api.DataType.STDIN:
            raise CallError("process_io.data.type: must be STDIN")
        await sink.write(process_io.data.data or b"")
    elif process_io.control is not None and process_io.control.tty_info is not None:
        size = process_io.control.tty_info.window_size
        if size is not None:
            sink.resize(size)


def _terminal(container: ContainerInfo | None) -> tuple[WindowSize | None, bool]:
    if container is None or container.tty_info is None:
        return None, False
    return container.tty_info.window_size, True


def _argv(command: CommandInfo) -> tuple[str, ...]:
    if command.shell:
        return ("/bin/sh", "-c", command.value) if command.value else ("/bin/sh",)
    if not command.value:
        raise CallError("launch_nested_container_session.command.value: a command that is not for a shell needs one")
    return (command.value, *command.arguments[1:])
