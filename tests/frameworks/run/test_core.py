"""A one-off job against a fake master: what it launches, when it ends, and with which exit status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from frameworks.run.core import (
    DETACHED_S,
    FAILOVER_S,
    INTERRUPTED,
    Drained,
    Ended,
    Interrupt,
    Job,
    Launched,
    Notice,
    RunScheduler,
    Waits,
)
from frameworks.sdk.driver import Lost, Stop
from frameworks.sdk.exits import COULD_NOT_RUN
from frameworks.sdk.scheduler import Scheduler
from frameworks.sdk.tasks import Port, resources
from frameworks.sdk.testing import FakeMaster
from kernel.clock import Now
from kernel.mainloop import Tick
from kernel.wire.command import URI
from kernel.wire.container import DockerPortMapping, Network, NetworkInfo, PortMapping
from kernel.wire.resources import Resources
from kernel.wire.task import TaskState

FINISHED, FAILED, KILLED = TaskState.TASK_FINISHED, TaskState.TASK_FAILED, TaskState.TASK_KILLED
ROOM = {"a1": resources(cpus=4, mem=4096)}


def start(agents: Mapping[str, Any] = ROOM, *, drains: bool = False, connect: bool = True, **job: Any) -> FakeMaster:
    wanted = Job(("true",), "true", resources(cpus=1, mem=32), **job)

    def make(kept: Mapping[str, bytes], fresh_id: str, spread: float) -> Scheduler:
        return RunScheduler(wanted, "run-00000000-abcdefgh", spread, drains=drains)

    return FakeMaster(make, dict(agents), connect=connect)


def core(master: FakeMaster) -> RunScheduler:
    assert isinstance(master.scheduler, RunScheduler)
    return master.scheduler


def notices(master: FakeMaster) -> list[str]:
    return [effect.text for effect in master.effects if isinstance(effect, Notice)]


# ---- One task -------------------------------------------------------------------------------------------


def test_one_task_is_launched_told_of_and_ends_the_run() -> None:
    master = start()
    (task_id,) = master.tasks
    assert task_id == "true-abcdefgh"
    command = master.tasks[task_id].info.command
    assert command is not None
    assert (command.shell, command.value, command.arguments) == (False, "true", ("true",))
    assert Launched(task_id, "run-00000000-abcdefgh", "host-a1", "http://127.0.0.1:5051") in master.effects
    master.run_all()
    assert master.stopped is None
    master.update(task_id, FAILED, "Command exited with status 3")
    assert master.stopped == Stop(None)
    assert core(master).exit_status() == 3
    assert [effect.outcome.exit_status for effect in master.effects if isinstance(effect, Ended)] == [3]


def test_files_to_fetch_are_part_of_the_command() -> None:
    master = start(fetch=("http://h/a.tgz", "/b"))
    command = master.tasks["true-abcdefgh"].info.command
    assert command is not None
    assert command.uris == (URI("http://h/a.tgz"), URI("/b"))


def test_a_run_leaves_nothing_behind() -> None:
    master = start()
    master.update("true-abcdefgh", FINISHED)
    assert [call.type for call in master.calls][-2:] == ["ACKNOWLEDGE", "TEARDOWN"]
    assert set(master.kept) == {"framework"}  # Nobody will ever ask a store in memory.


def test_the_output_is_waited_for() -> None:
    master = start(drains=True)
    master.run_all()
    master.update("true-abcdefgh", FINISHED)
    assert master.stopped is None
    master.tell(Drained())
    assert master.stopped == Stop(None)


def test_its_framework_dies_soon_after_it_and_a_detached_one_much_later() -> None:
    for detach, failover_s in ((False, FAILOVER_S), (True, DETACHED_S)):
        subscribe = start(detach=detach).calls[0].subscribe
        assert subscribe is not None
        assert subscribe.framework_info.failover_timeout == failover_s


def test_gpus_are_asked_for_only_when_wanted() -> None:
    for gpus in (0, 1):
        job = Job(("true",), "true", resources(cpus=1, gpus=gpus))
        info = RunScheduler(job, "run-1", 0.5, drains=False).driver.info
        assert any(str(capability.type).endswith("GPU_RESOURCES") for capability in info.capabilities) == bool(gpus)


# ---- Interrupts -----------------------------------------------------------------------------------------


def test_the_first_interrupt_kills_and_waits() -> None:
    master = start()
    master._kill = lambda task_id: None  # type: ignore[method-assign]
    master.tell(Interrupt())
    assert len(master.calls_of("KILL")) == 1
    assert master.stopped is None
    master.update("true-abcdefgh", KILLED)
    assert master.stopped == Stop(None)
    assert core(master).exit_status() == INTERRUPTED


def test_the_second_interrupt_abandons() -> None:
    master = start()
    master._kill = lambda task_id: None  # type: ignore[method-assign]
    master.tell(Interrupt())
    master.tell(Interrupt())
    assert master.stopped == Stop(None)
    assert core(master).exit_status() == INTERRUPTED
    assert master.calls_of("TEARDOWN") == []


def test_an_interrupt_ends_what_still_waits_at_once() -> None:
    master = start({})
    master.tell(Interrupt())
    assert master.stopped == Stop(None)


# ---- Many instances -------------------------------------------------------------------------------------


def test_many_instances_use_the_room_there_is() -> None:
    master = start(instances=10)
    assert len(master.tasks) == 4
    for _ in range(3):
        for task_id in list(master.tasks):
            master.update(task_id, FINISHED)
    assert master.stopped == Stop(None)
    assert core(master).exit_status() == 0
    assert len(core(master).outcomes) == 10


def test_one_failure_of_many_is_exit_status_1() -> None:
    master = start(instances=3)
    for number, state in ((1, FINISHED), (2, FAILED), (3, FINISHED)):
        master.update(f"true-abcdefgh-{number}", state, "Command exited with status 7" if state is FAILED else None)
    assert core(master).exit_status() == 1


# ---- Detached -------------------------------------------------------------------------------------------


def test_a_detached_run_ends_when_its_tasks_run_and_leaves_them() -> None:
    master = start(detach=True, instances=2)
    master.update("true-abcdefgh-1", TaskState.TASK_RUNNING)
    assert master.stopped is None
    master.update("true-abcdefgh-2", TaskState.TASK_STARTING)
    assert master.stopped is None
    master.update("true-abcdefgh-2", TaskState.TASK_RUNNING)
    assert master.stopped == Stop(None)
    assert core(master).exit_status() == 0
    assert master.calls_of("TEARDOWN") == []
    assert len(master.tasks) == 2


def test_a_detached_run_that_fails_at_once_says_so() -> None:
    master = start(detach=True)
    master.update("true-abcdefgh", FAILED, "Failed to launch container: no such program")
    assert core(master).exit_status() == COULD_NOT_RUN


# ---- Trouble --------------------------------------------------------------------------------------------


def test_without_a_master_it_gives_up_soon() -> None:
    master = start(connect=False)
    master.advance(10)
    assert master.stopped == Stop("connection refused")
    assert core(master).unreached
    assert master.now.mono_s < 1_008


def test_a_master_that_hangs_is_given_up() -> None:
    scheduler = RunScheduler(Job(("true",), "true", resources(cpus=1, mem=32)), "run-00000000-abcdefgh", 0.0, drains=False)
    scheduler.receive(Tick(), Now(1_000.0, 0.0))
    assert Stop("no answer in time") in scheduler.receive(Tick(), Now(1_016.0, 0.0))
    assert scheduler.unreached


@pytest.mark.parametrize("late_s", [0, 30])
def test_a_master_that_refuses_is_no_master_that_is_not_there(late_s: int) -> None:
    master = start(connect=False)
    scheduler = core(master)
    scheduler.receive(Tick(), Now(1_000.0, 0.0))
    scheduler.receive(Lost(1, "answered 401", refused=True), Now(1_000.0 + late_s, 0.0))
    assert not scheduler.unreached


def test_a_master_that_comes_back_is_waited_for() -> None:
    master = start()
    master.run_all()
    master.reachable = False
    master.break_stream("hung up")
    master.advance(30)
    assert master.stopped is None
    master.reachable = True
    master.advance(11)
    assert notices(master) == ["lost the master (hung up); trying again", "back at the master"]


def test_a_run_objects_to_maintenance_where_its_task_is() -> None:
    """It runs once: what is killed is lost."""
    master = start()
    master.run_all()
    master.ask_to_leave("a1")
    assert len(master.calls_of("DECLINE_INVERSE_OFFERS")) == 1


def test_a_run_that_an_operator_removes_fails() -> None:
    master = start()
    master.remove_framework()
    assert master.stopped == Stop("Framework has been removed")


def test_while_it_waits_what_is_known_of_why_is_said_now_and_then() -> None:
    master = start({"a1": resources(cpus=0.5, mem=4096)})
    master.advance(10)
    waits = Waits(Resources.parse("cpus:1;mem:32"), "host-a1: cpus 1 wanted, 0.5 free")
    assert [effect for effect in master.effects if isinstance(effect, Waits)] == [waits]
    master.advance(10)
    assert [effect for effect in master.effects if isinstance(effect, Waits)] == [waits, waits]


# ---- Networks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_a_container_is_on_the_network_asked_for_with_its_ports(kind: str) -> None:
    """The Docker engine maps ports that were offered, so they are asked for."""
    room = {"a1": resources(cpus=4, mem=4096) + Resources.parse("ports:[8080-8081]")}
    master = start(room, image="i", containerizer=kind, network="bridge", ports=(Port(8080, 80),))
    (task,) = master.tasks.values()
    container = task.info.container
    assert container is not None
    if kind == "docker":
        assert container.docker is not None
        assert (container.docker.network, container.docker.port_mappings) == (Network.BRIDGE, (DockerPortMapping(8080, 80, "tcp"),))
    else:
        assert container.network_infos == (NetworkInfo(name="bridge", port_mappings=(PortMapping(8080, 80, "tcp"),)),)
    assert Resources.of(task.info.resources).contains(Resources.parse("ports:[8080-8080]")) is (kind == "docker")
