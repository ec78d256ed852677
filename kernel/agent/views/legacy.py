"""Mesos's older endpoints on the agent (spec: mesos-v1, section 5.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Raw, Struct

from kernel.agent.state import AgentState, Framework, Kind, Task
from kernel.agent.views.parts import Running, container_status, executors, role_of
from kernel.agent.views.parts import containers as executors_with_container
from kernel.agent.views.statistics import Usages, of_executor
from kernel.errors import CallError
from kernel.net.common import flags, version_info
from kernel.wire.agent_operator import ResourceStatistics
from kernel.wire.codec import encode
from kernel.wire.command import DiscoveryInfo
from kernel.wire.common import DomainInfo, Label
from kernel.wire.container import ContainerStatus
from kernel.wire.framework import FrameworkCapability
from kernel.wire.ids import ContainerID
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
from kernel.wire.nodes import DrainConfig
from kernel.wire.resources import Form, Resource, Resources
from kernel.wire.task import ExecutorType

Query = Mapping[str, str]

ANY_ROLE = "*"


class AgentObject(Struct, omit_defaults=True):
    version: str
    build_date: str | None
    build_time: float | None
    build_user: str | None
    start_time: float
    id: str
    pid: str
    hostname: str
    capabilities: tuple[str, ...]
    resources: Raw
    reserved_resources: dict[str, Raw]
    unreserved_resources: Raw
    reserved_resources_full: dict[str, tuple[Resource, ...]]
    unreserved_resources_full: tuple[Resource, ...]
    reserved_resources_allocated: dict[str, Raw]
    unreserved_resources_allocated: Raw
    resource_providers: tuple[Any, ...]
    attributes: dict[str, float | str]
    flags: dict[str, str]
    frameworks: list[FrameworkObject]
    completed_frameworks: list[FrameworkObject]
    domain: DomainInfo | None = None
    drain_config: DrainConfig | None = None
    estimated_drain_start_time_seconds: float | None = None


class FrameworkObject(Struct, omit_defaults=True):
    id: str
    name: str
    user: str
    failover_timeout: float
    checkpoint: bool
    hostname: str
    executors: list[ExecutorObject]
    completed_executors: list[ExecutorObject]
    principal: str | None = None
    roles: tuple[str, ...] | None = None
    role: str | None = None


class QueuedObject(Struct, omit_defaults=True):
    id: str
    name: str
    slave_id: str
    resources: Raw
    role: str
    command: CommandObject | None = None
    executor_id: str | None = None
    discovery: DiscoveryInfo | None = None


class ExecutorObject(Struct, omit_defaults=True):
    """directory: the sandbox, by which tools find logs."""

    id: str
    name: str
    source: str
    container: str
    directory: str
    resources: Raw
    tasks: list[TaskObject]
    queued_tasks: list[QueuedObject]
    completed_tasks: list[TaskObject]
    role: str | None = None
    labels: tuple[Label, ...] | None = None
    type: ExecutorType | None = None


class ContainerObject(Struct, omit_defaults=True):
    container_id: str
    framework_id: str
    executor_id: str
    executor_name: str
    source: str
    status: ContainerStatus | None = None
    statistics: ResourceStatistics | None = None


def state(s: AgentState, query: Query) -> bytes:
    """`/state`."""
    config, node, version = s.config, s.node, version_info()
    total, used = s.total + s.slack, Resources()
    shown = [_framework(s, framework) for framework in s.frameworks.values()]
    for framework in s.frameworks.values():
        for executor in executors(s, framework)[0]:
            used += executor.resources
    reserved = reserved_by_role(total)
    return encode(
        AgentObject(
            version.version,
            version.build_date,
            version.build_time,
            version.build_user,
            s.started_wall_s,
            s.agent_id,
            f"slave(1)@{config.public_ip}:{config.public_port}",
            config.public_hostname,
            tuple(capability.value for capability in s.capabilities),
            resources_object(total),
            {role: resources_object(part) for role, part in reserved.items()},
            resources_object(unreserved(total)),
            {role: part.messages(form=Form.ENDPOINT) for role, part in reserved.items()},
            unreserved(total).messages(form=Form.ENDPOINT),
            {role: resources_object(part) for role, part in reserved_by_role(used).items()},
            resources_object(unreserved(used)),
            (),
            attributes_object(node.attributes),
            flags(config),
            shown,
            [_framework(s, framework) for framework in s.completed_frameworks],
            node.domain,
            s.drain.config if s.drain is not None else None,
            s.drain.since_wall_s if s.drain is not None else None,
        )
    )


def _framework(s: AgentState, framework: Framework) -> FrameworkObject:
    info = framework.info
    live, ended = executors(s, framework)
    many = any(capability.type is FrameworkCapability.MULTI_ROLE for capability in info.capabilities)
    return FrameworkObject(
        framework.framework_id,
        info.name,
        info.user,
        info.failover_timeout,
        info.checkpoint,
        info.hostname or "",
        [_executor(executor) for executor in live],
        [_executor(executor) for executor in ended],
        info.principal,
        info.roles if many else None,
        None if many else info.role or ANY_ROLE,
    )


def _executor(executor: Running) -> ExecutorObject:
    info = executor.info
    return ExecutorObject(
        info.executor_id.value,
        executor.name,
        executor.source,
        executor.container_id,
        executor.directory,
        resources_object(executor.resources),
        [_task(task) for task in executor.tasks],
        [_queued(task) for task in executor.queued],
        [_task(task) for task in executor.completed],
        executor.role,
        info.labels.labels if info.labels is not None else None,
        info.type,
    )


def _task(task: Task) -> TaskObject:
    info = task.info
    command = info.command or (info.executor.command if info.executor is not None else None)
    return TaskObject(
        task.task_id,
        info.name,
        task.framework.framework_id,
        "" if task.kind is Kind.COMMAND else task.executor_id,
        info.agent_id.value,
        task.state,
        resources_object(Resources.of(info.resources)),
        role_of(info.resources) or ANY_ROLE,
        [status_object(status) for status in task.statuses],
        {name: limit.value for name, limit in info.limits.items()} if info.limits else None,
        command.user if command is not None else None,
        info.labels.labels if info.labels is not None else None,
        info.discovery,
        without_secrets(info.container),
        without_secrets(info.health_check),
    )


def _queued(task: Task) -> QueuedObject:
    info = task.info
    return QueuedObject(
        task.task_id,
        info.name,
        info.agent_id.value,
        resources_object(Resources.of(info.resources)),
        role_of(info.resources) or ANY_ROLE,
        command_object(info.command) if info.command is not None else None,
        task.executor_id,
        info.discovery,
    )


class StatisticsObject(Struct, omit_defaults=True):
    executor_id: str
    executor_name: str
    framework_id: str
    source: str
    statistics: ResourceStatistics


def statistics(s: AgentState, arguments: tuple[Query, Usages]) -> bytes:
    """`/monitor/statistics`: what executors use; those of which nothing is known are left out."""
    found = []
    for running in executors_with_container(s):
        used = of_executor(s, running, arguments[1])
        if used is not None:
            ids = running.info.executor_id.value, running.name, running.framework.framework_id
            found.append(StatisticsObject(*ids, running.source, used))
    return encode(found)


def containers(s: AgentState, arguments: tuple[Query, Usages]) -> bytes:
    """`/containers`: of all executors, or of those that the query selects. Raises CallError for a mix without sense."""
    query, usages = arguments
    selected = {name: query[name] for name in ("container_id", "framework_id", "executor_id") if name in query}
    if selected and set(selected) not in ({"container_id"}, {"framework_id"}, {"framework_id", "executor_id"}):
        raise CallError("give container_id alone, framework_id alone, or framework_id and executor_id")
    return encode([found for found in _containers(s, usages) if all(getattr(found, name) == wanted for name, wanted in selected.items())])


def _containers(s: AgentState, usages: Usages) -> Iterable[ContainerObject]:
    for running in executors_with_container(s):
        status = container_status(ContainerID(running.container_id), running.pid)
        framework_id, executor_id = running.framework.framework_id, running.info.executor_id.value
        used = of_executor(s, running, usages)
        yield ContainerObject(running.container_id, framework_id, executor_id, running.name, running.source, status, used)


VIEWS: dict[str, Callable[[AgentState, Any], bytes]] = {
    "state": state,
    "containers": containers,
    "monitor/statistics": statistics,
    "containerizer/debug": lambda _, query: b'{"pending":[]}',
}
