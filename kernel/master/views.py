"""Reads of the master's state: what each view answers. Pure; runs inside the main loop, between two inputs.

A view is rendered as JSON in fragments, which the edge joins and sends in pieces; metrics are numbers by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernel.errors import NotSupported
from kernel.master import render as messages
from kernel.master.state import MasterState
from kernel.master.transitions import AgentState
from kernel.wire import codec, operator
from kernel.wire.ids import AgentID

OPERATOR_HEARTBEAT_S = 15.0


def render(state: MasterState, name: str, arguments: Any) -> Any:
    """Answer a view by name; arguments: the query of a legacy endpoint. Raises NotSupported."""
    found = _VIEWS.get(name)
    if found is None:
        raise NotSupported(f"{name} is not built yet")
    return found(state, arguments)


def get_tasks(state: MasterState) -> operator.GetTasks:
    live = [*state.frameworks.values()]
    return operator.GetTasks(
        tasks=tuple(messages.task_message(task) for framework in live for task in framework.tasks.values()),
        unreachable_tasks=tuple(messages.task_message(task) for framework in live for task in framework.unreachable.values()),
        completed_tasks=tuple(
            messages.task_message(task) for framework in [*live, *state.completed.values()] for task in framework.completed
        ),
    )


def get_executors(state: MasterState) -> operator.GetExecutors:
    return operator.GetExecutors(
        tuple(
            operator.Executor(executor.info, AgentID(executor.agent_id))
            for framework in state.frameworks.values()
            for executor in framework.executors.values()
        )
    )


def get_frameworks(state: MasterState) -> operator.GetFrameworks:
    return operator.GetFrameworks(
        frameworks=tuple(map(messages.framework_message, state.frameworks.values())),
        completed_frameworks=tuple(map(messages.framework_message, state.completed.values())),
    )


def get_agents(state: MasterState) -> operator.GetAgents:
    return operator.GetAgents(
        agents=tuple(messages.agent_message(agent) for agent in state.agents.values() if agent.state is not AgentState.RECOVERED),
        recovered_agents=tuple(agent.info for agent in state.agents.values() if agent.state is AgentState.RECOVERED),
    )


def get_state(state: MasterState) -> operator.GetState:
    return operator.GetState(get_tasks(state), get_executors(state), get_frameworks(state), get_agents(state))


def get_master(state: MasterState) -> operator.GetMaster:
    started_s = state.started.wall_s if state.started is not None else None
    return operator.GetMaster(state.master, start_time=started_s, elected_time=started_s)


def subscribed(state: MasterState, arguments: Any) -> tuple[operator.Event, ...]:
    """The first events of an operator's stream."""
    body = operator.Subscribed(get_state(state), heartbeat_interval_seconds=OPERATOR_HEARTBEAT_S)
    return operator.Event("SUBSCRIBED", subscribed=body), operator.Event("HEARTBEAT")


def metrics(state: MasterState, arguments: Any) -> dict[str, float]:
    """Every number of /metrics/snapshot that is known."""
    numbers = {name: float(count) for name, count in state.counts.items() if name.startswith("master/")}
    agents = state.agents.values()
    numbers["master/elected"] = 1.0
    numbers["master/outstanding_offers"] = float(len(state.offers))
    numbers["master/slaves_active"] = float(sum(agent.state is AgentState.REGISTERED for agent in agents))
    numbers["master/slaves_unreachable"] = float(len(state.unreachable))
    numbers["master/frameworks_active"] = numbers["master/frameworks_connected"] = float(len(state.streams))
    numbers["master/frameworks_disconnected"] = float(len(state.frameworks) - len(state.streams))
    return numbers


def _response(part: str, make: Callable[[MasterState], Any]) -> Callable[[MasterState, Any], bytes]:
    kind = part.upper()
    return lambda state, arguments: codec.encode(operator.Response(kind, **{part: make(state)}))


_VIEWS: dict[str, Callable[[MasterState, Any], Any]] = {
    "get_state": _response("get_state", get_state),
    "get_tasks": _response("get_tasks", get_tasks),
    "get_executors": _response("get_executors", get_executors),
    "get_frameworks": _response("get_frameworks", get_frameworks),
    "get_agents": _response("get_agents", get_agents),
    "get_operations": _response("get_operations", lambda state: operator.GetOperations()),
    "get_master": _response("get_master", get_master),
    "subscribed": subscribed,
    "metrics": metrics,
}
