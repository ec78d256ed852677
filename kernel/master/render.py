"""The master's state as v1 messages: what offers, events and reads are made of."""

from __future__ import annotations

from msgspec.structs import replace

from kernel.master.state import Agent, Framework, Offer, Task
from kernel.master.transitions import AgentState, FrameworkState
from kernel.wire import operator, scheduler
from kernel.wire.common import URL, Address, TimeInfo
from kernel.wire.ids import AgentID, ExecutorID, FrameworkID, OfferID
from kernel.wire.nodes import AgentCapability, AgentInfoCapability
from kernel.wire.offer import Offer as OfferMessage
from kernel.wire.resources import AllocationInfo, Form, Resource
from kernel.wire.task import ExecutorInfo
from kernel.wire.task import Task as TaskMessage

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
    framework, agent = offer.framework, offer.agent
    role = offer.role if framework.multi_role else None
    executors = agent.executors
    return OfferMessage(
        id=OfferID(offer.offer_id),
        framework_id=FrameworkID(framework.framework_id),
        agent_id=AgentID(agent.agent_id),
        hostname=agent.info.hostname,
        url=URL("http", Address(agent.info.port, agent.info.hostname, agent.ip), "/slave(1)"),
        domain=agent.info.domain,
        resources=offer.resources.messages(role, resource_form(framework)),
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
    info, sent = task.info, task.sent
    command = info.command
    return TaskMessage(
        name=info.name,
        task_id=info.task_id,
        framework_id=FrameworkID(task.framework_id),
        agent_id=AgentID(task.agent_id),
        state=task.state,
        executor_id=ExecutorID(task.executor_id) if task.executor_id else None,
        resources=task.resources.messages(task.role),
        statuses=task.statuses,
        status_update_state=sent.state if sent is not None else None,
        status_update_uuid=sent.uuid if sent is not None else None,
        labels=info.labels,
        discovery=info.discovery,
        container=info.container,
        health_check=info.health_check,
        kill_policy=info.kill_policy,
        user=command.user if command is not None else None,
        limits=info.limits,
    )


def agent_message(agent: Agent) -> operator.Agent:
    return operator.Agent(
        agent_info=agent.info,
        active=agent.state is AgentState.REGISTERED,
        version=agent.software,
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
        offers=tuple(map(offer_message, framework.offers.values())),
        allocated_resources=framework.used.messages(),
        offered_resources=framework.offered.messages(),
        offer_constraints=framework.offer_constraints,
    )
