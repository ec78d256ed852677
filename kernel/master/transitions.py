"""The life cycles the master keeps, as tables (spec: mesos-v1, sections 2.4 and 8.10)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from kernel.wire.task import TERMINAL, TaskState

# TASK_UNKNOWN is only ever an answer to a reconciliation, never the state of a task.
_LIVE = frozenset({TaskState.TASK_STARTING, TaskState.TASK_RUNNING, TaskState.TASK_KILLING})
NEXT: Mapping[TaskState, frozenset[TaskState]] = {
    TaskState.TASK_STAGING: TERMINAL | _LIVE | {TaskState.TASK_UNREACHABLE},
    TaskState.TASK_STARTING: TERMINAL | _LIVE | {TaskState.TASK_UNREACHABLE},
    TaskState.TASK_RUNNING: TERMINAL | {TaskState.TASK_RUNNING, TaskState.TASK_KILLING, TaskState.TASK_UNREACHABLE},
    TaskState.TASK_KILLING: TERMINAL | {TaskState.TASK_KILLING, TaskState.TASK_UNREACHABLE},
    TaskState.TASK_UNREACHABLE: TERMINAL | _LIVE | {TaskState.TASK_STAGING, TaskState.TASK_UNREACHABLE},  # Its agent may return.
    **dict.fromkeys(TERMINAL, frozenset()),
}

# What an agent may say of a task of its own.
REPORTABLE = frozenset(NEXT) - {TaskState.TASK_UNREACHABLE}


def advance(current: TaskState, reported: TaskState) -> TaskState:
    """Return the state after a report. What the table does not allow is old news (agents resend until
    acknowledged, and an update may overtake a registration): the current state stays."""
    return reported if reported in NEXT[current] else current


class FrameworkState(Enum):
    """Where a framework's session stands."""

    ACTIVE = "active"  # Subscribed; gets offers.
    DISCONNECTED = "disconnected"  # Its stream closed; waited for until its failover timeout.
    RECOVERED = "recovered"  # Known from the registry or from agents; not subscribed to this master yet.
    REMOVED = "removed"  # Torn down or timed out; its id never comes back.


FRAMEWORK_NEXT: Mapping[FrameworkState, frozenset[FrameworkState]] = {
    FrameworkState.ACTIVE: frozenset({FrameworkState.ACTIVE, FrameworkState.DISCONNECTED, FrameworkState.REMOVED}),
    FrameworkState.DISCONNECTED: frozenset({FrameworkState.ACTIVE, FrameworkState.REMOVED}),
    FrameworkState.RECOVERED: frozenset({FrameworkState.ACTIVE, FrameworkState.REMOVED}),
    FrameworkState.REMOVED: frozenset(),
}


class AgentState(Enum):
    """Where an agent's session stands."""

    RECOVERED = "recovered"  # Known from the registry; has not registered with this master yet.
    REGISTERED = "registered"  # Linked; its free resources are offered.
    DISCONNECTED = "disconnected"  # Its link broke; nothing is offered; waited for.
    UNREACHABLE = "unreachable"  # Waited for in vain; may come back with its tasks.
    GONE = "gone"  # Declared gone by an operator, replaced by a new one, or it left for good; never comes back under this id.


AGENT_NEXT: Mapping[AgentState, frozenset[AgentState]] = {
    AgentState.RECOVERED: frozenset({AgentState.REGISTERED, AgentState.UNREACHABLE, AgentState.GONE}),
    AgentState.REGISTERED: frozenset({AgentState.REGISTERED, AgentState.DISCONNECTED, AgentState.UNREACHABLE, AgentState.GONE}),
    AgentState.DISCONNECTED: frozenset({AgentState.REGISTERED, AgentState.UNREACHABLE, AgentState.GONE}),
    AgentState.UNREACHABLE: frozenset({AgentState.REGISTERED, AgentState.GONE}),
    AgentState.GONE: frozenset(),
}
