"""Tasks that are killed as others need the room: how their ends are told (spec: mesos-v1, section 8.2, as of the QoS controller)."""

from __future__ import annotations

import signal

import pytest

from kernel.agent.effects import SignalContainer
from kernel.wire.agent import KillTask
from kernel.wire.framework import FrameworkCapability
from kernel.wire.task import ExecutorType, Reason, Source, TaskState
from tests.builders import executor
from tests.kernel.agent.desk import CONFIG, Desk, command, framework, running
from tests.kernel.agent.test_checks import restarted
from tests.kernel.agent.test_executors import report, status, with_executor

KILLING, AWARE = FrameworkCapability.TASK_KILLING_STATE, FrameworkCapability.PARTITION_AWARE
WHY = "preempted for what role b is guaranteed"


def busy(*capabilities: FrameworkCapability) -> tuple[Desk, str]:
    """A running task "t", all acknowledged."""
    desk = running(CONFIG, framework("f", *capabilities))
    container = desk.run_task(command("t"))
    desk.started(container)
    desk.acknowledge_all()
    return desk, container


@pytest.mark.parametrize(("able", "state"), [((AWARE,), TaskState.TASK_GONE), ((), TaskState.TASK_LOST)])
def test_it_is_ended_gently_and_is_gone_for_its_framework(able: tuple[FrameworkCapability, ...], state: TaskState) -> None:
    desk, container = busy(*able)
    desk.master(KillTask("f", "t", None, WHY))
    assert desk.all(SignalContainer) == [SignalContainer(container, signal.SIGTERM)]
    desk.tick(3.0)
    assert desk.all(SignalContainer) == [SignalContainer(container, signal.SIGKILL)]
    desk.exited(container, signal.SIGKILL)
    (ended,) = desk.updates()
    assert (ended.state, ended.reason, ended.source) == (state, Reason.REASON_CONTAINER_PREEMPTED, Source.SOURCE_AGENT)
    assert ended.message == f"{WHY}; Command terminated with signal Killed"


def test_that_it_is_being_killed_says_why() -> None:
    desk, _ = busy(KILLING, AWARE)
    desk.master(KillTask("f", "t", None, WHY))
    (killing,) = desk.updates()
    assert (killing.state, killing.reason, killing.message) == (TaskState.TASK_KILLING, Reason.REASON_CONTAINER_PREEMPTED, WHY)


def test_what_its_scheduler_has_ended_already_is_killed_as_ever() -> None:
    desk, container = busy(AWARE)
    desk.master(KillTask("f", "t"))
    desk.master(KillTask("f", "t", None, WHY))
    desk.exited(container, signal.SIGTERM)
    (ended,) = desk.updates()
    assert (ended.state, ended.reason) == (TaskState.TASK_KILLED, None)


def test_what_ends_by_itself_meanwhile_is_told_as_it_was() -> None:
    desk, container = busy(AWARE)
    desk.exited(container, 0)
    desk.master(KillTask("f", "t", None, WHY))
    (ended,) = desk.updates()
    assert (ended.state, ended.reason) == (TaskState.TASK_FINISHED, None)


def test_a_restarted_agent_still_knows_why_it_kills() -> None:
    desk, container = busy()
    desk.master(KillTask("f", "t", None, WHY))
    again = restarted(desk, container)
    again.exited(container, signal.SIGTERM)
    assert [(ended.state, ended.reason) for ended in again.updates()] == [(TaskState.TASK_LOST, Reason.REASON_CONTAINER_PREEMPTED)]


def test_a_pod_is_gone_as_a_whole() -> None:
    desk = running(CONFIG, framework("f", AWARE))
    first, second = desk.run_group(executor("e", type=ExecutorType.DEFAULT), command("a"), command("b"))
    for container in (first, second):
        desk.started(container)
    desk.acknowledge_all()
    for task_id in "ab":
        desk.master(KillTask("f", task_id, None, WHY))
    for container in (first, second):
        desk.exited(container, signal.SIGTERM)
    assert {(found.task_id.value, found.state) for found in desk.updates()} == {("a", TaskState.TASK_GONE), ("b", TaskState.TASK_GONE)}


def test_so_is_what_a_custom_executor_kills() -> None:
    desk, _ = with_executor("a", capabilities=(AWARE,))
    report(desk, status("a", TaskState.TASK_RUNNING))
    desk.acknowledge_all()
    desk.master(KillTask("f", "a", None, WHY))
    report(desk, status("a", TaskState.TASK_KILLED, 2))
    (ended,) = desk.updates()
    assert (ended.state, ended.reason, ended.message) == (TaskState.TASK_GONE, Reason.REASON_CONTAINER_PREEMPTED, WHY)
