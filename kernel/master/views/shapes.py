"""The objects of Mesos's older endpoints, which it wrote by hand (spec: mesos-v1, sections 5.1 and 5.2).

Fields without a default are always printed, empty arrays too; those that default to None only when set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from msgspec import Raw, Struct
from msgspec.structs import replace

from kernel.master import render
from kernel.master.state import Agent, Executor, Framework, Offer, Rendered, Task
from kernel.master.transitions import AgentState, FrameworkState
from kernel.wire.codec import encode
from kernel.wire.command import DiscoveryInfo, Environment, HealthCheck
from kernel.wire.common import DomainInfo, Label
from kernel.wire.container import ContainerInfo, ContainerStatus
from kernel.wire.nodes import Attribute
from kernel.wire.offer import OfferConstraints
from kernel.wire.resources import AllocationInfo, Key, Resources
from kernel.wire.task import CommandInfo, ExecutorType, TaskState, TaskStatus
from kernel.wire.values import coalesce, format_items, format_milli, format_spans

# ---- Resources and attributes ---------------------------------------------------------------------------


def resources_object(resources: Resources) -> Raw:
    """Amounts by name: scalars as numbers, ranges and sets as text; of one name reserved and unreserved together,
    revocable apart."""
    if resources.other is None:
        return _plain(resources.cpus, resources.mem, resources.disk, resources.gpus)
    amounts: dict[str, Any] = {
        "cpus": resources.cpus / 1000,
        "gpus": resources.gpus / 1000,
        "mem": resources.mem / 1000,
        "disk": resources.disk / 1000,
    }
    spans: dict[str, list[tuple[int, int]]] = {}
    items: dict[str, set[str]] = {}
    for key, amount in resources.other.items():
        name = f"{key.name}_revocable" if key.revocable else key.name
        if isinstance(amount, int):
            amounts[name] = amounts.get(name, 0.0) + (amount if key.size is None else amount * key.size) / 1000
        elif isinstance(amount, tuple):
            spans.setdefault(name, []).extend(amount)
        else:
            items.setdefault(name, set()).update(amount)
    amounts |= {name: format_spans(coalesce(sorted(parts))) for name, parts in spans.items()}
    amounts |= {name: format_items(parts) for name, parts in items.items()}
    return Raw(encode(amounts))


@lru_cache(maxsize=65536)
def _plain(cpus: int, mem: int, disk: int, gpus: int) -> Raw:
    return Raw(encode({"cpus": cpus / 1000, "gpus": gpus / 1000, "mem": mem / 1000, "disk": disk / 1000}))


def reserved_by_role(resources: Resources) -> dict[str, Resources]:
    """The reserved part, by the role it is reserved for."""
    found: dict[str, Resources] = {}
    for key, amount in (resources.other or {}).items():
        if key.reservations:
            found[key.role] = found.get(key.role, Resources()) + Resources(other={key: amount})
    return found


def unreserved(resources: Resources) -> Resources:
    """The part that is reserved for nobody."""

    def free(key: Key) -> bool:
        return not key.reservations

    return resources if resources.other is None or all(map(free, resources.other)) else resources.where(free, plain=True)


def attributes_object(attributes: Iterable[Attribute]) -> dict[str, float | str]:
    """Attributes by name: numbers, or text."""
    shown: dict[str, float | str] = {}
    for attribute in attributes:
        if attribute.scalar is not None:
            shown[attribute.name] = float(format_milli(round(attribute.scalar.value * 1000)))
        elif attribute.ranges is not None:
            shown[attribute.name] = format_spans(tuple((part.begin, part.end) for part in attribute.ranges.range))
        elif attribute.set is not None:
            shown[attribute.name] = format_items(attribute.set.item)
        elif attribute.text is not None:
            shown[attribute.name] = attribute.text.value
    return shown


# ---- Tasks ----------------------------------------------------------------------------------------------


class StatusObject(Struct, gc=False, omit_defaults=True):
    state: TaskState
    timestamp: float
    labels: tuple[Label, ...] | None = None
    container_status: ContainerStatus | None = None
    healthy: bool | None = None


class TaskObject(Struct, gc=False, omit_defaults=True):
    """executor_id: empty for a command task."""

    id: str
    name: str
    framework_id: str
    executor_id: str
    slave_id: str
    state: TaskState
    resources: Raw
    role: str
    statuses: Sequence[StatusObject]
    limits: dict[str, float] | None = None
    user: str | None = None
    labels: tuple[Label, ...] | None = None
    discovery: DiscoveryInfo | None = None
    container: ContainerInfo | None = None
    health_check: HealthCheck | None = None


def task_bodies(tasks: Iterable[Task]) -> Iterator[bytes]:
    """The tasks as they are now, encoded when asked for."""
    kept = list(tasks)
    rendered = [
        found if (found := task.rendered) is not None and found.statuses is task.statuses and found.state is task.state else _begin(task)
        for task in kept
    ]
    return (found.body or _render(task, found) for task, found in zip(kept, rendered, strict=True))


def _begin(task: Task) -> Rendered:
    rendered = task.rendered = Rendered(task.state, task.statuses)
    return rendered


def _render(task: Task, rendered: Rendered) -> bytes:
    info = task.info
    body = rendered.body = encode(
        TaskObject(
            task.task_id,
            info.name,
            task.framework_id,
            task.executor_id,
            task.agent_id,
            rendered.state,
            resources_object(task.resources),
            task.role,
            [_status_object(status) for status in rendered.statuses],
            {name: limit.value for name, limit in info.limits.items()} if info.limits else None,
            render.task_user(info),
            info.labels.labels if info.labels is not None else None,
            info.discovery,
            render.without_secrets(info.container),
            render.without_secrets(info.health_check),
        )
    )
    return body


def _status_object(status: TaskStatus) -> StatusObject:
    container = status.container_status
    if container is not None and container.executor_pid is not None:
        container = replace(container, executor_pid=None)
    labels = status.labels.labels if status.labels is not None else None
    return StatusObject(status.state, status.timestamp or 0.0, labels, container, status.healthy)


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
    domain: DomainInfo | None = None
    reregistered_time: float | None = None


AGENT_CAPABILITIES = tuple(capability.type.value for capability in render.AGENT_CAPABILITIES if capability.type is not None)


class RenderedAgent(Struct, gc=False):
    """Kept on the agent, and valid while it looks like this. body: None until somebody reads it."""

    picture: render.AgentPicture
    body: bytes | None = None

    def bytes(self) -> bytes:
        if self.body is None:
            self.body = encode(_agent_object(self.picture))
        return self.body


def agents_rendered(agents: Iterable[Agent]) -> list[RenderedAgent]:
    """The agents as they are now, encoded when asked for."""
    rendered = []
    for agent in agents:
        picture = render.AgentPicture.of(agent)
        found: RenderedAgent | None = agent.rendered
        if found is None or found.picture != picture:
            found = agent.rendered = RenderedAgent(picture)
        rendered.append(found)
    return rendered


def _agent_object(seen: render.AgentPicture) -> AgentObject:
    info, total = seen.info, resources_object(seen.total)
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
        seen.state is AgentState.REGISTERED,
        False,
        seen.software,
        AGENT_CAPABILITIES,
        info.domain,
        seen.reregistered_wall_s,
    )


def recovered_agent_object(agent: Agent) -> RecoveredAgentObject:
    info = agent.info
    return RecoveredAgentObject(agent.agent_id, info.hostname, info.port, attributes_object(info.attributes), info.domain)


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


class UriObject(Struct, gc=False):
    value: str
    executable: bool


class CommandObject(Struct, gc=False, omit_defaults=True):
    argv: tuple[str, ...]
    uris: list[UriObject]
    shell: bool | None = None
    value: str | None = None
    environment: Environment | None = None


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


def framework_summary(framework: Framework, used: Resources, offered: Resources) -> FrameworkSummary:
    info = framework.info
    return FrameworkSummary(
        framework.framework_id,
        info.name,
        resources_object(used),
        resources_object(offered),
        tuple(capability.type.value for capability in info.capabilities if capability.type is not None),
        info.hostname or "",
        info.webui_url or "",
        framework.state is FrameworkState.ACTIVE,
        framework.connected,
        framework.state is FrameworkState.RECOVERED,
    )


def framework_detail(framework: Framework, used: Resources, offered: Resources) -> FrameworkDetail:
    info, again = framework.info, framework.reregistered_wall_s
    return FrameworkDetail(
        user=info.user,
        failover_timeout=info.failover_timeout,
        checkpoint=info.checkpoint,
        registered_time=framework.registered_wall_s,
        unregistered_time=framework.unregistered_wall_s or 0.0,
        resources=resources_object(used + offered),
        offer_constraints=framework.offer_constraints or OfferConstraints(),
        principal=info.principal,
        reregistered_time=again if again != framework.registered_wall_s else None,
        roles=framework.roles if framework.multi_role else None,
        role=None if framework.multi_role else framework.roles[0],
        labels=info.labels.labels if info.labels is not None else None,
    )


def executor_object(executor: Executor) -> ExecutorObject:
    info = executor.info
    command = render.without_secrets(info.command) or CommandInfo()
    return ExecutorObject(
        executor.executor_id,
        info.name or "",
        executor.framework_id,
        CommandObject(
            command.arguments,
            [UriObject(uri.value, uri.executable or False) for uri in command.uris],
            command.shell,
            command.value,
            command.environment,
        ),
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
