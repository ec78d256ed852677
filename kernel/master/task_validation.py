"""Whether a task or executor may be launched, in the order Mesos checks (spec: mesos-v1, section 2.9).

Pure, and without knowledge of what else runs: that comes in between (`kernel.master.launching`). What is wrong is raised as
TaskFault, whose text a scheduler gets in TASK_ERROR.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeVar

from msgspec.structs import replace

from kernel.errors import CallError
from kernel.master.validation import duration_fits
from kernel.wire.command import Environment
from kernel.wire.common import DurationInfo, Labels, VolumeSourceType
from kernel.wire.container import ContainerInfo, ContainerType
from kernel.wire.conversion import unshared
from kernel.wire.ids import validate_id
from kernel.wire.resources import Key, Resource, Resources
from kernel.wire.task import (
    CheckInfo,
    CheckType,
    CommandInfo,
    ExecutorInfo,
    ExecutorType,
    HealthCheck,
    Secret,
    SecretType,
    TaskInfo,
    VariableType,
    Volume,
)
from kernel.wire.values import Scalar

T = TypeVar("T")

EXECUTOR_CPUS_MIN, EXECUTOR_MEM_MIN = 10, 32_000  # Thousandths: 0.01 cpus, 32 MB.


class TaskFault(CallError):
    """A task or executor is not valid: becomes TASK_ERROR with this message."""


def _require(holds: bool, text: str) -> None:
    if not holds:
        raise TaskFault(text)


# ---- Tasks ----------------------------------------------------------------------------------------------


def check_task_id(task: TaskInfo) -> None:
    _check_id(task.task_id.value, "TaskInfo.task_id")


def check_task(task: TaskInfo, agent_id: str, role: str, limits_known: bool) -> Resources:
    """Check all of a task that needs no state but its own, from its agent to its limits; return its resources.

    agent_id, role: the offer's. limits_known: whether the agent can hold a task to limits.
    """
    if task.agent_id.value != agent_id:
        raise TaskFault(f"Task uses invalid agent '{task.agent_id.value}' while the offer is of agent '{agent_id}'")
    if task.kill_policy is not None:
        _check_duration(task.kill_policy.grace_period, "Task's 'kill_policy.grace_period'")
    if task.max_completion_time is not None:
        _check_duration(task.max_completion_time, "Task's 'max_completion_time'")
    if task.check is not None:
        _check_check(task.check)
    if task.health_check is not None:
        _check_health(task.health_check)
    if not task.resources:
        raise TaskFault("Task uses no resources")
    resources = _read_resources(task.resources, "Task", role)
    if task.command is not None:
        _check_command(task.command, "Task's")
    if task.container is not None:
        _check_container(task.container, "Task's")
    if task.limits:
        _check_limits(task.limits, resources, limits_known)
    return resources


def check_choice(task: TaskInfo) -> None:
    """Exactly one of command and executor (LAUNCH)."""
    if (task.command is None) == (task.executor is None):
        raise TaskFault("Task should have at least one (but not both) of CommandInfo or ExecutorInfo present")


def check_own_cgroups(task: TaskInfo) -> None:
    """A task of its own cannot choose whether it shares its executor's limits (LAUNCH)."""
    if task.container is not None and not shares_cgroups(task):
        raise TaskFault("Task's 'container.linux_info.share_cgroups' can be false in a task group only")


def check_group_task(task: TaskInfo, executor: ExecutorInfo) -> None:
    """What a task of a group must obey beyond `check_task`."""
    container = task.container
    if container is not None:
        _require(container.type is not ContainerType.DOCKER, "Docker ContainerInfo is not supported on the task")
        if container.network_infos:
            network = "are not supported for a task with 'container.network_infos'"
            health, check = task.health_check, task.check
            _require(health is None or health.type is CheckType.COMMAND, f"HTTP and TCP health checks {network}")
            _require(check is None or check.type is CheckType.COMMAND, f"HTTP and TCP checks {network}")
    _require(task.executor is None or is_same_executor(task.executor, executor), "Task's 'executor' must be the same as that of its group")
    _require(not task.limits or not shares_cgroups(task), "Task's 'limits' need 'container.linux_info.share_cgroups' to be false")


def shares_cgroups(task: TaskInfo) -> bool:
    container = task.container
    return container is None or container.linux_info is None or container.linux_info.share_cgroups


def _check_id(text: str, field: str) -> None:
    try:
        validate_id(text, field)
    except CallError as error:
        raise TaskFault(str(error)) from error


def _check_duration(duration: DurationInfo | None, field: str) -> None:
    _require(duration is None or duration.nanoseconds >= 0, f"{field} must be non-negative")


def _check_seconds(check: CheckInfo | HealthCheck, of: str, *names: str) -> None:
    for name in names:
        _require(duration_fits(getattr(check, name)), f"{of} '{name}' must be non-negative and finite")


def _read_resources(messages: tuple[Resource, ...], of: str, role: str) -> Resources:
    """Resources, well formed and of the offer's allocation role (which is meant where none is named)."""
    try:
        resources = Resources.of(messages)
    except CallError as error:
        raise TaskFault(f"{of} uses invalid resources: {error}") from error
    for message in messages:
        allocation = message.allocation_info
        if allocation is not None and allocation.role is not None and allocation.role != role:
            raise TaskFault(f"{of} uses resources allocated to role '{allocation.role}', the offer is for role '{role}'")
    if resources.other is not None:
        _check_special(resources, resources.other, of)
    return resources


def _check_special(resources: Resources, other: Mapping[Key, object], of: str) -> None:
    volumes = [key.disk.persistence.id for key in other if key.disk is not None and key.disk.persistence is not None]
    _require(len(set(volumes)) == len(volumes), f"{of} uses one persistence id twice")
    for name in {key.name for key in other if key.revocable}:
        plain = getattr(resources, name, 0) if name in ("cpus", "mem", "disk", "gpus") else 0
        firm = plain or any(key.name == name and not key.revocable for key in other)
        _require(not firm, f"{of} uses revocable and non-revocable '{name}' at once")


def _check_limits(limits: Mapping[str, Scalar], resources: Resources, limits_known: bool) -> None:
    scalars = resources.scalars()
    for name, limit in limits.items():
        if name not in ("cpus", "mem"):
            raise TaskFault(f"Task's 'limits' of '{name}' are not allowed: only cpus and mem have any")
        _require(name in scalars, f"Task's 'limits' of '{name}' need '{name}' in its resources")
        least = scalars[name]
        _require(limit.value * 1000 >= least - 0.5, f"Task's 'limits' of '{name}' must not be below what its resources have")
    _require(limits_known, "Task's 'limits' are not supported: the agent is not capable of TASK_RESOURCE_LIMITS")


# ---- Checks ---------------------------------------------------------------------------------------------


def _check_check(check: CheckInfo) -> None:
    kind = check.type
    _require(kind in (CheckType.COMMAND, CheckType.HTTP, CheckType.TCP), "Task's 'check.type' must be COMMAND, HTTP or TCP")
    if kind is CheckType.COMMAND:
        if check.command is None or check.command.command.value is None:
            raise TaskFault("Task's 'check.command.command.value' must be set")
        _check_command(check.command.command, "Task's 'check.command.command'")
    elif kind is CheckType.HTTP:
        if check.http is None:
            raise TaskFault("Task's 'check.http' must be set")
        _check_path(check.http.path, "Task's 'check.http.path'")
    else:
        _require(check.tcp is not None, "Task's 'check.tcp' must be set")
    _check_seconds(check, "Task's 'check'", "delay_seconds", "interval_seconds", "timeout_seconds")


def _check_health(health: HealthCheck) -> None:
    kind = health.type
    _require(kind in (CheckType.COMMAND, CheckType.HTTP, CheckType.TCP), "Task's 'health_check.type' must be COMMAND, HTTP or TCP")
    if kind is CheckType.COMMAND:
        if health.command is None or health.command.value is None:
            raise TaskFault("Task's 'health_check.command.value' must be set")
        _check_command(health.command, "Task's 'health_check.command'")
    elif kind is CheckType.HTTP:
        if health.http is None:
            raise TaskFault("Task's 'health_check.http' must be set")
        _require(health.http.scheme in (None, "http", "https"), "Task's 'health_check.http.scheme' must be http or https")
        _check_path(health.http.path, "Task's 'health_check.http.path'")
    else:
        _require(health.tcp is not None, "Task's 'health_check.tcp' must be set")
    _check_seconds(health, "Task's 'health_check'", "delay_seconds", "interval_seconds", "timeout_seconds", "grace_period_seconds")


def _check_path(path: str | None, field: str) -> None:
    _require(path is None or path.startswith("/"), f"{field} must start with '/'")


# ---- Commands and containers ----------------------------------------------------------------------------


def _check_command(command: CommandInfo, of: str) -> None:
    if command.environment is not None:
        _check_environment(command.environment, of)


def _check_environment(environment: Environment, of: str) -> None:
    for variable in environment.variables:
        at = f"{of} environment variable '{variable.name}'"
        if variable.type is VariableType.SECRET:
            if variable.secret is None:
                raise TaskFault(f"{at} of type SECRET must have a secret set")
            _require(variable.value is None, f"{at} of type SECRET must not have a value set")
            _check_secret(variable.secret, at)
        else:
            _require(variable.type is VariableType.VALUE, f"{at} must be of type VALUE or SECRET")
            _require(variable.value is not None, f"{at} of type VALUE must have a value set")
            _require(variable.secret is None, f"{at} of type VALUE must not have a secret set")


def _check_secret(secret: Secret, of: str) -> None:
    if secret.type is SecretType.REFERENCE:
        _require(secret.reference is not None and secret.value is None, f"{of}: a secret of type REFERENCE has a 'reference' alone")
    elif secret.type is SecretType.VALUE:
        _require(secret.value is not None and secret.reference is None, f"{of}: a secret of type VALUE has a 'value' alone")
    else:
        raise TaskFault(f"{of}: a secret's type must be REFERENCE or VALUE")


_SOURCES = {
    VolumeSourceType.DOCKER_VOLUME: "docker_volume",
    VolumeSourceType.HOST_PATH: "host_path",
    VolumeSourceType.SANDBOX_PATH: "sandbox_path",
    VolumeSourceType.SECRET: "secret",
    VolumeSourceType.CSI_VOLUME: "csi_volume",
}


def _check_container(container: ContainerInfo, of: str) -> None:
    for index, volume in enumerate(container.volumes):
        _check_volume(volume, f"{of} 'container.volumes[{index}]'")
    if container.type is ContainerType.DOCKER:
        _require(container.docker is not None, f"{of} 'container.docker' must be set when 'container.type' is DOCKER")


def _check_volume(volume: Volume, of: str) -> None:
    ways = sum(way is not None for way in (volume.host_path, volume.image, volume.source))
    _require(ways == 1, f"{of}: exactly one of 'host_path', 'image' and 'source' must be set")
    source = volume.source
    if source is not None:
        part = _SOURCES.get(source.type) if source.type is not None else None
        if part is None:
            raise TaskFault(f"{of}: 'source.type' must be one of {', '.join(kind.value for kind in _SOURCES)}")
        _require(getattr(source, part) is not None, f"{of}: 'source.{part}' must be set")
        if source.secret is not None:
            _check_secret(source.secret, of)


# ---- Executors ------------------------------------------------------------------------------------------


def check_executor(executor: ExecutorInfo, framework_id: str, role: str, group: bool) -> Resources:
    """Check an executor and return its resources. group: it is to run a task group."""
    _check_executor_kind(executor, group)
    _check_id(executor.executor_id.value, "ExecutorInfo.executor_id")
    _check_duration(executor.shutdown_grace_period, "ExecutorInfo's 'shutdown_grace_period'")
    if executor.command is not None:
        _check_command(executor.command, "Executor's")
    if executor.container is not None:
        _check_container(executor.container, "Executor's")
    if executor.framework_id is None:
        raise TaskFault("'ExecutorInfo.framework_id' must be set")
    if executor.framework_id.value != framework_id:
        raise TaskFault(f"ExecutorInfo has an invalid FrameworkID (Actual: {executor.framework_id.value} vs Expected: {framework_id})")
    resources = _read_resources(executor.resources, "Executor", role)
    _require(not any(key.shared for key in resources.other or ()), "Executor uses shared resources")
    if group:
        scalars = resources.scalars()
        _require(scalars.get("cpus", 0) >= EXECUTOR_CPUS_MIN, "Executor's 'cpus' must be at least 0.01")
        _require(scalars.get("mem", 0) >= EXECUTOR_MEM_MIN, "Executor's 'mem' must be at least 32 MB")
        _require(scalars.get("disk", 0) > 0, "Executor's 'disk' must be above 0")
    return resources


def _check_executor_kind(executor: ExecutorInfo, group: bool) -> None:
    kind, container = executor.type, executor.container
    if group:
        _require(kind in (ExecutorType.DEFAULT, ExecutorType.CUSTOM), "'ExecutorInfo.type' must be DEFAULT or CUSTOM for a task group")
    else:
        _require(kind is not ExecutorType.DEFAULT, "'ExecutorInfo.type' DEFAULT is for task groups only")
    if kind is not ExecutorType.DEFAULT:
        _require(executor.command is not None, "'ExecutorInfo.command' must be set for 'CUSTOM' executor")
        docker = container is not None and container.type is ContainerType.DOCKER
        _require(not (group and docker), "Docker ContainerInfo is not supported on the executor of a task group")
        return
    _require(executor.command is None, "'ExecutorInfo.command' must not be set for 'DEFAULT' executor")
    if container is not None:
        _require(container.type is ContainerType.MESOS, "'ExecutorInfo.container.type' must be 'MESOS' for 'DEFAULT' executor")
        image = container.mesos is not None and container.mesos.image is not None
        _require(not image, "'ExecutorInfo.container.mesos.image' must not be set for 'DEFAULT' executor")


def is_same_executor(a: ExecutorInfo, b: ExecutorInfo) -> bool:
    """Whether two launches mean one executor. To which role its resources are allocated does not count, nor the order of what
    has none (some clients keep variables in maps, and tell them in another order each time)."""
    a, b = _unallocated(a), _unallocated(b)
    return a == b or _ordered(a) == _ordered(b)


def _unallocated(info: ExecutorInfo) -> ExecutorInfo:
    return replace(info, resources=tuple([replace(resource, allocation_info=None) for resource in info.resources]))


def _ordered(info: ExecutorInfo) -> ExecutorInfo:
    command, labels = info.command, info.labels
    if command is not None:
        variables = command.environment.variables if command.environment is not None else ()
        command = replace(command, uris=_sorted(command.uris), environment=Environment(_sorted(variables)))
    labels = Labels(_sorted(labels.labels if labels is not None else ()))
    return replace(info, resources=_sorted(info.resources), command=command, labels=labels)


def _sorted(items: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(sorted(items, key=repr))


def check_apart(parts: Iterable[Resources], of: str) -> None:
    """Ranges and sets of what is launched together must not overlap: the same port cannot be had twice."""
    parts = tuple(map(unshared, parts))
    separate: Counter[str] = Counter()
    for part in parts:
        separate.update(part.scalars())
    together = Resources.sum(parts).scalars()
    for name, amount in separate.items():
        if together.get(name, 0) != amount:
            raise TaskFault(f"{of} use '{name}' twice")
