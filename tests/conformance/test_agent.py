"""Agents, executors and checks where no other test has just this (spec: mesos-v1, 13.6 and 13.7): KillMultiplePendingTasks,
HeartbeatEvents, TCPCheckDelivered, CommandCheckTimeout, CommandCheckDeliveredAndReconciled, AttachContainerOutputFailure."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from kernel.agent import executor_api
from kernel.agent.effects import LaunchProbe, SignalContainer
from kernel.executor.checks import connected, exited, nothing
from kernel.wire import scheduler
from kernel.wire.agent import KillTask
from kernel.wire.command import CheckInfo, CheckTcp, CheckType
from kernel.wire.ids import AgentID, TaskID
from kernel.wire.task import TaskState
from tests.builders import accept, executor, task
from tests.kernel.agent.desk import command, running
from tests.kernel.agent.test_checks import PACE, probe, shell, started, told
from tests.kernel.agent.test_server import OF_RECORDS, OPERATOR, Stage, attach_output, play
from tests.kernel.master.conductor import Conductor


def test_several_pending_tasks_are_killed_each() -> None:
    desk = running()
    containers = {task_id: desk.run_task(command(task_id)) for task_id in ("a", "b", "c")}
    for task_id in containers:
        desk.master(KillTask("f", task_id))
    for container in containers.values():
        desk.exited(container, 15)
    assert desk.acknowledge_all().count(TaskState.TASK_KILLED) == 3
    assert set(desk.store) == {"agent", "frameworks/f"}


def test_executors_hear_heartbeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_api, "HEARTBEAT_S", 0.01)

    async def scene(stage: Stage) -> None:
        await stage.run(command("t", executor=executor("e")))
        response = await stage.subscribe()
        types = []
        while types.count("HEARTBEAT") < 2:
            length = int(await response.content.readuntil(b"\n"))
            types.append(json.loads(await response.content.readexactly(length))["type"])
        assert types[0] == "SUBSCRIBED"
        response.close()

    play(tmp_path, scene)


def test_output_of_a_container_that_is_not_there_cannot_be_attached(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        assert (await stage.post(OPERATOR, attach_output({"value": "unknown"}), OF_RECORDS))[0] == 404

    play(tmp_path, scene)


def test_a_tcp_check_tells_whether_it_could_connect() -> None:
    desk, _ = started(check=CheckInfo(CheckType.TCP, tcp=CheckTcp(81), **PACE))
    assert [status.check_status for status in probe(desk, connected(True))] == [connected(True)]
    assert probe(desk, connected(True)) == []
    assert [status.check_status for status in probe(desk, connected(False))] == [connected(False)]


def test_a_command_check_that_takes_too_long_is_killed_and_tells_no_exit_code() -> None:
    desk, _ = started(check=shell())
    desk.tick(1)
    name = desk.one(LaunchProbe).container_id
    desk.started(name)
    desk.exited(name, 0)
    assert [status.check_status for status in told(desk)] == [exited(0)]
    desk.tick(1)
    name = desk.one(LaunchProbe).container_id
    desk.started(name)
    desk.tick(5)
    assert desk.one(SignalContainer) == SignalContainer(name, signal.SIGKILL)
    desk.exited(name, int(signal.SIGKILL))
    assert [(status.state, status.check_status) for status in told(desk)] == [(TaskState.TASK_RUNNING, nothing(CheckType.COMMAND))]


def test_the_result_of_a_check_is_in_the_answer_to_a_reconciliation() -> None:
    c = Conductor()
    fid = c.subscribe()
    aid = c.agent()
    (offer,) = c.offers()
    c.call(fid, accept([offer.id.value], task("t", aid)))
    uuid = c.update(1, fid, "t", TaskState.TASK_RUNNING, check_status=exited(7 << 8), healthy=True)
    c.call(fid, scheduler.Acknowledge(AgentID(aid), TaskID("t"), uuid))
    c.take("s")
    c.call(fid, scheduler.Reconcile((scheduler.ReconcileTask(TaskID("t"), AgentID(aid)),)))
    (status,) = c.statuses()
    assert (status.state, status.check_status, status.healthy) == (TaskState.TASK_RUNNING, exited(7 << 8), True)
