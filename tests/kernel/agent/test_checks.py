"""Checks of tasks that the agent runs: probes out, what they find in; updates and kills out (spec: mesos-v1, sections 3.6 and 8.8)."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from msgspec.structs import replace

from kernel.agent.effects import (
    ContainerFailed,
    ContainerStarted,
    DropProbe,
    Exit,
    ForgetContainer,
    KnownContainer,
    LaunchContainer,
    LauncherState,
    LaunchProbe,
    Probe,
    Probed,
    SignalContainer,
)
from kernel.agent.updates import PENDING_MAX
from kernel.executor.checks import HttpTarget, TcpTarget, answered, connected, exited, nothing
from kernel.wire.agent import KillTask
from kernel.wire.command import (
    CheckCommand,
    CheckHttp,
    CheckInfo,
    CheckType,
    CommandInfo,
    Environment,
    HealthCheck,
    HTTPCheckInfo,
    KillPolicy,
    TCPCheckInfo,
    Variable,
)
from kernel.wire.common import DurationInfo, Image, ImageDocker, ImageType
from kernel.wire.container import ContainerInfo, MesosInfo
from kernel.wire.framework import FrameworkCapability
from kernel.wire.task import ExecutorType, Reason, Source, TaskState, TaskStatus
from tests.builders import executor, networks
from tests.kernel.agent.desk import CONFIG, Desk, command, framework, register, running

RUN, KILLED = TaskState.TASK_RUNNING, TaskState.TASK_KILLED
CHECKED, HEALTH = Reason.REASON_TASK_CHECK_STATUS_UPDATED, Reason.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED
PACE: dict[str, float] = {"delay_seconds": 1.0, "interval_seconds": 1.0, "timeout_seconds": 5.0}
COMMAND_HEALTH = HealthCheck(type=CheckType.COMMAND, command=CommandInfo(value="x"), **PACE, grace_period_seconds=0.0)
DEFAULT = executor("e", type=ExecutorType.DEFAULT, command=None)


def tcp(**fields: Any) -> HealthCheck:
    return HealthCheck(type=CheckType.TCP, tcp=TCPCheckInfo(81), **{**PACE, "grace_period_seconds": 0.0, **fields})


def shell(script: str = "check", **fields: Any) -> CheckInfo:
    return CheckInfo(CheckType.COMMAND, CheckCommand(CommandInfo(value=script, **fields)), **PACE)


def started(desk: Desk | None = None, **fields: Any) -> tuple[Desk, str]:
    """A task that runs, its updates acknowledged; and its container."""
    desk = desk or running()
    container = desk.run_task(command("t", **fields))
    desk.started(container)
    desk.acknowledge_all()
    return desk, container


def probe(desk: Desk, found: Any, seconds: float = 1.0) -> list[TaskStatus]:
    """Let the next probe over the network go out and find this; returns what is told, acknowledged."""
    desk.tick(seconds)
    desk.give(Probed(desk.one(Probe).probe_id, found))
    return told(desk)


def run_command(desk: Desk, status: int | None, seconds: float = 1.0) -> list[TaskStatus]:
    """Let the command of a check run, and end so."""
    desk.tick(seconds)
    desk.exited(desk.one(LaunchProbe).container_id, status)
    return told(desk)


def told(desk: Desk) -> list[TaskStatus]:
    effects, found = desk.effects, []
    while updates := desk.updates():
        for status in updates:
            found.append(status)
            desk.acknowledge(status)
    desk.effects = effects
    return found


# ---- What goes out --------------------------------------------------------------------------------------


def test_a_probe_over_the_network_goes_where_the_check_says() -> None:
    desk, _ = started(health_check=tcp())
    desk.tick(0.9)
    assert desk.all(Probe) == []
    desk.tick(0.1)
    assert desk.one(Probe).target == TcpTarget("127.0.0.1", 81)
    desk.tick(1)
    assert desk.all(Probe) == []  # One at a time.

    desk, _ = started(health_check=HealthCheck(type=CheckType.HTTP, http=HTTPCheckInfo(443, scheme="https"), **PACE))
    desk.tick(1)
    assert desk.one(Probe).target == HttpTarget("https", "127.0.0.1", 443, "/")


def test_a_container_is_probed_from_inside_its_network() -> None:
    """By a process that is in it; or at its address, where that is not possible."""
    image = ContainerInfo(mesos=MesosInfo(Image(ImageType.DOCKER, docker=ImageDocker("image"))))
    desk = running()
    desk.give(ContainerStarted(desk.run_task(command("t", container=image, health_check=tcp())), 7, networks("172.17.0.2")))
    desk.tick(1)
    probe = desk.one(Probe)
    assert (probe.target, probe.pid, probe.ip) == (TcpTarget("127.0.0.1", 81), 7, "172.17.0.2")


def test_a_command_runs_beside_its_task() -> None:
    """As its user, in its sandbox and control groups, with its environment and what the check adds."""
    variables = Environment((Variable("A", value="check"), Variable("C", value="check")))
    of_task = CommandInfo(value="x", user="bob", environment=Environment((Variable("A", value="task"), Variable("B", value="task"))))
    desk = running(replace(CONFIG, switch_user=True))
    container = desk.run_task(command("t", command=of_task, check=shell("test -f up", environment=variables, user="eve")))
    launch = desk.one(LaunchContainer)
    desk.started(container)
    desk.tick(1)
    made = desk.one(LaunchProbe)
    assert (made.task_container_id, made.directory, made.user) == (container, launch.directory, "bob")
    assert made.container_id != container
    assert (made.executable, made.argv) == ("/bin/sh", ("sh", "-c", "test -f up"))
    assert made.env == {**launch.env, "A": "check", "C": "check"}
    assert made.output == f"{launch.directory}/.meseta-check.output"


def test_a_command_without_a_shell_has_its_arguments() -> None:
    desk, _ = started(check=shell("probe", shell=False, arguments=("p", "-v")))
    desk.tick(1)
    assert (desk.one(LaunchProbe).executable, desk.one(LaunchProbe).argv) == ("probe", ("p", "-v"))


def test_in_an_image_a_command_is_what_is_executed() -> None:
    """Its name is looked up in the image; with its own variables apart, as those of the task are in its container already."""
    image = ContainerInfo(mesos=MesosInfo(Image(ImageType.DOCKER, docker=ImageDocker("image"))))
    variables = Environment((Variable("C", value="check"),))
    desk, _ = started(container=image, check=shell("probe", shell=False, arguments=("p", "-v"), environment=variables))
    desk.tick(1)
    assert (desk.one(LaunchProbe).argv, desk.one(LaunchProbe).variables) == (("probe", "-v"), {"C": "check"})


def test_nothing_is_probed_before_the_task_runs() -> None:
    desk = running()
    desk.run_task(command("t", health_check=tcp()))
    desk.tick(100)
    assert desk.all(Probe) == []


# ---- What is told ---------------------------------------------------------------------------------------


def test_the_first_running_has_an_empty_check_status_of_its_type() -> None:
    desk = running()
    container = desk.run_task(command("t", check=shell(), health_check=tcp()))
    desk.started(container)
    (status,) = [status for status in told(desk) if status.state is RUN]
    assert status.check_status == nothing(CheckType.COMMAND)
    assert status.healthy is None


def test_a_check_tells_exit_codes_as_they_change() -> None:
    desk, _ = started(check=shell())
    (first,) = run_command(desk, 0)
    assert (first.state, first.reason, first.source) == (RUN, CHECKED, Source.SOURCE_EXECUTOR)
    assert (first.check_status, first.healthy) == (exited(0), None)
    assert first.container_status is not None
    assert run_command(desk, 0) == []
    (second,) = run_command(desk, 3 << 8)
    assert second.check_status == exited(3 << 8)


def test_a_command_that_ended_is_forgotten() -> None:
    desk, _ = started(check=shell())
    desk.tick(1)
    name = desk.one(LaunchProbe).container_id
    desk.started(name)
    desk.exited(name, 0)
    assert desk.one(ForgetContainer).container_id == name


def test_a_command_that_cannot_be_started_found_nothing() -> None:
    desk, _ = started(health_check=COMMAND_HEALTH)
    desk.tick(1)
    desk.give(ContainerFailed(desk.one(LaunchProbe).container_id, "not found"))
    (status,) = told(desk)
    assert (status.healthy, status.reason) == (False, HEALTH)


def test_an_update_carries_the_last_results_of_both_checks() -> None:
    desk, _ = started(check=shell(), health_check=tcp())
    desk.tick(1)
    desk.exited(desk.one(LaunchProbe).container_id if desk.all(LaunchProbe) else "", 5 << 8)
    (checked,) = told(desk)
    assert (checked.check_status, checked.healthy) == (exited(5 << 8), None)
    (name,) = desk.core.state.probes
    desk.give(Probed(name, connected(True)))
    (healthy,) = told(desk)
    assert (healthy.reason, healthy.check_status, healthy.healthy) == (HEALTH, exited(5 << 8), True)
    (again,) = run_command(desk, 0)
    assert (again.reason, again.check_status, again.healthy) == (CHECKED, exited(0), True)


def test_a_task_that_recovers_is_told_healthy_again() -> None:
    desk, _ = started(health_check=tcp())
    tale = [probe(desk, connected(up)) for up in (True, True, False, False, True)]
    assert [[status.healthy for status in updates] for updates in tale] == [[True], [], [False], [False], [True]]


def test_failures_within_the_grace_period_are_not_told() -> None:
    desk, _ = started(health_check=tcp(grace_period_seconds=2.0))
    assert probe(desk, connected(False)) == []
    assert probe(desk, connected(False)) == []
    assert len(probe(desk, connected(False))) == 1


def test_a_probe_that_takes_too_long_has_failed() -> None:
    desk, _ = started(health_check=tcp())
    desk.tick(1)
    name = desk.one(Probe).probe_id
    desk.tick(4.9)
    assert desk.updates() == []
    desk.tick(0.1)
    assert desk.one(DropProbe) == DropProbe(name)
    assert [status.healthy for status in told(desk)] == [False]
    desk.give(Probed(name, connected(True)))
    assert desk.updates() == []  # Late.


def overdue() -> tuple[Desk, str, str]:
    """A command of a check that is killed for having taken too long; its task's container, and its own."""
    desk, container = started(health_check=COMMAND_HEALTH)
    desk.tick(1)
    name = desk.one(LaunchProbe).container_id
    desk.tick(1)  # The launcher is slow: that is not the command's fault.
    desk.started(name)
    desk.tick(4.9)
    assert desk.all(SignalContainer) == []
    desk.tick(0.1)
    assert desk.one(SignalContainer) == SignalContainer(name, signal.SIGKILL)
    assert desk.updates() == []
    return desk, container, name


@pytest.mark.parametrize(("status", "healthy"), [(int(signal.SIGKILL), [False]), (0, [True]), (None, [])])
def test_a_command_that_takes_too_long_is_killed_and_judged_by_its_end(status: int | None, healthy: list[bool]) -> None:
    desk, _, name = overdue()
    desk.exited(name, status)
    assert [status.healthy for status in told(desk)] == healthy
    desk.tick(1)
    assert len(desk.all(LaunchProbe)) == 1


def test_a_command_that_cannot_even_be_killed_has_failed() -> None:
    desk, _, name = overdue()
    desk.tick(59.9)
    assert desk.all(LaunchProbe) == []
    desk.tick(0.1)
    assert [status.healthy for status in told(desk)] == [False]
    desk.tick(1)
    assert len(desk.all(LaunchProbe)) == 1
    desk.exited(name, signal.SIGKILL)
    assert desk.one(ForgetContainer) == ForgetContainer(name)
    assert desk.updates() == []


def test_a_launcher_that_comes_back_is_told_again_to_kill_it() -> None:
    desk, container, name = overdue()
    desk.give(LauncherState((KnownContainer(container, 7), KnownContainer(name, 8))))
    assert desk.all(SignalContainer) == [SignalContainer(name, signal.SIGKILL)]


def test_while_the_scheduler_is_away_its_updates_do_not_pile_up() -> None:
    desk, _ = started(health_check=tcp(consecutive_failures=1000))
    for up in [True, False] * PENDING_MAX:
        desk.tick(1)
        desk.give(Probed(desk.one(Probe).probe_id, connected(up)))
    desk.updates()
    pending = desk.core.state.frameworks["f"].tasks["t"].updates.pending
    assert len(pending) == PENDING_MAX
    assert (pending[0].healthy, pending[-1].healthy) == (True, False)


# ---- Kill -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("announced", [True, False])
def test_enough_failures_kill_the_task(announced: bool) -> None:
    killing = [FrameworkCapability.TASK_KILLING_STATE] * announced
    desk, container = started(
        running(CONFIG, framework("f", *killing)),
        health_check=tcp(consecutive_failures=2),
        kill_policy=KillPolicy(DurationInfo(7_000_000_000)),
    )
    assert len(probe(desk, connected(False))) == 1
    desk.tick(1)
    desk.give(Probed(desk.one(Probe).probe_id, connected(False)))
    assert desk.all(SignalContainer) == [SignalContainer(container, signal.SIGTERM)]
    assert [(status.state, status.healthy) for status in told(desk)] == [(RUN, False)] + [(TaskState.TASK_KILLING, None)] * announced
    desk.tick(6.9)
    assert desk.all(SignalContainer) == desk.all(Probe) == []
    desk.tick(0.1)
    assert desk.all(SignalContainer) == [SignalContainer(container, signal.SIGKILL)]
    desk.exited(container, signal.SIGKILL)
    (end,) = told(desk)
    assert (end.state, end.healthy, end.source) == (KILLED, False, Source.SOURCE_EXECUTOR)


@pytest.mark.parametrize("kind", ["command", "tcp"])
def test_a_task_that_is_being_killed_is_not_probed_any_more(kind: str) -> None:
    desk, container = started(**{"check": shell()} if kind == "command" else {"health_check": tcp()})
    desk.tick(1)
    name = desk.one(LaunchProbe).container_id if kind == "command" else desk.one(Probe).probe_id
    desk.master(KillTask("f", "t"))
    if kind == "command":
        assert SignalContainer(name, signal.SIGKILL) in desk.all(SignalContainer)
        desk.exited(name, signal.SIGKILL)
    else:
        assert desk.all(DropProbe) == [DropProbe(name)]
        desk.give(Probed(name, connected(False)))
    desk.tick(2)
    assert desk.all(Probe) == desk.all(LaunchProbe) == []
    assert desk.updates() == []
    desk.exited(container, signal.SIGTERM)
    (end,) = told(desk)
    assert (end.state, end.healthy) == (KILLED, None)


def test_with_its_task_a_probe_ends() -> None:
    desk, container = started(check=shell())
    desk.tick(1)
    name = desk.one(LaunchProbe).container_id
    desk.exited(container, 0)
    assert desk.one(SignalContainer) == SignalContainer(name, signal.SIGKILL)
    assert desk.core.state.probes == {}
    assert [status.state for status in told(desk)] == [TaskState.TASK_FINISHED]


def test_after_such_a_kill_every_end_in_that_executor_is_told_unhealthy() -> None:
    """Of its group, and of what comes later, also after a restart."""
    desk = running()
    ill, mate = desk.run_group(DEFAULT, command("ill", health_check=tcp(consecutive_failures=1)), command("mate"))
    (other,) = desk.run_group(DEFAULT, command("other"), launch_executor=False)
    for container in (ill, mate, other):
        desk.started(container)
    told(desk)
    probe(desk, connected(False))
    desk.exited(ill, signal.SIGTERM)
    assert desk.one(SignalContainer) == SignalContainer(mate, signal.SIGTERM)
    desk.exited(mate, signal.SIGTERM)
    assert [(status.state, status.healthy) for status in told(desk)] == [(KILLED, False)] * 2
    again = desk.restart()
    again.give(LauncherState((KnownContainer(other, 7),)))
    register(again)
    again.exited(other, 0)
    assert [(status.state, status.healthy) for status in told(again)] == [(TaskState.TASK_FINISHED, False)]


# ---- Restarts -------------------------------------------------------------------------------------------


def restarted(desk: Desk, *containers: str, after_s: float = 1000.0) -> Desk:
    """The agent was away for a while; these containers run."""
    again = desk.restart(after_s=after_s)
    again.give(LauncherState(tuple(KnownContainer(container, 7) for container in containers)))
    register(again)
    return again


def test_what_was_told_is_not_told_again() -> None:
    desk, container = started(check=shell(), health_check=tcp(delay_seconds=0.5))
    assert len(probe(desk, connected(True), 0.5)) == 1
    assert len(run_command(desk, 3 << 8, 0.5)) == 1
    again = restarted(desk, container)
    again.tick(1)
    again.give(Probed(again.one(Probe).probe_id, connected(True)))
    again.exited(next(iter(again.core.state.probes)), 3 << 8)
    assert told(again) == []
    again.tick(1)
    again.give(Probed(again.one(Probe).probe_id, connected(False)))
    (status,) = told(again)
    assert (status.healthy, status.check_status) == (False, exited(3 << 8))


def test_failures_before_a_restart_count() -> None:
    desk, container = started(health_check=tcp(consecutive_failures=3))
    probe(desk, connected(False))
    probe(desk, connected(False))
    again = restarted(desk, container)
    again.tick(1)
    again.give(Probed(again.one(Probe).probe_id, connected(False)))
    assert again.all(SignalContainer) == [SignalContainer(container, signal.SIGTERM)]


def test_the_time_the_agent_was_away_is_no_failure() -> None:
    """Nor is the probe that was under way: its command is ended, and forgotten."""
    command_check = HealthCheck(type=CheckType.COMMAND, command=CommandInfo(value="x"), **PACE, consecutive_failures=1)
    desk, container = started(health_check=command_check)
    desk.tick(1)
    left = desk.one(LaunchProbe).container_id
    again = desk.restart(after_s=1000.0)
    again.give(LauncherState((KnownContainer(container, 7), KnownContainer(left, 8))))
    assert again.all(SignalContainer) == [SignalContainer(left, signal.SIGKILL)]
    again.exited(left, signal.SIGKILL)
    assert again.all(ForgetContainer) == [ForgetContainer(left)]
    register(again)
    assert again.updates() == []
    again.tick(1)
    again.exited(again.one(LaunchProbe).container_id, 0)
    assert [status.healthy for status in told(again)] == [True]


def test_after_a_restart_the_grace_period_is_the_tasks_own() -> None:
    desk, container = started(health_check=tcp(grace_period_seconds=100.0))
    desk.tick(1)
    again = restarted(desk, container, after_s=50.0)
    assert probe(again, connected(False)) == []
    again.tick(50)
    again.give(Probed(again.one(Probe).probe_id, connected(False)))
    assert [status.healthy for status in told(again)] == [False]


def test_after_a_restart_checks_do_not_come_all_at_once() -> None:
    desk = running()
    health = tcp(interval_seconds=100.0, delay_seconds=0.0)
    containers = [desk.run_task(command(f"t{number}", health_check=health)) for number in range(50)]
    for container in containers:
        desk.started(container)
    again = restarted(desk, *containers)
    probes = []
    for _ in range(100):
        again.tick(1)
        probes.append(len(again.all(Probe)))
    assert sum(probes) == 50
    assert max(probes) < 10


def test_a_kill_by_a_check_is_told_as_such_after_a_restart() -> None:
    desk, container = started(health_check=tcp(consecutive_failures=1))
    probe(desk, connected(False))
    again = restarted(desk, container)
    again.tick(10)
    assert again.all(Probe) == []
    again.exited(container, signal.SIGKILL)
    assert [(status.state, status.healthy) for status in told(again)] == [(KILLED, False)]


@pytest.mark.parametrize("fate", ["runs on", "ended", "lost", "ended unseen"])
def test_a_launcher_that_comes_back_may_have_the_command(fate: str) -> None:
    desk, container = started(check=shell())
    desk.tick(1)
    name = desk.one(LaunchProbe).container_id
    exit = {"ended": Exit(2 << 8, 0.0), "ended unseen": Exit(None, 0.0)}.get(fate)
    own = () if fate == "lost" else (KnownContainer(name, 8, exit),)
    desk.give(LauncherState((KnownContainer(container, 7), *own)))
    assert [status.check_status for status in told(desk)] == ([exited(2 << 8)] if fate == "ended" else [])
    assert (name in desk.core.state.probes) is (fate == "runs on")
    if fate == "runs on":
        assert desk.all(SignalContainer) == []
        desk.exited(name, 1 << 8)
        assert [status.check_status for status in told(desk)] == [exited(1 << 8)]
    elif fate == "lost":
        assert desk.all(SignalContainer) == [SignalContainer(name, signal.SIGKILL)]  # Should it still come.
    desk.tick(1)
    assert len(desk.all(LaunchProbe)) == 1


def test_a_custom_executor_does_its_own_checks() -> None:
    desk = running()
    container = desk.run_task(command("t", executor=executor("own"), command=None, health_check=tcp(), check=shell()))
    desk.started(container)
    desk.tick(100)
    assert desk.all(Probe) == desk.all(LaunchProbe) == []


def test_http_tells_the_status() -> None:
    desk, _ = started(check=CheckInfo(CheckType.HTTP, http=CheckHttp(80, "/up"), **PACE))
    (status,) = probe(desk, answered(404))
    assert status.check_status == answered(404)
