"""Sessions: real processes whose input and output somebody holds. What goes over HTTP is in `tests/e2e/test_sessions.py`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from kernel.agent import sessions
from kernel.agent.sessions import Entry, Session, Sessions
from kernel.errors import CallError, Conflict, NotFound, Unavailable
from kernel.net.stream import RecordStream

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


class Stage:
    """Sessions whose processes work in one folder. joined: the pids that were told to the container."""

    def __init__(self, folder: Path) -> None:
        self.sessions, self.folder, self.joined = Sessions(), folder, list[int]()

    async def start(self, name: str, script: str, parent: str = "c", user: str | None = None) -> Session:
        entry = Entry(("sh", "-c", script), {"PATH": SYSTEM_PATH}, str(self.folder), user, self.joined.append)
        return await self.sessions.start(name, parent, entry, None, terminal=False)


def play(folder: Path, scene: Callable[[Stage], Awaitable[None]]) -> None:
    async def run() -> None:
        stage = Stage(folder)
        async with asyncio.timeout(30):
            await scene(stage)
            await stage.sessions.close()

    asyncio.run(run())


def test_how_it_ended_is_known_afterwards(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        session = await stage.start("c.s", "exit 3")
        assert stage.joined == [session.pid]
        await session.over
        assert stage.sessions.status("c.s") == (True, 3 << 8)
        assert stage.sessions.get("c.s") is None
        with pytest.raises(NotFound):
            stage.sessions.find("c.s")
        with pytest.raises(Conflict):
            await stage.start("c.s", "true")

    play(tmp_path, scene)


def test_others_may_watch_and_do_not_hold_it_up(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        session = await stage.start("c.s", "read line; echo $line")
        watcher = RecordStream()
        session.watchers.add(watcher)
        await session.write(b"seen\n")
        await session.over
        assert watcher.closed
        assert watcher.unread_bytes == session.output.unread_bytes > 0

    play(tmp_path, scene)


def test_only_the_last_ends_are_remembered_and_only_so_many_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "ENDED_MAX", 2)
    monkeypatch.setattr(sessions, "SESSIONS_MAX", 1)

    async def scene(stage: Stage) -> None:
        for number in range(3):
            await (await stage.start(f"c.{number}", "true")).over
        await asyncio.sleep(0)
        assert [stage.sessions.status(f"c.{number}")[0] for number in range(3)] == [False, True, True]
        await stage.start("c.last", "exec sleep 1000")
        with pytest.raises(Unavailable, match="1 sessions are open already"):
            await stage.start("c.more", "true")

    play(tmp_path, scene)


def test_input_that_waits_is_taken_before_its_end(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        os.mkfifo(tmp_path / "go")
        session = await stage.start("c.s", "read line < go; cat > got")
        await session.write(b"x" * (sessions.INPUT_BYTES_MAX + 1))
        waits = asyncio.create_task(session.write(b"y"))
        (tmp_path / "go").write_text("on\n")
        await waits
        await session.write(b"")
        await session.write(b"too late")
        await session.over
        assert (tmp_path / "got").read_bytes() == b"x" * (sessions.INPUT_BYTES_MAX + 1) + b"y"

    play(tmp_path, scene)


def test_input_for_one_that_reads_no_more_is_dropped(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        session = await stage.start("c.s", "exec <&-; read line < /dev/null; exec sleep 1000")
        for _ in range(3):
            await session.write(b"x" * sessions.INPUT_BYTES_MAX)
        session.signal(9)
        await session.over
        assert stage.sessions.status("c.s") == (True, 9)

    play(tmp_path, scene)


def test_who_leaves_ends_it_whatever_it_does(tmp_path: Path) -> None:
    """Also when it does not care for SIGTERM, and when a child in another session holds its output."""

    async def scene(stage: Stage) -> None:
        session = await stage.start("c.s", "trap '' TERM; setsid sh -c 'echo $$ > child; exec sleep 1000' & while :; do sleep 1; done")
        while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():  # noqa: ASYNC110 - another process makes it.
            await asyncio.sleep(0.01)
        await session.end()
        assert session.over.done()
        assert session.status == 9
        os.kill(int((tmp_path / "child").read_text()), 9)

    play(tmp_path, scene)


def test_it_ends_with_its_container_and_with_no_other(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        first, second = await stage.start("c.s", "exec sleep 1000"), await stage.start("d.s", "exec sleep 1000", parent="d")
        stage.sessions.container_ended("c")
        await first.over
        assert not second.over.done()

    play(tmp_path, scene)


@pytest.mark.parametrize(("argv", "user"), [(("no-such-program",), None), (("true",), "no-such-user")])
def test_what_cannot_be_started_leaves_its_name_free(tmp_path: Path, argv: tuple[str, ...], user: str | None) -> None:
    if user is not None and os.geteuid() != 0:
        pytest.skip("needs root: others cannot become somebody else")

    async def scene(stage: Stage) -> None:
        entry = Entry(argv, {"PATH": SYSTEM_PATH}, str(tmp_path), user, stage.joined.append)
        with pytest.raises(CallError, match=f"cannot run {argv[0]}"):
            await stage.sessions.start("c.s", "c", entry, None, terminal=False)
        assert await stage.start("c.s", "true")

    play(tmp_path, scene)
