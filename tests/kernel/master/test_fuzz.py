"""The master under any inputs in any order: nothing but a refusal comes of wrong ones, and its sums stay right.

Frameworks and agents say sensible and senseless things about few ids, so that they meet; the invariants are checked after each.
Every choice comes from the seed; `replay` prints what led to a failure.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from kernel.errors import KernelError
from kernel.master import effects as e
from kernel.master import views
from kernel.wire import operator
from kernel.wire import scheduler as s
from kernel.wire.agent import (
    AgentHeartbeat,
    ExecutorExited,
    ExecutorMessage,
    ExecutorReport,
    Goodbye,
    OperationReport,
    OperationUpdate,
    StatusUpdate,
    TaskReport,
)
from kernel.wire.common import DurationInfo, TimeInfo
from kernel.wire.framework import FrameworkCapability, FrameworkInfo
from kernel.wire.ids import UUID, AgentID, ExecutorID, OfferID, OperationID, TaskID
from kernel.wire.nodes import MachineID, Unavailability
from kernel.wire.offer import Filters, Launch, LaunchGroup, Operation, OperationState, OperationStatus, OperationType
from kernel.wire.operator import Schedule, Window
from kernel.wire.resources import AllocationInfo, Resource, Scalar, ValueType
from kernel.wire.task import (
    TERMINAL,
    Attribute,
    CommandInfo,
    ContainerInfo,
    ExecutorInfo,
    ExecutorType,
    HealthCheck,
    HTTPCheckInfo,
    LinuxInfo,
    TaskGroupInfo,
    TaskInfo,
    TaskState,
    TaskStatus,
)
from tests.builders import (
    create,
    destroy,
    executor,
    framework_id,
    framework_info,
    grow,
    register,
    reserve,
    reserved,
    resources,
    shrink,
    task,
    unreserve,
    volume,
)
from tests.kernel.master import invariants
from tests.kernel.master.conductor import Conductor

SEEDS = [int(os.environ["SEED"])] if os.environ.get("SEED") else range(25)
STEPS = 250
T = TypeVar("T")

TASKS = [f"t{number}" for number in range(8)]
EXECUTORS = ["e0", "e1", "e2"]
FRAMEWORKS = ["f0", "f1", "M-0001", ""]
CAPABILITIES = (
    FrameworkCapability.PARTITION_AWARE,
    FrameworkCapability.GPU_RESOURCES,
    FrameworkCapability.RESERVATION_REFINEMENT,
    FrameworkCapability.SHARED_RESOURCES,
)
OPERATIONS = ["op", "op2", "op3"]
ROLES = ["r0", "r1", "r1/x", "*"]
NO_AGENT = "nobody"
NOT_RESOURCES = (Resource("cpus", ValueType.SCALAR, Scalar(-1.0)),)
SMALL = [
    "cpus:0.5;mem:32",
    "cpus:1;mem:64",
    "cpus:0.1;mem:32;disk:1;ports:[1-2]",
    "ports:[2-3]",
    "cpus:0.2;bandwidth:7",
    "zone:{a,b}",
]
NOTHING = (Resource("cpus", ValueType.SCALAR, Scalar(0.0)),)
TOTALS = [
    "cpus:4;mem:1024;disk:100;ports:[1-9];bandwidth:20;zone:{a,b,c}",
    "cpus:2;mem:256;ports:[2-5]",
    "cpus:8;mem:4096;disk:100;ports:[1-9];gpus:2;mem(r0):64",
    "",
]
OPTIONS: Sequence[dict[str, Any]] = (
    {"max_completed_frameworks": 2, "max_unreachable_tasks_per_framework": 3},
    {"offer_timeout_s": 30.0, "framework_recovery_s": 0.0, "allocation_interval_s": 0.0},
    {"preempt_for_guarantees": True, "preemption_notice_s": 5.0},
)


def allocated(parts: tuple[Resource, ...], role: str | None) -> tuple[Resource, ...]:
    return tuple(replace(part, allocation_info=AllocationInfo(role)) for part in parts) if role is not None else parts


class Anybody:
    """All that speak to a master, none of them careful."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.options = self.chance.choice(OPTIONS)
        self.c = Conductor(**self.options)
        self.masters, self.numbers = 1, 0
        self.said: list[str] = []
        self.agents_ever = [NO_AGENT, "", "M-S2"]
        self.acts: list[tuple[int, Callable[[], None]]] = [
            (6, self.subscribe),
            (14, self.accept),
            (4, self.decline),
            (3, self.request),
            (10, self.acknowledge),
            (6, self.other_call),
            (2, self.update_framework),
            (2, self.stream_closed),
            (1, self.end_framework),
            (8, self.register),
            (14, self.update),
            (3, self.agent_says),
            (3, self.link_closed),
            (1, self.mark_gone),
            (1, self.operate),
            (12, self.reserve),
            (6, self.operated),
            (3, self.regulate),
            (2, self.drain),
            (2, self.maintain),
            (2, self.answer_inverse_offers),
            (5, self.time_passes),
            (3, self.look),
            (1, self.restart),
        ]

    def run(self, steps: int) -> None:
        weights, acts = zip(*self.acts, strict=True)
        for _ in range(steps):
            self.chance.choices(acts, weights)[0]()
            invariants.check(self.c.core.state)

    # ---- Choices ----

    @property
    def state(self) -> Any:
        return self.c.core.state

    def one_of(self, *choices: T) -> T:
        return self.chance.choice(choices)

    def mostly(self, often: float = 0.93) -> bool:
        return self.chance.random() < often

    def give(self, message: Any) -> None:
        self.said.append(f"{self.c.time_s:g}: {message}")
        try:
            self.c.give(message)
        except KernelError as error:
            self.said.append(f"    refused: {error}")
        self.agents_ever += [agent_id for agent_id in self.state.agents if agent_id not in self.agents_ever]

    def some_framework(self) -> str:
        known = list(self.state.frameworks)
        return self.chance.choice(known if known and self.mostly() else FRAMEWORKS)

    def some_agent(self) -> str:
        known = list(self.state.agents)
        return self.chance.choice(known if known and self.mostly(0.8) else self.agents_ever)

    def some_link(self) -> int:
        known = list(self.state.links)
        return self.chance.choice(known if known and self.mostly() else range(1, 5))

    def some_resources(self) -> tuple[Resource, ...]:
        if not self.mostly():
            return NOTHING
        if self.mostly():
            return allocated(resources(self.one_of(*SMALL)), self.one_of(None, None, None, None, *ROLES) if not self.mostly(0.8) else None)
        return self.one_of(NOT_RESOURCES, (), resources("cpus:99"), allocated(resources("cpus:1"), "not a role"))

    def some_info(self) -> FrameworkInfo:
        can = [capability for capability in CAPABILITIES if self.mostly(0.5)]
        fields: dict[str, Any] = {"failover_timeout": self.one_of(0.0, 30.0, 3600.0, 3600.0), "user": self.one_of("u", "u", "v")}
        if self.mostly(0.5):
            can.append(FrameworkCapability.MULTI_ROLE)
            fields["roles"] = tuple(self.chance.sample(ROLES, self.chance.randint(0, 2)))
        else:
            fields["role"] = self.one_of(None, *ROLES)
        if not self.mostly():
            fields.update(self.one_of({"role": "a b"}, {"roles": ("x", "x")}, {"failover_timeout": -1.0}, {"principal": "p"}))
        return framework_info("f", *can, **fields)

    def some_executor(self, group: bool) -> ExecutorInfo:
        fields: dict[str, Any] = {"type": ExecutorType.DEFAULT, "command": None} if group else {}
        if not self.mostly():
            fields["command"] = CommandInfo(value="other")
        made = executor(
            self.chance.choice(EXECUTORS), self.one_of("cpus:0.1;mem:32;disk:1", "cpus:0.1;mem:32;disk:1;ports:[7-8]"), **fields
        )
        return made if self.mostly() else replace(made, resources=self.some_resources())

    def some_tasks(self, agent_id: str, alone: bool) -> tuple[TaskInfo, ...]:
        found = []
        for _ in range(self.chance.randint(0, 3)):
            fields: dict[str, Any] = {"executor": self.some_executor(group=False)} if alone and self.mostly(0.3) else {}
            if not self.mostly():
                container = ContainerInfo(linux_info=LinuxInfo(share_cgroups=False))
                fields |= self.one_of({"command": None}, {"health_check": HealthCheck(http=HTTPCheckInfo(80))}, {"container": container})
            info = task(self.chance.choice(TASKS), agent_id if self.mostly() else NO_AGENT, "", **fields)
            given = self.some_resources()
            if not self.mostly(0.7):
                stack = self.one_of(("r0",), ("r1",), ("r1", "r1/x"))
                given += (self.one_of(volume(self.one_of("v", "w"), 10, *stack, shared=self.mostly(0.5)), *reserved("cpus:0.5", *stack)),)
            found.append(replace(info, resources=given))
        return tuple(found)

    # ---- Frameworks ----

    def subscribe(self) -> None:
        chosen = self.chance.choice(FRAMEWORKS) if self.mostly(0.5) else self.some_framework()
        inside = chosen if self.mostly() else self.some_framework()
        self.numbers += 1  # The edge names each stream anew.
        info = replace(self.some_info(), id=framework_id(inside) if inside else None)
        call = s.Subscribe(info, self.one_of((), (), (), ("r0",)))
        self.give(e.SubscribeFramework(f"stream-{self.numbers}", chosen, None, call))

    def call(self, chosen: str, body: Any) -> None:
        known = self.state.frameworks.get(chosen)
        stream = known.stream if known is not None and self.mostly(0.97) else self.one_of("elsewhere", None)
        self.give(e.SchedulerCall(chosen, stream, None, body))

    def accept(self) -> None:
        ready = [framework for framework in self.state.frameworks.values() if framework.offers]
        if not ready or not self.mostly(0.97):
            self.call(self.some_framework(), s.Accept((OfferID("ended"),), self.some_operations(NO_AGENT, "f0")))
            return
        framework = self.chance.choice(ready)
        used = [self.chance.choice(list(framework.offers.values()))]
        if self.mostly(0.3):
            used = [offer for offer in framework.offers.values() if offer.agent is used[0].agent and offer.role == used[0].role]
        elif not self.mostly():
            used = self.chance.choices(list(framework.offers.values()), k=2)
        operations = self.some_operations(used[0].agent.agent_id, framework.framework_id, used[0].role)
        filters = self.one_of(None, Filters(0.0), Filters(5.0), Filters(float("nan")), Filters(1e300))
        self.call(framework.framework_id, s.Accept(tuple(OfferID(offer.offer_id) for offer in used), operations, filters))

    def some_operations(self, agent_id: str, framework: str, role: str = "r0") -> tuple[Operation, ...]:
        operations = []
        for _ in range(self.chance.randint(1, 4)):
            operation_id = None if self.mostly() else OperationID("op")
            if self.mostly(0.3):
                operations.append(self.some_change(self.one_of(None, *OPERATIONS), role))
            elif self.mostly(0.6):
                operations.append(Operation(OperationType.LAUNCH, operation_id, launch=Launch(self.some_tasks(agent_id, True))))
            elif self.mostly():
                runs = replace(self.some_executor(group=True), framework_id=framework_id(framework) if self.mostly() else None)
                group = LaunchGroup(runs, TaskGroupInfo(self.some_tasks(agent_id, False)))
                operations.append(Operation(OperationType.LAUNCH_GROUP, operation_id, launch_group=group))
            else:
                operations.append(Operation(self.one_of(None, *OperationType), operation_id))
        return tuple(operations)

    def some_change(self, operation_id: str | None, role: str = "*") -> Operation:
        """Of few sizes and names, so that one undoes another."""
        stack, size = self.one_of(("r0",), ("r1",), ("r1/x",), ("r1", "r1/x")), self.one_of(10, 10, 20)
        if role != "*" and self.mostly():
            stack = (role,)
        held = reserved(self.one_of(f"disk:{size}", f"disk:{size}", "cpus:0.5", "ports:[1-2]"), *stack)
        (disk,) = reserved(f"disk:{size}", *stack)
        made = volume(self.one_of("v", "w"), size, *stack, shared=not self.mostly(0.7))
        if self.mostly(0.4):
            return reserve(disk, operation_id=operation_id)
        return self.one_of(
            reserve(*held, operation_id=operation_id),
            reserve(disk, operation_id=operation_id),
            unreserve(*held, operation_id=operation_id),
            create(made, operation_id=operation_id),
            create(made, operation_id=operation_id),
            destroy(made, operation_id=operation_id),
            grow(made, disk, operation_id=operation_id),
            shrink(made, 10, operation_id=operation_id),
        )

    def reserve(self) -> None:
        """An operator does."""
        linked = self.state.links.get(self.some_link())
        agent_id = linked.agent_id if linked is not None else self.some_agent()
        self.give(e.OperateByOperator(agent_id, self.some_change(None), None if self.mostly() else "ops"))

    def operated(self) -> None:
        """An agent tells what became of an operation, and its framework that it has heard."""
        link = self.some_link()
        agent = self.state.links.get(link)
        known = list(agent.operations.values()) if agent is not None else []
        if known and self.mostly():
            found = self.chance.choice(known)
            if found.latest.uuid is not None and self.mostly(0.7):
                chosen, uuid = found.framework_id, found.latest.uuid.value
                self.call(chosen, s.AcknowledgeOperationStatus(uuid, OperationID(found.operation_id or "op"), AgentID(found.agent_id)))
                return
            framework, uuid, operation_id = found.framework_id, found.uuid, found.info.id
        else:
            framework, uuid, operation_id = self.some_framework(), b"o" * 16, OperationID("op")
        self.numbers += 1
        told = UUID(self.numbers.to_bytes(16, "big")) if self.mostly() else None
        status = OperationStatus(self.one_of(*OperationState), operation_id, uuid=told)
        self.give(e.FromAgent(link, OperationUpdate(framework, uuid, status)))

    def decline(self) -> None:
        chosen = self.some_framework()
        known = self.state.frameworks.get(chosen)
        ids = [offer for offer in known.offers if self.mostly(0.5)] if known is not None else []
        self.call(chosen, s.Decline(tuple(map(OfferID, [*ids, "ended"])), Filters(self.one_of(0.0, 5.0, 3600.0))))

    def request(self) -> None:
        parts = self.some_resources()
        shape = s.ResourceRequest(resources=parts, count=self.chance.randint(1, 9), role=self.one_of(None, None, *ROLES))
        self.call(self.some_framework(), s.Request((shape,) if parts else ()))

    def acknowledge(self) -> None:
        chosen = self.some_framework()
        known = self.state.frameworks.get(chosen)
        agent_id, task_id, uuid = self.some_agent(), self.chance.choice(TASKS), b"x" * self.one_of(16, 16, 3)
        sent = [task for task in (*known.tasks.values(), *known.unreachable.values()) if task.sent is not None] if known is not None else []
        if sent and self.mostly():
            found = self.chance.choice(sent)
            agent_id, task_id, uuid = found.agent_id, found.task_id, found.sent.uuid or uuid
        self.call(chosen, s.Acknowledge(AgentID(agent_id), TaskID(task_id), uuid))

    def other_call(self) -> None:
        task_id, agent = TaskID(self.chance.choice(TASKS)), AgentID(self.some_agent())
        executor_id, named = ExecutorID(self.chance.choice(EXECUTORS)), self.one_of((), ("r0",), ("elsewhere",))
        maybe = agent if self.mostly(0.5) else None
        calls = (
            s.Kill(task_id, maybe),
            s.Kill(task_id, maybe),
            s.Reconcile((s.ReconcileTask(task_id, maybe),)),
            s.Reconcile(),
            s.Shutdown(executor_id, agent),
            s.Message(agent, executor_id, b"data"),
            s.Suppress(named),
            s.Revive(named),
            s.Revive(named),
            s.ReconcileOperations((s.ReconcileOperation(OperationID("op"), maybe),)),
            s.AcceptInverseOffers((OfferID("x"),)),
            s.AcknowledgeOperationStatus(b"x" * 16, OperationID("op"), maybe),
        )
        self.call(self.some_framework(), self.chance.choice(calls))

    def update_framework(self) -> None:
        chosen = self.some_framework()
        known = self.state.frameworks.get(chosen)
        info = replace(self.some_info(), id=framework_id(chosen))
        if known is not None and self.mostly():
            info = replace(info, user=known.info.user, principal=known.info.principal)
        self.call(chosen, s.UpdateFramework(info, self.one_of((), (), ("r0",))))

    def stream_closed(self) -> None:
        self.give(e.StreamClosed(self.chance.choice([*self.state.streams, "elsewhere"])))

    def end_framework(self) -> None:
        if self.mostly(0.5):
            self.give(e.TeardownFramework(self.some_framework()))
        else:
            self.call(self.some_framework(), s.Teardown())

    # ---- Agents ----

    def register(self) -> None:
        absent = [agent.agent_id for agent in self.state.agents.values() if agent.link is None] + list(self.state.unreachable)
        agent_id = self.chance.choice(absent) if absent and self.mostly(0.5) else self.one_of("", self.some_agent())
        run, total = str(self.chance.randint(0, 5)), TOTALS[0] if self.mostly(0.7) else self.one_of(*TOTALS)
        fields: dict[str, Any] = {"port": self.one_of(1, 2, 3, 4, 5)}
        if not self.mostly():
            fields |= self.one_of({"resources": NOT_RESOURCES}, {"attributes": (Attribute("a", ValueType.TEXT),)}, {"version": 2})
        message = register(run, total, agent_id=agent_id, **fields)
        known_agent = self.state.agents.get(agent_id)
        if known_agent is not None and self.mostly(0.8):  # What operations made is told, or is lost.
            message = replace(message, total=known_agent.total.messages(), operations=self.some_operation_reports(known_agent))
        tasks, executors = self.some_reports(agent_id)
        told = {}
        for report in (*tasks, *executors):
            known = self.state.frameworks.get(report.framework_id)
            if self.mostly(0.97):
                told[report.framework_id] = known.info if known is not None and self.mostly() else self.told_info(report.framework_id)
        self.give(
            e.FromAgent(self.chance.randint(1, 5), replace(message, tasks=tasks, executors=executors, frameworks=tuple(told.values())))
        )

    def some_operation_reports(self, agent: Any) -> tuple[OperationReport, ...]:
        self.numbers += 1
        told = UUID(self.numbers.to_bytes(16, "big"))
        return tuple(
            OperationReport(each.uuid, each.framework_id, each.info, replace(each.latest, uuid=told))
            for each in agent.operations.values()
            if self.mostly(0.8)
        )

    def told_info(self, framework: str) -> FrameworkInfo:
        return replace(framework_info("f", failover_timeout=60.0) if self.mostly() else self.some_info(), id=framework_id(framework))

    def some_reports(self, agent_id: str) -> tuple[tuple[TaskReport, ...], tuple[ExecutorReport, ...]]:
        """What the master knows of the agent, with pieces left out or changed, and things it never heard of."""
        agent = self.state.agents.get(agent_id)
        tasks, executors = [], []
        known = list(agent.tasks.values()) if agent is not None else []
        lost = [t for f in self.state.frameworks.values() for t in f.unreachable.values() if t.agent_id == agent_id]
        for found in (*known, *lost):
            if self.mostly(0.8):
                state = found.state if self.mostly(0.7) else self.one_of(*TaskState)
                state = TaskState.TASK_RUNNING if state is TaskState.TASK_UNREACHABLE else state
                tasks.append(TaskReport(found.framework_id, found.info, state, found.executor_id, found.sent))
        for held in agent.executors.values() if agent is not None else ():
            if self.mostly(0.8):
                executors.append(ExecutorReport(held.framework_id, held.info))
        if self.mostly(0.3) and agent_id:
            for info in self.some_tasks(agent_id, False):
                state = self.one_of(*TaskState) if not self.mostly() else self.one_of(TaskState.TASK_RUNNING, TaskState.TASK_FINISHED)
                status = TaskStatus(info.task_id, state, uuid=b"y" * 16) if self.mostly(0.5) else None
                tasks.append(TaskReport(self.some_framework(), info, state, "", status))
            executors.append(ExecutorReport(self.some_framework(), self.some_executor(group=False)))
        return tuple(tasks), tuple(executors)

    def update(self) -> None:
        link, framework, task_id = self.some_link(), self.some_framework(), self.chance.choice(TASKS)
        agent = self.state.links.get(link)
        if agent is not None and agent.tasks and self.mostly():
            framework, task_id = self.chance.choice(list(agent.tasks))
        self.numbers += 1
        uuid = self.numbers.to_bytes(16, "big") if self.mostly() else self.one_of(b"", b"z" * 16)
        state = self.one_of(TaskState.TASK_STARTING, TaskState.TASK_RUNNING, *TERMINAL) if self.mostly() else self.one_of(*TaskState)
        named = agent.agent_id if agent is not None and self.mostly(0.97) else self.some_agent()
        status = TaskStatus(TaskID(task_id), state, agent_id=AgentID(named), uuid=uuid)
        self.give(e.FromAgent(link, StatusUpdate(framework, status, state if self.mostly(0.8) else self.one_of(*TaskState))))

    def agent_says(self) -> None:
        framework, executor_id = self.some_framework(), self.chance.choice(EXECUTORS)
        link = self.some_link()
        agent = self.state.links.get(link)
        if agent is not None and agent.executors and self.mostly(0.7):
            framework, executor_id = self.chance.choice(list(agent.executors))
        messages = (
            Goodbye(not self.mostly()),
            ExecutorMessage(framework, executor_id, b"data"),
            ExecutorExited(framework, executor_id, -1),
            ExecutorExited(framework, executor_id, 9),
            AgentHeartbeat(),
        )
        self.give(e.FromAgent(link, self.chance.choice(messages)))

    def link_closed(self) -> None:
        self.give(e.LinkClosed(self.some_link()))

    # ---- Operators, time, failure ----

    def mark_gone(self) -> None:
        self.give(e.MarkAgentGone(self.some_agent()))

    def regulate(self) -> None:
        """Quotas and weights, sensible or not."""
        role, amounts = self.one_of(*ROLES, "r1/x/y", "", "a//b"), (0.5, 2.0, 2.0, 6.0, 0.0, -1.0, float("nan"), 0.0001, 1e15)
        guarantees, limits = (
            {name: Scalar(self.one_of(*amounts)) for name in ("cpus", "mem", "bandwidth") if self.mostly(0.4)} for _ in range(2)
        )
        self.give(
            self.one_of(
                operator.UpdateQuota(self.mostly(), (operator.QuotaConfig(role, guarantees, limits),)),
                operator.UpdateQuota(True, (operator.QuotaConfig(role, {}, limits),)),
                operator.SetQuota(operator.QuotaRequest(self.mostly(), role, self.some_resources())),
                operator.RemoveQuota(role),
                operator.UpdateWeights((operator.WeightInfo(self.one_of(0.5, 2.0, 0.0, float("inf")), role),)),
            )
        )

    def operate(self) -> None:
        kill = e.KillTaskByOperator(self.some_framework(), self.chance.choice(TASKS))
        self.give(self.one_of(kill, e.SubscribeOperator("operator"), e.StreamClosed("operator")))

    def drain(self) -> None:
        agent_id, grace_ns = self.some_agent(), self.one_of(None, 0, 10**9, -1, 2**70)
        drain = e.DrainAgent(agent_id, grace_ns, mark_gone=not self.mostly())
        self.give(self.one_of(drain, e.DeactivateAgent(agent_id), e.ReactivateAgent(agent_id), e.ReactivateAgent(agent_id)))

    def maintain(self) -> None:
        """Agents of this test are on machines host-N, all with one ip."""
        names = [MachineID(f"host-{number}") for number in range(4)]
        names += [MachineID(ip="10.0.0.1"), MachineID("HOST-1", "10.0.0.1"), MachineID(), MachineID("x" * 300), MachineID(ip="no ip")]
        chosen = tuple(self.chance.sample(names, self.chance.randint(0, 3)))
        duration = self.one_of(None, DurationInfo(10**9), DurationInfo(-1))
        window = Window(Unavailability(TimeInfo(self.one_of(0, 10**18)), duration), chosen)
        schedule = Schedule(self.one_of((), (window,), (window,), (window, window)))
        known = list(self.state.machines.windows)
        machines = (self.chance.choice(known),) if known and self.mostly() else chosen
        self.give(self.one_of(e.UpdateSchedule(schedule), e.StartMaintenance(machines), e.StopMaintenance(machines)))

    def answer_inverse_offers(self) -> None:
        out = list(self.state.inverse_offers.values())
        chosen = self.chance.choice(out).framework.framework_id if out else self.some_framework()
        ids = tuple(OfferID(offer.offer_id) for offer in out if self.mostly(0.5)) + self.one_of((), (OfferID("nothing"),))
        self.call(chosen, self.one_of(s.AcceptInverseOffers, s.DeclineInverseOffers)(ids, self.one_of(None, Filters(0.0), Filters(60.0))))

    def time_passes(self) -> None:
        seconds = self.one_of(0.25, 1.0, 1.0, 5.0, 5.0, 5.0, 10.0, 70.0, 700.0, 15 * 86400.0)
        self.said.append(f"{self.c.time_s:g}: {seconds:g} s pass")
        if seconds < 100 and self.mostly(0.8):
            self.c.wait(seconds)
        else:
            self.c.later(seconds)

    def look(self) -> None:
        for name in views.NAMES:
            rendered = views.render(self.state, name, {})
            if not isinstance(rendered, dict):
                list(rendered)

    def restart(self) -> None:
        """The master ends and another one begins with what was written."""
        self.said.append("the master starts anew")
        self.masters += 1
        self.c = Conductor(self.c.stored, f"M{self.masters}", **self.options)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_input_breaks_the_master(seed: int) -> None:
    """Nothing but a KernelError comes out of the core, and its sums are right after each input. Replay: SEED=17 pytest ..."""
    anybody = Anybody(seed)
    try:
        anybody.run(STEPS)
    except BaseException:
        print("\n".join(anybody.said[-12:]))
        raise
