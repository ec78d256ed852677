"""The objects of Mesos's older endpoints as the master has them (spec: mesos-v1, sections 5.1 and 5.2).

Fields without a default are always printed, empty arrays too; those that default to None only when set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Raw, Struct

from kernel.master import render
from kernel.master.model import Agent, Executor, Offer, Task
from kernel.master.pictures import AgentLook, Picture, TaskLook
from kernel.master.transitions import FrameworkState
from kernel.net.common import MESOS_VERSION
from kernel.wire.codec import encode
from kernel.wire.common import DomainInfo, Label
from kernel.wire.legacy import (
    CommandObject,
    TaskObject,
    attributes_object,
    command_object,
    reserved_by_role,
    resources_object,
    status_object,
    unreserved,
    without_secrets,
)
from kernel.wire.nodes import DrainInfo
from kernel.wire.offer import OfferConstraints
from kernel.wire.resources import AllocationInfo
from kernel.wire.task import ExecutorType

# ---- Tasks and agents as they were, encoded once --------------------------------------------------------


def task_bodies(picture: Picture, tasks: Iterable[Task]) -> Iterator[bytes]:
    """The tasks as they were when the picture was taken."""
    for task in tasks:
        seen = picture.look(task)
        if seen is not task:
            yield encode(_task_object(task, seen))
        else:
            body = task.rendered = task.rendered or encode(_task_object(task, task))
            yield body


def agent_body(picture: Picture, agent: Agent) -> bytes:
    """The agent as it was when the picture was taken."""
    seen = picture.look(agent)
    if seen is not agent:
        return encode(_agent_object(seen))
    body = agent.rendered = agent.rendered or encode(_agent_object(agent))
    return body


def _task_object(task: Task, seen: Task | TaskLook) -> TaskObject:
    info = task.info
    return TaskObject(
        task.task_id,
        info.name,
        task.framework_id,
        task.executor_id,
        task.agent_id,
        seen.state,
        resources_object(task.resources),
        task.role,
        [status_object(status) for status in seen.statuses],
        {name: limit.value for name, limit in info.limits.items()} if info.limits else None,
        render.task_user(info),
        info.labels.labels if info.labels is not None else None,
        info.discovery,
        without_secrets(info.container),
        without_secrets(info.health_check),
    )


# ---- Agents ---------------------------------------------------------------------------------------------


class RecoveredAgentObject(Struct, gc=False, omit_defaults=True):
    """An agent known from before a failover that has not come back yet."""

    id: str
    hostname: str
    port: int
    attributes: dict[str, float | str]
    domain: DomainInfo | None = None


class AgentObject(Struct, gc=False, omit_defaults=True):
    id: str
    hostname: str
    port: int
    attributes: dict[str, float | str]
    pid: str
    registered_time: float
    resources: Raw
    used_resources: Raw
    offered_resources: Raw
    reserved_resources: dict[str, Raw]
    unreserved_resources: Raw
    active: bool
    deactivated: bool
    version: str
    capabilities: tuple[str, ...]
    meseta_version: str
    domain: DomainInfo | None = None
    reregistered_time: float | None = None
    drain_info: DrainInfo | None = None
    estimated_drain_start_time_seconds: float | None = None


def _agent_object(seen: Agent | AgentLook) -> AgentObject:
    info, total = seen.info, resources_object(seen.total)
    deactivation = seen.deactivation
    reserved = reserved_by_role(seen.total)
    return AgentObject(
        seen.agent_id,
        info.hostname,
        info.port,
        attributes_object(info.attributes),
        seen.pid,
        seen.registered_wall_s,
        total,
        resources_object(seen.used),
        resources_object(seen.offered),
        {role: resources_object(part) for role, part in reserved.items()},
        resources_object(unreserved(seen.total)) if reserved else total,
        seen.active,
        deactivation is not None,
        MESOS_VERSION,
        tuple(capability.value for capability in seen.capabilities),
        seen.software,
        info.domain,
        seen.reregistered_wall_s,
        deactivation.drain_info if deactivation is not None else None,
        deactivation.since_wall_s if deactivation is not None and deactivation.drain is not None else None,
    )


def recovered_agent_object(seen: Agent | AgentLook) -> RecoveredAgentObject:
    info = seen.info
    return RecoveredAgentObject(seen.agent_id, info.hostname, info.port, attributes_object(info.attributes), info.domain)


# ---- Frameworks and what hangs on them ------------------------------------------------------------------


class FrameworkSummary(Struct, gc=False, omit_defaults=True):
    id: str
    name: str
    used_resources: Raw
    offered_resources: Raw
    capabilities: tuple[str, ...]
    hostname: str
    webui_url: str
    active: bool
    connected: bool
    recovered: bool


class FrameworkDetail(Struct, gc=False, omit_defaults=True):
    """What /state and /frameworks add to the summary. unregistered_time: 0 while the framework lives."""

    user: str
    failover_timeout: float
    checkpoint: bool
    registered_time: float
    unregistered_time: float
    resources: Raw
    offer_constraints: OfferConstraints
    principal: str | None = None
    reregistered_time: float | None = None
    roles: tuple[str, ...] | None = None
    role: str | None = None
    labels: tuple[Label, ...] | None = None


class ExecutorObject(Struct, gc=False, omit_defaults=True):
    executor_id: str
    name: str
    framework_id: str
    command: CommandObject
    resources: Raw
    role: str
    slave_id: str
    labels: tuple[Label, ...] | None = None
    type: ExecutorType | None = None


class OfferObject(Struct, gc=False, omit_defaults=True):
    id: str
    framework_id: str
    allocation_info: AllocationInfo
    slave_id: str
    resources: Raw


def framework_summary(seen: render.FrameworkLook) -> FrameworkSummary:
    info = seen.info
    return FrameworkSummary(
        seen.framework_id,
        info.name,
        resources_object(seen.used),
        resources_object(seen.offered),
        tuple(capability.type.value for capability in info.capabilities if capability.type is not None),
        info.hostname or "",
        info.webui_url or "",
        seen.state is FrameworkState.ACTIVE,
        seen.connected,
        seen.state is FrameworkState.RECOVERED,
    )


def framework_detail(seen: render.FrameworkLook) -> FrameworkDetail:
    info, again = seen.info, seen.reregistered_wall_s
    return FrameworkDetail(
        user=info.user,
        failover_timeout=info.failover_timeout,
        checkpoint=info.checkpoint,
        registered_time=seen.registered_wall_s,
        unregistered_time=seen.unregistered_wall_s or 0.0,
        resources=resources_object(seen.used + seen.offered),
        offer_constraints=seen.offer_constraints or OfferConstraints(),
        principal=info.principal,
        reregistered_time=again if again != seen.registered_wall_s else None,
        roles=seen.roles if seen.multi_role else None,
        role=None if seen.multi_role else seen.roles[0],
        labels=info.labels.labels if info.labels is not None else None,
    )


def executor_object(executor: Executor) -> ExecutorObject:
    info = executor.info
    return ExecutorObject(
        executor.executor_id,
        info.name or "",
        executor.framework_id,
        command_object(info.command),
        resources_object(executor.resources),
        executor.role,
        executor.agent_id,
        info.labels.labels if info.labels is not None else None,
        info.type,
    )


def offer_object(offer: Offer) -> OfferObject:
    return OfferObject(
        offer.offer_id,
        offer.framework.framework_id,
        AllocationInfo(offer.role),
        offer.agent.agent_id,
        resources_object(offer.resources),
    )
