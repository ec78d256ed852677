"""The life of a command task: every event in every phase, with and without a kill."""

from __future__ import annotations

import signal

import pytest

from kernel.executor.command import NEXT, Action, CommandRun, Kill, KillCause, Phase, Report, SendSignal, describe
from kernel.wire.task import Reason, Source, TaskState

REQUEST = Kill(KillCause.REQUEST, 10.0, 3.0)


def in_phase(phase: Phase, kill: Kill | None = None) -> CommandRun:
    run = CommandRun()
    if kill is not None:
        run.end(kill, announce=False)
    if phase is not Phase.LAUNCHING:
        run.started(7)
    if phase is Phase.ENDED:
        run.exited(0)
    return run


def states(actions: list[Action]) -> list[TaskState]:
    return [action.state for action in actions if isinstance(action, Report)]


def signals(actions: list[Action]) -> list[int]:
    return [action.number for action in actions if isinstance(action, SendSignal)]


def test_every_phase_has_its_row_and_only_the_last_has_no_way_out() -> None:
    assert set(NEXT) == set(Phase)
    assert [phase for phase in Phase if not NEXT[phase]] == [Phase.ENDED]
    assert all(phase not in NEXT[phase] for phase in Phase)


@pytest.mark.parametrize(
    ("status", "state", "message"),
    [
        (0, TaskState.TASK_FINISHED, "Command exited with status 0"),
        (3 << 8, TaskState.TASK_FAILED, "Command exited with status 3"),
        (int(signal.SIGSEGV) | 0x80, TaskState.TASK_FAILED, "Command terminated with signal Segmentation fault"),
        (int(signal.SIGKILL), TaskState.TASK_FAILED, "Command terminated with signal Killed"),
        (None, TaskState.TASK_FAILED, "exit status unknown"),
    ],
)
def test_an_exit_is_told_as_it_was(status: int | None, state: TaskState, message: str) -> None:
    run = in_phase(Phase.RUNNING)
    assert run.exited(status) == [Report(state, message)]
    assert describe(status) == message


def test_a_process_that_was_never_seen_to_start_may_have_ended() -> None:
    assert states(in_phase(Phase.LAUNCHING).exited(0)) == [TaskState.TASK_FINISHED]


@pytest.mark.parametrize("phase", list(Phase))
def test_a_kill_in_any_phase(phase: Phase) -> None:
    run = in_phase(phase)
    actions = run.end(REQUEST, announce=True)
    if phase is Phase.ENDED:
        assert actions == []
        return
    assert states(actions) == [TaskState.TASK_KILLING]
    assert signals(actions) == [signal.SIGTERM]
    assert run.kill_due_s == 13.0
    assert run.expire(12.9) == []
    assert run.expire(13.0) == [SendSignal(signal.SIGKILL)]
    assert run.expire(14.0) == []
    assert states(run.started(7)) == []  # No RUNNING after KILLING.
    assert states(run.exited(0)) == [TaskState.TASK_KILLED]  # Though it exited with 0.


def test_without_the_capability_killing_is_not_told() -> None:
    assert states(in_phase(Phase.RUNNING).end(REQUEST, announce=False)) == []


@pytest.mark.parametrize(("grace_s", "due_s"), [(1.0, 11.0), (3.0, 13.0), (60.0, 13.0), (0.0, 10.0)])
def test_a_second_kill_can_only_shorten_the_grace_counted_from_the_first(grace_s: float, due_s: float) -> None:
    run = in_phase(Phase.RUNNING, REQUEST)
    assert run.end(Kill(KillCause.REQUEST, 12.0, grace_s), announce=True) == []
    assert run.kill_due_s == due_s


def test_running_too_long_fails_the_task_at_once() -> None:
    run = in_phase(Phase.RUNNING)
    assert run.end(Kill(KillCause.COMPLETION_TIME, 10.0, 0.0), announce=True) == []
    assert run.expire(10.0) == [SendSignal(signal.SIGKILL)]
    (report,) = run.exited(int(signal.SIGKILL))
    assert isinstance(report, Report)
    assert (report.state, report.reason) == (TaskState.TASK_FAILED, Reason.REASON_MAX_COMPLETION_TIME_REACHED)


def test_a_failed_launch_is_the_agents_news() -> None:
    (report,) = CommandRun().failed("no such file")
    assert report == Report(
        TaskState.TASK_FAILED,
        "Failed to launch container: no such file",
        Reason.REASON_CONTAINER_LAUNCH_FAILED,
        Source.SOURCE_AGENT,
    )
    assert states(in_phase(Phase.LAUNCHING, REQUEST).failed("x")) == [TaskState.TASK_KILLED]


@pytest.mark.parametrize("event", ["started", "exited", "failed", "end"])
def test_nothing_follows_the_end(event: str) -> None:
    run = in_phase(Phase.ENDED)
    argument: object = {"started": 7, "exited": 0, "failed": "x", "end": REQUEST}[event]
    assert (run.end(REQUEST, True) if event == "end" else getattr(run, event)(argument)) == []
    assert run.kill_due_s is None


def test_a_second_start_is_no_news() -> None:
    assert in_phase(Phase.RUNNING).started(8) == []
