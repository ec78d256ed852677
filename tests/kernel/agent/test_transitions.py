"""The agent's tables: a row for each state, no way out of an end, everything reachable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from kernel.agent.transitions import EXECUTOR_NEXT, TASK_NEXT, ExecutorState, may_follow
from kernel.wire.task import TERMINAL, TaskState

NOT_OURS = {TaskState.TASK_UNREACHABLE, TaskState.TASK_UNKNOWN}  # The master's words.


def reachable(table: Mapping[Any, frozenset[Any]], start: Any) -> set[Any]:
    found, todo = {start}, [start]
    while todo:
        for state in table[todo.pop()] - found:
            found.add(state)
            todo.append(state)
    return found


def test_every_task_state_of_ours_has_a_row_and_can_be_reached() -> None:
    assert set(TASK_NEXT) == set(TaskState) - NOT_OURS
    assert reachable(TASK_NEXT, TaskState.TASK_STAGING) == set(TASK_NEXT)


def test_nothing_follows_a_terminal_state() -> None:
    assert {state for state, following in TASK_NEXT.items() if not following} == TERMINAL


@pytest.mark.parametrize("current", [state for state in TaskState if state in TASK_NEXT])
@pytest.mark.parametrize("reported", list(TaskState))
def test_every_pair(current: TaskState, reported: TaskState) -> None:
    """An end may follow any live state; a live state never comes back after KILLING."""
    if current in TERMINAL or reported in NOT_OURS or reported is TaskState.TASK_STAGING:
        assert not may_follow(current, reported)
    elif reported in TERMINAL:
        assert may_follow(current, reported)
    else:
        order = [TaskState.TASK_STAGING, TaskState.TASK_STARTING, TaskState.TASK_RUNNING, TaskState.TASK_KILLING]
        assert may_follow(current, reported) is (order.index(reported) >= order.index(current))


def test_executors_end_and_stay_ended() -> None:
    assert set(EXECUTOR_NEXT) == set(ExecutorState)
    assert EXECUTOR_NEXT[ExecutorState.TERMINATED] == frozenset()
    assert all(ExecutorState.TERMINATED in EXECUTOR_NEXT[state] for state in ExecutorState if state is not ExecutorState.TERMINATED)
    starts = reachable(EXECUTOR_NEXT, ExecutorState.REGISTERING) | reachable(EXECUTOR_NEXT, ExecutorState.REREGISTERING)
    assert starts == set(ExecutorState)
