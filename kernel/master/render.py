"""The master's state as v1 messages: what offers, events and reads are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from kernel.master.state import Agent, Executor, Framework, MasterState, Offer, Quantities, Task
from kernel.master.transitions import AgentState, FrameworkState
from kernel.wire import operator, scheduler
from kernel.wire.common import URL, Address, Secret, TimeInfo
from kernel.wire.ids import AgentID, ExecutorID, FrameworkID, OfferID
from kernel.wire.nodes import AgentCapability, AgentInfo, AgentInfoCapability
from kernel.wire.offer import Offer as OfferMessage
from kernel.wire.resources import AllocationInfo, Amount, Form, Key, Resource, Resources
from kernel.wire.task import ExecutorInfo, TaskInfo, TaskState, TaskStatus
from kernel.wire.task import Task as TaskMessage
from kernel.wire.values import coalesce

T = TypeVar("T")

AGENT_CAPABILITIES = tuple(
    AgentInfoCapability(capability)
    for capability in (AgentCapability.MULTI_ROLE, AgentCapability.HIERARCHICAL_ROLE, AgentCapability.RESERVATION_REFINEMENT)
)


def framework_id(framework_id: str) -> FrameworkID:
    return FrameworkID(framework_id)


def time_info(wall_s: float) -> TimeInfo:
    return TimeInfo(int(wall_s * 1e9))


def resource_form(framework: Framework) -> Form:
    """How this framework wants reservations written."""
    return Form.POST if framework.refinement else Form.PRE


def offer_message(offer: Offer) -> OfferMessage:
    """The offer as its framework understands it: by its capabilities, with or without allocation roles."""
    framework = offer.framework
    return _offer_message(offer, offer.role if framework.multi_role else None, resource_form(framework))


def _offer_message(offer: Offer, role: str | None, form: Form) -> OfferMessage:
    framework, agent = offer.framework, offer.agent
    executors = agent.executors
    return OfferMessage(
        id=OfferID(offer.offer_id),
        framework_id=FrameworkID(framework.framework_id),
        agent_id=AgentID(agent.agent_id),
        hostname=agent.info.hostname,
        url=URL("http", Address(agent.info.port, agent.info.hostname, agent.ip), "/slave(1)"),
        domain=agent.info.domain,
        resources=offer.resources.messages(role, form),
        attributes=agent.info.attributes,
        executor_ids=tuple(ExecutorID(eid) for fid, eid in executors if fid == framework.framework_id) if executors else (),
        allocation_info=AllocationInfo(role) if role is not None else None,
    )


def offers_event(offers: list[Offer]) -> scheduler.Event:
    return scheduler.Event("OFFERS", offers=scheduler.Offers(tuple(map(offer_message, offers))))


def without_allocation(info: ExecutorInfo) -> ExecutorInfo:
    """An ExecutorInfo as two launches of one executor must agree on it."""
    return replace(info, resources=_allocated(info.resources, None))


def _allocated(resources: tuple[Resource, ...], role: str | None) -> tuple[Resource, ...]:
    allocation = AllocationInfo(role) if role is not None else None
    return tuple(replace(resource, allocation_info=allocation) for resource in resources)


def task_message(task: Task) -> TaskMessage:
    return task_message_of(task, task.state, task.statuses, task.sent)


def task_message_of(task: Task, state: TaskState, statuses: tuple[TaskStatus, ...], sent: TaskStatus | None) -> TaskMessage:
    """The task as it was at some instant: with what of it changes as it was then."""
    info = task.info
    return TaskMessage(
        name=info.name,
        task_id=info.task_id,
        framework_id=FrameworkID(task.framework_id),
        agent_id=AgentID(task.agent_id),
        state=state,
        executor_id=ExecutorID(task.executor_id) if task.executor_id else None,
        resources=task.resources.messages(task.role),
        statuses=statuses,
        status_update_state=sent.state if sent is not None else None,
        status_update_uuid=sent.uuid if sent is not None else None,
        labels=info.labels,
        discovery=info.discovery,
        container=without_secrets(info.container),
        health_check=without_secrets(info.health_check),
        kill_policy=info.kill_policy,
        user=task_user(info),
        limits=info.limits,
    )


def task_user(info: TaskInfo) -> str | None:
    """Whom the task or its executor asks to run as."""
    command = info.command or (info.executor.command if info.executor is not None else None)
    return command.user if command is not None else None


def without_secrets(message: T) -> T:
    """The message without the values of secrets, which are never shown; itself when it has none."""
    if isinstance(message, Secret):
        return message if message.value is None else replace(message, value=None)
    if isinstance(message, Struct):
        changed = {}
        for name in message.__struct_fields__:
            part = getattr(message, name)
            if isinstance(part, Struct | tuple | dict) and part and (shown := without_secrets(part)) is not part:
                changed[name] = shown
        return replace(message, **changed) if changed else message
    if isinstance(message, tuple):
        parts: Any = tuple(map(without_secrets, message))
        return message if all(new is old for new, old in zip(parts, message, strict=True)) else parts
    if isinstance(message, dict):
        found: Any = {name: without_secrets(part) for name, part in message.items()}
        return message if all(found[name] is part for name, part in message.items()) else found
    return message


class AgentPicture(Struct, gc=False):
    """An agent at one instant, to be shown later."""

    agent_id: str
    info: AgentInfo
    pid: str
    registered_wall_s: float
    reregistered_wall_s: float | None
    total: Resources
    used: Resources
    offered: Resources
    state: AgentState
    software: str

    @classmethod
    def of(cls, agent: Agent) -> AgentPicture:
        return cls(
            agent.agent_id,
            agent.info,
            agent.pid,
            agent.registered_wall_s,
            agent.reregistered_wall_s,
            agent.total,
            agent.used,
            agent.offered,
            agent.state,
            agent.software,
        )


def agent_message(agent: Agent | AgentPicture) -> operator.Agent:
    return operator.Agent(
        agent_info=agent.info,
        active=agent.state is AgentState.REGISTERED,
        version=agent.software,
        deactivated=False,
        pid=agent.pid,
        registered_time=time_info(agent.registered_wall_s),
        reregistered_time=time_info(agent.reregistered_wall_s) if agent.reregistered_wall_s is not None else None,
        total_resources=agent.total.messages(),
        allocated_resources=agent.used.messages(),
        offered_resources=agent.offered.messages(),
        capabilities=AGENT_CAPABILITIES,
    )


def framework_message(framework: Framework) -> operator.Framework:
    return operator.Framework(
        framework_info=framework.info,
        active=framework.state is FrameworkState.ACTIVE,
        connected=framework.connected,
        recovered=framework.state is FrameworkState.RECOVERED,
        registered_time=time_info(framework.registered_wall_s),
        reregistered_time=time_info(framework.reregistered_wall_s) if framework.reregistered_wall_s is not None else None,
        unregistered_time=time_info(framework.unregistered_wall_s) if framework.unregistered_wall_s is not None else None,
        offers=tuple(_offer_message(offer, offer.role, Form.POST) for offer in framework.offers.values()),
        allocated_resources=used_resources(framework).messages(),
        offered_resources=offered_resources(framework).messages(),
        offer_constraints=framework.offer_constraints,
    )


def holders(framework: Framework) -> Iterator[Task | Executor]:
    """Everything of the framework that holds resources now."""
    yield from (task for task in framework.tasks.values() if not task.freed)
    yield from framework.executors.values()


def used_resources(framework: Framework) -> Resources:
    """What the framework's tasks and executors hold. Only when something of it is no plain scalar are they all asked."""
    return _sum(framework.used, (holder.resources for holder in holders(framework)))


def offered_resources(framework: Framework) -> Resources:
    return _sum(framework.offered, (offer.resources for offer in framework.offers.values()))


def _sum(sums: Quantities, parts: Iterable[Resources]) -> Resources:
    """The sum of the parts, whose scalars are known. Ranges and sets, which many agents have alike, are united."""
    plain = sums.plain()
    if not any(sums.other.values()):
        return plain
    amounts = Counter(chain.from_iterable(part.other.items() for part in parts if part.other is not None))  # Many are alike.
    scalars: Counter[Key] = Counter()
    spans: dict[Key, list[tuple[int, int]]] = {}
    items: dict[Key, frozenset[str]] = {}
    for (key, amount), times in amounts.items():
        if isinstance(amount, int):
            scalars[key] += amount * times
        elif isinstance(amount, tuple):
            spans.setdefault(key, []).extend(amount)
        else:
            items[key] = items.get(key, frozenset()) | amount
    other: dict[Key, Amount] = {**scalars, **items}
    other |= {key: coalesce(sorted(pairs)) for key, pairs in spans.items()}
    return replace(plain, other=other or None)


def started_s(state: MasterState) -> float | None:
    """When this master began to lead, in seconds since the epoch."""
    return state.started.wall_s if state.started is not None else None
