"""GPUs: what the driver's tool says, which the agent offers, and that each is of one container only, also after a restart."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.agent.effects import KnownContainer, LaunchContainer, LauncherState, LimitContainer
from kernel.agent.gpus import Gpu, GpuError, assign, choose, offered, parse, variables
from kernel.agent.state import Node
from kernel.errors import ConfigError
from kernel.wire.container import ContainerInfo, ContainerType, DockerInfo
from kernel.wire.task import ExecutorType, Reason, TaskState
from tests.builders import executor, resources
from tests.kernel.agent.desk import Desk, command, register, running

TWO_GPUS = """\
0, GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77, Tesla T4, 15360, 00000000:3B:00.0
1, GPU-7a6e5bd2-57d1-7ac1-5c62-d2c2a9e7a2d1, "NVIDIA A100, 80GB", [N/A], 00000000:AF:00.0
"""
GPUS = tuple(Gpu(index, f"GPU-{index}", "T4", 16, f"0:{index}", f"/dev/nvidia{index}", (195, index)) for index in range(4))
NODE = Node(resources("cpus:4;mem:4096;gpus:4"), gpus=GPUS)
CPU = "cpus:0.1;mem:32"


# ---- What there is --------------------------------------------------------------------------------------


def test_what_the_tool_says_is_read() -> None:
    first, second = parse(TWO_GPUS)
    assert first == Gpu(0, "GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77", "Tesla T4", 15360, "00000000:3b:00.0")
    assert (second.name, second.memory_mib) == ("NVIDIA A100, 80GB", 0)
    assert parse("") == ()


@pytest.mark.parametrize(
    "text",
    [
        "No devices were found",
        "0, GPU-1, T4, 1",
        "x, GPU-1, T4, 1, 0:1",
        "0, , T4, 1, 0:1",
        "0, GPU-1, T4, 1, 0:1\n0, GPU-2, T4, 1, 0:2",
        "\x00,,,,",
    ],
)
def test_nonsense_is_not_taken_for_gpus(text: str) -> None:
    with pytest.raises(GpuError):
        parse(text)


@given(st.text(max_size=200))
def test_whatever_it_says_is_read_or_refused(text: str) -> None:
    try:
        parse(text)
    except GpuError:
        pass


def test_all_are_offered_or_those_that_are_wanted() -> None:
    assert offered(GPUS, None, None, "") == GPUS
    assert offered(GPUS, (2, 0), None, "") == (GPUS[0], GPUS[2])
    assert offered(GPUS, None, 3, "") == GPUS[:3]
    assert offered(GPUS, (1, 2), 1, "") == (GPUS[1],)
    assert offered(GPUS, None, 0, "") == ()
    assert offered((), None, None, "it is broken") == ()


@pytest.mark.parametrize(
    ("wanted", "count", "says"),
    [
        (None, 5, r"--resources: gpus:5 is more than the 4 that this machine has \(found: 0, 1, 2, 3\)"),
        ((1,), 2, "--resources: gpus:2 is more than the 1 that --nvidia-gpu-devices names"),
        ((1, 7), None, r"--nvidia-gpu-devices: GPU 7 is not on this machine \(found: 0, 1, 2, 3\)"),
    ],
)
def test_more_than_there_are_cannot_be_offered(wanted: tuple[int, ...] | None, count: int | None, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        offered(GPUS, wanted, count, "")
    with pytest.raises(ConfigError, match="; the tool hangs"):
        offered((), wanted, count, "the tool hangs")


# ---- Who has which --------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 8)), st.sets(st.integers(0, 8)), st.lists(st.integers(0, 4), max_size=5))
def test_nobody_gets_what_another_has(here: set[int], taken: set[int], counts: list[int]) -> None:
    gpus = [Gpu(index, f"GPU-{index}", "T4", 16, "") for index in here]
    assigned = assign(gpus, taken, counts)
    if assigned is None:
        assert sum(counts) > len(here - taken)
        return
    given_away = list(itertools.chain(*assigned))
    assert [len(one) for one in assigned] == counts
    assert len(set(given_away)) == len(given_away)
    assert set(given_away) <= here - taken
    assert given_away == sorted(given_away)


def test_the_lowest_free_come_first() -> None:
    assert choose(GPUS, {0, 2}, 2) == (1, 3)
    assert choose(GPUS, {0, 2}, 3) is None
    assert choose((), (), 0) == ()


def test_a_container_is_told_its_own_and_one_without_that_it_has_none() -> None:
    assert variables(GPUS[1:3]) == {"NVIDIA_VISIBLE_DEVICES": "GPU-1,GPU-2", "CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2"}
    assert variables(()) == {"NVIDIA_VISIBLE_DEVICES": "void", "CUDA_VISIBLE_DEVICES": ""}


def launched(desk: Desk) -> list[tuple[int, ...]]:
    return [tuple(gpu.index for gpu in launch.gpus) for launch in desk.all(LaunchContainer)]


def wanting(task_id: str, gpus: int, **fields: object) -> object:
    return command(task_id, text=f"{CPU};gpus:{gpus}" if gpus else CPU, **fields)


def test_each_task_has_its_own_until_it_ends() -> None:
    desk = running(node=NODE)
    first = desk.run_task(wanting("a", 1))
    assert launched(desk) == [(0,)]
    launch = desk.one(LaunchContainer)
    assert launch.env["CUDA_VISIBLE_DEVICES"] == "GPU-0"
    assert launch.limits.allowed == ("c 195:0",)
    assert launch.limits.denied == ("c 195:1", "c 195:2", "c 195:3")
    desk.run_task(wanting("b", 2))
    assert launched(desk) == [(1, 2)]
    desk.run_task(wanting("none", 0))
    assert launched(desk) == [()]
    assert desk.one(LaunchContainer).limits.denied == tuple(gpu.rule for gpu in GPUS)
    desk.exited(first)
    desk.run_task(wanting("c", 2))
    assert launched(desk) == [(0, 3)]


def test_when_all_are_taken_a_task_fails_with_the_reason() -> None:
    desk = running(node=NODE)
    desk.run_task(wanting("a", 3))
    desk.updates()
    assert desk.run_task(wanting("b", 2)) == ""
    (status,) = desk.updates()
    assert (status.state, status.reason) == (TaskState.TASK_FAILED, Reason.REASON_CONTAINER_LAUNCH_FAILED)
    assert "fewer GPUs are free" in status.message


def test_a_group_has_all_of_its_gpus_or_does_not_start() -> None:
    desk = running(node=NODE)
    group = executor("d", type=ExecutorType.DEFAULT, command=None)
    assert desk.run_group(group, wanting("a", 2), wanting("b", 3)) == []
    desk.run_group(group, wanting("c", 2), wanting("d", 0), wanting("e", 2))
    assert launched(desk) == [(0, 1), (), (2, 3)]


def test_after_a_restart_the_same_are_taken_by_the_same() -> None:
    desk = running(node=NODE)
    first, second = desk.run_task(wanting("a", 1)), desk.run_task(wanting("b", 1))
    desk.exited(first)
    again = desk.restart()
    again.give(LauncherState(()))  # It was never seen to start: it is launched anew.
    assert [(launch.container_id, launch.env["CUDA_VISIBLE_DEVICES"]) for launch in again.all(LaunchContainer)] == [(second, "GPU-1")]
    again.give(LauncherState((KnownContainer(second, 7),)))
    register(again)
    again.run_task(wanting("c", 3))
    assert launched(again) == [(0, 2, 3)]


def test_a_custom_executor_has_its_own_and_those_of_its_live_tasks() -> None:
    desk = running(node=NODE)
    of_executor = executor("e", text=f"{CPU};gpus:1")
    container = desk.run_task(wanting("a", 1, executor=of_executor))
    assert launched(desk) == [(0, 1)]
    desk.run_task(wanting("b", 1, executor=of_executor), launch_executor=False)
    (limited,) = desk.all(LimitContainer)
    assert (limited.container_id, limited.limits.allowed, limited.limits.denied) == (
        container,
        ("c 195:0", "c 195:1", "c 195:2"),
        ("c 195:3",),
    )
    again = desk.restart()
    assert again.core.state.taken_gpus() == {0, 1, 2}


def test_containers_of_images_get_devices_and_no_rules() -> None:
    desk = running(node=NODE)
    desk.run_task(wanting("a", 1, container=ContainerInfo(ContainerType.DOCKER, docker=DockerInfo("x"))))
    launch = desk.one(LaunchContainer)
    assert [gpu.uuid for gpu in launch.gpus] == ["GPU-0"]
    assert (launch.limits.allowed, launch.limits.denied) == ((), ())
    assert launch.env["NVIDIA_VISIBLE_DEVICES"] == "GPU-0"


def test_an_agent_without_gpus_says_nothing_of_them() -> None:
    desk = running()
    desk.run_task(command("t"))
    assert not {"NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"} & desk.one(LaunchContainer).env.keys()
