"""What the tasks of a group owe each other, and when their executor is done."""

from __future__ import annotations

import pytest

from kernel.executor.default import LINGER_S, brings_group_down, is_done
from kernel.wire.task import TERMINAL, TaskState


@pytest.mark.parametrize("state", sorted(TERMINAL, key=lambda state: state.value))
def test_only_a_finished_task_spares_its_group(state: TaskState) -> None:
    assert brings_group_down(state) is (state is not TaskState.TASK_FINISHED)


@pytest.mark.parametrize(
    ("live", "unacknowledged", "idle_s", "done"),
    [(1, 0, 0.0, False), (1, 3, LINGER_S, False), (0, 1, LINGER_S - 1, False), (0, 1, LINGER_S, True), (0, 0, 0.0, True)],
)
def test_an_executor_ends_when_it_has_nothing_left_to_do(live: int, unacknowledged: int, idle_s: float, done: bool) -> None:
    assert is_done(live, unacknowledged, idle_s) is done
