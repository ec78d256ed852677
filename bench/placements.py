"""Placements: tasks accepted to TASK_RUNNING, per second, through a real master.

The agents are emulated: they speak the real link, answer each launch at once, and end a task as soon as its running is
acknowledged. The frameworks speak real HTTP. All of them share this process, so the figure is the master's only while
this process is not the slower one: its own CPU time is printed beside the master's.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import Any

import aiohttp
import msgspec

from bench.master import MasterProcess
from bench.report import Report, percentile
from kernel.net import loop as event_loop
from kernel.wire import codec, recordio, scheduler
from kernel.wire.agent import (
    LINK_VERSION,
    AcknowledgeUpdate,
    AgentFrame,
    AgentHeartbeat,
    MasterFrame,
    Register,
    Registered,
    RunTask,
    StatusUpdate,
)
from kernel.wire.framework import Capability, FrameworkCapability, FrameworkInfo
from kernel.wire.ids import AgentID, TaskID
from kernel.wire.offer import Filters, Launch, Offer, Operation, OperationType
from kernel.wire.resources import Resources
from kernel.wire.task import CommandInfo, Source, TaskInfo, TaskState, TaskStatus

RUNNING, FINISHED = TaskState.TASK_RUNNING, TaskState.TASK_FINISHED
SHAPE = Resources.parse("cpus:1;mem:64").messages()
TASKS_PER_AGENT = 8
WARM_S = 2.0
CONNECTING_MAX = 64  # At once.
PEERS = {
    "kube-scheduler (the gate of its own performance tests)": "810/s",
    "Nomad C1M (HashiCorp 2016; 5 servers of 16 cores, 5,000 clients)": "3,750/s",
    "Nomad C2M (HashiCorp 2020; 3 servers of 36 cores, 6,100 clients)": "1,500/s",
}
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(MasterFrame).decode
_event = msgspec.json.Decoder(scheduler.Event).decode
_uuids = itertools.count(1)


class Agent:
    """An emulated agent: runs anything, for no time at all."""

    def __init__(self, number: int) -> None:
        self.number, self.sent = number, 0
        self.agent_id = AgentID("")
        self.running: dict[str, bytes] = {}  # Task id: uuid of the update that said so.

    async def serve(self, session: aiohttp.ClientSession, url: str, gate: asyncio.Semaphore, registered: asyncio.Semaphore) -> None:
        """Speak the link until cancelled."""
        async with gate:
            socket = await session.ws_connect(f"{url}/agent-link", max_msg_size=0, compress=0)
        resources = Resources.parse(f"cpus:{TASKS_PER_AGENT};mem:{64 * TASKS_PER_AGENT}").messages()
        name, port = f"host{self.number}", 1024 + self.number
        await self._send(socket, [Register(LINK_VERSION, "", f"run-{self.number}", name, "127.0.0.1", port, resources)])
        heart: asyncio.Task[None] | None = None
        async for message in socket:
            answers: list[Any] = []
            for body in _decode(message.data).messages:
                if type(body) is RunTask:
                    answers.append(self._update(body.framework_id, body.task.task_id, RUNNING))
                elif type(body) is AcknowledgeUpdate and self.running.get(body.task_id) == body.uuid:
                    del self.running[body.task_id]
                    answers.append(self._update(body.framework_id, TaskID(body.task_id), FINISHED))
                elif type(body) is Registered:
                    self.agent_id = AgentID(body.agent_id)
                    registered.release()
                    heart = asyncio.create_task(self._beat(socket, body.heartbeat_s))
            if answers:
                await self._send(socket, answers)
        if heart is not None:
            heart.cancel()

    async def _beat(self, socket: aiohttp.ClientWebSocketResponse, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            await self._send(socket, [AgentHeartbeat()])

    def _update(self, framework_id: str, task_id: TaskID, state: TaskState) -> StatusUpdate:
        uuid = next(_uuids).to_bytes(16, "big")
        if state is RUNNING:
            self.running[task_id.value] = uuid
        status = TaskStatus(task_id, state, source=Source.SOURCE_EXECUTOR, agent_id=self.agent_id, timestamp=time.time(), uuid=uuid)
        return StatusUpdate(framework_id, status, state)

    async def _send(self, socket: aiohttp.ClientWebSocketResponse, messages: list[Any]) -> None:
        self.sent += 1
        await socket.send_bytes(_encode(AgentFrame(self.sent, tuple(messages))))


class Framework:
    """A scheduler that fills every offer with tasks and acknowledges everything."""

    def __init__(self, number: int, batched: bool, roles: int) -> None:
        self.batched = batched
        self.info = FrameworkInfo("bench", f"bench-{number}", roles=(f"role{number % roles}",), capabilities=CAPABILITIES)
        self.accepted: dict[str, float] = {}  # Task id: when.
        self.latencies: list[float] = []
        self.counting = False
        self.calls: list[scheduler.Call] = []
        self.wake = asyncio.Event()
        self._tasks = itertools.count()

    async def serve(self, session: aiohttp.ClientSession, url: str) -> None:
        """Subscribe and work until cancelled."""
        path, headers = f"{url}/api/v1/scheduler", {"Content-Type": "application/json"}
        subscribe = scheduler.Call(type="SUBSCRIBE", subscribe=scheduler.Subscribe(self.info))
        async with session.post(path, data=codec.encode(subscribe), headers=headers) as answer:
            answer.raise_for_status()
            decoder = recordio.Decoder(1 << 30)
            sender = asyncio.create_task(self._send(session, path, answer.headers["Mesos-Stream-Id"]))
            try:
                async for piece in answer.content.iter_any():
                    for record in decoder.feed(piece):
                        self._heard(_event(record))
                    if self.calls:
                        self.wake.set()
            finally:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)

    def _heard(self, event: scheduler.Event) -> None:
        if event.subscribed is not None:
            self.framework_id = event.subscribed.framework_id
        elif event.update is not None:
            self._updated(event.update.status)
        elif event.offers is not None:
            for offer in event.offers.offers:
                self._accept(offer)

    def _accept(self, offer: Offer) -> None:
        cpus = next((resource.scalar.value for resource in offer.resources if resource.name == "cpus" and resource.scalar), 0.0)
        names = [f"t{next(self._tasks)}" for _ in range(int(cpus))]
        now = time.perf_counter()
        self.accepted.update(dict.fromkeys(names, now))
        tasks = tuple(TaskInfo(name, TaskID(name), offer.agent_id, SHAPE, command=CommandInfo(value="true")) for name in names)
        accept = scheduler.Accept((offer.id,), (Operation(OperationType.LAUNCH, launch=Launch(tasks)),), Filters(0.0))
        self.calls.append(scheduler.Call(self.framework_id, "ACCEPT", accept=accept))

    def _updated(self, status: TaskStatus) -> None:
        if status.state is RUNNING and (since := self.accepted.pop(status.task_id.value, None)) is not None and self.counting:
            self.latencies.append(time.perf_counter() - since)
        if status.uuid is not None and status.agent_id is not None:
            acknowledge = scheduler.Acknowledge(status.agent_id, status.task_id, status.uuid)
            self.calls.append(scheduler.Call(self.framework_id, "ACKNOWLEDGE", acknowledge=acknowledge))

    async def _send(self, session: aiohttp.ClientSession, path: str, stream_id: str) -> None:
        kind = "application/recordio" if self.batched else "application/json"
        headers = {"Content-Type": kind, "Mesos-Stream-Id": stream_id}
        while True:
            await self.wake.wait()
            self.wake.clear()
            calls, self.calls = self.calls, []
            encoded = [codec.encode(call) for call in calls]
            if self.batched:
                await _post(session, path, b"".join(map(recordio.frame, encoded)), headers)
            else:
                await asyncio.gather(*(_post(session, path, body, headers) for body in encoded))


async def _post(session: aiohttp.ClientSession, path: str, body: bytes, headers: dict[str, str]) -> None:
    async with session.post(path, data=body, headers=headers) as answer:
        if answer.status != 202:
            raise RuntimeError(f"the master answered {answer.status}: {await answer.text()}")


CAPABILITIES = tuple(
    map(Capability, (FrameworkCapability.MULTI_ROLE, FrameworkCapability.PARTITION_AWARE, FrameworkCapability.RESERVATION_REFINEMENT))
)


async def _measure(master: MasterProcess, agents: int, frameworks: Sequence[Framework], seconds: float) -> dict[str, float]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        gate, registered = asyncio.Semaphore(CONNECTING_MAX), asyncio.Semaphore(0)
        tasks = [asyncio.create_task(Agent(number).serve(session, master.url, gate, registered)) for number in range(agents)]
        for _ in range(agents):
            await registered.acquire()
        tasks += [asyncio.create_task(framework.serve(session, master.url)) for framework in frameworks]
        await _alive(tasks, WARM_S)
        for framework in frameworks:
            framework.counting = True
        cpu_s, own_s, started = master.cpu_s(), time.process_time(), time.perf_counter()
        await _alive(tasks, seconds)
        elapsed_s = time.perf_counter() - started
        latencies = [latency for framework in frameworks for latency in framework.latencies]
        results = {
            "placements_per_s": len(latencies) / elapsed_s,
            "p50_s": percentile(latencies, 0.5),
            "p99_s": percentile(latencies, 0.99),
            "master_cpu_s": master.cpu_s() - cpu_s,
            "master_rss_mb": master.rss_mb(),
            "load_cpu_s": time.process_time() - own_s,
        }
        for task in reversed(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return results


async def _alive(tasks: Sequence[asyncio.Task[None]], seconds: float) -> None:
    """Let time pass; raise what ended any of the tasks."""
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
        raise RuntimeError("the master closed a connection")


def run(agents: int, frameworks: int, roles: int, seconds: float, batched: bool) -> Report:
    """Measure one master. Raises RuntimeError when it misbehaves."""
    with MasterProcess() as master:
        loads = [Framework(number, batched, roles) for number in range(frameworks)]
        results = event_loop.run(_measure(master, agents, loads, seconds))
    calls = "batched" if batched else "single"
    params: dict[str, int | float | str] = {"agents": agents, "frameworks": frameworks, "roles": roles, "seconds": seconds, "calls": calls}
    return Report("placements", params, results, PEERS)
