"""An agent killed at any instant and started again: no task, exit or update is lost, and nothing is started twice."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable

import msgspec
import pytest

from kernel.agent.containerizer.kinds import Containerizer
from kernel.agent.effects import (
    ContainerExited,
    ContainerStarted,
    Exit,
    ForgetContainer,
    FromMaster,
    KnownContainer,
    LaunchContainer,
    LauncherState,
    MasterConnected,
    SignalContainer,
)
from kernel.errors import StoreError
from kernel.wire.agent import AcknowledgeUpdate, FrameworkUpdated, KillTask, Registered, RunTask, RunTaskGroup, StatusUpdate
from kernel.wire.common import DurationInfo
from kernel.wire.container import ContainerInfo, ContainerType, DockerInfo
from kernel.wire.framework import FrameworkCapability
from kernel.wire.task import ExecutorType, Reason, TaskState
from tests.builders import executor, networks
from tests.kernel.agent.desk import AGENT_ID, CONFIG, Desk, command, framework, register, running

ENDED_S = 1_700_000_000.0


class Machine:
    """A launcher that outlives the agent, and a master that acknowledges; the agent crashes before the n-th input's effects
    are performed (they are persisted) or after."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.known: dict[str, KnownContainer] = {}
        self.launches: Counter[str] = Counter()
        self.told: list[tuple[str, TaskState]] = []  # Acknowledged updates, repeats left out.
        self.seen: set[bytes] = set()
        self.crash_at, self.lost_effects, self.inputs = -1, False, 0

    def give(self, message: object) -> None:
        """Hand in an input; crash if it is time to."""
        self.inputs += 1
        self.desk.give(message)
        if self.inputs == self.crash_at:
            if not self.lost_effects:
                self.perform()
            self.desk = self.desk.restart()
            self.desk.give(LauncherState(tuple(self.known.values())))
            self.perform()
            self.connect()
        else:
            self.perform()

    def connect(self) -> None:
        for message in (
            MasterConnected(),
            FromMaster(Registered(AGENT_ID, "m", 3.0, 9.0)),
            FromMaster(FrameworkUpdated(framework("f", FrameworkCapability.TASK_KILLING_STATE))),
        ):
            self.give(message)

    def perform(self) -> None:
        """Be launcher and master for the effects of the last input; what follows from them comes as further inputs."""
        following: list[object] = []
        for effect in self.desk.effects:
            if isinstance(effect, LaunchContainer) and effect.container_id not in self.known:
                self.launches[effect.container_id] += 1
                self.known[effect.container_id] = KnownContainer(effect.container_id, 7)
                following.append(ContainerStarted(effect.container_id, 7))
            elif isinstance(effect, ForgetContainer):
                self.known.pop(effect.container_id, None)
            elif isinstance(effect, SignalContainer):
                following += self.exit(effect.container_id, effect.signal)
        for update in self.desk.take_sent(StatusUpdate):
            assert update.status.uuid is not None
            if update.status.uuid not in self.seen:
                self.seen.add(update.status.uuid)
                self.told.append((update.status.task_id.value, update.status.state))
            following.append(FromMaster(AcknowledgeUpdate(update.framework_id, update.status.task_id.value, update.status.uuid)))
        for message in following:
            self.give(message)

    def exit(self, container_id: str, status: int) -> list[object]:
        """A process ends; the launcher keeps that until told to forget."""
        container = self.known.get(container_id)
        if container is None or container.exit is not None:
            return []
        exit = Exit(status, ENDED_S)
        self.known[container_id] = KnownContainer(container_id, 7, exit)
        return [ContainerExited(container_id, exit)]

    def running(self) -> list[str]:
        return [container.container_id for container in self.known.values() if container.exit is None]

    def end_all(self, status: int = 0) -> None:
        for container_id in self.running():
            for message in self.exit(container_id, status):
                self.give(message)

    def states(self, task_id: str) -> list[TaskState]:
        return [state for name, state in self.told if name == task_id]


def one_task(machine: Machine) -> None:
    machine.give(FromMaster(RunTask("f", command("t"), True)))
    machine.end_all()


def killed_task(machine: Machine) -> None:
    machine.give(FromMaster(RunTask("f", command("t"), True)))
    machine.give(FromMaster(KillTask("f", "t")))


def group(machine: Machine) -> None:
    of_group = executor("e", type=ExecutorType.DEFAULT, command=None)
    machine.give(FromMaster(RunTaskGroup("f", of_group, (command("t"), command("u")), True)))
    first = machine.running()[:1]
    for container_id in first:
        for message in machine.exit(container_id, 256):
            machine.give(message)


ENDS = {
    one_task: {"t": TaskState.TASK_FINISHED},
    killed_task: {"t": TaskState.TASK_KILLED},
    group: {"t": TaskState.TASK_FAILED, "u": TaskState.TASK_KILLED},
}
ORDER = [TaskState.TASK_STARTING, TaskState.TASK_RUNNING, TaskState.TASK_KILLING]


def play(scene: Callable[[Machine], None], crash_at: int = -1, lost_effects: bool = False) -> Machine:
    machine = Machine()
    machine.crash_at, machine.lost_effects = crash_at, lost_effects
    machine.give(LauncherState(()))
    machine.connect()
    machine.inputs = 0
    scene(machine)
    machine.end_all()  # What a crash made run later than the scene expects.
    return machine


@pytest.mark.parametrize("scene", list(ENDS), ids=lambda scene: scene.__name__)
@pytest.mark.parametrize("lost_effects", [False, True])
def test_a_crash_at_every_point_loses_nothing(scene: Callable[[Machine], None], lost_effects: bool) -> None:
    points = play(scene).inputs
    assert points > 5
    for crash_at in range(1, points + 1):
        machine = play(scene, crash_at, lost_effects)
        for task_id, end in ENDS[scene].items():
            states = machine.states(task_id)
            assert states[-1] in (end, TaskState.TASK_FINISHED), (crash_at, states)  # It may have ended by itself meanwhile.
            assert states[:-1] == sorted(states[:-1], key=ORDER.index), (crash_at, states)
            assert len(set(states)) == len(states), (crash_at, states)
        assert set(machine.launches.values()) == {1}, crash_at
        assert machine.known == {}, crash_at
        assert set(machine.desk.store) == {"agent", "frameworks/f"}, crash_at


def test_a_task_that_runs_on_is_announced_as_running_only_once() -> None:
    desk = running()
    container = desk.run_task(command("t"))
    desk.started(container)
    desk.acknowledge_all()
    again = desk.restart()
    again.give(LauncherState((KnownContainer(container, 77),)))
    register(again)
    assert again.updates() == []
    again.exited(container, 3 << 8)
    (failed,) = again.updates()
    assert failed.message == "Command exited with status 3"
    assert failed.container_status.executor_pid == 77


def test_an_exit_nobody_saw_is_not_guessed() -> None:
    desk = running()
    container = desk.run_task(command("t"))
    desk.started(container)
    desk.acknowledge_all()
    again = desk.restart()
    again.give(LauncherState(()))
    register(again)
    (failed,) = again.updates()
    assert (failed.state, failed.message) == (TaskState.TASK_FAILED, "exit status unknown")


def test_what_the_launcher_has_and_we_do_not_is_ended() -> None:
    desk = Desk()
    desk.give(
        LauncherState((KnownContainer("runs", 7), KnownContainer("ended", 8, Exit(0, ENDED_S)), KnownContainer("no", None, None, "x")))
    )
    assert desk.all(SignalContainer) == [SignalContainer("runs", signal.SIGKILL)]
    assert desk.all(ForgetContainer) == [ForgetContainer("ended"), ForgetContainer("no")]
    desk.exited("runs", 9)
    assert desk.all(ForgetContainer) == [ForgetContainer("runs")]


@pytest.mark.parametrize("killed", [True, False])
def test_the_docker_engine_s_orphans_are_ended_if_the_operator_wants_that(killed: bool) -> None:
    desk = Desk(msgspec.structs.replace(CONFIG, docker_kill_orphans=killed))
    desk.give(LauncherState((KnownContainer("runs", 7),), frozenset({Containerizer.DOCKER})))
    assert desk.all(SignalContainer) == [SignalContainer("runs", signal.SIGKILL)] * killed


def test_the_launcher_says_nothing_of_docker_containers_nor_the_engine_of_others() -> None:
    desk = running()
    docked = desk.run_task(command("docked", container=ContainerInfo(ContainerType.DOCKER, docker=DockerInfo("i"))))
    plain = desk.run_task(command("plain"))
    for container in (docked, plain):
        desk.started(container)
    desk.acknowledge_all()
    again = desk.restart()
    again.give(LauncherState((KnownContainer(plain, 7),)))
    register(again)
    assert again.updates() == []
    again.give(LauncherState((), frozenset({Containerizer.DOCKER})))
    (failed,) = again.updates()
    assert (failed.task_id.value, failed.message) == ("docked", "exit status unknown")


def test_a_container_s_own_address_is_told_and_known_after_a_restart() -> None:
    desk = running()
    docked = desk.run_task(command("t", container=ContainerInfo(ContainerType.DOCKER, docker=DockerInfo("i"))))
    desk.acknowledge_all()
    desk.give(ContainerStarted(docked, 7, networks("172.17.0.2")))
    (status,) = desk.updates()
    assert status.container_status is not None
    assert status.container_status.network_infos[0].ip_addresses[0].ip_address == "172.17.0.2"
    again = desk.restart()
    again.give(LauncherState((KnownContainer(docked, 7, networks=networks("172.17.0.2")),), frozenset({Containerizer.DOCKER})))
    assert again.core.state.containers[docked].networks == networks("172.17.0.2")


def test_a_launcher_that_was_away_is_told_again_what_to_kill() -> None:
    desk = running()
    container = desk.run_task(command("t"))
    desk.started(container)
    desk.master(KillTask("f", "t"))
    desk.give(LauncherState((KnownContainer(container, 77),)))
    assert desk.all(SignalContainer) == [SignalContainer(container, signal.SIGTERM)]
    desk.tick(3)
    desk.give(LauncherState((KnownContainer(container, 77),)))
    assert desk.all(SignalContainer) == [SignalContainer(container, signal.SIGKILL)]


@pytest.mark.parametrize("away_s", [1.0, 100.0])
def test_deadlines_go_on_while_the_agent_is_away(away_s: float) -> None:
    desk = running()
    killed = desk.run_task(command("killed"))
    limited = desk.run_task(command("limited", max_completion_time=DurationInfo(10_000_000_000)))
    desk.master(KillTask("f", "killed"))
    desk.seconds += away_s
    again = desk.restart()
    again.give(LauncherState((KnownContainer(killed, 7), KnownContainer(limited, 8))))
    again.tick(0)
    late = {effect.container_id for effect in again.all(SignalContainer) if effect.signal == signal.SIGKILL}
    assert late == ({killed, limited} if away_s == 100.0 else set())
    again.tick(2)
    again.tick(7)
    if away_s == 1.0:
        assert again.all(SignalContainer) == [SignalContainer(limited, signal.SIGKILL)]


@pytest.mark.parametrize("aware", [True, False])
def test_after_a_restart_of_the_machine_tasks_are_reported_lost(aware: bool) -> None:
    capabilities = (FrameworkCapability.PARTITION_AWARE,) if aware else ()
    desk = running(Desk().config, framework("f", *capabilities))
    desk.started(desk.run_task(command("t")))
    desk.run_task(command("custom", executor=executor("e")))
    desk.run_group(executor("d", type=ExecutorType.DEFAULT, command=None), command("g"))
    desk.exited(desk.run_task(command("done")), 0)
    again = desk.restart(boot_id="another")
    again.give(LauncherState(()))
    register(again, framework("f", *capabilities))
    assert again.core.state.agent_id == AGENT_ID
    ends = {}
    while updates := again.updates():
        for status in updates:
            ends[status.task_id.value] = (status.state, status.reason)
            again.acknowledge(status)
    lost = TaskState.TASK_GONE if aware else TaskState.TASK_LOST
    assert ends["done"] == (TaskState.TASK_FINISHED, None)
    assert {ends[name] for name in ("t", "custom", "g")} == {(lost, Reason.REASON_AGENT_RESTARTED)}
    assert set(again.store) == {"agent", "frameworks/f"}
    assert again.restart(boot_id="another").core.state.agent_id == AGENT_ID


@pytest.mark.parametrize("key", ["agent", "frameworks/f", "tasks/f/t", "updates/f/t", "executors/f/e"])
def test_an_unreadable_entry_stops_the_agent(key: str) -> None:
    desk = running()
    desk.run_task(command("t"))
    desk.run_task(command("custom", executor=executor("e")))
    desk.store[key] = b"\xc1"
    with pytest.raises(StoreError):
        desk.restart()


@pytest.mark.parametrize(
    ("key", "left"),
    [
        ("frameworks/f", set()),
        ("tasks/f/t", {"custom", "g"}),
        ("updates/f/t", {"custom", "g"}),
        ("executors/f/e", {"t", "g"}),
        ("executors/f/d", {"t", "custom"}),
    ],
)
def test_who_is_not_strict_goes_on_without_it(key: str, left: set[str]) -> None:
    """Its container is ended, and the master asks for what it believes here."""
    desk = running()
    container = desk.run_task(command("t"))
    desk.run_task(command("custom", executor=executor("e")))
    desk.run_group(executor("d", type=ExecutorType.DEFAULT, command=None), command("g"))
    desk.store[key] = b"\xc1"
    again = desk.restart(strict=False)
    assert {task_id for framework in again.core.state.frameworks.values() for task_id in framework.tasks} == left
    again.give(LauncherState((KnownContainer(container, 7),)))
    ended = [effect.container_id for effect in again.all(SignalContainer)]
    assert ended == ([] if "t" in left else [container])
    assert again.core.state.counts["slave/recovery_errors"] > 0
    assert not any(name.endswith(key.partition("/")[2]) for name in again.store if name.startswith(key.partition("/")[0]))
    assert again.restart().core.state.agent_id == AGENT_ID, "what is left can be read"


def test_who_is_not_strict_is_a_new_agent_when_it_does_not_know_who_it_is() -> None:
    desk = running()
    desk.run_task(command("t"))
    desk.store["agent"] = b"\xc1"
    again = desk.restart(strict=False)
    again.give(LauncherState(()))
    assert (again.core.state.agent_id, again.store) == ("", {})


@pytest.mark.parametrize(
    ("key", "right", "wrong"),
    [
        ("agent", AGENT_ID, "../m1"),
        ("agent", AGENT_ID, "a\\1S1"),
        ("executors/f/e", "the container of the executor", ".."),
        ("executors/f/e", "the container of the executor", "a/../../b"),
        ("tasks/f/t", "the container of the task", "/etc"),
    ],
)
def test_an_id_that_could_lead_elsewhere_stops_the_agent(key: str, right: str, wrong: str) -> None:
    """Whatever wrote it there: it would become part of a path."""
    desk = running()
    container = desk.run_task(command("t"))
    of_executor = desk.run_task(command("custom", executor=executor("e")))
    right = {"the container of the task": container, "the container of the executor": of_executor}.get(right, right)
    record = msgspec.msgpack.decode(desk.store[key])
    field = next(name for name, value in record.items() if value == right)
    desk.store[key] = msgspec.msgpack.encode({**record, field: wrong})
    with pytest.raises(StoreError):
        desk.restart()


@pytest.mark.parametrize("key", ["frameworks/..", "frameworks/a/b", "frameworks/"])
def test_a_key_that_could_lead_elsewhere_stops_the_agent(key: str) -> None:
    desk = running()
    desk.run_task(command("t"))
    desk.store[key] = desk.store["frameworks/f"]
    with pytest.raises(StoreError):
        desk.restart()
