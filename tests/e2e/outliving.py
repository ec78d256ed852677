"""Tasks whose agent and launcher are killed again and again: each lives on, ends with its own status, and is told of update by update."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

from msgspec.structs import replace

from frameworks.sdk.tasks import task
from kernel.supervisor import start_time
from kernel.wire.command import CheckCommand, CheckInfo, CheckType, CommandInfo, HealthCheck
from kernel.wire.container import ContainerInfo
from kernel.wire.resources import Resources
from kernel.wire.task import TERMINAL, Reason, TaskInfo, TaskState, TaskStatus
from tests.cluster import Cluster, eventually
from tests.e2e.given import Given
from tests.e2e.processes import LAUNCHER, alive, naming, settled, unsupervised

STATUSES = 5  # Tasks end with 0 to one less than this, by their number.
CHECKED_EVERY = 5  # Each fifth task has checks.
SCRIPT = "echo $$ >> begun; until test -e open; do sleep 0.2; done; exit {status}"


def outlive(cluster: Cluster, count: int, agents: int, launchers: int, container: ContainerInfo | None = None) -> None:
    """Run so many tasks on the one agent of a cluster, kill -9 the agent and the launcher so often, in any order, then let the tasks
    end. AssertionError for whatever was lost, doubled or is not as it was."""
    given = Given(cluster, [(_task(number, container), Resources.parse("cpus:0.01;mem:32")) for number in range(count)])
    eventually(lambda: all(_runs(statuses) for statuses in list(given.told.values())), 300, "all run")
    checked = [name for name, info in ((info.task_id.value, info) for info, _ in given.tasks) if info.check is not None]
    eventually(lambda: all(_checks(given.told[name]) for name in checked), 60, "what checks find is told")
    sandboxes = {name: _sandbox(cluster, name) for name in given.told}
    began = {name: _processes(sandboxes[name]) for name in sandboxes} if container is None else {}
    victims = ["agent"] * agents + ["launcher"] * launchers
    with unsupervised(cluster) as kill_agent:
        for victim in random.Random(count).sample(victims, len(victims)):
            if victim == "launcher":
                (pid,) = naming(cluster.work_dir, LAUNCHER)
                os.kill(pid, signal.SIGKILL)
                eventually(lambda pid=pid: set(naming(cluster.work_dir, LAUNCHER)) - {pid})  # type: ignore[misc]
            else:
                kill_agent()
            settled(cluster, 120)
            assert not any(status.state in TERMINAL for statuses in given.told.values() for status in statuses)
            assert {name: _processes(sandboxes[name]) for name in began} == began
    for name in checked:
        (sandboxes[name] / "changed").touch()
    eventually(lambda: all(len(_checks(given.told[name])) == 2 for name in checked), 60, "checks go on")
    eventually(lambda: all(_healthy(given.told[name]) for name in checked), 60, "all have become healthy")
    for sandbox in sandboxes.values():
        (sandbox / "open").touch()
    for name, end in given.ends(600).items():
        status = int(name.partition("-")[2]) % STATUSES
        expected = (TaskState.TASK_FINISHED if status == 0 else TaskState.TASK_FAILED, f"Command exited with status {status}")
        assert (end.state, end.message) == expected, name
        assert len((sandboxes[name] / "begun").read_text().split()) == 1, f"{name} began once"
        once_each(given.heard[name])
        healthy = {status.uuid for status in _healthy(given.heard[name])}
        told = [(status.healthy, status.timestamp) for status in _healthy(given.heard[name])]
        assert len(healthy) == (name in checked), f"{name} becomes healthy once: {told}"


def once_each(heard: list[TaskStatus]) -> None:
    """Updates as they came from the master, repeats included: one each for the start, the run and the end, none more and none less, and
    none again that was acknowledged, as the one after it tells."""
    updates = [status for status in heard if status.uuid]
    order = [status.uuid for status in updates]
    first_seen = list(dict.fromkeys(order))
    assert order == sorted(order, key=first_seen.index), f"one came again after the next: {updates}"
    plain = {status.uuid: status.state for status in updates if status.reason not in CHECK_REASONS}
    assert list(plain.values())[:2] == [TaskState.TASK_STARTING, TaskState.TASK_RUNNING], updates
    assert len(plain) == 3, updates
    assert updates[-1].state in TERMINAL


CHECK_REASONS = (Reason.REASON_TASK_CHECK_STATUS_UPDATED, Reason.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED)


def _task(number: int, container: ContainerInfo | None) -> TaskInfo:
    info = task(f"outliving-{number}", SCRIPT.format(status=number % STATUSES), container=container)
    if number % CHECKED_EVERY:
        return info
    pace = {"delay_seconds": 0.0, "interval_seconds": 1.0, "timeout_seconds": 60.0}
    check = CheckInfo(CheckType.COMMAND, CheckCommand(CommandInfo(value="test -e changed")), **pace)
    health = HealthCheck(type=CheckType.COMMAND, command=CommandInfo(value="true"), grace_period_seconds=0.0, **pace)
    return replace(info, check=check, health_check=health)


def _runs(statuses: list[TaskStatus]) -> bool:
    return any(status.state is TaskState.TASK_RUNNING for status in list(statuses))


def _checks(statuses: list[TaskStatus]) -> list[TaskStatus]:
    """The updates that tell what a check found."""
    return [status for status in list(statuses) if status.reason is Reason.REASON_TASK_CHECK_STATUS_UPDATED]


def _healthy(statuses: list[TaskStatus]) -> list[TaskStatus]:
    """The updates that tell of health."""
    return [status for status in list(statuses) if status.reason is Reason.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED]


def _sandbox(cluster: Cluster, name: str) -> Path:
    (run,) = cluster.work_dir.glob(f"agent-1/slaves/latest/frameworks/*/executors/{name}/runs/latest")
    return run.resolve()


def _processes(sandbox: Path) -> list[tuple[int, float | int | str | None]]:
    """The processes that began here and are alive, with when they did."""
    pids = [int(line) for line in (sandbox / "begun").read_text().split()]
    assert all(map(alive, pids)), sandbox
    return [(pid, start_time(pid)) for pid in pids]
