"""Failover: a master is killed with agents and running tasks registered, and started again on what it had recorded.

The clock runs from the kill until the new master has registered all agents with all tasks and the framework, subscribed again, has
been offered something. Agents and framework are emulated (`bench.emulation`) and come back as real ones do, with their backoff.

`core` measures the master's core alone, in this process: the same registrations, from bytes, without sockets.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Sequence

import aiohttp
import msgspec

from bench.emulation import CAPABILITIES, SHAPE, Fleet, Framework
from bench.master import MasterProcess
from bench.report import BenchError, Report
from kernel.clock import Now
from kernel.mainloop import BATCH_MAX, SETTLE_BUDGET_S
from kernel.master import registry, views
from kernel.master.config import MasterConfig
from kernel.master.core import MasterCore
from kernel.master.effects import FromAgent, SubscribeFramework, ToStream
from kernel.net import backoff
from kernel.net import loop as event_loop
from kernel.wire import scheduler
from kernel.wire.agent import LINK_VERSION, AgentFrame, Register, TaskReport
from kernel.wire.framework import FrameworkInfo
from kernel.wire.ids import AgentID, FrameworkID, TaskID
from kernel.wire.nodes import AgentInfo, MasterInfo
from kernel.wire.resources import Resources
from kernel.wire.task import CommandInfo, Source, TaskInfo, TaskState, TaskStatus

START_S = 600.0  # For the agents to register and the tasks to run.
RECOVER_S = 300.0
IN_FLIGHT = 2_000  # Tasks, while they are launched.
PEERS = {
    "Mesos 1.5, core without sockets (its own benchmark: 40,000 agents, 400,000 tasks; C++, hardware not published)": "19 s",
    "Mesos 1.5, 10,000 agents with 100,000 tasks (its release notes; C++, hardware not published)": "about 4 s",
}


async def load(master: MasterProcess, fleet: Fleet, framework: Framework, session: aiohttp.ClientSession) -> asyncio.Task[None]:
    """Register the fleet and run the framework's tasks; return the framework's stream. Raises TimeoutError, BenchError, OSError."""
    await fleet.connect()
    serving = asyncio.create_task(framework.serve(session, master.port))
    settled = asyncio.create_task(framework.settled.wait())
    done, _ = await asyncio.wait((serving, settled), timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
    if settled not in done:
        settled.cancel()
        serving.cancel()
        await asyncio.gather(serving)
        raise BenchError(f"only {framework.running} tasks run after {START_S:g} s")
    return serving


async def _real(master: MasterProcess, agents: int, tasks: int) -> dict[str, float]:
    fleet = Fleet(master.port, agents, tasks_each=-(-tasks // agents) + 1, keep=True, follow=True)
    framework = Framework(0, batched=True, in_flight=IN_FLIGHT, tasks_max=tasks)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        serving = await load(master, fleet, framework, session)
        try:
            gc.collect()
            gc.freeze()  # This process is no measure of anything; it had better not pause.
            own_s, began_s = time.process_time(), time.perf_counter()
            master.kill()
            starting = asyncio.create_task(asyncio.to_thread(master.start))
            await asyncio.gather(serving, return_exceptions=True)
            serving = asyncio.create_task(_follow(framework, session, master.port))
            async with asyncio.timeout(RECOVER_S):
                await starting
                started_s = time.perf_counter()
                await fleet.all_registered.wait()
                registered_s = time.perf_counter()
                await framework.offered.wait()
                ended_s = time.perf_counter()
            own_s = time.process_time() - own_s
            await _check(master, agents, tasks)
            return {
                "recover_s": ended_s - began_s,
                "start_s": started_s - began_s,
                "registered_s": registered_s - began_s,
                "master_cpu_s": master.cpu_s(),
                "master_rss_mb": master.rss_mb(),
                "load_cpu_s": own_s,
                "longest_stall_s": await asyncio.to_thread(master.longest_stall_s),
            }
        finally:
            gc.unfreeze()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            fleet.close()


async def _follow(framework: Framework, session: aiohttp.ClientSession, port: int) -> None:
    """Subscribe until it works, as the SDK does."""
    failures = 0
    while True:
        try:
            await framework.serve(session, port)
        except aiohttp.ClientError:
            failures += 1
            await asyncio.sleep(backoff.delay_s(failures, 0.5))


async def _check(master: MasterProcess, agents: int, tasks: int) -> None:
    """Raises BenchError when the master does not know them all."""
    numbers = await asyncio.to_thread(master.numbers)
    found = numbers["master/slaves_active"], numbers["master/tasks_running"]
    if found != (agents, tasks):
        raise BenchError(f"after the failover the master knows {found[0]:g} agents and {found[1]:g} tasks")


# ---- The core alone -------------------------------------------------------------------------------------


def _recorded(agents: int, framework: FrameworkInfo) -> dict[str, bytes]:
    records = {}
    for number in range(agents):
        info = AgentInfo(hostname=f"host{number}", port=5051, resources=RESOURCES, id=AgentID(f"agent-{number}"))
        kept = registry.keep_agent(f"agent-{number}", registry.AgentRecord(info, _ip(number), 0.0))
        assert kept.value is not None
        records[kept.key] = kept.value
    kept = registry.keep_framework("bench", registry.FrameworkRecord(framework, 0.0))
    assert kept.value is not None
    return records | {kept.key: kept.value}


RESOURCES = Resources.parse("cpus:64;mem:65536;disk:100000;ports:[31000-32000]").messages()


def _ip(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def _frame(number: int, tasks: int, framework: FrameworkInfo) -> bytes:
    """What an agent sends to register, with its tasks."""
    agent_id = AgentID(f"agent-{number}")
    reports = []
    for index in range(tasks):
        task_id = TaskID(f"task-{number}-{index}")
        status = TaskStatus(
            task_id, TaskState.TASK_RUNNING, source=Source.SOURCE_EXECUTOR, agent_id=agent_id, timestamp=1.0, uuid=bytes(16)
        )
        task = TaskInfo(task_id.value, task_id, agent_id, SHAPE, command=CommandInfo(value="true"))
        reports.append(TaskReport("bench", task, TaskState.TASK_RUNNING, status=status))
    registration = Register(
        LINK_VERSION,
        agent_id.value,
        f"run-{number}",
        f"host{number}",
        _ip(number),
        5051,
        RESOURCES,
        frameworks=(framework,),
        tasks=tuple(reports),
    )
    return msgspec.msgpack.encode(AgentFrame(1, (registration,)))


def _core(agents: int, tasks: int) -> dict[str, float]:
    framework = FrameworkInfo("bench", "bench", FrameworkID("bench"), roles=("role0",), capabilities=CAPABILITIES, failover_timeout=600.0)
    records = _recorded(agents, framework)
    frames = [_frame(number, tasks // agents + (number < tasks % agents), framework) for number in range(agents)]
    gc.collect()
    gc.freeze()
    try:
        began_s, cpu_s = time.perf_counter(), time.process_time()
        master = MasterInfo(id="master", ip=0, port=5050, hostname="master")
        core = MasterCore(MasterConfig(), master, registry.load(records.items()), _now(), views.render, time.perf_counter)
        loaded_s = time.process_time() - cpu_s
        gc.collect()
        gc.freeze()  # As the master does.
        core.receive(SubscribeFramework("stream", "bench", None, scheduler.Subscribe(framework)), _now())
        decode = msgspec.msgpack.Decoder(AgentFrame).decode
        offers = 0
        for start in range(0, agents, BATCH_MAX):
            for link in range(start, min(start + BATCH_MAX, agents)):
                for message in decode(frames[link]).messages:
                    core.receive(FromAgent(link, message), _now())
            offers += _offers(core.settle(_now(), SETTLE_BUDGET_S))
        while core.unsettled:
            offers += _offers(core.settle(_now(), SETTLE_BUDGET_S))
        ended_s, cpu_s = time.perf_counter(), time.process_time() - cpu_s
    finally:
        gc.unfreeze()
    held = sum(len(agent.tasks) for agent in core.state.agents.values())
    if (held, offers) != (tasks, agents):
        raise BenchError(f"the core knows {held} tasks and has made {offers} offers")
    return {"recover_s": ended_s - began_s, "cpu_s": cpu_s, "load_s": loaded_s}


def _now() -> Now:
    return Now(time.monotonic(), time.time())


def _offers(effects: Sequence[object]) -> int:
    return sum(len(effect.event.offers.offers) for effect in effects if type(effect) is ToStream and effect.event.offers is not None)


def run(agents: int, tasks: int, core: bool) -> Report:
    """Measure one failover. Raises BenchError when the master loses something, TimeoutError when it does not recover."""
    params: dict[str, int | float | str] = {"agents": agents, "tasks": tasks, "of": "core" if core else "master"}
    if core:
        return Report("failover", params, _core(agents, tasks), PEERS)
    with MasterProcess() as master:
        return Report("failover", params, event_loop.run(_real(master, agents, tasks)), PEERS)
