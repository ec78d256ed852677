"""Reads of the operator API (spec: mesos-v1, section 4.1), as JSON in fragments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, cast

from msgspec import Raw, Struct

from kernel.master import render
from kernel.master.state import Framework, MasterState, Task
from kernel.master.transitions import AgentState
from kernel.master.views.fragments import array, document, members
from kernel.master.views.roles import RoleSums, role_sums
from kernel.wire import operator
from kernel.wire.codec import encode
from kernel.wire.ids import AgentID, FrameworkID
from kernel.wire.resources import Resources
from kernel.wire.task import TaskState, TaskStatus

HEARTBEAT_S = 15.0

Fragments = Iterable[bytes]


# ---- Tasks, executors, frameworks, agents ---------------------------------------------------------------


class _TaskPicture(Struct, gc=False):
    task: Task
    state: TaskState
    statuses: tuple[TaskStatus, ...]
    sent: TaskStatus | None


def _tasks(tasks: Iterable[Task]) -> Iterator[bytes]:
    pictures = [_TaskPicture(task, task.state, task.statuses, task.sent) for task in tasks]
    return (encode(render.task_message_of(seen.task, seen.state, seen.statuses, seen.sent)) for seen in pictures)


def get_tasks(state: MasterState) -> Fragments:
    live = state.frameworks.values()
    known = (*live, *state.completed.values())
    return document(
        b"",
        [
            ("tasks", array(_tasks(_all(framework.tasks.values() for framework in live)))),
            ("unreachable_tasks", array(_tasks(_all(framework.unreachable.values() for framework in live)))),
            ("completed_tasks", array(_tasks(_all(framework.completed for framework in known)))),
        ],
    )


def _all(parts: Iterable[Iterable[Task]]) -> Iterator[Task]:
    return chain.from_iterable(parts)


def get_executors(state: MasterState) -> Fragments:
    executors = (executor for framework in state.frameworks.values() for executor in framework.executors.values())
    shown = [encode(operator.Executor(render.without_secrets(executor.info), AgentID(executor.agent_id))) for executor in executors]
    return document(b"", [("executors", array(shown))])


def get_frameworks(state: MasterState) -> Fragments:
    def shown(frameworks: Iterable[Framework]) -> list[bytes]:
        return [encode(render.framework_message(framework)) for framework in frameworks]

    return document(
        b"",
        [
            ("frameworks", array(shown(state.frameworks.values()))),
            ("completed_frameworks", array(shown(state.completed.values()))),
        ],
    )


def get_agents(state: MasterState) -> Fragments:
    known = [render.AgentPicture.of(agent) for agent in state.agents.values() if agent.state is not AgentState.RECOVERED]
    recovered = [agent.info for agent in state.agents.values() if agent.state is AgentState.RECOVERED]
    return document(
        b"",
        [
            ("agents", array(encode(render.agent_message(seen)) for seen in known)),
            ("recovered_agents", array(encode(info) for info in recovered)),
        ],
    )


def get_state(state: MasterState) -> Fragments:
    return document(
        b"",
        [
            ("get_tasks", get_tasks(state)),
            ("get_executors", get_executors(state)),
            ("get_frameworks", get_frameworks(state)),
            ("get_agents", get_agents(state)),
        ],
    )


def subscribed(state: MasterState, arguments: Any = None) -> tuple[operator.Event, ...]:
    """The first events of an operator's stream."""
    # Encoded already; the codec writes it as it is, wherever a message is due.
    body = cast("operator.GetState", Raw(b"".join(get_state(state))))
    return (
        operator.Event("SUBSCRIBED", subscribed=operator.Subscribed(body, heartbeat_interval_seconds=HEARTBEAT_S)),
        operator.Event("HEARTBEAT"),
    )


# ---- The rest -------------------------------------------------------------------------------------------


def _get_roles(state: MasterState) -> operator.GetRoles:
    return operator.GetRoles(tuple(map(_role, role_sums(state))))


def _role(sums: RoleSums) -> operator.Role:
    held = sums.allocated + sums.offered
    resources = Resources(held["cpus"], held["mem"], held["disk"], held["gpus"])
    return operator.Role(sums.name, sums.weight, tuple(map(FrameworkID, sums.frameworks)), resources.messages())


def _get_master(state: MasterState) -> operator.GetMaster:
    return operator.GetMaster(state.master, start_time=render.started_s(state), elected_time=render.started_s(state))


def _message(make: Callable[[MasterState], Any]) -> Callable[[MasterState], Fragments]:
    return lambda state: (encode(make(state)),)


def _response(part: str, make: Callable[[MasterState], Fragments]) -> Callable[[MasterState, Any], Fragments]:
    head = members({"type": part.upper()})
    return lambda state, arguments: document(head, [(part, make(state))])


# Quota, weights, reservations and maintenance cannot be set yet: nothing is what there is to tell.
VIEWS: dict[str, Callable[[MasterState, Any], Fragments]] = {
    part: _response(part, make)
    for part, make in {
        "get_state": get_state,
        "get_tasks": get_tasks,
        "get_executors": get_executors,
        "get_frameworks": get_frameworks,
        "get_agents": get_agents,
        "get_operations": _message(lambda state: operator.GetOperations()),
        "get_roles": _message(_get_roles),
        "get_weights": _message(lambda state: operator.GetWeights()),
        "get_master": _message(_get_master),
        "get_maintenance_status": _message(lambda state: operator.GetMaintenanceStatus(operator.ClusterStatus())),
        "get_maintenance_schedule": _message(lambda state: operator.GetMaintenanceSchedule(operator.Schedule())),
        "get_quota": _message(lambda state: operator.GetQuota(operator.QuotaStatus())),
    }.items()
}
