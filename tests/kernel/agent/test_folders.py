"""Folders are opened by their paths without following what others may have put into the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel.agent.effects import Beside, LaunchContainer
from kernel.agent.folders import open_folder
from kernel.agent.isolators.limits import Limits
from kernel.agent.sandbox import SandboxError, prepare_nested


def test_a_folder_is_opened_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    fd = open_folder(str(tmp_path / "a" / "b"))
    try:
        assert os.path.samestat(os.fstat(fd), os.stat(tmp_path / "a" / "b"))
    finally:
        os.close(fd)


@pytest.mark.parametrize("path", ["link", "link/b", "a/link"])
def test_a_symlink_anywhere_is_not_followed(tmp_path: Path, path: str) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "a" / "link").symlink_to("b")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Not a directory"):
        open_folder(str(tmp_path / path))
    assert len(os.listdir("/proc/self/fd")) == before, "nothing stays open"


def nested(base: Path, directory: Path) -> LaunchContainer:
    return LaunchContainer("c", "x", ("x",), {}, str(directory), None, (), Limits(0, 0), beside=Beside("p", str(base)))


def prepare(launch: LaunchContainer, owner: tuple[int, int] | None = None) -> None:
    assert launch.beside is not None
    prepare_nested(launch, launch.beside, owner)


def test_a_sandbox_inside_another_is_its_owners_and_a_repeat_changes_nothing(tmp_path: Path) -> None:
    for directory in (tmp_path / "containers" / "a", tmp_path / "containers" / "a" / "containers" / "b"):
        for _ in range(2):
            prepare(nested(tmp_path, directory))
        assert directory.stat().st_mode & 0o777 == 0o750
        assert directory.stat().st_uid == tmp_path.stat().st_uid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_one_of_another_user(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    prepare(nested(tmp_path, tmp_path / "containers" / "a"))
    assert (tmp_path / "containers" / "a").stat().st_uid == 12345, "as what it is in"
    prepare(nested(tmp_path, tmp_path / "containers" / "b"), (54321, 54321))
    assert (tmp_path / "containers" / "b").stat().st_uid == 54321
    assert (tmp_path / "containers").stat().st_uid == 0


@pytest.mark.parametrize("trick", ["containers", "containers/a"])
def test_a_link_in_the_place_of_a_folder_of_it_is_refused(tmp_path: Path, trick: str) -> None:
    elsewhere, base = tmp_path / "elsewhere", tmp_path / "base"
    elsewhere.mkdir()
    (base / trick).parent.mkdir(parents=True)
    (base / trick).symlink_to(elsewhere)
    with pytest.raises(SandboxError, match="cannot make the sandbox"):
        prepare(nested(base, base / "containers" / "a"))
    assert list(elsewhere.iterdir()) == []
