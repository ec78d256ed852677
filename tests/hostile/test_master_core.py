"""The master's core told anything at all: it goes on, refuses without a trace, keeps its sums, and can be read and restarted.

`SEEDS=N` tries more histories; each is replayed by its number.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from msgspec.structs import replace

from kernel.errors import KernelError
from kernel.mainloop import Tick
from kernel.master import effects as e
from kernel.master import registry, views
from kernel.master.config import MasterConfig
from kernel.master.core import MasterCore
from kernel.wire import agent as link
from kernel.wire import codec, operator, scheduler
from kernel.wire.agent import LINK_VERSION, AgentMessage, Register
from kernel.wire.common import TimeInfo
from kernel.wire.framework import FrameworkCapability, FrameworkInfo
from kernel.wire.ids import FrameworkID
from kernel.wire.nodes import MachineID, MasterInfo, Unavailability
from kernel.wire.resources import Resources
from kernel.wire.task import CommandInfo, ExecutorType, TaskState
from kernel.wire.values import Scalar
from tests.builders import accept, accept_group, at, executor, framework_info, register, task
from tests.hostile.anything import Anything, picture
from tests.kernel.master.conductor import Conductor

SEEDS = range(int(os.environ.get("SEEDS", "6")))
STEPS = 60
CALLS = [
    scheduler.Teardown, scheduler.Accept, scheduler.Decline, scheduler.AcceptInverseOffers, scheduler.DeclineInverseOffers,
    scheduler.Revive, scheduler.Suppress, scheduler.Kill, scheduler.Shutdown, scheduler.Acknowledge, scheduler.AcknowledgeOperationStatus,
    scheduler.Reconcile, scheduler.ReconcileOperations, scheduler.Message, scheduler.Request, scheduler.UpdateFramework,
]  # fmt: skip
MESSAGES = AgentMessage.__args__
FIXED = {"version": LINK_VERSION}
VIEWS = [name.lower() for name in ("GET_STATE", "GET_AGENTS", "GET_TASKS", "GET_FRAMEWORKS", "GET_EXECUTORS", "GET_ROLES", "GET_MASTER")]
VIEWS += [
    "state",
    "state-summary",
    "slaves",
    "frameworks",
    "tasks",
    "roles",
    "weights",
    "quota",
    "metrics",
    "maintenance/status",
    "maintenance/schedule",
]
# Numbers of work done, refused or not; and what is only remembered of an answer.
NOT_STATE = ("out", "counts", "now", "rendered")


def busy() -> Conductor:
    """Two agents (links 1 and 2) with tasks of every kind, two frameworks (streams s and u)."""
    master = Conductor()
    info = MasterInfo(id="M", ip=0, port=5050, hostname="master")
    master.core = MasterCore(MasterConfig(), info, registry.load(()), at(0), views.render)
    first = master.subscribe("s", framework_info("one", FrameworkCapability.PARTITION_AWARE, failover_timeout=60.0))
    agent = master.agent(1)
    (offer,) = master.offers("s")
    group = executor("group", type=ExecutorType.DEFAULT, command=None)
    custom = executor("custom", command=CommandInfo(value="x"))
    wanted = accept([offer.id.value], task("t1", agent), task("t2", agent), task("t3", agent, executor=custom), refuse_s=0.0)
    master.call(first, wanted, "s")
    master.wait(2)
    (offer,) = master.offers("s")
    master.call(first, accept_group([offer.id.value], group, task("g1", agent, "cpus:0.1;mem:32")), "s")
    master.update(1, first, "t1", TaskState.TASK_RUNNING)
    master.update(1, first, "t2", TaskState.TASK_FINISHED)
    master.subscribe("u", framework_info("two"))
    master.agent(2)
    master.wait(2)
    return master


def words(master: Conductor) -> list[str]:
    """What means something to this master."""
    state = master.core.state
    known = ["t1", "t2", "t3", "g1", "group", "custom", "one", "two", "*", "cpus", "mem", "run-1", "run-2", "host-1"]
    return [*known, *state.frameworks, *state.agents, *state.offers, *state.removed_ids, *state.gone, *state.unreachable]


def honest(master: Conductor, number: int) -> list[Any]:
    """What the agent of a link, a framework and whoever comes anew would say now."""
    state, found = master.core.state, []
    agent = state.links.get(number)
    reports = []
    for task_ in agent.tasks.values() if agent is not None else ():
        status = task_.statuses[-1] if task_.statuses else None
        reports.append(link.TaskReport(task_.framework_id, task_.info, task_.state, task_.executor_id, status))
        if status is not None:
            found.append(e.FromAgent(number, link.StatusUpdate(task_.framework_id, status, task_.state)))
    executors = tuple(link.ExecutorReport(x.framework_id, x.info) for x in agent.executors.values()) if agent is not None else ()
    infos = tuple(state.frameworks[name].info for name in {report.framework_id for report in reports} if name in state.frameworks)
    name, agent_id = str(number), agent.agent_id if agent is not None else ""
    whole = register(name, agent_id=agent_id, frameworks=infos, executors=executors, tasks=tuple(reports), boot_id="")
    found += [e.FromAgent(number, whole)] * 3
    found += [e.FromAgent(number, link.ExecutorExited(x.framework_id, x.executor.executor_id.value, 0)) for x in executors]
    for framework in list(state.frameworks.values()):
        bodies: list[Any] = [scheduler.Reconcile(), scheduler.Revive(), scheduler.Suppress(), scheduler.UpdateFramework(framework.info)]
        for offer in framework.offers.values():
            ids, of = [offer.offer_id], offer.agent.agent_id
            bodies += [accept(ids, task("n1", of), task("n2", of, executor=executor("x"))), accept(ids, task("n3", of))] * 2
            bodies.append(accept_group(ids, executor("y", type=ExecutorType.DEFAULT, command=None), task("n4", of, "cpus:0.1;mem:32")))
        for running in framework.tasks.values():
            bodies.append(scheduler.Kill(running.info.task_id))
        demand = scheduler.ResourceRequest(resources=accept(["o"], task("d", "")).operations[0].launch.task_infos[0].resources, count=2)
        bodies.append(scheduler.Request((demand,)))
        found += [e.SchedulerCall(framework.framework_id, framework.stream, None, body) for body in bodies]
        found.append(e.SubscribeFramework(f"{framework.stream}+", framework.framework_id, None, scheduler.Subscribe(framework.info)))
    return found


def any_input(master: Conductor, chance: random.Random, anything: Anything) -> Any:
    """Something that agents, frameworks or operators might send: honest, nearly so, or not at all."""
    state = master.core.state
    anything.words = tuple(words(master))
    framework_id = chance.choice([*state.frameworks, "no-such-framework"])
    kind = chance.randrange(12)
    if kind < 6:
        message = chance.choice(honest(master, chance.choice([1, 2, 3])))
        if kind == 0:
            return message
        if isinstance(message, e.FromAgent):
            return e.FromAgent(message.link, anything.twisted(message.message))
        return replace(message, body=anything.twisted(message.body))
    if kind < 8:
        kind_of = chance.choice(MESSAGES)
        return e.FromAgent(chance.choice([1, 2, 3, 4]), anything.message(kind_of, **FIXED if kind_of is Register else {}))
    if kind < 10:
        framework = state.frameworks.get(framework_id)
        stream = chance.choice([framework.stream if framework is not None else "s", "s", "u", None, ""])
        return e.SchedulerCall(framework_id, stream, chance.choice([None, "ops"]), anything.message(chance.choice(CALLS)))
    if kind == 10:
        body = anything.message(scheduler.Subscribe)
        told = body.framework_info.id.value if body.framework_info.id is not None else ""
        return e.SubscribeFramework(f"s{chance.randrange(10**6)}", told, None, body)
    return chance.choice([
        e.KillTaskByOperator(framework_id, chance.choice(anything.words)),
        e.StreamClosed(chance.choice(["s", "u", "none"])),
        e.LinkClosed(chance.choice([1, 2, 3])),
        e.MarkAgentGone(chance.choice(anything.words)),
        e.DrainAgent(chance.choice(anything.words), chance.choice((None, 0, -1, 2**63)), chance.random() < 0.2),
        e.DeactivateAgent(chance.choice(anything.words)),
        e.ReactivateAgent(chance.choice(anything.words)),
        e.UpdateSchedule(anything.message(operator.Schedule)),
        e.UpdateSchedule(operator.Schedule((operator.Window(Unavailability(TimeInfo(0)), (MachineID(f"host-{chance.randrange(3)}"),)),))),
        e.StartMaintenance((MachineID(f"host-{chance.randrange(3)}"),)),
        e.StopMaintenance(anything.message(operator.StopMaintenance).machines),
        e.StopMaintenance((MachineID(f"host-{chance.randrange(3)}"),)),
        e.TeardownFramework(chance.choice(anything.words)),
        *(anything.message(body) for body in (operator.UpdateQuota, operator.SetQuota, operator.RemoveQuota, operator.UpdateWeights)),
        anything.twisted(operator.UpdateQuota(True, (operator.QuotaConfig("*", {"cpus": Scalar(1.0)}, {"cpus": Scalar(2.0)}),))),
        operator.UpdateQuota(True, (operator.QuotaConfig("*", {}, {"cpus": Scalar(chance.choice((0.0, 1.5, 3.0)))}),)),
        operator.RemoveQuota("*"),
    ])  # fmt: skip


def check_sums(master: Conductor) -> None:
    for agent in master.core.state.agents.values():
        used = offered = Resources()
        for held in agent.tasks.values():
            if not held.freed:
                used = used + held.resources
        for found in agent.executors.values():
            used = used + found.resources
        for offer in agent.offers.values():
            offered = offered + offer.resources
        assert (agent.used, agent.offered) == (used, offered)


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_comes_the_master_goes_on(seed: int) -> None:
    chance, anything, master = random.Random(seed), Anything(seed), busy()
    for step in range(STEPS):
        message = any_input(master, chance, anything)
        before = picture(master.core.state, NOT_STATE)
        try:
            master.give(message)
        except KernelError:
            assert picture(master.core.state, NOT_STATE) == before, f"step {step}: a refused {message} left a trace"
        check_sums(master)
        if step % 10 == 9:
            master.later(chance.choice([0.3, 5.0, 100.0]))
            for name in VIEWS:
                body = views.render(master.core.state, name, {})
                b"".join([body] if isinstance(body, bytes) else body if name != "metrics" else [])
    registry.load(master.stored.items())
    again = Conductor(master.stored, "M2")
    agent_id = again.agent(7)
    framework_id = again.subscribe("new", framework_info("new"))
    again.later(700.0)
    assert again.core.state.links.keys() <= {7}
    assert framework_id in again.core.state.frameworks
    assert agent_id
    for told in (*master.told.values(), *again.told.values()):
        for event in told:
            if isinstance(event, scheduler.Event):
                codec.encode(event)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_honest_agent_beside_a_liar_is_served(seed: int) -> None:
    """What one agent says, and how often, touches neither another agent nor what runs there."""
    chance, anything, master = random.Random(seed), Anything(seed), busy()
    honest = master.core.state.links[1]
    held = picture(honest, ("contact_due_s", "offers", "offered", "frameworks_known", *NOT_STATE))
    tasks = {key: t.state for key, t in honest.tasks.items()}
    for _ in range(STEPS):
        anything.words = tuple(word for word in words(master) if word not in (honest.agent_id, "run-1"))
        kind = chance.choice(MESSAGES)
        message = anything.message(kind, **FIXED if kind is Register else {})
        master.give(e.FromAgent(chance.choice([2, 3]), message))
        check_sums(master)
    assert master.core.state.links[1] is honest
    assert {key: t.state for key, t in honest.tasks.items()} == tasks
    assert picture(honest, ("contact_due_s", "offers", "offered", "frameworks_known", *NOT_STATE)) == held
    master.take(1)
    master.give(e.FromAgent(1, link.AgentHeartbeat()))
    assert master.take(1) == [link.MasterHeartbeat()]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_registration_is_taken_whole_or_not_at_all(seed: int) -> None:
    """One part of it is wrong: nothing of it is known afterwards, kept or told, but that its link ends."""
    anything = Anything(seed)
    for _ in range(STEPS):
        master = Conductor()
        info = FrameworkInfo("u", "n", id=FrameworkID("f"))
        reports = tuple(link.TaskReport("f", task(name, ""), TaskState.TASK_RUNNING) for name in ("t", "u"))
        custom = link.ExecutorReport("f", executor("e"))
        whole = register("a", frameworks=(info,), executors=(custom,), tasks=reports)
        before = picture(master.core.state, NOT_STATE)
        master.give(e.FromAgent(1, anything.twisted(whole)))
        if master.core.state.links:
            assert "Registered" in {type(message).__name__ for message in master.take(1)}
            assert any(key.startswith("agents/") for key in master.stored)
        else:
            assert master.closed == [1]
            assert picture(master.core.state, NOT_STATE) == before
            assert master.stored == {}


def test_time_passes_for_a_master_told_anything() -> None:
    """Deadlines are kept in order whatever numbers frameworks and agents gave."""
    master = busy()
    for timeout in (float("nan"), float("inf"), -1.0, 1e300):
        try:
            master.subscribe(f"t{timeout}", framework_info(f"t{timeout}", failover_timeout=timeout))
        except KernelError:
            pass
    master.core.receive(Tick(), at(10**6))
    assert master.core.state.links == {}
