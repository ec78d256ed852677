"""What sandboxes take of the disk: counted as du does, shown, and the end of those that take too much."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from kernel.agent.config import AgentConfig
from kernel.agent.effects import ContainerLimited, SignalContainer
from kernel.agent.isolators.disk import MIB, DiskWatch, exceeded, is_measured, measure
from kernel.agent.isolators.limits import Limits, Usage, limits_of
from kernel.executor.command import Limitation
from kernel.wire.task import Reason, Source, TaskState
from tests.builders import resources
from tests.kernel.agent.desk import command, running

GIVEN = Limits(1000, 64, disk_mib=1)


def used(walk: Generator[None, None, int]) -> int:
    while True:
        try:
            next(walk)
        except StopIteration as ended:
            total: int = ended.value
            return total


def du(folder: Path) -> int:
    done = subprocess.run(["du", "-sx", "-B1", str(folder)], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


# ---- Decisions --------------------------------------------------------------------------------------------


def test_a_limit_is_the_disk_of_all_resources() -> None:
    assert limits_of(resources("cpus:1;mem:64;disk:100"), {}, quota=False, pids_max=None).disk_mib == 100
    assert limits_of(resources("cpus:1;mem:64"), {}, quota=False, pids_max=None).disk_mib is None


def test_more_than_given_is_too_much() -> None:
    assert exceeded(10 * MIB, None) is None
    assert exceeded(MIB, 1) is None
    limitation = exceeded(MIB + 1, 1)
    assert limitation is not None
    assert (limitation.reason, limitation.message) == (Reason.REASON_CONTAINER_LIMITATION_DISK, "Disk usage (2MB) exceeds quota (1MB)")
    assert [(resource.name, resource.scalar.value) for resource in limitation.resources if resource.scalar] == [("disk", 2.0)]


@pytest.mark.parametrize(
    ("isolation", "enforced", "measured"),
    [(None, False, True), (("posix/cpu",), False, False), (("posix/disk",), False, True), (("disk/du",), False, True), ((), True, True)],
)
def test_it_is_measured_where_somebody_wants_to_know(isolation: tuple[str, ...] | None, enforced: bool, measured: bool) -> None:
    assert is_measured(AgentConfig(work_dir="/", isolation=isolation, enforce_container_disk_quota=enforced)) is measured


def test_a_container_beyond_its_limit_is_killed_and_its_task_says_why() -> None:
    limitation = exceeded(2 * MIB, 1)
    assert limitation is not None
    desk = running()
    container = desk.run_task(command("t"))
    desk.started(container)
    desk.acknowledge_all()
    desk.give(ContainerLimited(container, limitation))
    assert desk.one(SignalContainer) == SignalContainer(container, signal.SIGKILL)
    desk.exited(container, signal.SIGKILL)
    (status,) = desk.updates()
    assert (status.state, status.reason, status.source) == (
        TaskState.TASK_FAILED,
        Reason.REASON_CONTAINER_LIMITATION_DISK,
        Source.SOURCE_AGENT,
    )
    assert status.message == "Disk usage (2MB) exceeds quota (1MB); Command terminated with signal Killed"
    assert status.limitation is not None
    assert status.limitation.resources == limitation.resources
    assert desk.core.state.limitations == {}


def test_one_that_has_ended_meanwhile_is_left_alone() -> None:
    desk = running()
    container = desk.run_task(command("t"))
    desk.exited(container)
    desk.give(ContainerLimited(container, Limitation(Reason.REASON_CONTAINER_LIMITATION_DISK, "")))
    assert desk.all(SignalContainer) == []
    assert desk.core.state.limitations == {}


# ---- On the disk ------------------------------------------------------------------------------------------


def test_it_is_what_du_says(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(bytes(3 * MIB))
    sandbox = tmp_path / "sandbox"
    (sandbox / "a" / "b").mkdir(parents=True)
    (sandbox / "c").mkdir()
    (sandbox / "a" / "file").write_bytes(bytes(100_000))
    (sandbox / "a" / "b" / "hard").hardlink_to(sandbox / "a" / "file")
    (sandbox / "c" / "soft").symlink_to(outside)
    (sandbox / "c" / "up").symlink_to("../..")
    with (sandbox / "c" / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    assert used(measure(str(sandbox))) == du(sandbox)


def test_any_depth_is_counted(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(200):  # 40,000 bytes of a path. Not deeper than what pytest can remove, should this fail.
        os.mkdir("x" * 200, dir_fd=here)
        inner = os.open("x" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    file = os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=here)
    os.write(file, bytes(MIB))
    os.close(file)
    os.close(here)
    (tmp_path / "beside").write_bytes(bytes(MIB))
    assert used(measure(str(tmp_path))) == du(tmp_path)


def test_it_stops_counting_when_it_is_enough(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / str(number)).write_bytes(bytes(100_000))
    assert MIB / 2 < used(measure(str(tmp_path), MIB // 2)) < MIB


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_other_file_systems_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "mounted").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", str(tmp_path / "mounted")], capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        (tmp_path / "mounted" / "file").write_bytes(bytes(MIB))
        assert used(measure(str(tmp_path))) < MIB
    finally:
        subprocess.run(["umount", str(tmp_path / "mounted")], check=True)


def test_folders_that_are_moved_meanwhile_end_the_count_not_the_agent(tmp_path: Path) -> None:
    """A way back that leads elsewhere is not taken."""
    (tmp_path / "sandbox" / "a" / "b").mkdir(parents=True)
    (tmp_path / "sandbox" / "a" / "b" / "file").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(bytes(MIB))
    walk = measure(str(tmp_path / "sandbox"))
    for _ in range(3):
        next(walk)  # It has entered b.
    (tmp_path / "sandbox" / "a" / "b").rename(tmp_path / "elsewhere" / "b")
    assert used(walk) < MIB


class World:
    """A watch over one container with a MiB, whose sandbox is a folder."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.told: list[Any] = []
        self.watch = DiskWatch(AgentConfig(work_dir="/", **settings), self.told.append)
        self.watch.watch("c1", str(folder), GIVEN)

    def look(self) -> int | None:
        async def once() -> None:
            await self.watch.look()
            await asyncio.sleep(0)  # What the thread tells comes by the loop.

        asyncio.run(once())
        return self.watch.added({"c1": Usage()})["c1"].disk_bytes


def test_usage_is_shown_and_nobody_is_ended_unless_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(2 * MIB))
    world = World(tmp_path)
    assert world.watch.added({"c1": Usage()})["c1"].disk_bytes is None, "not measured yet"
    assert world.look() == du(tmp_path)
    assert world.told == []


def test_one_beyond_its_limit_is_told_as_long_as_it_is_there(tmp_path: Path) -> None:
    world = World(tmp_path, enforce_container_disk_quota=True)
    world.watch.watch("c2", str(tmp_path / "missing"), GIVEN)
    world.look()
    assert world.told == []
    (tmp_path / "file").write_bytes(bytes(2 * MIB))
    world.look()
    assert [limited.container_id for limited in world.told] == ["c1"]
    world.watch.limit("c1", Limits(1000, 64, disk_mib=10))
    world.watch.limit("c9", GIVEN)
    world.told.clear()
    world.look()
    assert world.told == [], "an executor that was given another task"
    world.watch.limit("c1", GIVEN)
    world.watch.forget("c1")
    world.look()
    assert world.told == []
