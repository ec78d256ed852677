"""The agent's side of its link: registering, heartbeats, silence, leaving."""

from __future__ import annotations

import pytest

from kernel.agent.effects import (
    AgentNamed,
    CloseMasterLink,
    KnownContainer,
    LauncherState,
    Leave,
    MasterConnected,
    MasterLost,
    SignalContainer,
    Stop,
)
from kernel.supervisor import STOP_WITHIN_S
from kernel.wire.agent import (
    AgentHeartbeat,
    ExecutorExited,
    FrameworkUpdated,
    Goodbye,
    KillTask,
    MasterHeartbeat,
    ReconcileTasks,
    Register,
    Registered,
    RunTask,
    ShutdownAgent,
)
from kernel.wire.framework import FrameworkCapability
from kernel.wire.task import ExecutorType, Reason, TaskState
from tests.builders import executor
from tests.kernel.agent.desk import AGENT_ID, CONFIG, Desk, command, framework, register, running

NOBODY = framework("idle")


def test_an_agent_registers_only_when_it_knows_what_runs_on_it() -> None:
    desk = Desk()
    desk.give(MasterConnected())
    assert desk.sent == []
    desk.give(LauncherState(()))
    (message,) = desk.take_sent(Register)
    assert (message.agent_id, message.run, message.hostname, message.port) == ("", "run-1", "127.0.0.1", 5051)
    desk.master(Registered(AGENT_ID, "master", 3.0, 9.0))
    assert desk.all(AgentNamed) == [AgentNamed(AGENT_ID)]
    again = desk.restart()
    again.give(LauncherState(()))
    again.give(MasterConnected())
    assert again.take_sent(Register)[0].agent_id == AGENT_ID


def test_a_registration_tells_everything() -> None:
    desk = running()
    desk.run_task(command("t"))
    desk.run_group(executor("e", type=ExecutorType.DEFAULT, command=None), command("g"))
    done = desk.run_task(command("done"))
    desk.exited(done, 0)
    desk.acknowledge_all()
    waiting = desk.run_task(command("waiting"))
    desk.exited(waiting, 0)
    desk.give(MasterLost())
    desk.give(MasterConnected())
    (message,) = desk.take_sent(Register)
    told = {
        report.task.task_id.value: (report.state, report.executor_id, report.status and report.status.state) for report in message.tasks
    }
    starting = TaskState.TASK_STARTING
    assert told == {"t": (starting, "", starting), "g": (starting, "e", starting), "waiting": (TaskState.TASK_FINISHED, "", starting)}
    assert [report.executor.executor_id.value for report in message.executors] == ["e"]
    assert [info.id.value for info in message.frameworks if info.id] == ["f"]


def test_a_framework_without_anything_here_is_forgotten_with_the_link() -> None:
    desk = running()
    desk.master(FrameworkUpdated(NOBODY))
    assert "frameworks/idle" in desk.store
    desk.give(MasterLost())
    assert [key for key in desk.store if key.startswith("frameworks/")] == []


def test_heartbeats_flow_and_silence_ends_the_link() -> None:
    desk = running()
    for _ in range(4):
        desk.tick(3)
        assert desk.take_sent(AgentHeartbeat) == [AgentHeartbeat()]
        desk.master(MasterHeartbeat())
    desk.tick(8.9)
    assert desk.all(CloseMasterLink) == []
    desk.tick(0.2)
    assert len(desk.all(CloseMasterLink)) == 1
    desk.tick(100)
    assert desk.all(CloseMasterLink) == []


def test_a_master_that_does_not_answer_a_registration_loses_the_link() -> None:
    desk = Desk()
    desk.give(LauncherState(()))
    desk.give(MasterConnected())
    desk.tick(10)
    assert len(desk.all(CloseMasterLink)) == 1


@pytest.mark.parametrize(
    "message", [RunTask("f", command("t"), True), KillTask("f", "t"), Registered("another", "m", 1.0, 1.0), FrameworkUpdated(framework(""))]
)
def test_a_master_that_breaks_the_rules_loses_the_link(message: object) -> None:
    desk = running()
    if isinstance(message, RunTask | KillTask):
        desk.give(MasterLost())
        desk.give(MasterConnected())
    elif isinstance(message, FrameworkUpdated):
        message = RunTask("f", command("../../etc"), True)
    desk.master(message)
    assert len(desk.all(CloseMasterLink)) == 1
    assert set(desk.store) <= {"agent", "frameworks/f"}


def test_a_repeated_registered_changes_nothing() -> None:
    desk = running()
    desk.run_task(command("t"))
    desk.updates()
    desk.master(Registered(AGENT_ID, "master", 3.0, 9.0))
    assert desk.updates() == []


def test_tasks_the_master_believes_here_are_denied() -> None:
    desk = running()
    desk.run_task(command("t"))
    desk.updates()
    desk.master(ReconcileTasks((("f", "t"), ("f", "lost"), ("stranger", "x"))))
    statuses = desk.updates()
    assert [status.task_id.value for status in statuses] == ["lost", "x"]
    assert {(status.state, status.reason) for status in statuses} == {(TaskState.TASK_LOST, Reason.REASON_RECONCILIATION)}
    desk.give(MasterLost())
    register(desk)
    assert [status.task_id.value for status in desk.updates()] == ["t"]  # Denied again only when asked again.


def test_sigterm_leaves_everything_as_it_is() -> None:
    desk = running()
    desk.run_task(command("t"))
    desk.give(Stop(False))
    assert desk.take_sent(Goodbye) == [Goodbye(False)]
    assert desk.all(Leave) == [Leave(0, "stopped as asked; tasks go on")]
    assert desk.all(SignalContainer) == []
    assert "tasks/f/t" in desk.store


@pytest.mark.parametrize("expelled", [True, False])
def test_leaving_for_good_ends_everything_first_and_the_next_start_is_a_new_agent(expelled: bool) -> None:
    desk = running()
    container = desk.run_task(command("t"))
    if expelled:
        desk.master(ShutdownAgent("marked gone"))
    else:
        desk.give(Stop(True))
    assert [effect.container_id for effect in desk.all(SignalContainer)] == [container]
    assert desk.all(Leave) == []
    killed_meanwhile = desk.restart()
    desk.sent.clear()
    desk.exited(container, 15)
    desk.tick(0.25)
    (leave,) = desk.all(Leave)
    assert leave.kill_all
    assert leave.status == (1 if expelled else 0)
    assert desk.updates() == []
    assert desk.take_sent(Goodbye) == ([] if expelled else [Goodbye(True)])
    for again in (desk.restart(), killed_meanwhile):
        again.give(LauncherState((KnownContainer("left-over", 9),)))
        assert [effect.container_id for effect in again.all(SignalContainer)] == ["left-over"]
        assert again.store == {}
        again.give(MasterConnected())
        (message,) = again.take_sent(Register)
        assert (message.agent_id, message.tasks) == ("", ())


def test_leaving_empty_ends_the_tasks_tells_how_and_comes_back_as_the_same_agent() -> None:
    desk = running()
    container = desk.run_task(command("t"))
    desk.started(container)
    desk.acknowledge_all()
    desk.give(Stop(False, end_tasks=True))
    assert [effect.container_id for effect in desk.all(SignalContainer)] == [container]
    assert desk.all(Leave) == []
    assert desk.take_sent(Goodbye) == [Goodbye(False)], "nothing more is to be offered here"
    desk.exited(container, 15)
    assert desk.acknowledge_all() == [TaskState.TASK_KILLED]
    desk.tick(0.25)
    (leave,) = desk.all(Leave)
    assert (leave.status, leave.kill_all) == (0, True)
    assert desk.take_sent(Goodbye) == [Goodbye(False)]
    again = desk.restart()
    again.give(LauncherState(()))
    again.give(MasterConnected())
    (message,) = again.take_sent(Register)
    assert (message.agent_id, message.tasks) == (AGENT_ID, ())


@pytest.mark.parametrize("final", [True, False])
def test_what_is_to_start_while_it_leaves_is_refused_at_once_and_that_is_acknowledged_first(final: bool) -> None:
    desk = running(CONFIG, framework("f", FrameworkCapability.PARTITION_AWARE), framework("g"))
    container = desk.run_task(command("t"))
    desk.started(container)
    desk.acknowledge_all()
    desk.give(Stop(final, end_tasks=True))
    desk.exited(container, 15)
    desk.acknowledge_all()
    assert desk.run_task(command("late")) == ""
    assert desk.run_group(executor("d", type=ExecutorType.DEFAULT, command=None), command("l1"), command("l2"), framework_id="g") == []
    assert desk.take_sent(ExecutorExited) == [ExecutorExited("g", "d", -1)]
    refused = desk.updates()
    states = {status.task_id.value: (status.state, status.reason) for status in refused}
    reason = Reason.REASON_AGENT_DRAINING
    dropped = TaskState.TASK_LOST if final else TaskState.TASK_DROPPED  # By then the framework is no longer known, nor what it can be told.
    assert states == {"late": (dropped, reason), "l1": (TaskState.TASK_LOST, reason), "l2": (TaskState.TASK_LOST, reason)}
    desk.tick(0.25)
    assert desk.all(Leave) == []
    for status in refused:
        desk.acknowledge(status, "f" if status.task_id.value == "late" else "g")
    desk.tick(0.25)
    assert len(desk.all(Leave)) == 1


def test_a_launch_that_is_repeated_while_it_leaves_is_no_new_one() -> None:
    desk = running()
    desk.started(desk.run_task(command("t")))
    desk.acknowledge_all()
    desk.give(Stop(False, end_tasks=True))
    desk.run_task(command("t"))
    assert desk.updates() == []


def test_a_new_master_hears_that_it_leaves_too() -> None:
    desk = running()
    desk.run_task(command("t"))
    desk.give(Stop(True))
    desk.give(MasterLost())
    desk.take_sent(Goodbye)
    register(desk)
    assert desk.take_sent(Goodbye) == [Goodbye(False)]


def test_what_nobody_acknowledges_is_owed_by_the_next_start() -> None:
    desk = running()
    container = desk.run_task(command("t"))
    desk.started(container)
    desk.give(Stop(False, end_tasks=True))
    desk.exited(container, 15)
    desk.tick(0.25)
    assert desk.all(Leave) == []
    desk.tick(1)
    assert len(desk.all(Leave)) == 1
    again = desk.restart()
    again.give(LauncherState(()))
    register(again)
    assert again.acknowledge_all() == [TaskState.TASK_STARTING, TaskState.TASK_RUNNING, TaskState.TASK_KILLED]


def test_who_is_killed_while_it_ends_its_tasks_goes_on_with_that() -> None:
    desk = running()
    container = desk.run_task(command("t"))
    desk.started(container)
    desk.give(Stop(False, end_tasks=True))
    again = desk.restart()
    again.give(LauncherState((KnownContainer(container, 77),)))
    assert [effect.container_id for effect in again.all(SignalContainer)] == [container]


def test_leaving_does_not_wait_for_ever() -> None:
    """Nor for as long as the supervisor of an embedded cluster does, who would kill the agent and leave the tasks to its next start."""
    desk = running()
    desk.run_task(command("t"))
    desk.give(Stop(True))
    desk.tick(24)
    assert desk.all(Leave) == []
    desk.tick(STOP_WITHIN_S - 24 - 3)
    assert len(desk.all(Leave)) == 1


@pytest.mark.parametrize("agent_id", ["", ".", "..", "../../etc", "/etc", "a/b", "a\\b", "a\0b", "a\nb", "x" * 256, "latest"])
def test_a_name_that_could_lead_elsewhere_is_not_taken(agent_id: str) -> None:
    desk = Desk()
    desk.give(LauncherState(()))
    desk.give(MasterConnected())
    desk.master(Registered(agent_id, "master", 3.0, 9.0))
    assert desk.all(AgentNamed) == []
    assert len(desk.all(CloseMasterLink)) == 1
    assert (desk.core.state.agent_id, desk.core.state.registered, desk.store) == ("", False, {})


@pytest.mark.parametrize("seconds", [(0.0, 9.0), (-1.0, 9.0), (float("nan"), 9.0), (3.0, float("nan")), (3.0, float("inf")), (3.0, 0.0)])
def test_heartbeats_must_make_sense(seconds: tuple[float, float]) -> None:
    desk = Desk()
    desk.give(LauncherState(()))
    desk.give(MasterConnected())
    desk.master(Registered(AGENT_ID, "master", *seconds))
    assert len(desk.all(CloseMasterLink)) == 1
    assert not desk.core.state.registered


@pytest.mark.parametrize("framework_id", ["", "..", "a/b", "a\0"])
def test_a_framework_whose_id_could_lead_elsewhere_is_not_kept(framework_id: str) -> None:
    desk = running()
    before = dict(desk.store)
    desk.master(FrameworkUpdated(framework(framework_id)))
    assert len(desk.all(CloseMasterLink)) == 1
    assert desk.store == before
