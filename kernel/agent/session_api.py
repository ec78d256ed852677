"""The streaming calls of the agent's operator API: sessions in containers (spec: mesos-v1, sections 1.3 and 4.2).

Output goes out as records of an answer that stays open, input comes in as records of a request that does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from aiohttp import web

from kernel.agent.effects import LaunchContainer, View
from kernel.agent.sessions import Entry, Guest, Session, Sessions
from kernel.errors import CallError, Conflict
from kernel.mainloop import MainLoop
from kernel.net import response
from kernel.net.request import JSON, RECORDIO, Request
from kernel.wire import agent_operator as api
from kernel.wire import codec
from kernel.wire.command import CommandInfo
from kernel.wire.container import ContainerInfo, WindowSize
from kernel.wire.ids import ContainerID
from kernel.wire.recordio import Decoder

RECORD_BYTES_MAX = 1 << 20
MESSAGE_CONTENT_TYPE = "Message-Content-Type"


class Enters(Protocol):
    """Whoever runs containers: how a process gets into one."""

    async def entry(self, place: LaunchContainer, guest: Guest) -> Entry:
        """place: how the container was launched. Raises CallError where that is not possible."""


class SessionApi:
    """The handlers."""

    def __init__(self, loop: Callable[[], MainLoop], sessions: Sessions, enters: Callable[[], Enters]) -> None:
        self._loop, self._sessions, self._enters = loop, sessions, enters

    async def launch(self, request: Request, name: str, body: api.LaunchNestedContainerSession) -> web.StreamResponse:
        """LAUNCH_NESTED_CONTAINER_SESSION: the process lives as long as the answer is read."""
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
            return await session.output.serve(request, {MESSAGE_CONTENT_TYPE: JSON}, RECORDIO)
        finally:
            await asyncio.shield(session.end())

    async def attach_input(self, request: Request, named: Callable[[ContainerID], str]) -> web.StreamResponse:
        """ATTACH_CONTAINER_INPUT: a request whose body goes on; the first record names the container."""
        session: Session | None = None
        decoder = Decoder(RECORD_BYTES_MAX)
        try:
            while piece := await request.content.readany():
                for record in decoder.feed(piece):
                    body = codec.decode(record, api.Call).attach_container_input
                    if body is None:
                        raise CallError("Failed to validate agent::Call: Expecting 'attach_container_input' to be present")
                    if session is None:
                        session = self._attach(named, body)
                    else:
                        await _input(session, body)
            decoder.finish()
            if session is None:
                raise CallError("the first record must name the container")
            return response.text(200)
        finally:
            if session is not None:
                session.attached = False
                session.end_input()

    def _attach(self, named: Callable[[ContainerID], str], body: api.AttachContainerInput) -> Session:
        if body.type is not api.AttachInputType.CONTAINER_ID or body.container_id is None:
            raise CallError("the first record must be of type CONTAINER_ID")
        session = self._sessions.find(named(body.container_id))
        if session.attached:
            raise Conflict("somebody else sends the input of this container")
        session.attached = True
        return session


async def _input(session: Session, body: api.AttachContainerInput) -> None:
    process_io = body.process_io
    if body.type is not api.AttachInputType.PROCESS_IO or process_io is None:
        raise CallError("records after the first must be of type PROCESS_IO")
    if process_io.type is api.ProcessIOType.DATA and process_io.data is not None:
        if process_io.data.type is not api.DataType.STDIN:
            raise CallError("process_io.data.type: must be STDIN")
        await session.write(process_io.data.data or b"")
    elif process_io.control is not None and process_io.control.tty_info is not None:
        size = process_io.control.tty_info.window_size
        if size is not None:
            session.resize(size)


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
