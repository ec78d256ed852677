"""The life cycles an agent keeps, as tables (spec: mesos-v1, sections 3.5, 3.6 and 8.10)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from kernel.wire.task import TERMINAL, TaskState

# What an agent makes or takes from an executor; TASK_UNREACHABLE and TASK_UNKNOWN are the master's words.
TASK_NEXT: Mapping[TaskState, frozenset[TaskState]] = {
    TaskState.TASK_STAGING: TERMINAL | {TaskState.TASK_STARTING, TaskState.TASK_RUNNING, TaskState.TASK_KILLING},
    TaskState.TASK_STARTING: TERMINAL | {TaskState.TASK_STARTING, TaskState.TASK_RUNNING, TaskState.TASK_KILLING},
    TaskState.TASK_RUNNING: TERMINAL | {TaskState.TASK_RUNNING, TaskState.TASK_KILLING},
    TaskState.TASK_KILLING: TERMINAL | {TaskState.TASK_KILLING},
    **dict.fromkeys(TERMINAL, frozenset()),
}


def may_follow(current: TaskState, reported: TaskState) -> bool:
    """Whether a report is news. If not (late, doubled, after the end) it is dropped, never an error."""
    return reported in TASK_NEXT[current]


class ExecutorState(Enum):
    """Where an executor stands."""

    REGISTERING = "registering"  # Its process was started; it never subscribed.
    RUNNING = "running"  # It has subscribed (its stream may be broken at the moment).
    REREGISTERING = "reregistering"  # It ran when the agent stopped; waited for.
    TERMINATING = "terminating"  # It was told to shut down, or its container is being destroyed.
    TERMINATED = "terminated"  # Its process is gone.


EXECUTOR_NEXT: Mapping[ExecutorState, frozenset[ExecutorState]] = {
    ExecutorState.REGISTERING: frozenset({ExecutorState.RUNNING, ExecutorState.TERMINATING, ExecutorState.TERMINATED}),
    ExecutorState.RUNNING: frozenset({ExecutorState.RUNNING, ExecutorState.TERMINATING, ExecutorState.TERMINATED}),
    ExecutorState.REREGISTERING: frozenset({ExecutorState.RUNNING, ExecutorState.TERMINATING, ExecutorState.TERMINATED}),
    ExecutorState.TERMINATING: frozenset({ExecutorState.TERMINATED}),
    ExecutorState.TERMINATED: frozenset(),
}
