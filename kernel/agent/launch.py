"""How a task or executor becomes a container: program, environment, sandbox, user (spec: mesos-v1, 3.4 and 8.6).

Pure, and always the same for the same task, so a launch can be repeated after a restart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from msgspec.structs import replace

from kernel.agent import layout
from kernel.agent.config import AgentConfig
from kernel.agent.containerizer import docker_options
from kernel.agent.containerizer.kinds import Containerizer, containerizer_of
from kernel.agent.containerizer.oci_spec import unsupported_in_image
from kernel.agent.effects import LaunchContainer, LaunchProbe, LinkVolumes
from kernel.agent.gpus import Gpu, variables
from kernel.agent.isolators.limits import Limits, limits_of
from kernel.agent.state import AgentState, Executor, Framework, Kind, Task
from kernel.agent.token import Claims, sign
from kernel.agent.volumes.places import Mount, mounts, unsupported_mounts
from kernel.executor.checks import Watch, fault, target
from kernel.wire.container import WindowSize
from kernel.wire.conversion import volumes
from kernel.wire.durations import format_duration
from kernel.wire.resources import Key, Resource, Resources
from kernel.wire.task import CheckInfo, CommandInfo, ContainerInfo, ExecutorInfo, ExecutorType, HealthCheck, TaskInfo, VariableType
from kernel.wire.values import Scalar

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHELL = "/bin/sh"
TERM, WINDOW = "xterm", WindowSize(24, 80)  # Of terminals of which nothing else is said.
CHECK_OUTPUT, HEALTH_CHECK_OUTPUT = ".meseta-check.output", ".meseta-health-check.output"  # In the sandbox; of the last probe.
SHUTDOWN_MARGIN_S = 2.0  # SHUTDOWN leaves a command task this much less than its executor's grace.


def unsupported(task: TaskInfo, config: AgentConfig) -> str | None:
    """What a task asks for that this release cannot give, in words for its user; None when it can run."""
    for name, check in (("check", task.check), ("health check", task.health_check)):
        problem = _unsupported_check(check) if check is not None else None
        if problem is not None:
            return f"the {name}: {problem}"
    return unsupported_parts(task.command, task.container, task.resources, config)


def _unsupported_check(check: CheckInfo | HealthCheck) -> str | None:
    what = target(check)
    return fault(check) or (_unsupported_command(what) if isinstance(what, CommandInfo) else None)


def _unsupported_command(command: CommandInfo) -> str | None:
    for variable in command.environment.variables if command.environment is not None else ():
        if variable.type is not VariableType.VALUE:
            return f"the environment variable {variable.name} is a secret: secrets are not supported yet"
    return None


def unsupported_executor(executor: ExecutorInfo, config: AgentConfig) -> str | None:
    """The same for an executor."""
    if executor.type is ExecutorType.DEFAULT and _volumes(executor.resources):
        return "volumes of a default executor are not supported yet; give them to its tasks"
    return unsupported_parts(executor.command, executor.container, executor.resources, config)


def unsupported_parts(
    command: CommandInfo | None, container: ContainerInfo | None, given: Iterable[Resource], config: AgentConfig
) -> str | None:
    if command is not None:
        lacks = command.value is None or not (command.value or command.shell)  # An empty text is one for a shell, as in Mesos.
        if lacks and containerizer_of(container) is Containerizer.PROCESS:
            return "a command needs a value"
        if problem := _unsupported_command(command):
            return problem
    kind = containerizer_of(container)
    engine = "docker" if kind is Containerizer.DOCKER else "mesos"
    if config.containerizers is not None and engine not in config.containerizers:
        return f"this agent runs no {engine} containers (--containerizers={','.join(config.containerizers)})"
    problem = unsupported_mounts(_volumes(given), kind)
    if problem is not None:
        return problem
    if container is None:
        return None
    if kind is Containerizer.DOCKER:
        return docker_options.problem(container, given)
    if kind is Containerizer.OCI and container.tty_info is not None:
        return "terminals (tty_info) are not supported yet in an image; `meseta task exec -it` has one"
    if kind is Containerizer.OCI:
        return unsupported_in_image(container)
    if container.volumes:
        return "volumes are not supported yet"
    if any(network.name or network.port_mappings for network in container.network_infos):
        return "container networks are not supported yet"
    linux = container.linux_info
    if linux is not None and (linux.capability_info or linux.effective_capabilities or linux.bounding_capabilities or linux.seccomp):
        return "capabilities and seccomp profiles are not supported yet"
    if linux is not None and (linux.share_pid_namespace is not None or linux.ipc_mode is not None or linux.shm_size is not None):
        return "namespaces are not supported yet"
    if container.rlimit_info is not None and container.rlimit_info.rlimits:
        return "rlimits are not supported yet"
    if container.hostname is not None:
        return "container host names are not supported yet"
    return None


def shutdown_grace_s(state: AgentState, owner: Task | Executor) -> float:
    """How long an executor has after SHUTDOWN. That of a command task, a name only, has what the task's kill policy says, and
    SHUTDOWN_MARGIN_S."""
    given_s: float | None
    if isinstance(owner, Executor):
        given_s = owner.grace_s
    elif owner.kind is Kind.COMMAND:
        policy = owner.info.kill_policy
        period = policy.grace_period if policy is not None else None
        given_s = None if period is None else max(0.0, period.nanoseconds / 1e9) + SHUTDOWN_MARGIN_S
    else:
        given_s = owner.framework.executors[owner.executor_id].grace_s
    return state.config.executor_shutdown_grace_period_s if given_s is None else given_s


def sandbox(state: AgentState, framework_id: str, executor_id: str, container_id: str) -> str:
    """Where a run of an executor lives, command tasks included."""
    return layout.sandbox(state.config.work_dir, state.agent_id, framework_id, executor_id, container_id)


def task_sandbox(state: AgentState, task: Task) -> str:
    """Where a command task, or a task of a default executor, lives."""
    framework_id = task.framework.framework_id
    if task.kind is Kind.COMMAND:
        return sandbox(state, framework_id, task.executor_id, task.container_id)
    executor = task.framework.executors[task.executor_id]
    return layout.nested_sandbox(sandbox(state, framework_id, executor.executor_id, executor.container_id), task.container_id)


def task_container(state: AgentState, task: Task) -> LaunchContainer:
    """The container of a command task, or of a task of a default executor."""
    command = task.info.command
    assert command is not None
    directory = task_sandbox(state, task)
    env = _environment(state, task.framework, task.executor_id, directory, shutdown_grace_s(state, task))
    for resource in task.info.resources:
        if resource.allocation_info is not None and resource.allocation_info.role is not None:
            env["MESOS_ALLOCATION_ROLE"] = resource.allocation_info.role
            break
    limits = limits_on(state, task.info.resources, task.info.limits, task)
    if task.kind is Kind.COMMAND:
        return _container(state, task, command, env, directory, limits, layout.latest_link(directory))
    env["MESOS_CONTAINER_IP"] = state.config.public_ip
    parent = directory[: -len(f"/containers/{task.container_id}")]
    link = layout.task_link(parent, task.task_id), f"../containers/{task.container_id}"
    return _container(state, task, command, env, directory, limits, link, layout.latest_link(parent))


def probe_container(state: AgentState, probe_id: str, task: Task, watch: Watch, command: CommandInfo) -> LaunchProbe:
    """The command of a check of a running task: as the task's user, with its environment and the command's own."""
    host = task_container(state, task)
    executable, argv = program_of(command)
    if task.containerizer is not Containerizer.PROCESS and not command.shell:
        argv = (executable, *argv[1:])  # As a runtime of containers has it.
    variables = variables_of(command)
    output = f"{host.directory}/{CHECK_OUTPUT if watch is task.check else HEALTH_CHECK_OUTPUT}"
    env = host.env | variables
    return LaunchProbe(probe_id, host.container_id, executable, argv, env, host.directory, host.user, output, variables)


def executor_container(state: AgentState, executor: Executor) -> LaunchContainer:
    """The container of a custom executor."""
    command = executor.info.command
    assert command is not None
    directory = sandbox(state, executor.framework.framework_id, executor.executor_id, executor.container_id)
    env = _environment(state, executor.framework, executor.executor_id, directory, shutdown_grace_s(state, executor))
    if state.identity.executor_key:
        claims = Claims(executor.container_id, executor.executor_id, executor.framework.framework_id)
        env["MESOS_EXECUTOR_AUTHENTICATION_TOKEN"] = sign(claims, state.identity.executor_key)
    limits = executor_limits(state, executor)
    return _container(state, executor, command, env, directory, limits, layout.latest_link(directory))


def containers(state: AgentState) -> list[LaunchContainer]:
    """All that have, or are about to have, a process, as they are or were launched."""
    return [
        executor_container(state, owner) if isinstance(owner, Executor) else task_container(state, owner)
        for owner in state.containers.values()
    ]


def executor_limits(state: AgentState, executor: Executor) -> Limits:
    """What a custom executor is held to: all that it and its live tasks have."""
    live = (task.info.resources for task in executor.tasks() if not task.terminal)
    return limits_on(state, (*executor.info.resources, *chain.from_iterable(live)), {}, executor)


def limits_on(state: AgentState, given: Iterable[Resource], beyond: Mapping[str, Scalar], owner: Task | Executor | None = None) -> Limits:
    """What a container is held to with these resources. owner: who may have GPUs."""
    config = state.config
    limits = limits_of(
        given,
        beyond,
        quota=config.cgroups_enable_cfs,
        pids_max=config.container_pids_max or None,
        low_priority=config.revocable_cpu_low_priority,
    )
    if not state.node.gpus or (owner is not None and owner.containerizer is not Containerizer.PROCESS):
        return limits  # In an image there are only the devices it is given.
    held = state.gpus_of(owner) if owner is not None else ()
    others = (gpu for gpu in state.node.gpus if gpu not in held)
    return replace(limits, allowed=tuple(gpu.rule for gpu in held if gpu.rule), denied=tuple(gpu.rule for gpu in others if gpu.rule))


def _environment(state: AgentState, framework: Framework, executor_id: str, directory: str, grace_s: float) -> dict[str, str]:
    config = state.config
    endpoint = f"{config.public_ip}:{config.public_port}"
    env = dict(config.executor_environment_variables)
    env.update(
        MESOS_FRAMEWORK_ID=framework.framework_id,
        MESOS_EXECUTOR_ID=executor_id,
        MESOS_DIRECTORY=directory,
        MESOS_SANDBOX=directory,
        MESOS_SLAVE_ID=state.agent_id,
        MESOS_SLAVE_PID=f"slave(1)@{endpoint}",
        MESOS_AGENT_ENDPOINT=endpoint,
        MESOS_HTTP_COMMAND_EXECUTOR="0",
        MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD=format_duration(round(grace_s * 1e9)),
        LIBPROCESS_PORT="0",
        LIBPROCESS_IP=config.public_ip,
    )
    if framework.info.checkpoint:  # Left unset otherwise: to some clients any value means on.
        env["MESOS_CHECKPOINT"] = "1"
        env["MESOS_RECOVERY_TIMEOUT"] = format_duration(round(config.recovery_timeout_s * 1e9))
        env["MESOS_SUBSCRIPTION_BACKOFF_MAX"] = format_duration(round(config.executor_reregistration_timeout_s * 1e9))
    return env


def _container(
    state: AgentState,
    owner: Task | Executor,
    command: CommandInfo,
    env: dict[str, str],
    directory: str,
    limits: Limits,
    *links: tuple[str, str],
) -> LaunchContainer:
    if owner.containerizer is Containerizer.DOCKER:
        return _docker_container(state, owner, command, env, directory, limits, links)
    gpus = state.gpus_of(owner)
    env = env | _gpu_variables(state, gpus) | variables_of(command)
    if owner.containerizer is Containerizer.PROCESS:
        env.setdefault("PATH", PATH)  # An image has its own.
    terminal = terminal_of(owner.info.container)
    if terminal is not None:
        env.setdefault("TERM", TERM)
    user = (command.user or owner.framework.info.user or None) if state.config.switch_user else None
    executable, argv = program_of(command)
    if not command.value and owner.containerizer is not Containerizer.PROCESS:
        executable, argv = "", command.arguments
    return LaunchContainer(
        owner.container_id,
        executable,
        argv,
        env,
        directory,
        user,
        links,
        limits,
        owner.containerizer,
        owner.info.container,
        command.shell and bool(command.value),
        command.uris,
        gpus=gpus,
        terminal=terminal,
        volumes=_mounts(state, owner),
    )


def terminal_of(container: ContainerInfo | None) -> WindowSize | None:
    """The window of the terminal that a container is to have, None for no terminal."""
    if container is None or container.tty_info is None:
        return None
    return container.tty_info.window_size or WINDOW


def _gpu_variables(state: AgentState, gpus: Sequence[Gpu]) -> dict[str, str]:
    """What tells a container of its GPUs, on a machine that has some."""
    return variables(gpus) if state.node.gpus else {}


def _mounts(state: AgentState, owner: Task | Executor) -> tuple[Mount, ...]:
    """The volumes of a task, or of a custom executor and its tasks so far."""
    given = [*owner.info.resources]
    if isinstance(owner, Executor):
        given += chain.from_iterable(task.info.resources for task in owner.tasks() if not task.terminal)
    return mounts(state.volumes, state.config.work_dir, _volumes(given))


def unsupported_volumes(infos: Iterable[TaskInfo], executor: ExecutorInfo, running: bool) -> str | None:
    """What tasks ask for of their volumes that their custom executor cannot show them."""
    found, kind = _volumes(chain.from_iterable(info.resources for info in infos)), containerizer_of(executor.container)
    if found and running and kind is not Containerizer.PROCESS:
        return "an executor in an image that runs already can be given no more volumes"
    return unsupported_mounts(found, kind)


def task_volumes(state: AgentState, executor: Executor, infos: Sequence[TaskInfo]) -> LinkVolumes | None:
    """What to show to a custom executor that runs before it is given these tasks; None for nothing."""
    command = executor.info.command
    found = mounts(state.volumes, state.config.work_dir, _volumes(chain.from_iterable(info.resources for info in infos)))
    if not found or command is None:
        return None
    user = (command.user or executor.framework.info.user or None) if state.config.switch_user else None
    directory = sandbox(state, executor.framework.framework_id, executor.executor_id, executor.container_id)
    return LinkVolumes(executor.framework.framework_id, tuple(info.task_id.value for info in infos), directory, user, found)


def _volumes(given: Iterable[Resource]) -> list[Key]:
    """The persistent volumes among resources, which are well formed."""
    special = tuple(resource for resource in given if resource.disk is not None)
    return volumes(Resources.of(special)) if special else []


def variables_of(command: CommandInfo) -> dict[str, str]:
    if command.environment is None:
        return {}
    return {variable.name: variable.value or "" for variable in command.environment.variables}


def program_of(command: CommandInfo) -> tuple[str, tuple[str, ...]]:
    """What to execute, and its argv."""
    value = command.value or ""
    return (SHELL, ("sh", "-c", value)) if command.shell else (value, command.arguments or (value,))


def _docker_container(
    state: AgentState,
    owner: Task | Executor,
    command: CommandInfo,
    env: dict[str, str],
    directory: str,
    limits: Limits,
    links: tuple[tuple[str, str], ...],
) -> LaunchContainer:
    """The rules of Mesos's docker containerizer, which differ: without a shell the value and all arguments follow the image's entry
    point, and the framework's user, one of this machine, means nothing in the image."""
    gpus = state.gpus_of(owner)
    env = env | _gpu_variables(state, gpus) | variables_of(command)
    value = command.value or ""
    shell = command.shell and bool(value)
    argv = ("sh", "-c", value) if shell else ((value, *command.arguments) if value else command.arguments)
    user = (command.user or None) if state.config.switch_user else None
    kind, info = owner.containerizer, owner.info.container
    return LaunchContainer(
        owner.container_id,
        "",
        argv,
        env,
        directory,
        user,
        links,
        limits,
        kind,
        info,
        shell,
        command.uris,
        gpus=gpus,
        volumes=_mounts(state, owner),
    )
