"""Files are opened along paths in which others may have put symlinks, by one system call or step by step where there is none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel.agent.launcher.paths import open_without_links, step_by_step

Open = Callable[[str, int, int], int]
APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
WAYS = pytest.mark.parametrize("way", [open_without_links, step_by_step])


@WAYS
def test_a_file_is_made_and_opened_again(tmp_path: Path, way: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a")
    for path in (f"{tmp_path}/a/b/file", f"{tmp_path}//a/./b/../b/file", "b/file"):
        fd = way(path, APPEND, 0o640)
        os.write(fd, b"x")
        os.close(fd)
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"xxx"
    assert (tmp_path / "a" / "b" / "file").stat().st_mode & 0o777 == 0o640


@WAYS
def test_no_symlink_is_followed(tmp_path: Path, way: Open) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "sandbox").mkdir()
    (tmp_path / "sandbox" / "end").symlink_to(tmp_path / "elsewhere" / "file")
    (tmp_path / "sandbox" / "way").symlink_to(tmp_path / "elsewhere")
    before = len(os.listdir("/proc/self/fd"))
    for path in ("sandbox/end", "sandbox/way/file", "sandbox/way/../elsewhere/file"):
        with pytest.raises(OSError, match=r"Too many levels|Not a directory"):
            way(f"{tmp_path}/{path}", APPEND, 0o640)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before


@WAYS
def test_what_is_not_there_says_so(tmp_path: Path, way: Open) -> None:
    with pytest.raises(FileNotFoundError):
        way(f"{tmp_path}/none/file", APPEND, 0o640)
    with pytest.raises(IsADirectoryError):
        way(f"{tmp_path}", APPEND, 0o640)
