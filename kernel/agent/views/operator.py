"""Bodies of the agent's operator API (spec: mesos-v1, section 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kernel.agent.nested import below_executor, operator_container, place
from kernel.agent.operator_containers import removable
from kernel.agent.state import AgentState, Ending
from kernel.agent.views import statistics
from kernel.agent.views.parts import all_frameworks, container_status, containers, executors, shown_resources, task_message
from kernel.wire import agent_operator as api
from kernel.wire import codec
from kernel.wire.common import TimeInfo
from kernel.wire.ids import UUID, AgentID, ContainerID, FrameworkID
from kernel.wire.nodes import AgentInfo
from kernel.wire.offer import TrackedOperation


def get_tasks(state: AgentState) -> api.GetTasks:
    live = [task for framework in state.frameworks.values() for task in framework.tasks.values()]
    return api.GetTasks(
        queued_tasks=tuple(task_message(task) for task in live if not task.terminal and not task.delivered),
        launched_tasks=tuple(task_message(task) for task in live if not task.terminal and task.delivered),
        terminated_tasks=tuple(task_message(task) for task in live if task.terminal),
        completed_tasks=tuple(task_message(task) for framework in all_frameworks(state) for task in framework.completed_tasks),
    )


def get_executors(state: AgentState) -> api.GetExecutors:
    live: list[api.Executor] = []
    ended: list[api.Executor] = []
    for framework in all_frameworks(state):
        running, completed = executors(state, framework)
        live += [api.Executor(executor.info) for executor in running]
        ended += [api.Executor(executor.info) for executor in completed]
    return api.GetExecutors(tuple(live), tuple(ended))


def get_frameworks(state: AgentState) -> api.GetFrameworks:
    return api.GetFrameworks(
        tuple(api.Framework(framework.info) for framework in state.frameworks.values()),
        tuple(api.Framework(framework.info) for framework in state.completed_frameworks),
    )


def get_state(state: AgentState) -> api.GetState:
    return api.GetState(get_tasks(state), get_executors(state), get_frameworks(state))


def get_operations(state: AgentState) -> api.GetOperations:
    agent_id = AgentID(state.agent_id)
    return api.GetOperations(
        tuple(
            TrackedOperation(
                each.info,
                each.status,
                UUID(each.uuid),
                FrameworkID(each.framework_id) if each.framework_id else None,
                agent_id,
                (each.status,),
            )
            for each in state.operations.values()
        )
    )


def agent_info(state: AgentState) -> AgentInfo:
    config, node = state.config, state.node
    known = AgentID(state.agent_id) if state.agent_id else None
    return AgentInfo(config.public_hostname, config.public_port, shown_resources(node.resources), node.attributes, known, node.domain)


def get_agent(state: AgentState) -> api.GetAgent:
    drain = state.drain
    if drain is None:
        return api.GetAgent(agent_info(state))
    return api.GetAgent(agent_info(state), drain.config, TimeInfo(int(drain.since_wall_s * 1e9)))


def get_containers(state: AgentState, arguments: tuple[api.GetContainersCall | None, statistics.Usages]) -> bytes:
    """The containers of executors; with show_nested those of tasks inside default executors, and what operators launched beside them;
    with show_standalone what they launched alone."""
    call, usages = arguments
    found = []
    for running in containers(state):
        container_id = ContainerID(running.container_id)
        ids = FrameworkID(running.framework.framework_id), running.info.executor_id
        used = statistics.of_executor(state, running, usages)
        found.append(api.Container(container_id, *ids, running.name, container_status(container_id, running.pid), used))
        if call is None or not call.show_nested:
            continue
        of = {"framework_id": ids[0], "executor_id": ids[1], "executor_name": running.name}
        for task in running.tasks:
            if task.container_id not in ("", running.container_id):
                nested = ContainerID(task.container_id, container_id)
                status = container_status(nested, task.run.pid if task.run is not None else None)
                used = statistics.of_task(state, task, usages)
                found.append(api.Container(ContainerID(task.container_id), *ids, running.name, status, used))
                found += _of_operators(state, f"{running.container_id}.{task.container_id}", nested, of)
        found += _of_operators(state, running.container_id, container_id, of)
    if call is not None and call.show_standalone:
        found += _standalone(state, bool(call.show_nested), usages)
    return codec.encode(api.Response("GET_CONTAINERS", get_containers=api.GetContainers(tuple(found))))


def _of_operators(state: AgentState, inside: str, outer: ContainerID, of: Mapping[str, Any]) -> list[api.Container]:
    """Those that operators launched inside of a container, and inside of those. outer: its id; of: the fields that say whose it is."""
    shown = []
    for found in state.operator_containers.values():
        if found.parent == inside and found.ending is None:
            leaf, container_id = ContainerID(found.container_id), ContainerID(found.container_id, outer)
            shown.append(api.Container(leaf, container_status=container_status(container_id, found.pid), **of))
            shown += _of_operators(state, found.name, container_id, of)
    return shown


def _standalone(state: AgentState, nested: bool, usages: statistics.Usages) -> list[api.Container]:
    shown = []
    for found in state.operator_containers.values():
        if not found.parent and found.ending is None:
            container_id = ContainerID(found.container_id)
            used = statistics.of_standalone(state, found, usages)
            shown.append(api.Container(container_id, container_status=container_status(container_id, found.pid), resource_statistics=used))
            if nested:
                shown += _of_operators(state, found.name, container_id, {})
    return shown


def container(state: AgentState, name: str) -> Ending | None:
    """How a container ended, None while it has not. Raises NotFound."""
    found = state.operator_containers.get(name)
    if found is not None:
        return found.ending
    state.find_container(name)
    return None


def removable_sandbox(state: AgentState, name: str) -> str:
    """The sandbox of an operator's container that may be removed. Raises NotFound, Conflict."""
    return operator_container(state, removable(state, name)).directory


def _response(part: str, make: Callable[[AgentState], Any]) -> Callable[[AgentState, Any], bytes]:
    kind = part.upper()
    return lambda state, _: codec.encode(api.Response(kind, **{part: make(state)}))


VIEWS: dict[str, Callable[[AgentState, Any], Any]] = {
    "get_state": _response("get_state", get_state),
    "get_tasks": _response("get_tasks", get_tasks),
    "get_executors": _response("get_executors", get_executors),
    "get_frameworks": _response("get_frameworks", get_frameworks),
    "get_operations": _response("get_operations", get_operations),
    "get_agent": _response("get_agent", get_agent),
    "get_resource_providers": _response("get_resource_providers", lambda _: api.GetResourceProviders()),
    "get_containers": get_containers,
    "processes": statistics.processes,
    "place": place,
    "attachable": below_executor,
    "container": container,
    "removable": removable_sandbox,
}
