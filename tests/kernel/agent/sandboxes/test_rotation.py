"""What tasks print is rotated while they write on: bounded, nothing lost, nothing doubled for those who follow."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernel.agent.config import AgentConfig
from kernel.agent.sandbox import SandboxFiles
from kernel.agent.sandboxes import rotator
from kernel.agent.sandboxes.rotation import LogLimit, kept, log_limits, next_look_s
from kernel.agent.sandboxes.rotator import Rotator, rotate

MIB = 1 << 20
CONFIG = AgentConfig(work_dir="/work")
PATH = "/frameworks/f/executors/e/runs/c1"


# ---- Decisions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "stdout", "stderr"),
    [
        ({}, LogLimit(10 * MIB, 5), LogLimit(10 * MIB, 5)),
        ({"CONTAINER_LOGGER_MAX_STDOUT_SIZE": "1MB"}, LogLimit(MIB, 5), LogLimit(10 * MIB, 5)),
        ({"CONTAINER_LOGGER_MAX_STDERR_SIZE": "0B"}, LogLimit(10 * MIB, 5), LogLimit(0, 5)),
        ({"CONTAINER_LOGGER_MAX_FILES": "2"}, LogLimit(10 * MIB, 2), LogLimit(10 * MIB, 2)),
        ({"CONTAINER_LOGGER_LOGROTATE_STDERR_OPTIONS": "compress\nrotate 9"}, LogLimit(10 * MIB, 5), LogLimit(10 * MIB, 9)),
        ({"CONTAINER_LOGGER_MAX_FILES": "2000000"}, LogLimit(10 * MIB, 1000), LogLimit(10 * MIB, 1000)),
        ({"CONTAINER_LOGGER_MAX_FILES": "-1", "CONTAINER_LOGGER_MAX_STDOUT_SIZE": "big"}, LogLimit(10 * MIB, 5), LogLimit(10 * MIB, 5)),
    ],
)
def test_a_task_may_say_for_itself(env: dict[str, str], stdout: LogLimit, stderr: LogLimit) -> None:
    assert log_limits(CONFIG, env) == {"stdout": stdout, "stderr": stderr}


def test_the_agent_has_the_defaults() -> None:
    config = AgentConfig(work_dir="/", container_logger_max_stdout_size=1, container_logger_max_stderr_size=2, container_logger_max_files=3)
    assert log_limits(config, {}) == {"stdout": LogLimit(1, 3), "stderr": LogLimit(2, 3)}


@pytest.mark.parametrize(
    ("sizes", "coming", "stay"),
    [
        ([], 10, 0),
        ([10], 10, 1),
        ([10, 10], 10, 2),
        ([10, 10, 10], 10, 2),
        ([10, 10], 11, 1),
        ([10, 10], 30, 0),
        ([1, 1, 1, 1], 1, 2),
    ],
)
def test_what_stays_is_bounded_by_number_and_by_size(sizes: list[int], coming: int, stay: int) -> None:
    assert kept(sizes, LogLimit(10, 3), coming) == stay


def test_none_stays_when_none_is_wanted() -> None:
    assert kept([10], LogLimit(10, 0), 10) == 0


def test_a_file_is_looked_at_when_it_can_have_grown_too_large() -> None:
    assert next_look_s(0, 100, 1.0, 0.5, 1000) == 5.0, "it would be full after ten seconds"
    assert next_look_s(990, 100, 1.0, 4.0, 1000) == 0.5
    assert next_look_s(0, 1, 1.0, 4.0, 1000) == 16.0
    assert [next_look_s(0, 0, 1.0, pause_s, 1000) for pause_s in (0.5, 4.0, 16.0)] == [1.0, 8.0, 16.0]


# ---- On the disk ------------------------------------------------------------------------------------------


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    folder = tmp_path / f"slaves/s1{PATH}"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def files(tmp_path: Path, sandbox: Path) -> SandboxFiles:
    found = SandboxFiles(str(tmp_path))
    found.agent_id = "s1"
    return found


@pytest.fixture(params=["collapse", "truncate"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to cut off what was copied."""
    if request.param == "truncate":
        monkeypatch.setattr(rotator._libc, "fallocate", lambda *_: -1)
    return str(request.param)


def once(sandbox: Path, limit: LogLimit, name: str = "stdout") -> int:
    folder = os.open(sandbox, os.O_RDONLY)
    try:
        return rotate(folder, name, limit)
    finally:
        os.close(folder)


def lines(first: int, last: int) -> bytes:
    return b"".join(b"line %07d\n" % number for number in range(first, last))


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def follow(files: SandboxFiles, offset: int = 0) -> tuple[bytes, int]:
    """All there is from an offset on, and the next one."""
    data = b""
    while True:
        _, offset, piece = files.follow(f"{PATH}/stdout", offset, 5000)
        offset += len(piece)
        data += piece
        if not piece:
            return data, offset


def test_all_that_was_written_is_in_the_files_in_order(sandbox: Path, way: str) -> None:
    for turn in range(3):
        append(sandbox / "stdout", lines(turn * 1000, turn * 1000 + 1000))
        assert once(sandbox, LogLimit(10_000, 5)) < 10_000
    names = ("stdout.3", "stdout.2", "stdout.1", "stdout")
    assert b"".join((sandbox / name).read_bytes() for name in names) == lines(0, 3000)


def test_the_oldest_go(sandbox: Path, way: str) -> None:
    for turn in range(6):
        append(sandbox / "stdout", lines(turn * 1000, turn * 1000 + 1000))
        once(sandbox, LogLimit(16_384, 2))
    assert {path.name for path in sandbox.iterdir()} == {"stdout", "stdout.1", "stdout.2", ".stdout.rotated"}


def test_who_wrote_far_too_much_keeps_the_end_of_it(sandbox: Path, way: str) -> None:
    append(sandbox / "stdout", lines(0, 10_000))
    once(sandbox, LogLimit(10_000, 2))
    assert sum(path.stat().st_size for path in sandbox.iterdir()) < 3 * 10_000 + 4096
    assert ((sandbox / "stdout.1").read_bytes() + (sandbox / "stdout").read_bytes()).endswith(lines(9000, 10_000))


def test_none_is_kept_when_none_is_wanted(sandbox: Path, way: str) -> None:
    append(sandbox / "stdout", lines(0, 1000))
    once(sandbox, LogLimit(10_000, 0))
    assert {path.name for path in sandbox.iterdir()} == {"stdout", ".stdout.rotated"}


def test_one_who_follows_sees_each_byte_once(sandbox: Path, files: SandboxFiles, way: str) -> None:
    seen, offset = b"", 0
    for turn in range(10):
        append(sandbox / "stdout", lines(turn * 1000, turn * 1000 + 1000))
        if turn % 3 == 1:
            once(sandbox, LogLimit(20_000, 50))
        if turn % 2 == 0:
            data, offset = follow(files, offset)
            seen += data
    data, offset = follow(files, offset)
    assert seen + data == lines(0, 10_000)
    assert offset == len(lines(0, 10_000))
    assert follow(files)[0] == lines(0, 10_000), "from the beginning, as `task logs` without -f"


def test_one_who_comes_too_late_goes_on_with_what_is_kept(sandbox: Path, files: SandboxFiles, way: str) -> None:
    for turn in range(6):
        append(sandbox / "stdout", lines(turn * 1000, turn * 1000 + 1000))
        once(sandbox, LogLimit(16_384, 2))
    data, offset = follow(files, 100)
    assert lines(0, 6000).endswith(data)
    assert len(data) > 16_384
    assert offset == len(lines(0, 6000))


def test_one_who_follows_a_file_that_its_task_has_emptied_goes_on(sandbox: Path, files: SandboxFiles) -> None:
    append(sandbox / "stdout", lines(0, 100))
    _, offset = follow(files)
    (sandbox / "stdout").write_bytes(b"")
    data, offset = follow(files, offset)
    append(sandbox / "stdout", b"again")
    assert (data, follow(files, offset)[0]) == (b"", b"again")


def test_what_a_task_writes_where_we_count_is_nobodys_harm(sandbox: Path, files: SandboxFiles) -> None:
    append(sandbox / "stdout", lines(0, 100))
    for text in ("", "-5", "9" * 30, "x"):
        (sandbox / ".stdout.rotated").write_text(text)
        assert follow(files)[0] == lines(0, 100)
    (sandbox / ".stdout.rotated").unlink()
    (sandbox / ".stdout.rotated").mkdir()
    assert follow(files)[0] == lines(0, 100)


WRITER = """
import os
fd = os.open("stdout", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for number in range(60000):
    os.write(fd, b"line %07d\\n" % number)
"""


def test_a_task_that_writes_meanwhile_loses_nothing(sandbox: Path, files: SandboxFiles) -> None:
    """Where the file system can cut off the beginning of a file."""
    probe = os.open(sandbox / "probe", os.O_RDWR | os.O_CREAT)
    os.write(probe, bytes(8192))
    able = rotator._libc.fallocate(probe, 8, 0, 4096) == 0
    os.close(probe)
    if not able:
        pytest.skip("this file system cannot")
    writer = subprocess.Popen([sys.executable, "-S", "-E", "-c", WRITER], cwd=sandbox)
    seen, offset = b"", 0
    while writer.poll() is None:
        if (sandbox / "stdout").exists() and (sandbox / "stdout").stat().st_size > 40_000:
            once(sandbox, LogLimit(40_000, 50))
            data, offset = follow(files, offset)
            seen += data
    data, offset = follow(files, offset)
    assert seen + data == lines(0, 60000)
    assert (sandbox / "stdout.1").exists()


def test_owner_and_mode_are_kept(sandbox: Path) -> None:
    append(sandbox / "stdout", lines(0, 1000))
    (sandbox / "stdout").chmod(0o640)
    once(sandbox, LogLimit(10_000, 5))
    found, rotated = (sandbox / "stdout").stat(), (sandbox / "stdout.1").stat()
    assert (rotated.st_mode, rotated.st_uid, rotated.st_gid) == (found.st_mode, found.st_uid, found.st_gid)


AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.mark.parametrize("trick", ["symlink", "hard link", "fifo", "folder", pytest.param("foreign", marks=AS_ROOT)])
def test_only_plain_files_of_the_task_are_touched(sandbox: Path, tmp_path: Path, trick: str) -> None:
    """As root we could be led to cut off, or to give away, anything."""
    precious = tmp_path / "precious"
    precious.write_bytes(lines(0, 1000))
    match trick:
        case "symlink":
            (sandbox / "stdout").symlink_to(precious)
        case "hard link":
            (sandbox / "stdout").hardlink_to(precious)
        case "fifo":
            os.mkfifo(sandbox / "stdout")
        case "folder":
            (sandbox / "stdout").mkdir()
        case "foreign":
            precious.rename(sandbox / "stdout")
            precious = sandbox / "stdout"
            os.chown(precious, 65533, 65533)
            os.chown(sandbox, 65534, 65534)
    with pytest.raises(OSError):
        once(sandbox, LogLimit(10_000, 5))
    assert precious.read_bytes() == lines(0, 1000)


@AS_ROOT
def test_a_file_of_ours_is_rotated_as_its_own(sandbox: Path, files: SandboxFiles) -> None:
    """Those of a container with an image are opened by root, in a sandbox of its user."""
    append(sandbox / "stdout", lines(0, 1000))
    os.chown(sandbox, 65534, 65534)
    once(sandbox, LogLimit(10_000, 5))
    assert (sandbox / "stdout.1").owner() == "root"
    assert follow(files)[0] == lines(0, 1000)


def test_what_lies_where_a_file_is_to_be_made_is_replaced_not_followed(sandbox: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("x")
    append(sandbox / "stdout", lines(0, 1000))
    for name in (".stdout.new", ".stdout.count", "stdout.1", "stdout.2"):
        (sandbox / name).symlink_to(precious)
    once(sandbox, LogLimit(10_000, 5))
    assert precious.read_text() == "x"
    assert (sandbox / "stdout.1").read_bytes() + (sandbox / "stdout").read_bytes() == lines(0, 1000)


def test_live_containers_are_looked_at_by_and_by(sandbox: Path) -> None:
    now_s = 100.0
    found = Rotator(CONFIG, lambda: now_s)
    found.watch("c1", str(sandbox), {"CONTAINER_LOGGER_MAX_STDOUT_SIZE": "8KB", "CONTAINER_LOGGER_MAX_STDERR_SIZE": "0B"})
    append(sandbox / "stdout", lines(0, 1000))
    append(sandbox / "stderr", lines(0, 1000))
    asyncio.run(found.look())
    assert not (sandbox / "stdout.1").exists(), "it was just started"
    now_s += 1.0
    asyncio.run(found.look())
    assert (sandbox / "stdout.1").exists()
    assert not (sandbox / "stderr.1").exists(), "its task wants it so"
    append(sandbox / "stdout", lines(0, 1000))
    found.forget("c1")
    now_s += 1.0
    asyncio.run(found.look())
    assert not (sandbox / "stdout.2").exists(), "it has ended"
