"""A master for agents under test: takes registrations and shows what agents send; decides nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from kernel.wire.agent import (
    AcknowledgeUpdate,
    AgentFrame,
    AgentHeartbeat,
    FrameworkUpdated,
    MasterFrame,
    MasterHeartbeat,
    Register,
    Registered,
    RunTask,
    StatusUpdate,
)
from kernel.wire.link import FrameOrder
from kernel.wire.task import TaskState

DEADLINE_S = 30.0
TERMINAL = {TaskState.TASK_FINISHED, TaskState.TASK_FAILED, TaskState.TASK_KILLED, TaskState.TASK_LOST, TaskState.TASK_GONE}


class FakeMaster:
    """Serves one link at a time. received: all messages but heartbeats; acknowledges updates when told to."""

    def __init__(self, agent_id: str = "m-S1", acknowledges: bool = True) -> None:
        self.agent_id, self.acknowledges = agent_id, acknowledges
        self.received: list[Any] = []
        self.updates: list[StatusUpdate] = []
        self.registrations: list[Register] = []
        self.socket: web.WebSocketResponse | None = None
        self.port = 0
        self._order = FrameOrder()
        self._changed = asyncio.Event()

    async def __aenter__(self) -> FakeMaster:
        app = web.Application()
        app.router.add_get("/agent-link", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.socket is not None:
            await self.socket.close()
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.socket, self._order = socket, FrameOrder()
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                for body in msgspec.msgpack.decode(message.data, type=AgentFrame).messages:
                    await self._take(body)
        self.socket = None
        self._changed.set()
        return socket

    async def _take(self, message: Any) -> None:
        match message:
            case AgentHeartbeat():
                await self.send(MasterHeartbeat())
                return
            case Register():
                self.registrations.append(message)
                await self.send(Registered(self.agent_id, "master", 0.5, 5.0))
            case StatusUpdate(framework_id, status):
                self.updates.append(message)
                if self.acknowledges:
                    assert status.uuid is not None
                    await self.send(AcknowledgeUpdate(framework_id, status.task_id.value, status.uuid))
        self.received.append(message)
        self._changed.set()

    async def send(self, *messages: Any) -> None:
        if self.socket is not None:
            await self.socket.send_bytes(msgspec.msgpack.encode(MasterFrame(self._order.next_number(), messages)))

    async def run(self, info: Any, framework: Any, launch_executor: bool = True) -> None:
        """Launch a task of a framework."""
        await self.send(FrameworkUpdated(framework), RunTask(framework.id.value, info, launch_executor))

    def states(self, task_id: str) -> list[TaskState]:
        """The states told of a task, in order, repeats left out."""
        states: list[TaskState] = []
        for update in self.updates:
            if update.status.task_id.value == task_id and update.status.state not in states:
                states.append(update.status.state)
        return states

    def last(self, task_id: str) -> Any:
        """The status told last of a task."""
        return next(update.status for update in reversed(self.updates) if update.status.task_id.value == task_id)

    async def ended(self, task_id: str) -> TaskState:
        """Wait for a task's end; return how it ended."""
        await self.until(lambda: any(state in TERMINAL for state in self.states(task_id)))
        return self.states(task_id)[-1]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something received makes the condition true."""
        give_up = time.monotonic() + DEADLINE_S
        while not condition():
            self._changed.clear()
            async with asyncio.timeout(max(0.0, give_up - time.monotonic())):
                await self._changed.wait()
