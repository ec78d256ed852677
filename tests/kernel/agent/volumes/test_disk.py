"""Persistent volumes on a real disk: made once, removed once, whatever is repeated and in whichever order."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from kernel.agent.effects import MakeVolume, RemoveVolume, VolumeRemoved
from kernel.agent.sandbox import SandboxError
from kernel.agent.volumes import disk
from kernel.agent.volumes.disk import Volumes
from kernel.agent.volumes.places import Mount, VolumePlace
from tests.cluster import eventually


def place(root: Path, token: str = "1", name: str = "v", **fields: Any) -> VolumePlace:
    path = f"{root}/volumes/roles/eng/{name}"
    return VolumePlace(path, f"{root}/volumes", f"{root}/meta/volumes/{name}", token, **fields)


def whole(root: Path, token: str = "1") -> VolumePlace:
    return VolumePlace(f"{root}/mnt", f"{root}/mnt", f"{root}/meta/volumes/mnt", token, whole=True)


def test_what_is_in_a_volume_stays_when_it_is_made_again(tmp_path: Path) -> None:
    volume = place(tmp_path)
    disk.make(volume)
    Path(volume.path, "kept").write_text("x")
    disk.make(volume)
    assert os.listdir(volume.path) == ["kept"]
    assert os.stat(volume.path).st_mode & 0o777 == 0o750


def test_another_volume_in_its_place_is_empty(tmp_path: Path) -> None:
    disk.make(place(tmp_path))
    Path(place(tmp_path).path, "old").write_text("x")
    disk.make(place(tmp_path, "2"))
    assert os.listdir(place(tmp_path).path) == []


def test_what_no_volume_of_ours_left_there_is_not_in_a_new_one(tmp_path: Path) -> None:
    """A crash between two steps, or somebody's own files."""
    os.makedirs(place(tmp_path).path)
    Path(place(tmp_path).path, "foreign").write_text("x")
    disk.make(place(tmp_path))
    assert os.listdir(place(tmp_path).path) == []


def test_a_removed_one_is_gone(tmp_path: Path) -> None:
    disk.make(place(tmp_path))
    disk.remove(place(tmp_path))
    disk.remove(place(tmp_path))
    assert not os.path.exists(place(tmp_path).path)


def test_a_late_making_leaves_the_next_one(tmp_path: Path) -> None:
    """Of what is ordered only the newest is made, for a launch may have been quicker than the orders before it."""
    first, second = place(tmp_path), place(tmp_path, "2")
    disk.make(second)
    Path(second.path, "new").write_text("x")
    assert work(tmp_path, MakeVolume(first), RemoveVolume(first), MakeVolume(second)) == [VolumeRemoved(first.path, "1")]
    assert os.listdir(second.path) == ["new"]


def test_a_late_removal_leaves_the_next_one(tmp_path: Path) -> None:
    disk.make(place(tmp_path))
    disk.make(place(tmp_path, "2"))
    Path(place(tmp_path).path, "new").write_text("x")
    disk.remove(place(tmp_path, "1"))
    assert os.listdir(place(tmp_path).path) == ["new"]


def test_a_whole_disk_is_emptied_but_for_what_is_the_file_systems(tmp_path: Path) -> None:
    root = tmp_path / "mnt"
    (root / "lost+found").mkdir(parents=True)
    (root / "other").write_text("x")
    disk.make(whole(tmp_path))
    (root / "mine").write_text("x")
    disk.make(whole(tmp_path))
    assert (root / "mine").exists()
    assert not (root / "other").exists()
    disk.remove(whole(tmp_path))
    assert sorted(os.listdir(root)) == ["\\removed", "lost+found"]


def test_a_whole_disk_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="cannot give it the volume at 'data'"):
        disk.show(str(tmp_path), None, (Mount(whole(tmp_path), "data"),), links=True)


class TestInASandbox:
    def test_it_is_a_symlink(self, tmp_path: Path) -> None:
        sandbox = tmp_path / "sandbox"
        sandbox.mkdir()
        mount = Mount(place(tmp_path), "a/b/data")
        for _ in range(2):
            disk.show(str(sandbox), None, (mount,), links=True)
        (sandbox / "a/b/data/file").write_text("x")
        assert Path(mount.place.path, "file").read_text() == "x"

    def test_what_a_user_puts_in_its_way_is_not_followed(self, tmp_path: Path) -> None:
        sandbox, elsewhere = tmp_path / "sandbox", tmp_path / "elsewhere"
        sandbox.mkdir()
        elsewhere.mkdir()
        (sandbox / "a").symlink_to(elsewhere)
        with pytest.raises(SandboxError):
            disk.show(str(sandbox), None, (Mount(place(tmp_path), "a/data"),), links=True)
        assert os.listdir(elsewhere) == []

    def test_something_else_of_its_name_is_kept(self, tmp_path: Path) -> None:
        sandbox = tmp_path / "sandbox"
        sandbox.mkdir()
        (sandbox / "data").write_text("mine")
        with pytest.raises(SandboxError):
            disk.show(str(sandbox), None, (Mount(place(tmp_path), "data"),), links=True)
        assert (sandbox / "data").read_text() == "mine"

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_it_belongs_to_the_user_and_a_shared_one_to_the_first(self, tmp_path: Path) -> None:
        own, shared = Mount(place(tmp_path), "own"), Mount(place(tmp_path, name="s", shared=True), "shared")
        for user in ("nobody", "daemon"):
            sandbox = tmp_path / user
            sandbox.mkdir()
            disk.show(str(sandbox), user, (own, shared), links=True)
        owners = [Path(mount.place.path).owner() for mount in (own, shared)]
        assert owners == ["daemon", "nobody"]


def test_what_was_removed_is_taken_off_the_disk_and_told(tmp_path: Path) -> None:
    volume = place(tmp_path)
    disk.make(volume)
    deep = Path(volume.path, *("d" for _ in range(50)))
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    told = work(tmp_path, MakeVolume(volume), RemoveVolume(volume))
    assert told == [VolumeRemoved(volume.path, volume.token)]


def test_what_an_earlier_agent_removed_is_taken_off_too(tmp_path: Path) -> None:
    disk.make(place(tmp_path))
    Path(place(tmp_path).path, "file").write_text("x")
    disk.remove(place(tmp_path))
    assert len(os.listdir(tmp_path / "volumes")) == 2
    assert work(tmp_path) == []


def work(root: Path, *orders: MakeVolume | RemoveVolume) -> list[Any]:
    """Have the agent's thread obey until nothing of what was removed is left; return what it told."""
    told: list[Any] = []
    removals = sum(isinstance(order, RemoveVolume) for order in orders)

    async def obey() -> None:
        volumes = Volumes([f"{root}/volumes"], told.append)
        for order in orders:
            volumes.order(order)
        working = asyncio.create_task(volumes.run())
        await asyncio.to_thread(eventually, lambda: os.listdir(f"{root}/volumes") == ["roles"] and len(told) == removals)
        working.cancel()

    asyncio.run(obey())
    return told
