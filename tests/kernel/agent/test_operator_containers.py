"""Containers that operators launch: what is decided, kept and ended (spec: mesos-v1, section 4.2, LAUNCH_CONTAINER)."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from kernel.agent.effects import (
    ContainerBegan,
    ContainerEnded,
    ContainerExited,
    ContainerFailed,
    ContainerStarted,
    Exit,
    ForgetContainer,
    KillContainer,
    KnownContainer,
    LaunchContainer,
    LauncherState,
    LaunchOperated,
    Leave,
    RemoveOperated,
    SignalContainer,
    Stop,
    View,
)
from kernel.agent.operator_containers import CONTAINERS_MAX, NAME_BYTES_MAX
from kernel.agent.state import Ending
from kernel.errors import CallError, Conflict, NotFound, Unavailable
from kernel.mainloop import Persist
from kernel.wire.agent_operator import LaunchContainer as Asked
from kernel.wire.command import CommandInfo, Environment, Variable
from kernel.wire.common import Image, ImageDocker, ImageType
from kernel.wire.container import ContainerInfo, ContainerType, DockerInfo, LinuxInfo, MesosInfo
from kernel.wire.ids import ContainerID
from tests.builders import executor, resources
from tests.kernel.agent.desk import AGENT_ID, Desk, command, register, running

ENDED_S = 1_700_000_000.0
GIVEN = resources("cpus:1;mem:64")


def asked(value: str = "true", **fields: Any) -> Asked:
    return Asked(ContainerID("unused"), CommandInfo(value=value), **fields)


def with_task(desk: Desk | None = None, **fields: Any) -> tuple[Desk, str]:
    """A desk with a task that runs, and its container."""
    desk = desk or running()
    container = desk.run_task(command("t", **fields))
    desk.started(container)
    return desk, container


def launched(desk: Desk, name: str, wanted: Asked | None = None) -> LaunchContainer:
    """Launch one, and have it run."""
    assert desk.give(LaunchOperated(name, wanted or asked())) is True
    launch = desk.one(LaunchContainer)
    desk.started(name)
    return launch


def ends(desk: Desk, name: str, status: int = 0) -> None:
    desk.give(ContainerExited(name, Exit(status, ENDED_S)))


def test_it_is_kept_before_it_is_launched() -> None:
    desk, container = with_task()
    assert desk.give(LaunchOperated(f"{container}.in", asked())) is True
    kinds = [type(effect) for effect in desk.effects if isinstance(effect, Persist | LaunchContainer)]
    assert kinds == [Persist, LaunchContainer]
    assert f"containers/{container}.in" in desk.store


def test_one_inside_another_is_as_that_but_for_its_own() -> None:
    desk, container = with_task(command=CommandInfo(value="sleep 9", environment=Environment((Variable("A", value="1"),))))
    own = CommandInfo(value="x", environment=Environment((Variable("B", value="2"),)))
    launch = launched(desk, f"{container}.in", Asked(ContainerID("unused"), own))
    around = f"/work/slaves/{AGENT_ID}/frameworks/f/executors/t/runs/{container}"
    assert launch.directory == launch.env["MESOS_SANDBOX"] == f"{around}/containers/in"
    assert launch.beside is not None
    assert (launch.beside.container_id, launch.beside.directory) == (container, around)
    assert (launch.env["A"], launch.env["B"]) == ("1", "2")
    deeper = launched(desk, f"{container}.in.deep")
    assert deeper.directory == f"{around}/containers/in/containers/deep"
    assert deeper.beside == launch.beside, "all of them share with the outermost"


def test_a_token_is_not_handed_on() -> None:
    desk = Desk(key=b"key")
    desk.give(LauncherState(()))
    register(desk)
    container = desk.run_task(command("t", executor=executor("e")))
    desk.started(container)
    assert "MESOS_EXECUTOR_AUTHENTICATION_TOKEN" not in launched(desk, f"{container}.in").env


def test_an_empty_text_is_one_for_a_shell() -> None:
    desk, container = with_task()
    launch = launched(desk, f"{container}.in", asked(""))
    assert (launch.executable, launch.argv) == ("/bin/sh", ("sh", "-c", ""))


def test_one_that_stands_alone_has_what_it_was_given() -> None:
    launch = launched(running(), "alone", asked(resources=GIVEN))
    assert launch.directory == "/work/containers/alone"
    assert (launch.limits.cpu_milli, launch.limits.mem_mib, launch.beside) == (1000, 64, None)


IMAGE = MesosInfo(Image(ImageType.DOCKER, docker=ImageDocker("x")))


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (asked(), "needs cpus and mem"),
        (asked(resources=resources("cpus:1")), "needs cpus and mem"),
        (asked(resources=resources("cpus:1;mem:64;gpus:1")), "GPUs are only for"),
        (asked(resources=resources("cpus(eng):1;mem(eng):64")), "must be unreserved"),
        (asked(resources=GIVEN, container=ContainerInfo(ContainerType.DOCKER, docker=DockerInfo("x"))), "is not supported"),
        (Asked(ContainerID("unused"), CommandInfo(), resources=GIVEN), "a command needs a value"),
    ],
)
def test_what_cannot_stand_alone_is_refused(wanted: Asked, says: str) -> None:
    desk = running()
    with pytest.raises(CallError, match=says):
        desk.give(LaunchOperated("alone", wanted))
    assert "containers/alone" not in desk.store


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (asked(container=ContainerInfo(mesos=IMAGE)), "image of its own"),
        (asked(container=ContainerInfo(linux_info=LinuxInfo(share_cgroups=False))), "share_cgroups"),
        (asked(container=ContainerInfo(hostname="x")), "host names"),
        (Asked(ContainerID("unused"), CommandInfo()), "a command needs a value"),
        (Asked(ContainerID("unused"), CommandInfo(shell=False, value="")), "a command needs a value"),
    ],
)
def test_what_cannot_be_inside_another_is_refused(wanted: Asked, says: str) -> None:
    desk, container = with_task()
    with pytest.raises(CallError, match=says):
        desk.give(LaunchOperated(f"{container}.in", wanted))


def test_a_container_of_the_docker_engine_takes_none_in() -> None:
    desk, container = with_task(container=ContainerInfo(ContainerType.DOCKER, docker=DockerInfo("x")))
    with pytest.raises(CallError, match="Docker engine"):
        desk.give(LaunchOperated(f"{container}.in", asked()))


def test_only_what_runs_takes_one_in() -> None:
    desk = running()
    container = desk.run_task(command("t"))
    for around in (container, "unknown"):
        with pytest.raises(CallError, match="does not run"):
            desk.give(LaunchOperated(f"{around}.in", asked()))


def test_a_name_is_used_once() -> None:
    desk, container = with_task()
    name = f"{container}.in"
    launched(desk, name)
    assert desk.give(LaunchOperated(name, asked("other"))) is False
    assert desk.all(LaunchContainer) == []
    assert desk.give(LaunchOperated(container, asked(resources=GIVEN))) is False, "it is a task's"
    ends(desk, name)
    with pytest.raises(Conflict, match="once it is removed"):
        desk.give(LaunchOperated(name, asked()))
    desk.give(RemoveOperated(name))
    assert f"containers/{name}" not in desk.store
    launched(desk, name)


def test_names_and_numbers_have_bounds() -> None:
    desk, container = with_task()
    with pytest.raises(CallError, match=f"at most {NAME_BYTES_MAX} bytes together"):
        desk.give(LaunchOperated(f"{container}.{'x' * 220}", asked()))
    for number in range(CONTAINERS_MAX):
        launched(desk, f"{container}.{number}")
    with pytest.raises(Conflict, match="remove those that have ended"):
        desk.give(LaunchOperated(f"{container}.more", asked()))


def test_who_launched_it_hears_that_it_runs_or_why_not() -> None:
    desk, container = with_task()
    desk.give(LaunchOperated(f"{container}.a", asked()))
    desk.give(ContainerStarted(f"{container}.a", 7))
    assert desk.one(ContainerBegan).problem == ""
    desk.give(ContainerStarted(f"{container}.a", 7))
    assert desk.all(ContainerBegan) == [], "once"
    desk.give(LaunchOperated(f"{container}.b", asked()))
    desk.give(ContainerFailed(f"{container}.b", "no such program"))
    assert desk.one(ContainerBegan).problem == "no such program"
    assert desk.one(ForgetContainer).container_id == f"{container}.b"
    assert f"containers/{container}.b" not in desk.store, "its name is free again"


def test_its_end_is_kept_until_it_is_removed() -> None:
    desk, container = with_task()
    name = f"{container}.in"
    launched(desk, name)
    with pytest.raises(Conflict, match="has not terminated yet"):
        desk.give(RemoveOperated(name))
    ends(desk, name, 3 << 8)
    assert desk.one(ContainerEnded).name == name
    assert desk.give(View("container", name)) == Ending(768, "Command exited with status 3")
    with pytest.raises(NotFound):
        desk.give(KillContainer(name, 9))
    again = desk.restart()
    again.give(LauncherState((KnownContainer(container, 77),)))
    assert again.give(View("container", name)) == Ending(768, "Command exited with status 3")


def test_it_goes_on_over_a_restart_of_the_agent() -> None:
    desk, container = with_task()
    launched(desk, f"{container}.in")
    again = desk.restart()
    again.give(LauncherState((KnownContainer(container, 77), KnownContainer(f"{container}.in", 78))))
    assert again.all(SignalContainer) == again.all(LaunchContainer) == []
    assert again.give(View("container", f"{container}.in")) is None
    ends(again, f"{container}.in", 9)
    assert again.give(View("container", f"{container}.in")).status == 9


@pytest.mark.parametrize("begun", [False, True])
def test_a_launch_is_repeated_only_if_it_was_never_seen_to_run(begun: bool) -> None:
    desk, container = with_task()
    desk.give(LaunchOperated(f"{container}.in", asked()))
    if begun:
        desk.started(f"{container}.in")
    again = desk.restart()
    again.give(LauncherState((KnownContainer(container, 77),)))
    assert len(again.all(LaunchContainer)) == (not begun)
    known = again.give(View("container", f"{container}.in"))
    assert known == (Ending(None, "exit status unknown") if begun else None)


def test_it_ends_with_what_is_around() -> None:
    desk, container = with_task()
    for name in (f"{container}.a", f"{container}.a.b", f"{container}.done"):
        launched(desk, name)
    ends(desk, f"{container}.done")
    desk.exited(container)
    assert [(sent.container_id, sent.signal) for sent in desk.all(SignalContainer)] == [(f"{container}.a", signal.SIGKILL)]
    assert f"containers/{container}.done" not in desk.store
    ends(desk, f"{container}.a", 9)
    assert desk.one(SignalContainer).container_id == f"{container}.a.b"
    ends(desk, f"{container}.a.b", 9)
    assert [key for key in desk.store if key.startswith("containers/")] == []


def test_one_whose_surroundings_ended_while_the_agent_was_away_is_ended() -> None:
    desk, container = with_task()
    launched(desk, f"{container}.in")
    again = desk.restart()
    again.give(LauncherState((KnownContainer(container, 77, Exit(0, ENDED_S)), KnownContainer(f"{container}.in", 78))))
    assert f"{container}.in" in {sent.container_id for sent in again.all(SignalContainer)}
    ends(again, f"{container}.in", 9)
    assert [key for key in again.store if key.startswith("containers/")] == []


def test_it_is_not_removed_while_one_inside_is_there() -> None:
    desk, container = with_task()
    launched(desk, f"{container}.a")
    launched(desk, f"{container}.a.b")
    ends(desk, f"{container}.a")
    with pytest.raises(Conflict, match="some inside"):
        desk.give(RemoveOperated(f"{container}.a"))
    ends(desk, f"{container}.a.b", 9)
    desk.give(RemoveOperated(f"{container}.a"))


def test_after_a_restart_of_the_machine_the_end_of_what_stood_alone_is_told() -> None:
    desk, container = with_task()
    launched(desk, f"{container}.in")
    launched(desk, "alone", asked(resources=GIVEN))
    again = desk.restart(boot_id="other")
    again.give(LauncherState(()))
    assert again.give(View("container", "alone")) == Ending(None, "The agent's machine restarted")
    with pytest.raises(NotFound):
        again.give(View("container", f"{container}.in"))


@pytest.mark.parametrize("stop", [Stop(True), Stop(False, True)])
def test_an_agent_that_leaves_takes_what_stands_alone_with_it(stop: Stop) -> None:
    desk = running()
    launched(desk, "alone", asked(resources=GIVEN))
    desk.give(stop)
    assert desk.one(SignalContainer).signal == signal.SIGKILL
    assert desk.all(Leave) == []
    with pytest.raises(Unavailable):
        desk.give(LaunchOperated("more", asked(resources=GIVEN)))
    ends(desk, "alone", 9)
    desk.tick(1)
    assert len(desk.all(Leave)) == 1
