"""Command tasks and groups: orders of the master and news of the launcher in, updates and commands out."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from kernel.agent.effects import ContainerFailed, ForgetContainer, LaunchContainer, SignalContainer
from kernel.wire.agent import ExecutorExited, KillTask, RunTask, ShutdownExecutor, ShutdownFramework
from kernel.wire.command import CheckCommand, CheckInfo, CheckTcp, CheckType, CommandInfo, HealthCheck, KillPolicy, Variable, VariableType
from kernel.wire.command import Environment as Env
from kernel.wire.common import DurationInfo, Volume, VolumeMode
from kernel.wire.container import ContainerInfo, ContainerType, DockerInfo, MesosInfo, Network, NetworkInfo
from kernel.wire.framework import FrameworkCapability
from kernel.wire.task import ExecutorInfo, ExecutorType, Reason, Source, TaskState
from tests.builders import executor
from tests.kernel.agent.desk import CONFIG, Desk, command, framework, running

KILLING = FrameworkCapability.TASK_KILLING_STATE
PARTITION_AWARE = FrameworkCapability.PARTITION_AWARE
STARTING, RUN, FINISHED = TaskState.TASK_STARTING, TaskState.TASK_RUNNING, TaskState.TASK_FINISHED


def grace(seconds: float) -> KillPolicy:
    return KillPolicy(DurationInfo(int(seconds * 1e9)))


def group_executor(executor_id: str = "e") -> ExecutorInfo:
    return executor(executor_id, type=ExecutorType.DEFAULT, command=None)


# ---- Command tasks --------------------------------------------------------------------------------------


def test_a_task_starts_runs_and_ends() -> None:
    desk = running()
    container = desk.run_task(command("t"))
    (starting,) = desk.updates()
    assert (starting.state, starting.source, starting.executor_id.value) == (STARTING, Source.SOURCE_EXECUTOR, "t")
    desk.acknowledge(starting)
    desk.started(container, pid=77)
    (run,) = desk.updates()
    assert run.state is RUN
    assert run.container_status.container_id.value == container
    assert run.container_status.executor_pid == 77
    assert run.container_status.network_infos[0].ip_addresses[0].ip_address == "127.0.0.1"
    desk.acknowledge(run)
    desk.exited(container, 0)
    assert desk.all(ForgetContainer) == [ForgetContainer(container)]
    (finished,) = desk.updates()
    assert (finished.state, finished.message, finished.source) == (FINISHED, "Command exited with status 0", Source.SOURCE_EXECUTOR)
    desk.acknowledge(finished)
    assert set(desk.store) == {"agent", "frameworks/f"}


def test_the_container_is_kept_before_it_is_launched_and_its_end_before_it_is_forgotten() -> None:
    """What is persisted is written before any effect; so it only has to be there."""
    desk = running()
    container = desk.run_task(command("t"))
    assert "tasks/f/t" in desk.store
    desk.exited(container, 0)
    assert b"TASK_FINISHED" in desk.store["updates/f/t"]
    assert desk.one(ForgetContainer).container_id == container


def test_a_repeated_order_is_harmless() -> None:
    desk = running()
    desk.run_task(command("t"))
    desk.master(RunTask("f", command("t"), True))
    assert desk.effects == []


def test_a_task_of_a_framework_nobody_told_of_is_refused() -> None:
    desk = running()
    desk.run_task(command("t"), framework_id="stranger")
    (status,) = desk.updates()
    assert (status.state, status.reason) == (TaskState.TASK_LOST, Reason.REASON_INVALID_FRAMEWORKID)


SECRET = Env((Variable("A", VariableType.SECRET),))


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"command": CommandInfo()}, "value"),
        ({"command": CommandInfo(value="x", environment=SECRET)}, "secret"),
        ({"health_check": HealthCheck()}, "the health check: it needs a type"),
        ({"check": CheckInfo()}, "the check: it needs a type"),
        ({"check": CheckInfo(CheckType.TCP, tcp=CheckTcp(80), interval_seconds=float("nan"))}, "the check: its durations"),
        ({"check": CheckInfo(CheckType.COMMAND, CheckCommand(CommandInfo(value="x", environment=SECRET)))}, "the check: the environment"),
        ({"container": ContainerInfo(ContainerType.DOCKER, docker=DockerInfo("i", network=Network.USER))}, "USER"),
        ({"container": ContainerInfo(ContainerType.MESOS, volumes=(Volume(VolumeMode.RW, "v"),))}, "volumes"),
        ({"container": ContainerInfo(ContainerType.MESOS, network_infos=(NetworkInfo(name="n"),))}, "networks"),
        ({"container": ContainerInfo(ContainerType.MESOS, hostname="h")}, "host names"),
    ],
)
def test_what_is_not_supported_fails_and_says_so(fields: dict[str, Any], word: str) -> None:
    desk = running()
    assert desk.run_task(command("t", **fields)) == ""
    (status,) = desk.updates()
    assert (status.state, status.reason) == (TaskState.TASK_FAILED, Reason.REASON_CONTAINER_LAUNCH_FAILED)
    assert word in status.message
    desk.acknowledge(status)
    assert "tasks/f/t" not in desk.store


@pytest.mark.parametrize("container", [ContainerInfo(ContainerType.MESOS), ContainerInfo(ContainerType.MESOS, mesos=MesosInfo())])
def test_an_empty_container_is_none(container: ContainerInfo) -> None:
    assert running().run_task(command("t", container=container)) != ""


def test_a_launch_that_fails_is_told() -> None:
    desk = running()
    container = desk.run_task(command("t"))
    desk.give(ContainerFailed(container, "no user is called 'x'"))
    assert desk.acknowledge_all() == [STARTING, TaskState.TASK_FAILED]
    desk.give(ContainerFailed(container, "again"))
    assert desk.updates() == []


# ---- Kill -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["launching", "running", "ended"])
@pytest.mark.parametrize("announced", [True, False])
def test_a_kill_at_any_moment(moment: str, announced: bool) -> None:
    desk = running(CONFIG, framework("f", *([KILLING] if announced else [])))
    container = desk.run_task(command("t"))
    if moment != "launching":
        desk.started(container)
    if moment == "ended":
        desk.exited(container, 0)
    seen = desk.acknowledge_all()
    desk.master(KillTask("f", "t"))
    if moment == "ended":
        assert desk.acknowledge_all() == [TaskState.TASK_LOST]  # It is history by now.
        return
    assert desk.all(SignalContainer) == [SignalContainer(container, signal.SIGTERM)]
    desk.started(container)
    desk.exited(container, int(signal.SIGTERM))
    expected = [TaskState.TASK_KILLING] * announced + [TaskState.TASK_KILLED]
    assert desk.acknowledge_all() == expected, seen


def test_sigkill_follows_after_the_grace() -> None:
    desk = running()
    container = desk.run_task(command("t", kill_policy=grace(7)))
    desk.master(KillTask("f", "t"))
    desk.tick(6.9)
    assert desk.all(SignalContainer) == []
    desk.tick(0.2)
    assert desk.all(SignalContainer) == [SignalContainer(container, signal.SIGKILL)]
    desk.tick(60)
    assert desk.all(SignalContainer) == []


@pytest.mark.parametrize(("task_s", "call_s", "due_s"), [(None, None, 3.0), (7.0, None, 7.0), (7.0, 1.0, 1.0), (1.0, 7.0, 7.0)])
def test_whose_grace_counts(task_s: float | None, call_s: float | None, due_s: float) -> None:
    desk = running()
    container = desk.run_task(command("t", kill_policy=None if task_s is None else grace(task_s)))
    desk.master(KillTask("f", "t", None if call_s is None else grace(call_s)))
    desk.tick(due_s - 0.01)
    assert desk.all(SignalContainer) == []
    desk.tick(0.02)
    assert desk.all(SignalContainer) == [SignalContainer(container, signal.SIGKILL)]


def test_a_later_kill_shortens_the_grace_and_none_lengthens_it() -> None:
    desk = running()
    container = desk.run_task(command("t"))
    desk.master(KillTask("f", "t", grace(60)))
    desk.tick(1)
    desk.master(KillTask("f", "t", grace(100)))
    assert desk.effects == []
    desk.master(KillTask("f", "t", grace(0)))
    assert desk.all(SignalContainer) == [SignalContainer(container, signal.SIGKILL)]


@pytest.mark.parametrize(("capabilities", "state"), [((), TaskState.TASK_LOST), ((PARTITION_AWARE,), TaskState.TASK_DROPPED)])
def test_killing_what_is_not_here(capabilities: tuple[FrameworkCapability, ...], state: TaskState) -> None:
    desk = running(CONFIG, framework("f", *capabilities))
    desk.master(KillTask("f", "unknown"))
    (status,) = desk.updates()
    assert (status.state, status.source, status.reason) == (state, Source.SOURCE_AGENT, Reason.REASON_EXECUTOR_TERMINATED)
    assert status.message == "Cannot find executor"
    desk.tick(10)
    assert [again.uuid for again in desk.updates()] == [status.uuid]
    desk.acknowledge(status)
    desk.tick(1000)
    assert desk.updates() == []


def test_a_task_that_runs_too_long_is_killed_at_once_and_has_failed() -> None:
    desk = running()
    container = desk.run_task(command("t", max_completion_time=DurationInfo(5_000_000_000)))
    desk.started(container)
    desk.acknowledge_all()
    desk.tick(4.9)
    assert desk.all(SignalContainer) == []
    desk.tick(0.2)
    assert desk.all(SignalContainer) == [SignalContainer(container, signal.SIGKILL)]
    desk.exited(container, int(signal.SIGKILL))
    (status,) = desk.updates()
    assert (status.state, status.reason) == (TaskState.TASK_FAILED, Reason.REASON_MAX_COMPLETION_TIME_REACHED)


@pytest.mark.parametrize("order", [ShutdownExecutor("f", "t"), ShutdownFramework("f")])
@pytest.mark.parametrize(("policy", "told", "grace_s"), [(None, "5secs", 3.0), (grace(60), "62secs", 60.0), (grace(0.5), "2500ms", 0.5)])
def test_how_long_a_command_task_has_when_its_executor_is_shut_down(order: Any, policy: Any, told: str, grace_s: float) -> None:
    """That executor, a name only, is given what the kill policy says and 2 s, and leaves its task all but these."""
    desk = running()
    container = desk.run_task(command("t", kill_policy=policy))
    assert desk.one(LaunchContainer).env["MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD"] == told
    desk.master(order)
    assert desk.all(SignalContainer) == [SignalContainer(container, signal.SIGTERM)]
    desk.tick(grace_s - 0.1)
    assert desk.all(SignalContainer) == []
    desk.tick(0.1)
    assert desk.all(SignalContainer) == [SignalContainer(container, signal.SIGKILL)]


def test_a_command_task_whose_executor_is_shut_down_was_killed() -> None:
    desk = running()
    container = desk.run_task(command("t"))
    desk.master(ShutdownExecutor("f", "t"))
    desk.tick(3.0)
    desk.exited(container, int(signal.SIGKILL))
    assert desk.acknowledge_all()[-1] is TaskState.TASK_KILLED


def test_a_framework_that_is_shut_down_ends_without_a_word() -> None:
    desk = running()
    container = desk.run_task(command("t"))
    desk.run_task(command("done"))
    desk.exited(desk.one(LaunchContainer).container_id, 0)
    desk.sent.clear()
    desk.master(ShutdownFramework("f"))
    assert SignalContainer(container, signal.SIGTERM) in desk.effects
    desk.run_task(command("late"))
    desk.exited(container, int(signal.SIGTERM))
    assert desk.sent == []
    assert set(desk.store) == {"agent"}


# ---- Groups ---------------------------------------------------------------------------------------------


def test_the_tasks_of_a_group_are_containers_inside_their_executors() -> None:
    """The executor's sandbox is found as `latest` like any other, though no process of its own was started in it."""
    desk = running()
    containers = desk.run_group(group_executor(), command("a"), command("b"))
    launches = desk.all(LaunchContainer)
    parent = desk.core.state.frameworks["f"].executors["e"].container_id
    base = f"/work/slaves/m-S1/frameworks/f/executors/e/runs/{parent}"
    assert [launch.directory for launch in launches] == [f"{base}/containers/{container}" for container in containers]
    latest = (base[: -len(parent)] + "latest", parent)
    assert launches[0].links == ((f"{base}/tasks/a", f"../containers/{containers[0]}"), latest)
    desk.started(containers[0])
    (first, _) = desk.updates()
    assert (first.state, first.executor_id.value) == (STARTING, "e")
    assert first.container_status.container_id.parent.value == parent


def test_an_executor_ends_when_the_last_update_of_its_last_task_is_acknowledged() -> None:
    desk = running()
    a, b = desk.run_group(group_executor(), command("a"), command("b"))
    for container in (a, b):
        desk.started(container)
        desk.exited(container, 0)
    assert desk.take_sent(ExecutorExited) == []
    desk.acknowledge_all()
    assert desk.take_sent(ExecutorExited) == [ExecutorExited("f", "e", 0)]
    assert set(desk.store) == {"agent", "frameworks/f"}


def test_an_executor_waits_a_minute_for_acknowledgements() -> None:
    desk = running()
    (a,) = desk.run_group(group_executor(), command("a"))
    desk.exited(a, 0)
    desk.tick(59)
    assert desk.take_sent(ExecutorExited) == []
    desk.tick(2)
    assert desk.take_sent(ExecutorExited) == [ExecutorExited("f", "e", 0)]
    assert "tasks/f/a" in desk.store  # Its updates are owed all the same.


def test_a_second_group_joins_a_living_executor_and_does_not_share_the_fate_of_the_first() -> None:
    desk = running()
    (a,) = desk.run_group(group_executor(), command("a"))
    (b,) = desk.run_group(group_executor(), command("b"), launch_executor=False)
    desk.exited(a, 256)
    assert desk.all(SignalContainer) == []
    desk.exited(b, 0)
    assert set(desk.acknowledge_all()) == {STARTING, TaskState.TASK_FAILED, FINISHED}


@pytest.mark.parametrize(("status", "spared"), [(0, True), (256, False), (9, False)])
def test_a_failed_task_takes_its_group_with_it(status: int, spared: bool) -> None:
    desk = running()
    a, b = desk.run_group(group_executor(), command("a"), command("b", kill_policy=grace(60)))
    for container in (a, b):
        desk.started(container)
    desk.exited(a, status)
    assert desk.all(SignalContainer) == ([] if spared else [SignalContainer(b, signal.SIGTERM)])
    if not spared:
        desk.tick(3.0)  # Not its own minute.
        assert desk.all(SignalContainer) == [SignalContainer(b, signal.SIGKILL)]
        desk.exited(b, 9)
        assert desk.core.state.frameworks["f"].tasks["b"].state is TaskState.TASK_KILLED


def test_killing_one_task_of_a_group_kills_all() -> None:
    desk = running()
    a, b = desk.run_group(group_executor(), command("a"), command("b"))
    desk.master(KillTask("f", "a"))
    assert desk.all(SignalContainer) == [SignalContainer(a, signal.SIGTERM)]
    desk.exited(a, 15)
    assert desk.all(SignalContainer) == [SignalContainer(b, signal.SIGTERM)]


def test_of_a_group_that_cannot_be_launched_nothing_is() -> None:
    desk = running()
    assert desk.run_group(group_executor(), command("a"), command("b", health_check=HealthCheck())) == []
    assert desk.take_sent(ExecutorExited) == [ExecutorExited("f", "e", -1)]
    tasks = desk.core.state.frameworks["f"].tasks
    assert (tasks["a"].state, tasks["b"].state) == (TaskState.TASK_KILLED, TaskState.TASK_FAILED)


@pytest.mark.parametrize(("exists", "launch_executor"), [(False, False), (True, True)])
def test_a_group_whose_executor_is_not_as_the_master_believes_is_dropped(exists: bool, launch_executor: bool) -> None:
    desk = running(CONFIG, framework("f", PARTITION_AWARE))
    if exists:
        desk.run_group(group_executor(), command("a"))
    desk.sent.clear()
    assert desk.run_group(group_executor(), command("b"), launch_executor=launch_executor) == []
    (status,) = desk.updates()
    assert (status.state, status.reason) == (TaskState.TASK_DROPPED, Reason.REASON_EXECUTOR_TERMINATED)


def test_shutting_down_a_default_executor_ends_all_its_tasks() -> None:
    desk = running()
    a, b = desk.run_group(group_executor(), command("a"), command("b"))
    desk.master(ShutdownExecutor("f", "e"))
    assert {effect.container_id for effect in desk.all(SignalContainer)} == {a, b}
    assert desk.run_group(group_executor(), command("c"), launch_executor=False) == []
    for container in (a, b):
        desk.exited(container, 15)
    desk.acknowledge_all()
    assert "executors/f/e" not in desk.store


def test_a_command_task_may_not_take_the_name_of_a_living_executor() -> None:
    desk = running(CONFIG, framework("f", PARTITION_AWARE))
    desk.run_group(group_executor("x"), command("a"))
    desk.sent.clear()
    assert desk.run_task(command("x")) == ""
    (status,) = desk.updates()
    assert (status.state, status.reason) == (TaskState.TASK_DROPPED, Reason.REASON_TASK_INVALID)


def test_equal_inputs_give_equal_effects() -> None:
    def play() -> list[Any]:
        desk = running()
        effects = []
        for index in range(5):
            container = desk.run_task(command(f"t{index}"))
            effects += desk.effects
            desk.exited(container, 0)
            effects += desk.effects
        return effects

    assert play() == play()


def test_an_empty_desk_is_a_new_agent() -> None:
    assert Desk().core.state.agent_id == ""
