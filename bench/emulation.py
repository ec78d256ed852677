"""Emulated agents and frameworks: they speak to a real master as real ones do, and cost little.

An agent speaks the link (`kernel.wire.agent`) over a WebSocket of its own making, answers each launch at once and runs nothing.
A framework fills offers with small tasks over HTTP and acknowledges what it hears. All of them share the benchmark's process.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, cast

import aiohttp
import msgspec
from msgspec import Struct

from bench.report import BenchError
from kernel.agent.links import RETRY_S_MAX
from kernel.net import backoff
from kernel.wire import codec, recordio, scheduler
from kernel.wire.agent import (
    LINK_VERSION,
    AcknowledgeUpdate,
    AgentFrame,
    AgentHeartbeat,
    FrameworkUpdated,
    MasterFrame,
    Register,
    Registered,
    RunTask,
    ShutdownAgent,
    StatusUpdate,
    TaskReport,
)
from kernel.wire.framework import Capability, FrameworkCapability, FrameworkInfo
from kernel.wire.ids import AgentID, FrameworkID, OfferID, TaskID
from kernel.wire.offer import Filters, Launch, Operation, OperationType
from kernel.wire.resources import Resources
from kernel.wire.task import CommandInfo, Source, TaskInfo, TaskState, TaskStatus

RUNNING, FINISHED = TaskState.TASK_RUNNING, TaskState.TASK_FINISHED
SHAPE = Resources.parse("cpus:1;mem:64").messages()
CONNECTING_MAX = 64  # At once.
CONNECT_S = 300.0  # All of them.
HEART_SLICES = 20  # Of the agents, each at its own part of the heartbeat's interval.
REFUSE_S = 1e6
CALLERS = 64  # Connections for the calls of one framework.
CAPABILITIES = tuple(
    map(Capability, (FrameworkCapability.MULTI_ROLE, FrameworkCapability.PARTITION_AWARE, FrameworkCapability.RESERVATION_REFINEMENT))
)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(MasterFrame).decode
_uuids = itertools.count(1)


# ---- Agents ---------------------------------------------------------------------------------------------


class Fleet:
    """All agents. tasks_each: how many tasks an agent has room for. keep: tasks run on until the end; otherwise each
    ends as soon as its running is acknowledged. follow: agents come back when the master goes away."""

    def __init__(self, port: int, count: int, *, tasks_each: int, keep: bool, follow: bool = False) -> None:
        self.port, self.keep, self.follow = port, keep, follow
        self.resources = Resources.parse(f"cpus:{tasks_each};mem:{64 * tasks_each}").messages()
        self.agents = [Agent(self, number) for number in range(count)]
        self.registered = 0
        self.all_registered = asyncio.Event()
        self._broken: str | None = None
        self._connecting = asyncio.Semaphore(CONNECTING_MAX)
        self._closed = False
        self._heart: asyncio.Task[None] | None = None
        self._returning: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        """Connect all; return when the master has registered them all. Raises BenchError, TimeoutError, OSError."""
        async with asyncio.timeout(CONNECT_S):
            await asyncio.gather(*map(self._connect, self.agents))
            await self.all_registered.wait()
        self.check()

    def check(self) -> None:
        """Raises BenchError when the master did what it should not."""
        if self._broken is not None:
            raise BenchError(self._broken)

    def fail(self, reason: str) -> None:
        """The master did what it should not."""
        self._broken = reason
        self.all_registered.set()  # Nobody need wait.

    async def _connect(self, agent: Agent) -> None:
        async with self._connecting:
            await asyncio.get_running_loop().create_connection(lambda: agent, "127.0.0.1", self.port)

    def heard(self, heartbeat_s: float) -> None:
        """One more is registered."""
        self.registered += 1
        if self.registered == len(self.agents):
            self.all_registered.set()
        if self._heart is None:
            self._heart = asyncio.create_task(self._beat(heartbeat_s))

    def lost(self, agent: Agent, was_registered: bool) -> None:
        """A link ended. A master that starts refuses agents, which try again."""
        if self._closed:
            return
        if was_registered:
            self.registered -= 1
            self.all_registered.clear()
            if not self.follow:
                self.fail("the master closed a link")
                return
        task = asyncio.create_task(self._return(agent))
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    async def _return(self, agent: Agent) -> None:
        """Come back as a real agent does."""
        for failures in itertools.count(1):
            await asyncio.sleep(backoff.delay_s(failures, random.random(), most_s=RETRY_S_MAX))
            try:
                await self._connect(agent)
                return
            except OSError:
                continue

    async def _beat(self, interval_s: float) -> None:
        for turn in itertools.count():
            await asyncio.sleep(interval_s / HEART_SLICES)
            for agent in self.agents[turn % HEART_SLICES :: HEART_SLICES]:
                agent.send([AgentHeartbeat()])

    def close(self) -> None:
        self._closed = True
        for task in (*self._returning, *([self._heart] if self._heart is not None else [])):
            task.cancel()
        for agent in self.agents:
            agent.close()


class Agent(asyncio.Protocol):
    """An emulated agent with its link: a WebSocket client that masks with zeros, which changes nothing and so costs nothing."""

    def __init__(self, fleet: Fleet, number: int) -> None:
        self._fleet, self._number = fleet, number
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._upgraded = self._registered = False
        self._sent = 0
        self._agent_id = AgentID("")
        self._frameworks: dict[str, FrameworkInfo] = {}
        self._running: dict[str, bytes] = {}  # Task id: uuid of the update that said so.
        self.kept: dict[str, TaskReport] = {}

    # ---- The connection ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by class.
        self._upgraded, self._registered, self._sent = False, False, 0
        self._buffer.clear()
        self._transport.write(
            b"GET /agent-link HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._fleet.lost(self, self._registered)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        if not self._upgraded:
            head, end, rest = buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head[:16]:
                self.close()
                return
            self._upgraded = True
            buffer[:] = rest
            self.send([self._registration()])
        while len(buffer) >= 2:
            size, start = buffer[1], 2
            if size == 126:
                size, start = int.from_bytes(buffer[2:4], "big"), 4
            elif size == 127:
                size, start = int.from_bytes(buffer[2:10], "big"), 10
            if len(buffer) < start + size:
                return
            kind, payload = buffer[0], bytes(buffer[start : start + size])
            del buffer[: start + size]
            if kind == 0x82:
                self._take(_decode(payload).messages)

    def send(self, messages: Iterable[Any]) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or not self._upgraded:
            return
        self._sent += 1
        payload = _encode(AgentFrame(self._sent, tuple(messages)))
        size = len(payload)
        if size < 126:
            transport.write(b"\x82%c\0\0\0\0%b" % (0x80 | size, payload))
        elif size < 65536:
            transport.write(b"\x82\xfe%b\0\0\0\0%b" % (size.to_bytes(2, "big"), payload))
        else:
            transport.write(b"\x82\xff%b\0\0\0\0%b" % (size.to_bytes(8, "big"), payload))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # ---- What it says -----------------------------------------------------------------------------------

    def _registration(self) -> Register:
        ip = f"10.{self._number >> 16 & 255}.{self._number >> 8 & 255}.{self._number & 255}"
        name = f"host{self._number}"
        return Register(
            LINK_VERSION,
            self._agent_id.value,
            f"run-{self._number}",
            name,
            ip,
            5051,
            self._fleet.resources,
            frameworks=tuple(self._frameworks.values()),
            tasks=tuple(self.kept.values()),
        )

    def _take(self, messages: Iterable[Any]) -> None:
        answers: list[Any] = []
        for body in messages:
            kind = type(body)
            if kind is RunTask:
                answers.append(self._run(body))
            elif kind is AcknowledgeUpdate:
                if not self._fleet.keep and self._running.get(body.task_id) == body.uuid:
                    del self._running[body.task_id]
                    answers.append(self._update(body.framework_id, TaskID(body.task_id), FINISHED))
            elif kind is Registered:
                self._agent_id = AgentID(body.agent_id)
                self._registered = True
                self._fleet.heard(body.heartbeat_s)
            elif kind is FrameworkUpdated:
                self._frameworks[body.framework.id.value] = body.framework
            elif kind is ShutdownAgent:
                self._fleet.fail(f"the master refused an agent: {body.reason}")
        if answers:
            self.send(answers)

    def _run(self, order: RunTask) -> StatusUpdate:
        update = self._update(order.framework_id, order.task.task_id, RUNNING)
        task_id = order.task.task_id.value
        if self._fleet.keep:
            self.kept[task_id] = TaskReport(order.framework_id, order.task, RUNNING, status=update.status)
        else:
            assert update.status.uuid is not None
            self._running[task_id] = update.status.uuid
        return update

    def _update(self, framework_id: str, task_id: TaskID, state: TaskState) -> StatusUpdate:
        uuid = next(_uuids).to_bytes(16, "big")
        status = TaskStatus(task_id, state, source=Source.SOURCE_EXECUTOR, agent_id=self._agent_id, timestamp=time.time(), uuid=uuid)
        return StatusUpdate(framework_id, status, state)


# ---- Frameworks -----------------------------------------------------------------------------------------


class _Scalar(Struct):
    value: float


class _Resource(Struct):
    name: str
    scalar: _Scalar | None = None


class _Offer(Struct):
    """What a framework looks at; the rest of an event is passed over, which costs little."""

    id: OfferID
    agent_id: AgentID
    resources: tuple[_Resource, ...]


class _Offers(Struct):
    offers: tuple[_Offer, ...] = ()


class _Status(Struct):
    task_id: TaskID
    state: TaskState
    agent_id: AgentID | None = None
    uuid: bytes | None = None


class _Update(Struct):
    status: _Status


class _Subscribed(Struct):
    framework_id: FrameworkID


class _Rescind(Struct):
    offer_id: OfferID


class _Event(Struct):
    subscribed: _Subscribed | None = None
    offers: _Offers | None = None
    rescind: _Rescind | None = None
    update: _Update | None = None
    error: scheduler.Error | None = None


_event = msgspec.json.Decoder(_Event)


class Framework:
    """A scheduler that fills offers with tasks, at most `tasks_max` ever (None: without end), and acknowledges everything.

    batched: many calls go in one POST. in_flight: tasks accepted and not heard to run yet, at most; offers beyond are held.
    running: tasks heard to run. offered: an offer has come since subscribing.
    """

    def __init__(self, number: int, *, batched: bool, in_flight: int, roles: int = 1, tasks_max: int | None = None) -> None:
        self.batched, self.in_flight = batched, in_flight
        name = f"bench-{number}"
        self.info = FrameworkInfo("bench", name, roles=(f"role{number % roles}",), failover_timeout=600.0, capabilities=CAPABILITIES)
        self.framework_id: FrameworkID | None = None
        self.accepted: dict[str, float] = {}  # Task id: when.
        self.latencies: list[float] = []
        self.counting = False
        self.running = 0
        self.settled = asyncio.Event()  # As many run as ever will.
        self.offered = asyncio.Event()
        self._left = tasks_max
        self._held: dict[str, _Offer] = {}
        self._calls: list[scheduler.Call] = []
        self._wake = asyncio.Event()
        self._tasks = itertools.count()

    async def serve(self, session: aiohttp.ClientSession, port: int) -> None:
        """Subscribe and work until the stream ends."""
        path, headers = f"http://127.0.0.1:{port}/api/v1/scheduler", {"Content-Type": "application/json"}
        info = msgspec.structs.replace(self.info, id=self.framework_id)
        subscribe = scheduler.Call(self.framework_id, "SUBSCRIBE", scheduler.Subscribe(info))
        self.offered.clear()
        self._held.clear()
        async with session.post(path, data=codec.encode(subscribe), headers=headers) as answer:
            answer.raise_for_status()
            decoder = recordio.Decoder(1 << 30)
            sender = asyncio.create_task(self._send(port, answer.headers["Mesos-Stream-Id"]))
            try:
                async for piece in answer.content.iter_any():
                    for record in decoder.feed(piece):
                        self._heard(_event.decode(record))
                    self._fill()
                    if self._calls:
                        self._wake.set()
                    if sender.done():
                        break
            finally:
                sender.cancel()
                ended = await asyncio.gather(sender, return_exceptions=True)
            if isinstance(ended[0], Exception):
                raise ended[0]

    def _heard(self, event: _Event) -> None:
        if event.update is not None:
            self._updated(event.update.status)
        elif event.offers is not None:
            self.offered.set()
            for offer in event.offers.offers:
                self._held[offer.id.value] = offer
        elif event.rescind is not None:
            self._held.pop(event.rescind.offer_id.value, None)
        elif event.subscribed is not None:
            self.framework_id = event.subscribed.framework_id
        elif event.error is not None:
            raise BenchError(f"the master refused a framework: {event.error.message}")

    def _fill(self) -> None:
        """Answer the oldest offers, as many as may be in flight."""
        while self._held and len(self.accepted) < self.in_flight:
            self._answer(self._held.pop(next(iter(self._held))))

    def _answer(self, offer: _Offer) -> None:
        cpus = next((resource.scalar.value for resource in offer.resources if resource.name == "cpus" and resource.scalar), 0.0)
        count = int(cpus) if self._left is None else min(int(cpus), self._left)
        if not count:
            self._calls.append(scheduler.Call(self.framework_id, "DECLINE", decline=scheduler.Decline((offer.id,), Filters(REFUSE_S))))
            return
        if self._left is not None:
            self._left -= count
        names = [f"t{next(self._tasks)}" for _ in range(count)]
        self.accepted.update(dict.fromkeys(names, time.perf_counter()))
        tasks = tuple(TaskInfo(name, TaskID(name), offer.agent_id, SHAPE, command=CommandInfo(value="true")) for name in names)
        filters = Filters(0.0 if self._left is None else REFUSE_S)
        accept = scheduler.Accept((offer.id,), (Operation(OperationType.LAUNCH, launch=Launch(tasks)),), filters)
        self._calls.append(scheduler.Call(self.framework_id, "ACCEPT", accept=accept))

    def _updated(self, status: _Status) -> None:
        if status.state is RUNNING and (since := self.accepted.pop(status.task_id.value, None)) is not None:
            self.running += 1
            if self.counting:
                self.latencies.append(time.perf_counter() - since)
            if not self._left and not self.accepted:
                self.settled.set()
        if status.uuid is not None and status.agent_id is not None:
            acknowledge = scheduler.Acknowledge(status.agent_id, status.task_id, status.uuid)
            self._calls.append(scheduler.Call(self.framework_id, "ACKNOWLEDGE", acknowledge=acknowledge))

    async def _send(self, port: int, stream_id: str) -> None:
        kind = "application/recordio" if self.batched else "application/json"
        callers = Callers(port, 1 if self.batched else CALLERS, kind, stream_id)
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                calls, self._calls = self._calls, []
                encoded = [codec.encode(call) for call in calls]
                if self.batched:
                    encoded = [b"".join(map(recordio.frame, encoded))]
                await callers.post(encoded)
        finally:
            callers.close()


class Callers:
    """A few connections that POST calls and look at nothing of the answers but whether they are 202."""

    def __init__(self, port: int, count: int, content_type: str, stream_id: str) -> None:
        self._port, self._count = port, count
        self._head = (
            f"POST /api/v1/scheduler HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\nMesos-Stream-Id: {stream_id}\r\n"
            "Content-Length: "
        ).encode()
        self._free: list[_Caller] = []
        self._all: list[_Caller] = []

    async def post(self, bodies: Iterable[bytes]) -> None:
        """Send all, each connection one at a time; return when all are answered. Raises BenchError, OSError."""
        waiting = deque(bodies)
        while len(self._all) < min(self._count, len(waiting)):
            _, caller = await asyncio.get_running_loop().create_connection(_Caller, "127.0.0.1", self._port)
            self._all.append(caller)
        await asyncio.gather(*(caller.drain(waiting, self._head) for caller in self._all[: len(waiting)]))

    def close(self) -> None:
        for caller in self._all:
            caller.transport.close()


class _Caller(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self) -> None:
        self._buffer = b""
        self._waiting: deque[bytes] = deque()
        self._head = b""
        self._done: asyncio.Future[None] | None = None

    def drain(self, waiting: deque[bytes], head: bytes) -> asyncio.Future[None]:
        """Send from what waits until nothing is left."""
        self._done, self._waiting, self._head = asyncio.get_running_loop().create_future(), waiting, head
        self._next()
        return self._done

    def _next(self) -> None:
        if self._waiting:
            body = self._waiting.popleft()
            self.transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
        elif self._done is not None and not self._done.done():
            self._done.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._buffer.endswith(b"\r\n\r\n"):  # An answer of 202 has no body.
            return
        answer, self._buffer = self._buffer, b""
        if answer.startswith(b"HTTP/1.1 202 "):
            self._next()
        else:
            self._fail(BenchError(f"the master answered {answer[:300]!r}"))

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(ConnectionResetError("the master closed a connection"))

    def _fail(self, error: Exception) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)
