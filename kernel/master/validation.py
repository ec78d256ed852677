"""Whether a framework's info or a task may be accepted, in the order Mesos checks (spec: mesos-v1, sections
2.2 and 2.9). Pure: each function returns the first reason against, or None."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from kernel.errors import CallError
from kernel.wire.container import ContainerInfo, ContainerType
from kernel.wire.ids import validate_id
from kernel.wire.resources import EMPTY, Resource, Resources
from kernel.wire.roles import validate_role
from kernel.wire.task import (
    CheckInfo,
    CheckType,
    CommandInfo,
    ExecutorInfo,
    ExecutorType,
    FrameworkCapability,
    FrameworkInfo,
    HealthCheck,
    KillPolicy,
    TaskInfo,
    VariableType,
)

DURATION_S_MAX = 2**63 / 1e9  # What fits a protobuf duration in nanoseconds.
EXECUTOR_CPUS_MIN, EXECUTOR_MEM_MIN = 10, 32_000  # Thousandths: 0.01 cpus, 32 MB.


def framework_fault(info: FrameworkInfo, roles_allowed: Collection[str] | None, root_allowed: bool) -> str | None:
    """Why a FrameworkInfo cannot be accepted, whoever sends it."""
    multi_role = any(capability.type is FrameworkCapability.MULTI_ROLE for capability in info.capabilities)
    if multi_role and info.role is not None:
        return "framework_info.role: must not be set with the capability MULTI_ROLE; use 'roles'"
    if not multi_role and info.roles:
        return "framework_info.roles: needs the capability MULTI_ROLE; use 'role'"
    if len(set(info.roles)) != len(info.roles):
        return "framework_info.roles: a role is named twice"
    roles = info.roles if multi_role else (info.role or "*",)
    try:
        for role in roles:
            validate_role(role, "framework_info.roles" if multi_role else "framework_info.role")
        if info.id is not None and info.id.value:
            validate_id(info.id.value, "framework_info.id")
        for role in info.offer_filters:
            if role not in roles:
                return f"framework_info.offer_filters: '{role}' is not one of the framework's roles"
    except CallError as error:
        return str(error)
    timeout = info.failover_timeout
    if not math.isfinite(timeout) or not 0 <= timeout < DURATION_S_MAX:
        return f"framework_info.failover_timeout: {timeout} is not allowed; give seconds from 0 to {DURATION_S_MAX:.0f}"
    if roles_allowed is not None:
        for role in roles:
            if role not in roles_allowed:
                return f"framework_info.roles: '{role}' is not one of this master's roles ({', '.join(sorted(roles_allowed))})"
    if info.user == "root" and not root_allowed:
        return "framework_info.user: frameworks of user 'root' are not allowed here (--no-root-submissions)"
    return None


def suppressed_fault(suppressed: Iterable[str], roles: Collection[str]) -> str | None:
    for role in suppressed:
        if role not in roles:
            return f"suppressed_roles: '{role}' is not one of the framework's roles"
    return None


def immutable_fault(old: FrameworkInfo, new: FrameworkInfo) -> str | None:
    """Why UPDATE_FRAMEWORK cannot turn old into new."""
    if old.user != new.user:
        return f"framework_info.user: cannot change from '{old.user}' to '{new.user}'"
    if old.checkpoint != new.checkpoint:
        return "framework_info.checkpoint: cannot change"
    if old.principal != new.principal:
        return "Changing framework's principal is not allowed."
    return None


# ---- Tasks ----------------------------------------------------------------------------------------------


class TaskFault(CallError):
    """A task or executor is not valid: becomes TASK_ERROR with this message."""


def _require(holds: bool, text: str) -> None:
    if not holds:
        raise TaskFault(text)


def _duration_ok(value: float) -> bool:
    return math.isfinite(value) and 0 <= value < DURATION_S_MAX


def _check_kill_policy(policy: KillPolicy | None) -> None:
    if policy is not None and policy.grace_period is not None:
        _require(policy.grace_period.nanoseconds >= 0, "Task's 'kill_policy.grace_period' must be non-negative")


def _check_command(command: CommandInfo | None, of: str) -> None:
    if command is None or command.environment is None:
        return
    for variable in command.environment.variables:
        name = variable.name
        if variable.type is VariableType.SECRET:
            _require(variable.secret is not None, f"{of} environment variable '{name}' of type 'SECRET' must have a secret set")
            _require(variable.value is None, f"{of} environment variable '{name}' of type 'SECRET' must not have a value set")
        else:
            _require(variable.value is not None, f"{of} environment variable '{name}' of type 'VALUE' must have a value set")
            _require(variable.secret is None, f"{of} environment variable '{name}' of type 'VALUE' must not have a secret set")


def _check_health(health: HealthCheck | None, networks: bool) -> None:
    if health is None:
        return
    kind = health.type
    _require(kind is not None, "Health check's 'type' must be set")
    if kind is CheckType.COMMAND:
        _require(health.command is not None and health.command.value is not None, "Health check's 'command.value' must be set")
        _check_command(health.command, "Health check's")
    elif kind is CheckType.HTTP:
        _require(health.http is not None, "Health check's 'http' must be set")
        assert health.http is not None
        _require(
            health.http.scheme in (None, "http", "https"), f"Health check's 'http.scheme' '{health.http.scheme}' must be http or https"
        )
        _require(health.http.path is None or health.http.path.startswith("/"), "Health check's 'http.path' must start with '/'")
    elif kind is CheckType.TCP:
        _require(health.tcp is not None, "Health check's 'tcp' must be set")
    else:
        _require(False, "Health check's 'type' must be COMMAND, HTTP or TCP")
    _require(not (networks and kind is not CheckType.COMMAND), "HTTP and TCP health checks do not go with the task's 'network_infos'")
    for name in ("delay_seconds", "interval_seconds", "timeout_seconds", "grace_period_seconds"):
        _require(_duration_ok(getattr(health, name)), f"Health check's '{name}' must be non-negative")


def _check_check(check: CheckInfo | None) -> None:
    if check is None:
        return
    _require(check.type is not None, "Check's 'type' must be set")
    if check.type is CheckType.COMMAND:
        _require(check.command is not None and check.command.command.value is not None, "Check's 'command.command.value' must be set")
    elif check.type is CheckType.HTTP:
        _require(check.http is not None, "Check's 'http' must be set")
        _require(check.http.path is None or check.http.path.startswith("/"), "Check's 'http.path' must start with '/'")  # type: ignore[union-attr]
    elif check.type is CheckType.TCP:
        _require(check.tcp is not None, "Check's 'tcp' must be set")
    else:
        _require(False, "Check's 'type' must be COMMAND, HTTP or TCP")
    for name in ("delay_seconds", "interval_seconds", "timeout_seconds"):
        _require(_duration_ok(getattr(check, name)), f"Check's '{name}' must be non-negative")


def _check_container(container: ContainerInfo | None, of: str) -> None:
    if container is not None and container.type is ContainerType.DOCKER:
        _require(container.docker is not None, f"{of} 'container.docker' must be set when 'container.type' is DOCKER")


def parse_resources(messages: tuple[Resource, ...], of: str, role: str) -> Resources:
    """The resources of a task or executor. Raises TaskFault when malformed or of another allocation role."""
    for message in messages:
        if message.allocation_info is not None and message.allocation_info.role not in (None, role):
            raise TaskFault(f"{of} resources are allocated to role '{message.allocation_info.role}', the offer to '{role}'")
    try:
        return Resources.of(messages)
    except CallError as error:
        raise TaskFault(f"{of} uses invalid resources: {error}") from error


def _check_limits(task: TaskInfo, resources: Resources) -> None:
    scalars = resources.scalars()
    for name, limit in task.limits.items():
        _require(name in ("cpus", "mem"), f"Task's limit for '{name}' is not allowed; only cpus and mem have limits")
        _require(name in scalars, f"Task has a limit for '{name}' but does not ask for any")
        _require(
            math.isinf(limit.value) or round(limit.value * 1000) >= scalars[name],
            f"Task's limit for '{name}' must not be below what it asks for",
        )


def check_task(task: TaskInfo, agent_id: str, role: str) -> Resources:
    """Check all of a task that needs no state but its own and return its resources. Raises TaskFault."""
    if task.agent_id.value != agent_id:
        raise TaskFault(f"Task uses agent '{task.agent_id.value}' while the offer is for agent '{agent_id}'")
    _check_kill_policy(task.kill_policy)
    if task.max_completion_time is not None:
        _require(task.max_completion_time.nanoseconds >= 0, "Task's 'max_completion_time' must be non-negative")
    _check_check(task.check)
    _check_health(task.health_check, False)
    _require(bool(task.resources) or task.executor is not None, "Task uses no resources")
    resources = parse_resources(task.resources, "Task", role) if task.resources else EMPTY
    _require(bool(resources) or task.executor is not None, "Task uses no resources")
    _check_command(task.command, "Task's")
    _check_container(task.container, "Task's")
    if task.limits:
        _check_limits(task, resources)
    return resources


def check_executor(executor: ExecutorInfo, framework_id: str, role: str, group: bool) -> Resources:
    """Check an executor and return its resources. Raises TaskFault."""
    kind = executor.type
    if group:
        _require(kind in (ExecutorType.DEFAULT, ExecutorType.CUSTOM), "'ExecutorInfo.type' must be set for LAUNCH_GROUP")
    else:
        _require(kind is not ExecutorType.DEFAULT, "'ExecutorInfo.type' DEFAULT is only for LAUNCH_GROUP")
    if kind is ExecutorType.DEFAULT:
        _require(executor.command is None, "'ExecutorInfo.command' must not be set for 'DEFAULT' executor")
        container = executor.container
        _require(
            container is None or container.type is ContainerType.MESOS,
            "'ExecutorInfo.container.type' must be 'MESOS' for 'DEFAULT' executor",
        )
        _require(
            container is None or container.mesos is None or container.mesos.image is None,
            "'ExecutorInfo.container.mesos.image' must not be set for 'DEFAULT' executor",
        )
    else:
        _require(executor.command is not None, "'ExecutorInfo.command' must be set for 'CUSTOM' executor")
        _require(
            not (group and executor.container is not None and executor.container.type is ContainerType.DOCKER),
            "a Docker executor cannot run a task group",
        )
    _validate_id(executor.executor_id.value, "ExecutorInfo.executor_id")
    if executor.shutdown_grace_period is not None:
        _require(executor.shutdown_grace_period.nanoseconds >= 0, "ExecutorInfo's 'shutdown_grace_period' must be non-negative")
    _check_command(executor.command, "Executor's")
    _check_container(executor.container, "Executor's")
    _require(executor.framework_id is not None, "'ExecutorInfo.framework_id' must be set")
    assert executor.framework_id is not None
    _require(
        executor.framework_id.value == framework_id,
        f"ExecutorInfo has an invalid FrameworkID (Actual: {executor.framework_id.value} vs Expected: {framework_id})",
    )
    resources = parse_resources(executor.resources, "Executor", role)
    if group:
        scalars = resources.scalars()
        _require(scalars.get("cpus", 0) >= EXECUTOR_CPUS_MIN, "Executor's cpus must be at least 0.01")
        _require(scalars.get("mem", 0) >= EXECUTOR_MEM_MIN, "Executor's mem must be at least 32 MB")
        _require(scalars.get("disk", 0) > 0, "Executor's disk must be above 0")
    return resources


def check_group_task(task: TaskInfo, executor: ExecutorInfo) -> None:
    """What a task of a group must obey beyond `check_task`. Raises TaskFault."""
    _require(
        task.container is None or task.container.type is not ContainerType.DOCKER,
        "Docker ContainerInfo is not supported on the task of a group",
    )
    _check_health(task.health_check, bool(task.container is not None and task.container.network_infos))
    _require(task.executor is None or task.executor == executor, "The 'ExecutorInfo' of a task in a group must equal the group's")
    shares = _shares_cgroups(task.container)
    _require(not task.limits or shares is False, "A task's 'limits' in a group need 'linux_info.share_cgroups' false")


def _shares_cgroups(container: ContainerInfo | None) -> bool:
    return container is None or container.linux_info is None or container.linux_info.share_cgroups


def check_launch_choice(task: TaskInfo) -> None:
    """Exactly one of command and executor (LAUNCH). Raises TaskFault."""
    _require(
        (task.command is None) != (task.executor is None),
        "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present",
    )
    _require(_shares_cgroups(task.container), "'linux_info.share_cgroups' false is only for tasks of a group")


def _validate_id(text: str, field: str) -> None:
    try:
        validate_id(text, field)
    except CallError as error:
        raise TaskFault(str(error)) from error


def check_task_id(task: TaskInfo) -> None:
    """Raises TaskFault for an id that cannot be one."""
    _validate_id(task.task_id.value, "TaskInfo.task_id")
