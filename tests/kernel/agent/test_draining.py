"""An agent that drains: what it ends, how, under which names, and what it refuses (spec: mesos-v1, section 7.7)."""

from __future__ import annotations

import json
import signal

import pytest

from kernel.agent import views
from kernel.agent.effects import LauncherState, SignalContainer, SubscribeExecutor, ToExecutor
from kernel.wire import executor as api
from kernel.wire.agent import DrainAgent, ExecutorExited, Registered
from kernel.wire.command import KillPolicy
from kernel.wire.common import DurationInfo
from kernel.wire.framework import FrameworkCapability
from kernel.wire.nodes import DrainConfig
from kernel.wire.task import ExecutorType, Reason, TaskState
from tests.builders import executor
from tests.kernel.agent.desk import AGENT_ID, CONFIG, Desk, command, framework, register, running
from tests.kernel.agent.test_executors import report, status

KILLING, AWARE = FrameworkCapability.TASK_KILLING_STATE, FrameworkCapability.PARTITION_AWARE
SECOND = 10**9


def grace(seconds: float) -> DurationInfo:
    return DurationInfo(int(seconds * SECOND))


def drain(max_s: float | None = None, mark_gone: bool = False) -> DrainAgent:
    return DrainAgent(DrainConfig(grace(max_s) if max_s is not None else None, mark_gone))


def busy(*capabilities: FrameworkCapability, own_s: float | None = None) -> tuple[Desk, str]:
    """A running task "t", all acknowledged."""
    desk = running(CONFIG, framework("f", *capabilities))
    fields = {"kill_policy": KillPolicy(grace(own_s))} if own_s is not None else {}
    container = desk.run_task(command("t", **fields))
    desk.started(container)
    desk.acknowledge_all()
    return desk, container


@pytest.mark.parametrize(
    ("most_s", "own_s", "grace_s"),
    [(None, None, 3.0), (None, 20.0, 20.0), (10.0, None, 10.0), (10.0, 20.0, 10.0), (10.0, 5.0, 5.0), (0.0, 20.0, 0.0)],
)
def test_what_runs_is_killed_with_the_right_grace(most_s: float | None, own_s: float | None, grace_s: float) -> None:
    desk, container = busy(own_s=own_s)
    desk.master(drain(most_s))
    if grace_s:
        assert desk.all(SignalContainer) == [SignalContainer(container, signal.SIGTERM)]
        desk.tick(grace_s - 0.1)
        assert desk.all(SignalContainer) == []
        desk.tick(0.1)
    assert desk.all(SignalContainer) == [SignalContainer(container, signal.SIGKILL)]


def test_its_updates_say_that_the_agent_drains() -> None:
    desk, container = busy(KILLING, AWARE)
    desk.master(drain())
    (killing,) = desk.updates()
    assert (killing.state, killing.reason) == (TaskState.TASK_KILLING, Reason.REASON_AGENT_DRAINING)
    desk.acknowledge(killing)
    desk.exited(container, signal.SIGTERM)
    (killed,) = desk.updates()
    assert (killed.state, killed.reason) == (TaskState.TASK_KILLED, Reason.REASON_AGENT_DRAINING)


@pytest.mark.parametrize(("able", "state"), [((AWARE,), TaskState.TASK_GONE_BY_OPERATOR), ((), TaskState.TASK_KILLED)])
def test_before_it_is_marked_gone_they_say_that_too(able: tuple[FrameworkCapability, ...], state: TaskState) -> None:
    desk, container = busy(*able)
    desk.master(drain(mark_gone=True))
    desk.exited(container, signal.SIGTERM)
    (ended,) = desk.updates()
    assert (ended.state, ended.reason) == (state, Reason.REASON_AGENT_DRAINING)


def test_an_end_of_its_own_is_told_as_it_was() -> None:
    """`kill` races with the end: a task that finished all the same was killed, one that failed to start was not."""
    desk, container = busy(AWARE)
    desk.master(drain())
    desk.exited(container, 0)
    (ended,) = desk.updates()
    assert (ended.state, ended.message) == (TaskState.TASK_KILLED, "Command exited with status 0")


def test_nothing_new_is_started() -> None:
    desk, _ = busy(AWARE)
    desk.master(drain())
    desk.sent.clear()
    assert desk.run_task(command("late")) == ""
    (dropped,) = desk.updates()
    assert (dropped.state, dropped.reason, dropped.message) == (
        TaskState.TASK_DROPPED,
        Reason.REASON_AGENT_DRAINING,
        "Agent is draining",
    )
    assert desk.run_task(command("custom", executor=executor("e"))) == ""
    assert desk.run_group(executor("g", type=ExecutorType.DEFAULT, command=None), command("g1"), command("g2")) == []
    assert [(one.state, one.reason) for one in desk.updates()] == [(TaskState.TASK_DROPPED, Reason.REASON_AGENT_DRAINING)] * 3
    assert [one.executor_id for one in desk.take_sent(ExecutorExited)] == ["e", "g"]


def test_an_old_framework_hears_of_a_launch_refused_as_lost() -> None:
    desk, _ = busy()
    desk.master(drain())
    desk.run_task(command("late"))
    assert TaskState.TASK_LOST in [one.state for one in desk.updates()]


def test_an_agent_with_nothing_ignores_it() -> None:
    desk = Desk()
    desk.give(LauncherState(()))
    register(desk)
    desk.core.frameworks.forget_idle()
    desk.master(drain())
    assert desk.core.state.drain is None
    assert "drain" not in desk.store


def test_it_takes_tasks_again_when_it_is_told_to() -> None:
    desk, container = busy()
    desk.master(drain())
    desk.exited(container, signal.SIGTERM)
    desk.acknowledge_all()
    desk.master(DrainAgent(None))
    assert "drain" not in desk.store
    assert desk.run_task(command("next")) != ""


def test_a_repeat_is_harmless_and_other_terms_count() -> None:
    desk, container = busy(own_s=100.0)
    desk.master(drain(50.0))
    desk.master(drain(50.0))
    assert desk.all(SignalContainer) == []
    desk.master(drain(10.0))
    desk.tick(10.0)
    assert desk.all(SignalContainer) == [SignalContainer(container, signal.SIGKILL)]


def test_a_drain_survives_a_restart_of_the_agent() -> None:
    desk, container = busy(KILLING, AWARE)
    desk.master(drain(30.0, mark_gone=True))
    again = desk.restart()
    assert again.core.state.drain == desk.core.state.drain
    again.exited(container, signal.SIGTERM)
    assert again.core.state.frameworks["f"].tasks["t"].state is TaskState.TASK_GONE_BY_OPERATOR


def test_what_the_master_says_at_the_registration_counts() -> None:
    """It may have been told to drain, or no more, while it was away."""
    desk, container = busy()
    away = desk.restart()
    away.give(LauncherState(()))
    away.give(LauncherState(()))
    desk.master(Registered(AGENT_ID, "master", 3.0, 9.0, DrainConfig(grace(10))))
    assert desk.all(SignalContainer) == [SignalContainer(container, signal.SIGTERM)]
    assert desk.core.state.drain is not None
    desk.master(Registered(AGENT_ID, "master", 3.0, 9.0))
    assert desk.core.state.drain is None


def test_a_group_is_not_cut_short_by_its_first_end() -> None:
    desk = running()
    slow = KillPolicy(grace(60))
    first, second = desk.run_group(executor("g", type=ExecutorType.DEFAULT, command=None), command("a"), command("b", kill_policy=slow))
    desk.started(first)
    desk.started(second)
    desk.master(drain())
    desk.exited(first, signal.SIGTERM)
    desk.tick(30.0)
    assert desk.all(SignalContainer) == []
    desk.tick(30.0)
    assert desk.all(SignalContainer) == [SignalContainer(second, signal.SIGKILL)]


def test_tasks_of_custom_executors_are_killed_by_them_and_those_in_the_queue_at_once() -> None:
    desk = running(CONFIG, framework("f", AWARE))
    container = desk.run_task(command("a", executor=executor("e")))
    desk.started(container, 55)
    desk.give(SubscribeExecutor("s1", "f", "e", api.Subscribe()))
    desk.run_task(command("b", executor=executor("other")))
    desk.sent.clear()
    desk.master(drain(7.0))
    (kill,) = [effect.event for effect in desk.all(ToExecutor)]
    assert (kill.type, kill.kill.task_id.value, kill.kill.kill_policy) == ("KILL", "a", KillPolicy(grace(7)))
    (queued,) = desk.updates()
    assert (queued.task_id.value, queued.state, queued.reason) == ("b", TaskState.TASK_KILLED, Reason.REASON_AGENT_DRAINING)
    report(desk, status("a", TaskState.TASK_KILLED))
    (told,) = desk.updates()
    assert (told.state, told.reason) == (TaskState.TASK_KILLED, Reason.REASON_AGENT_DRAINING)


def test_it_is_shown() -> None:
    desk, _ = busy()
    body = json.loads(views.render(desk.core.state, "get_agent", None))["get_agent"]
    assert "drain_config" not in body
    desk.master(drain(10, mark_gone=True))
    body = json.loads(views.render(desk.core.state, "get_agent", None))["get_agent"]
    config = {"max_grace_period": {"nanoseconds": 10 * SECOND}, "mark_gone": True}
    assert (body["drain_config"], body["estimated_drain_start_time"]) == (config, {"nanoseconds": 1_700_000_000 * SECOND})
    older = json.loads(views.render(desk.core.state, "state", {}))
    assert (older["drain_config"], older["estimated_drain_start_time_seconds"]) == (config, 1_700_000_000.0)
