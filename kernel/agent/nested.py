"""How a container that an operator launches comes to be: beside another one, inside its sandbox and with its control groups, or standing
alone (spec: mesos-v1, sections 4.2 and 8.6).

Pure, and always the same for the same container, so a launch can be repeated after a restart.
"""

from __future__ import annotations

from kernel.agent import layout
from kernel.agent.config import AgentConfig
from kernel.agent.containerizer.kinds import Containerizer, containerizer_of
from kernel.agent.effects import Beside, LaunchContainer
from kernel.agent.launch import (
    PATH,
    TERM,
    executor_container,
    limits_on,
    program_of,
    task_container,
    terminal_of,
    unsupported_parts,
    variables_of,
)
from kernel.agent.state import AgentState, Executor, Kind, OperatorContainer, Task
from kernel.errors import CallError, NotFound
from kernel.wire.agent_operator import LaunchContainer as Asked
from kernel.wire.command import CommandInfo
from kernel.wire.resources import Resources

NOT_INHERITED = frozenset({"MESOS_EXECUTOR_AUTHENTICATION_TOKEN"})  # It says who somebody is.


def place(state: AgentState, name: str) -> LaunchContainer:
    """How a running container was launched, for what is to be started beside it. Raises NotFound."""
    found = state.operator_containers.get(name)
    if found is not None:
        if found.runs and found.ending is None:
            return operator_container(state, found)
    else:
        owner = state.find_container(name)
        if isinstance(owner, Task) and owner.run is not None and owner.run.pid is not None and not owner.terminal:
            return task_container(state, owner)
        if isinstance(owner, Executor) and owner.kind is Kind.CUSTOM and owner.pid is not None:
            return executor_container(state, owner)
    raise NotFound(f"Container {name} has no process that runs")


def below_executor(state: AgentState, name: str) -> LaunchContainer:
    """`place` of a container below an executor: others cannot be attached to, as in Mesos. Raises NotFound."""
    if name.partition(".")[0] in state.operator_containers:
        raise NotFound(f"Container {name} cannot be found below an executor")
    return place(state, name)


def operator_container(state: AgentState, found: OperatorContainer) -> LaunchContainer:
    """The launch of an operator's container. One inside another is launched beside what that was, be it gone by now."""
    command = found.asked.command or CommandInfo()
    variables = variables_of(command)
    executable, argv = program_of(command)
    if not command.value and containerizer_of(found.asked.container) is not Containerizer.PROCESS:
        executable, argv = "", command.arguments
    shell = command.shell and bool(command.value)
    info, user = found.asked.container, (command.user or None) if state.config.switch_user else None
    if found.parent:
        parent = _launch_of(state, found.parent)
        directory = layout.nested_sandbox(parent.directory, found.container_id)
        variables |= {"MESOS_DIRECTORY": directory, "MESOS_SANDBOX": directory}
        env = {name: value for name, value in parent.env.items() if name not in NOT_INHERITED} | variables
        kind, beside = parent.containerizer, parent.beside or Beside(parent.container_id, parent.directory)
        user = user or parent.user
        limits = parent.limits
    else:
        directory = layout.standalone_sandbox(state.config.work_dir, found.container_id)
        endpoint = f"{state.config.public_ip}:{state.config.public_port}"
        env = {"MESOS_DIRECTORY": directory, "MESOS_SANDBOX": directory, "MESOS_AGENT_ENDPOINT": endpoint}
        env = dict(state.config.executor_environment_variables) | env | variables
        kind, beside = containerizer_of(info), None
        if kind is Containerizer.PROCESS:
            env.setdefault("PATH", PATH)
        limits = limits_on(state, found.asked.resources, found.asked.limits)
    terminal = terminal_of(info)
    if terminal is not None:
        env.setdefault("TERM", TERM)
    made = found.name, executable, argv, env, directory, user, (), limits, kind, info, shell, command.uris
    return LaunchContainer(*made, beside, variables, terminal=terminal)


def _launch_of(state: AgentState, name: str) -> LaunchContainer:
    """Raises NotFound."""
    found = state.operator_containers.get(name)
    if found is not None:
        return operator_container(state, found)
    owner = state.find_container(name)
    return executor_container(state, owner) if isinstance(owner, Executor) else task_container(state, owner)


def operator_containers(state: AgentState) -> list[LaunchContainer]:
    """All that have, or are about to have, a process, as they are or were launched; not those whose surroundings are gone."""
    launches = []
    for found in state.operator_containers.values():
        if found.ending is None:
            try:
                launches.append(operator_container(state, found))
            except NotFound:
                continue
    return launches


def problem(asked: Asked, beside: LaunchContainer | None, config: AgentConfig) -> str | None:
    """What of a launch cannot be, in words for who asks; None when it can. beside: how the container was launched that it is to be in.
    Raises CallError for resources that are none."""
    if beside is None:
        return _problem_alone(asked) or unsupported_parts(asked.command or CommandInfo(), asked.container, asked.resources, config)
    if beside.containerizer is Containerizer.DOCKER:
        return "a container of the Docker engine can have none inside; `meseta task exec` and `docker exec` run commands there"
    if asked.container is not None and asked.container.tty_info is not None and beside.containerizer is not Containerizer.PROCESS:
        return "container.tty_info: terminals are not supported yet in an image; LAUNCH_NESTED_CONTAINER_SESSION has them"
    if containerizer_of(asked.container) is not Containerizer.PROCESS:
        return "container: one inside another has the files of that; an image of its own is not supported yet"
    if asked.container is not None and asked.container.linux_info is not None and not asked.container.linux_info.share_cgroups:
        return "container.linux_info.share_cgroups: one inside another shares its control groups; false is not supported"
    Resources.of(asked.resources, "launch_container.resources")
    if beside.beside is not None and (asked.resources or asked.limits):
        return "resources, limits: containers nested at the second level or greater cannot have any"
    if asked.command is not None and asked.command.uris and beside.containerizer is not Containerizer.PROCESS:
        return "command.uris: files are not fetched yet for a container inside one with an image"
    return unsupported_parts(asked.command or CommandInfo(), asked.container, (), config)


def _problem_alone(asked: Asked) -> str | None:
    kind = containerizer_of(asked.container)
    if kind is Containerizer.DOCKER:
        return "container.type: the provided ContainerInfo is not supported for a container that stands alone; MESOS is"
    for resource in asked.resources:
        if resource.reservations or resource.reservation is not None or resource.role not in (None, "*"):
            return "'launch_container.resources' must be unreserved"
        if resource.disk is not None and resource.disk.persistence is not None:
            return "'launch_container.resources' may not use persistent volumes"
        if resource.revocable is not None:
            return "'launch_container.resources' must be non-revocable"
    held = Resources.of(asked.resources, "launch_container.resources").scalars()
    if not held.get("cpus") or not held.get("mem"):
        return "launch_container.resources: a container that stands alone needs cpus and mem"
    if held.get("gpus"):
        return "launch_container.resources: GPUs are only for tasks and executors, to which the master gives them"
    if any(not limit.value >= 0 for limit in asked.limits.values()):
        raise CallError("launch_container.limits: must be numbers from 0 on")
    return None
