"""How a task ended, as a shell would put it."""

from __future__ import annotations

import signal

import pytest

from frameworks.sdk.exits import COULD_NOT_RUN, exit_status, signal_number
from kernel.wire.ids import TaskID
from kernel.wire.task import Reason, TaskState, TaskStatus

FINISHED, FAILED, KILLED = TaskState.TASK_FINISHED, TaskState.TASK_FAILED, TaskState.TASK_KILLED


@pytest.mark.parametrize(
    ("state", "message", "expected"),
    [
        (FINISHED, "Command exited with status 0", 0),
        (FAILED, "Command exited with status 42", 42),
        (FAILED, "Command terminated with signal Killed", 137),
        (FAILED, "Command terminated with signal SIGSEGV", 139),
        (FAILED, "Command terminated with signal 15", 143),
        (KILLED, "Command terminated with signal Terminated", 143),
        (KILLED, None, 143),
        (FAILED, "Failed to launch container: no such user", COULD_NOT_RUN),
        (TaskState.TASK_ERROR, "Task uses more resources than are offered", COULD_NOT_RUN),
        (TaskState.TASK_GONE, "the agent is gone", COULD_NOT_RUN),
    ],
)
def test_exit_statuses_are_those_of_a_shell(state: TaskState, message: str | None, expected: int) -> None:
    assert exit_status(TaskStatus(TaskID("t"), state, message=message)) == expected


def test_what_a_program_that_fetched_for_it_exited_with_is_not_the_tasks() -> None:
    message = "Failed to launch container: Failed to fetch hdfs://h/a: hadoop exited with status 1"
    status = TaskStatus(TaskID("t"), FAILED, message=message, reason=Reason.REASON_CONTAINER_LAUNCH_FAILED)
    assert exit_status(status) == COULD_NOT_RUN


@pytest.mark.parametrize("known", [number for number in signal.Signals if signal.strsignal(number)])
def test_signals_are_known_by_every_name(known: signal.Signals) -> None:
    text = signal.strsignal(known)
    assert text is not None
    assert {signal_number(name) for name in (known.name, text, str(int(known)))} == {int(known)}
