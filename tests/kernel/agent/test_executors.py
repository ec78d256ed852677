"""Custom executors: subscribing, tasks, updates, kills, shutdown, timeouts, and what becomes of their tasks."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from kernel.agent.effects import (
    CloseExecutorStream,
    ContainerFailed,
    ExecutorData,
    ExecutorStreamClosed,
    ExecutorUpdate,
    KnownContainer,
    LaunchContainer,
    LauncherState,
    LimitContainer,
    SignalContainer,
    SubscribeExecutor,
    ToExecutor,
)
from kernel.errors import CallError, Forbidden, Unavailable
from kernel.wire import executor as api
from kernel.wire.agent import ExecutorExited, ExecutorMessage, FrameworkMessage, KillTask, ShutdownExecutor, ShutdownFramework
from kernel.wire.command import URI, CommandInfo
from kernel.wire.common import DurationInfo
from kernel.wire.framework import FrameworkCapability
from kernel.wire.ids import ExecutorID, TaskID
from kernel.wire.task import ExecutorInfo, ExecutorType, KillPolicy, Reason, Source, TaskInfo, TaskState, TaskStatus
from tests.builders import executor
from tests.kernel.agent.desk import CONFIG, Desk, command, framework, register, running

CUSTOM = executor("e")
FETCHING = executor("e", command=CommandInfo(value="run-executor", uris=(URI("http://h/file"),)))


def of_executor(task_id: str, info: ExecutorInfo = CUSTOM) -> TaskInfo:
    return command(task_id, executor=info)


def subscribe(desk: Desk, *held: TaskInfo, updates: tuple[api.Update, ...] = (), stream: str = "s1") -> list[str | None]:
    """Subscribe the executor; returns the types of the events sent to it."""
    desk.give(SubscribeExecutor(stream, "f", "e", api.Subscribe(held, updates)))
    return events(desk)


def events(desk: Desk) -> list[str | None]:
    return [effect.event.type for effect in desk.all(ToExecutor)]


def status(task_id: str, state: TaskState, number: int = 1, **fields: Any) -> api.Update:
    fields.setdefault("uuid", number.to_bytes(16, "big"))
    fields.setdefault("source", Source.SOURCE_EXECUTOR)
    return api.Update(TaskStatus(TaskID(task_id), state, **fields))


def report(desk: Desk, update: api.Update) -> None:
    desk.give(ExecutorUpdate("f", "e", update))


def with_executor(*tasks: str, capabilities: tuple[FrameworkCapability, ...] = (), info: ExecutorInfo = CUSTOM) -> tuple[Desk, str]:
    """An executor that has subscribed and was given tasks; nothing of them was reported yet."""
    desk = running(CONFIG, framework("f", *capabilities))
    container = ""
    for task_id in tasks:
        container = desk.run_task(of_executor(task_id, info), launch_executor=not container) or container
    desk.started(container, 55)
    subscribe(desk)
    desk.sent.clear()
    return desk, container


# ---- Launching and subscribing --------------------------------------------------------------------------


def test_tasks_wait_until_their_executor_subscribes_and_then_come_in_order() -> None:
    desk = running()
    container = desk.run_task(of_executor("a"))
    desk.run_group(executor("e", type=ExecutorType.CUSTOM), of_executor("g1"), of_executor("g2"), launch_executor=False)
    desk.run_task(of_executor("b"), launch_executor=False)
    assert desk.all(LaunchContainer) == []
    assert subscribe(desk) == ["SUBSCRIBED", "LAUNCH", "LAUNCH", "LAUNCH_GROUP"]
    subscribed, a, b, group = (effect.event for effect in desk.all(ToExecutor))
    assert subscribed.subscribed.container_id.value == container
    assert subscribed.subscribed.executor_info == CUSTOM
    assert subscribed.subscribed.framework_info.id.value == "f"
    assert subscribed.subscribed.agent_info.id.value == "m-S1"
    assert (a.launch.task.task_id.value, b.launch.task.task_id.value) == ("a", "b")
    assert [info.task_id.value for info in group.launch_group.task_group.tasks] == ["g1", "g2"]
    desk.run_task(of_executor("c"), launch_executor=False)
    assert events(desk) == ["LAUNCH"]


def test_no_update_is_made_for_a_staging_task() -> None:
    desk, _ = with_executor("a")
    assert desk.updates() == []
    assert desk.core.state.frameworks["f"].tasks["a"].state is TaskState.TASK_STAGING


@pytest.mark.parametrize(("framework_id", "executor_id"), [("f", "unknown"), ("unknown", "e")])
def test_strangers_are_refused(framework_id: str, executor_id: str) -> None:
    desk, _ = with_executor("a")
    for message in (
        SubscribeExecutor("s9", framework_id, executor_id, api.Subscribe()),
        ExecutorUpdate(framework_id, executor_id, status("a", TaskState.TASK_RUNNING)),
        ExecutorData(framework_id, executor_id, b"x"),
    ):
        with pytest.raises(CallError):
            desk.give(message)


def test_who_has_not_subscribed_may_not_speak() -> None:
    desk = running()
    desk.run_task(of_executor("a"))
    with pytest.raises(Forbidden):
        report(desk, status("a", TaskState.TASK_RUNNING))
    with pytest.raises(Forbidden):
        desk.give(ExecutorData("f", "e", b"x"))


def test_what_is_wrong_in_itself_is_told_before_who_may_not_speak() -> None:
    desk = running()
    desk.run_task(of_executor("a"))
    for framework_id in ("f", "unknown"):
        with pytest.raises(CallError, match="uuid"):
            desk.give(ExecutorUpdate(framework_id, "e", status("a", TaskState.TASK_RUNNING, uuid=None)))


def test_until_the_agent_knows_what_runs_executors_are_put_off() -> None:
    desk, _ = with_executor("a")
    with pytest.raises(Unavailable):
        subscribe(desk.restart())


def test_a_second_stream_replaces_the_first() -> None:
    desk, _ = with_executor("a")
    assert subscribe(desk, of_executor("a"), stream="s2") == ["SUBSCRIBED"]
    assert desk.all(CloseExecutorStream) == [CloseExecutorStream("s1")]
    desk.give(ExecutorStreamClosed("s1"))
    desk.run_task(of_executor("b"), launch_executor=False)
    assert [effect.stream for effect in desk.all(ToExecutor)] == ["s2"]


def test_a_task_for_an_executor_without_a_stream_waits_for_the_next_one() -> None:
    desk, _ = with_executor("a")
    desk.give(ExecutorStreamClosed("s1"))
    desk.run_task(of_executor("b"), launch_executor=False)
    assert events(desk) == []
    assert subscribe(desk, of_executor("a"), stream="s2") == ["SUBSCRIBED", "LAUNCH"]


def test_a_task_that_the_executor_never_got_is_dropped() -> None:
    desk, _ = with_executor("a", "b")
    subscribe(desk, of_executor("b"), stream="s2")
    (dropped,) = desk.updates()
    assert (dropped.task_id.value, dropped.state, dropped.reason) == ("a", TaskState.TASK_LOST, Reason.REASON_AGENT_RESTARTED)


# ---- Updates --------------------------------------------------------------------------------------------


def test_an_update_is_kept_acknowledged_and_passed_on_completed() -> None:
    desk, container = with_executor("a")
    update = status("a", TaskState.TASK_RUNNING, message="hi", data=b"d")
    report(desk, update)
    assert b"TASK_RUNNING" in desk.store["updates/f/a"]
    (event,) = (effect.event for effect in desk.all(ToExecutor))
    assert event == api.Event("ACKNOWLEDGED", acknowledged=api.Acknowledged(TaskID("a"), update.status.uuid or b""))
    (sent,) = desk.updates()
    assert (sent.uuid, sent.message, sent.data) == (update.status.uuid, "hi", b"d")
    assert (sent.agent_id.value, sent.executor_id.value) == ("m-S1", "e")
    assert sent.timestamp is not None
    assert sent.container_status.container_id.value == container
    assert sent.container_status.executor_pid == 55


def test_a_repeated_update_is_acknowledged_and_not_passed_on() -> None:
    desk, _ = with_executor("a")
    report(desk, status("a", TaskState.TASK_RUNNING))
    desk.acknowledge_all()
    report(desk, status("a", TaskState.TASK_RUNNING))
    assert events(desk) == ["ACKNOWLEDGED"]
    assert desk.updates() == []


def test_nothing_follows_a_terminal_update() -> None:
    desk, _ = with_executor("a")
    report(desk, status("a", TaskState.TASK_FINISHED, 1))
    for number, state in ((2, TaskState.TASK_FAILED), (3, TaskState.TASK_RUNNING)):
        report(desk, status("a", state, number))
        assert events(desk) == ["ACKNOWLEDGED"]
    assert desk.acknowledge_all() == [TaskState.TASK_FINISHED]
    report(desk, status("a", TaskState.TASK_FINISHED, 1))  # By now nobody knows the task.
    assert events(desk) == ["ACKNOWLEDGED"]


@pytest.mark.parametrize(
    "bad",
    [
        status("a", TaskState.TASK_RUNNING, uuid=None),
        status("a", TaskState.TASK_RUNNING, uuid=b"short"),
        status("a", TaskState.TASK_RUNNING, source=Source.SOURCE_AGENT),
        status("a", TaskState.TASK_RUNNING, source=None),
        status("a", TaskState.TASK_RUNNING, executor_id=ExecutorID("other")),
        status("a", TaskState.TASK_STAGING),
    ],
)
def test_a_malformed_update_is_refused(bad: api.Update) -> None:
    desk, _ = with_executor("a")
    with pytest.raises(CallError):
        report(desk, bad)
    assert desk.updates() == []


def test_an_executor_cannot_speak_for_the_task_of_another() -> None:
    desk, _ = with_executor("a")
    desk.run_task(command("other"))
    desk.updates()
    report(desk, status("other", TaskState.TASK_FINISHED))
    assert desk.updates() == []
    assert desk.core.state.frameworks["f"].tasks["other"].state is TaskState.TASK_STARTING


def test_messages_go_both_ways() -> None:
    desk, _ = with_executor("a")
    desk.give(ExecutorData("f", "e", b"up"))
    assert desk.take_sent(ExecutorMessage) == [ExecutorMessage("f", "e", b"up")]
    desk.master(FrameworkMessage("f", "e", b"down"))
    assert [effect.event.message for effect in desk.all(ToExecutor)] == [api.EventMessage(b"down")]
    desk.master(FrameworkMessage("f", "unknown", b"down"))
    assert desk.effects == []


# ---- Kill -----------------------------------------------------------------------------------------------


def test_a_queued_task_is_killed_without_its_executor_hearing_of_it() -> None:
    desk = running()
    desk.run_task(of_executor("a"))
    desk.master(KillTask("f", "a"))
    (killed,) = desk.updates()
    assert (killed.state, killed.reason) == (TaskState.TASK_KILLED, Reason.REASON_TASK_KILLED_DURING_LAUNCH)
    assert killed.source is Source.SOURCE_AGENT
    assert subscribe(desk) == ["SHUTDOWN"]


def test_killing_one_of_a_queued_group_kills_the_group() -> None:
    desk = running()
    desk.run_group(executor("e", type=ExecutorType.CUSTOM), of_executor("g1"), of_executor("g2"))
    desk.master(KillTask("f", "g1"))
    assert {found.task_id.value for found in desk.updates()} == {"g1", "g2"}


def test_an_executor_whose_files_nobody_waits_for_any_more_is_ended() -> None:
    desk = running()
    container = desk.run_task(of_executor("a", FETCHING))
    desk.run_task(of_executor("b", FETCHING), launch_executor=False)
    desk.master(KillTask("f", "a"))
    assert desk.all(SignalContainer) == []
    desk.master(KillTask("f", "b"))
    assert desk.all(SignalContainer) == [SignalContainer(container, signal.SIGKILL)]
    assert desk.acknowledge_all() == [TaskState.TASK_KILLED] * 2
    desk.give(ContainerFailed(container, "killed while its files were fetched"))
    assert desk.updates() == []


def test_a_delivered_task_is_the_executors_to_kill() -> None:
    desk, _ = with_executor("a")
    desk.master(KillTask("f", "a", KillPolicy(DurationInfo(5))))
    (effect,) = desk.all(ToExecutor)
    assert effect.event == api.Event("KILL", kill=api.Kill(TaskID("a"), KillPolicy(DurationInfo(5))))
    desk.master(KillTask("f", "a"))
    assert desk.one(ToExecutor).event.kill == api.Kill(TaskID("a"))


@pytest.mark.parametrize("restarted", [True, False])
def test_a_kill_while_the_executor_is_away_is_told_when_it_is_back(restarted: bool) -> None:
    desk, container = with_executor("a")
    desk.give(ExecutorStreamClosed("s1"))
    desk.master(KillTask("f", "a"))
    assert events(desk) == []
    if restarted:
        desk = desk.restart()
        desk.give(LauncherState((KnownContainer(container, 55),)))
    assert subscribe(desk, of_executor("a"), stream="s2") == ["SUBSCRIBED", "KILL"]


# ---- The end --------------------------------------------------------------------------------------------


def test_an_executor_that_ends_takes_its_tasks_with_it() -> None:
    desk, container = with_executor("a", "b")
    report(desk, status("a", TaskState.TASK_FINISHED))
    desk.exited(container, 256)
    assert desk.take_sent(ExecutorExited) == [ExecutorExited("f", "e", 256)]
    assert desk.all(CloseExecutorStream) == [CloseExecutorStream("s1")]
    found = {update.task_id.value: update for update in desk.updates()}
    assert found["a"].state is TaskState.TASK_FINISHED
    assert (found["b"].state, found["b"].reason) == (TaskState.TASK_FAILED, Reason.REASON_EXECUTOR_TERMINATED)
    assert found["b"].message == "Executor terminated"
    for update in found.values():
        desk.acknowledge(update)
    assert set(desk.store) == {"agent", "frameworks/f"}
    assert desk.run_task(of_executor("again")) != ""


def test_an_executor_that_does_not_start_fails_its_tasks() -> None:
    desk = running()
    container = desk.run_task(of_executor("a"))
    desk.give(ContainerFailed(container, "not found"))
    (failed,) = desk.updates()
    assert (failed.state, failed.reason) == (TaskState.TASK_FAILED, Reason.REASON_CONTAINER_LAUNCH_FAILED)
    assert failed.message == "Failed to launch container: not found"
    assert desk.take_sent(ExecutorExited) == [ExecutorExited("f", "e", -1)]


@pytest.mark.parametrize("restarted", [False, True])
def test_the_time_to_subscribe_does_not_count_what_fetching_takes(restarted: bool) -> None:
    desk = running()
    container = desk.run_task(of_executor("a", FETCHING))
    if restarted:
        desk = desk.restart()
        desk.give(LauncherState(()))
    desk.tick(1000)
    assert desk.all(SignalContainer) == []
    desk.started(container)
    desk.tick(59.9)
    desk.started(container)  # A repeat gives no more of it.
    desk.tick(0.2)
    assert desk.all(SignalContainer) == [SignalContainer(container, signal.SIGKILL)]


def test_an_executor_that_does_not_subscribe_in_time_is_destroyed() -> None:
    desk = running()
    container = desk.run_task(of_executor("a"))
    desk.started(container)
    desk.tick(59.9)
    assert desk.all(SignalContainer) == []
    desk.tick(0.2)
    assert desk.all(SignalContainer) == [SignalContainer(container, signal.SIGKILL)]
    assert subscribe(desk) == ["SHUTDOWN"]
    desk.exited(container, 9)
    (failed,) = desk.updates()
    assert (failed.state, failed.reason) == (TaskState.TASK_FAILED, Reason.REASON_EXECUTOR_REGISTRATION_TIMEOUT)


@pytest.mark.parametrize(("own_s", "due_s"), [(None, 5.0), (20.0, 20.0)])
def test_a_shutdown_has_its_grace(own_s: float | None, due_s: float) -> None:
    period = None if own_s is None else DurationInfo(int(own_s * 1e9))
    desk, container = with_executor("a", info=executor("e", shutdown_grace_period=period))
    desk.master(ShutdownExecutor("f", "e"))
    assert events(desk) == ["SHUTDOWN"]
    assert desk.run_task(of_executor("late"), launch_executor=False) == ""
    desk.tick(due_s - 0.1)
    assert desk.all(SignalContainer) == []
    desk.tick(0.2)
    assert desk.all(SignalContainer) == [SignalContainer(container, signal.SIGKILL)]
    desk.exited(container, 9)
    assert {found.state for found in desk.updates()} == {TaskState.TASK_LOST, TaskState.TASK_FAILED}


def test_an_executor_that_cannot_hear_a_shutdown_is_destroyed_at_once() -> None:
    desk = running()
    container = desk.run_task(of_executor("a"))
    desk.master(ShutdownExecutor("f", "e"))
    assert desk.all(SignalContainer) == [SignalContainer(container, signal.SIGKILL)]


def test_the_end_of_a_framework_is_the_end_of_its_executors_without_updates() -> None:
    desk, container = with_executor("a")
    desk.master(ShutdownFramework("f"))
    assert events(desk) == ["SHUTDOWN"]
    report(desk, status("a", TaskState.TASK_KILLED))
    assert events(desk) == ["ACKNOWLEDGED"]
    desk.exited(container, 0)
    assert desk.sent == []
    assert set(desk.store) == {"agent"}


# ---- Restart of the agent -------------------------------------------------------------------------------


def test_an_executor_comes_back_after_a_restart_of_the_agent() -> None:
    desk, container = with_executor("a", "b")
    report(desk, status("a", TaskState.TASK_RUNNING, 1))
    desk = desk.restart()
    desk.give(LauncherState((KnownContainer(container, 55),)))
    register(desk)
    desk.sent.clear()
    missed = status("a", TaskState.TASK_FINISHED, 2)
    held = (status("a", TaskState.TASK_RUNNING, 1), missed)
    assert subscribe(desk, of_executor("b"), updates=held) == ["ACKNOWLEDGED", "ACKNOWLEDGED", "SUBSCRIBED"]
    desk.tick(60)
    assert desk.all(SignalContainer) == []
    assert desk.acknowledge_all() == [TaskState.TASK_RUNNING, TaskState.TASK_FINISHED]
    report(desk, status("b", TaskState.TASK_RUNNING, 3))
    assert desk.acknowledge_all() == [TaskState.TASK_RUNNING]


def test_who_runs_it_is_told_again_what_to_hold_it_to() -> None:
    """Tasks may have ended while it was away, or while the agent was not told yet what it has."""
    desk, container = with_executor("a", "b")
    desk = desk.restart()
    desk.give(LauncherState((KnownContainer(container, 55),)))
    both = desk.one(LimitContainer)
    assert subscribe(desk, updates=(status("a", TaskState.TASK_FINISHED, 1),))[-1] == "SUBSCRIBED"
    desk.sent.clear()
    desk.give(LauncherState((KnownContainer(container, 55),)))
    limited = desk.one(LimitContainer)
    assert limited.container_id == both.container_id == container
    assert limited.limits.mem_mib < both.limits.mem_mib


@pytest.mark.parametrize("aware", [True, False])
def test_an_executor_that_does_not_come_back_is_destroyed(aware: bool) -> None:
    capabilities = (FrameworkCapability.PARTITION_AWARE,) if aware else ()
    desk, container = with_executor("a", capabilities=capabilities)
    desk = desk.restart()
    desk.give(LauncherState((KnownContainer(container, 55),)))
    register(desk, framework("f", *capabilities))
    desk.tick(1.9)
    assert desk.all(SignalContainer) == []
    desk.tick(0.2)
    assert desk.all(SignalContainer) == [SignalContainer(container, signal.SIGKILL)]
    desk.exited(container, 9)
    (lost,) = desk.updates()
    assert lost.state is (TaskState.TASK_GONE if aware else TaskState.TASK_LOST)
    assert lost.reason is Reason.REASON_EXECUTOR_REREGISTRATION_TIMEOUT


def test_tasks_queued_before_a_restart_are_delivered_after_it() -> None:
    desk = running()
    container = desk.run_task(of_executor("a"))
    desk.run_group(executor("e", type=ExecutorType.CUSTOM), of_executor("g1"), of_executor("g2"), launch_executor=False)
    desk = desk.restart()
    desk.give(LauncherState((KnownContainer(container, 55),)))
    assert subscribe(desk) == ["SUBSCRIBED", "LAUNCH", "LAUNCH_GROUP"]


def test_an_executor_that_was_never_started_is_started_after_a_restart() -> None:
    desk = running()
    container = desk.run_task(of_executor("a"))
    launch = desk.one(LaunchContainer)
    desk = desk.restart()
    desk.give(LauncherState(()))
    assert desk.all(LaunchContainer) == [launch]
    assert launch.container_id == container


def test_an_executor_that_ended_while_the_agent_was_away() -> None:
    desk, _ = with_executor("a")
    desk = desk.restart()
    desk.give(LauncherState(()))
    register(desk)
    (failed,) = desk.updates()
    assert (failed.state, failed.reason) == (TaskState.TASK_FAILED, Reason.REASON_EXECUTOR_TERMINATED)
