"""The state as v1 messages: what offers, events and reads are made of.

Frameworks get resources in the form they understand, operators in the one that holds both (`Form.ENDPOINT`).
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from kernel.master.model import Agent, Framework, InverseOffer, Offer, Operation, Task
from kernel.master.pictures import AgentLook, TaskLook
from kernel.master.state import MasterState
from kernel.master.transitions import FrameworkState
from kernel.net.common import MESOS_VERSION
from kernel.wire import operator, scheduler
from kernel.wire.common import URL, Address, TimeInfo
from kernel.wire.framework import FrameworkInfo
from kernel.wire.ids import UUID, AgentID, ExecutorID, FrameworkID, OfferID
from kernel.wire.legacy import without_secrets
from kernel.wire.nodes import AgentInfo, AgentInfoCapability
from kernel.wire.offer import InverseOffer as InverseOfferMessage
from kernel.wire.offer import Offer as OfferMessage
from kernel.wire.offer import OfferConstraints, TrackedOperation
from kernel.wire.resources import AllocationInfo, Form, Resources
from kernel.wire.revocable import firm
from kernel.wire.task import Task as TaskMessage
from kernel.wire.task import TaskInfo


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
        url=_agent_url(agent),
        domain=agent.info.domain,
        resources=offer.resources.messages(role, form),
        attributes=agent.info.attributes,
        executor_ids=tuple(ExecutorID(eid) for fid, eid in executors if fid == framework.framework_id) if executors else (),
        unavailability=agent.unavailability,
        allocation_info=AllocationInfo(role) if role is not None else None,
    )


def _agent_url(agent: Agent) -> URL:
    return URL("http", Address(agent.info.port, agent.info.hostname, agent.ip), "/slave(1)")


def inverse_offer_message(offer: InverseOffer) -> InverseOfferMessage:
    return InverseOfferMessage(
        OfferID(offer.offer_id),
        FrameworkID(offer.framework.framework_id),
        offer.unavailability,
        _agent_url(offer.agent),
        AgentID(offer.agent.agent_id),
        offer.resources.messages(),
    )


def offers_event(offers: list[Offer]) -> scheduler.Event:
    return scheduler.Event("OFFERS", offers=scheduler.Offers(tuple(map(offer_message, offers))))


def task_message(task: Task) -> TaskMessage:
    return task_message_of(task, task)


def task_message_of(task: Task, seen: Task | TaskLook) -> TaskMessage:
    """The task as it was at some instant; seen: what of it changes, as it was then."""
    info, sent = task.info, seen.sent
    return TaskMessage(
        name=info.name,
        task_id=info.task_id,
        framework_id=FrameworkID(task.framework_id),
        agent_id=AgentID(task.agent_id),
        state=seen.state,
        executor_id=ExecutorID(task.executor_id) if task.executor_id else None,
        resources=task.resources.messages(task.role, Form.ENDPOINT),
        statuses=seen.statuses,
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


def operation_message(operation: Operation) -> TrackedOperation:
    framework_id = FrameworkID(operation.framework_id) if operation.framework_id else None
    agent_id, uuid = AgentID(operation.agent_id), UUID(operation.uuid)
    return TrackedOperation(operation.info, operation.latest, uuid, framework_id, agent_id, operation.statuses)


class FrameworkLook(Struct, gc=False):
    """A framework at one instant, to be shown later. used, offered: in all."""

    framework_id: str
    info: FrameworkInfo
    state: FrameworkState
    connected: bool
    multi_role: bool
    roles: tuple[str, ...]
    registered_wall_s: float
    reregistered_wall_s: float | None
    unregistered_wall_s: float | None
    used: Resources
    offered: Resources
    offer_constraints: OfferConstraints | None

    @classmethod
    def of(cls, framework: Framework) -> FrameworkLook:
        return cls(
            framework.framework_id,
            framework.info,
            framework.state,
            framework.connected,
            framework.multi_role,
            framework.roles,
            framework.registered_wall_s,
            framework.reregistered_wall_s,
            framework.unregistered_wall_s,
            framework.used.total(),
            framework.offered.total(),
            framework.offer_constraints,
        )


def agent_info(agent: Agent | AgentLook) -> AgentInfo:
    """What an agent says of itself, as operators are told of it."""
    return replace(agent.info, resources=firm(agent.total).messages(form=Form.ENDPOINT))


def agent_message(agent: Agent | AgentLook) -> operator.Agent:
    deactivation = agent.deactivation
    return operator.Agent(
        agent_info=agent_info(agent),
        active=agent.active,
        version=MESOS_VERSION,
        deactivated=deactivation is not None,
        pid=agent.pid,
        registered_time=time_info(agent.registered_wall_s),
        reregistered_time=time_info(agent.reregistered_wall_s) if agent.reregistered_wall_s is not None else None,
        total_resources=agent.total.messages(form=Form.ENDPOINT),
        allocated_resources=agent.used.messages(form=Form.ENDPOINT),
        offered_resources=agent.offered.messages(form=Form.ENDPOINT),
        capabilities=tuple(AgentInfoCapability(capability) for capability in agent.capabilities),
        meseta_version=agent.software,
        drain_info=deactivation.drain_info if deactivation is not None else None,
        estimated_drain_start_time=time_info(deactivation.since_wall_s) if deactivation is not None and deactivation.drain else None,
    )


def framework_message(seen: FrameworkLook, offers: Iterable[Offer] = (), inverse_offers: Iterable[InverseOffer] = ()) -> operator.Framework:
    return operator.Framework(
        framework_info=seen.info,
        active=seen.state is FrameworkState.ACTIVE,
        connected=seen.connected,
        recovered=seen.state is FrameworkState.RECOVERED,
        registered_time=time_info(seen.registered_wall_s),
        reregistered_time=time_info(seen.reregistered_wall_s) if seen.reregistered_wall_s is not None else None,
        unregistered_time=time_info(seen.unregistered_wall_s) if seen.unregistered_wall_s is not None else None,
        offers=tuple(map(operator_offer, offers)),
        inverse_offers=tuple(map(inverse_offer_message, inverse_offers)),
        allocated_resources=seen.used.messages(form=Form.ENDPOINT),
        offered_resources=seen.offered.messages(form=Form.ENDPOINT),
        offer_constraints=seen.offer_constraints,
    )


def operator_offer(offer: Offer) -> OfferMessage:
    """The offer as operators see it, whatever its framework understands."""
    return _offer_message(offer, offer.role, Form.ENDPOINT)


def started_s(state: MasterState) -> float | None:
    """When this master began to lead, in seconds since the epoch."""
    return state.started.wall_s if state.started is not None else None
