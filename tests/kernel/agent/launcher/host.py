"""One agent's side of a real launcher, for tests: starts it, gathers what it tells, ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from kernel.agent.launcher import processes
from kernel.agent.launcher.client import Exited, Launch, LauncherClient, LauncherEvent, LauncherState, LaunchFailed, Started

DEADLINE_S = 30.0


class Host:
    """A launcher in a directory with one connected agent. `async with` connects, and kills everything at the end."""

    def __init__(self, work_dir: Path, python: str = sys.executable) -> None:
        self.sandbox = work_dir / "sandbox"
        self.sandbox.mkdir(parents=True, exist_ok=True)
        self.events: list[LauncherEvent] = []
        self.client = LauncherClient(work_dir / "launcher", self._on_event, python)
        self._heard = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def _on_event(self, event: LauncherEvent) -> None:
        self.events.append(event)
        self._heard.set()

    async def __aenter__(self) -> Host:
        self._task = asyncio.create_task(self.client.run())
        await asyncio.wait_for(self.client.wait_connected(), DEADLINE_S)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._task is not None and not await self.client.stop(kill_all=True, deadline_s=DEADLINE_S):
            raise AssertionError("the launcher did not end")
        await self.leave()

    async def leave(self) -> None:
        """Disconnect, as an agent that dies."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def kill_launcher(self) -> None:
        """kill -9, with nobody there to start it again; it is gone on return."""
        pid = self.client.pid
        assert pid is not None
        await self.leave()
        os.kill(pid, signal.SIGKILL)
        await until(lambda: (found := processes.stat(pid)) is None or found.state == "Z")

    def launch(self, name: str, *argv: str, **options: Any) -> None:
        """Start a program in the sandbox; output goes to NAME.out and NAME.err."""
        fields = {"env": {"PATH": os.defpath}, "cwd": str(self.sandbox), "stdout": f"{name}.out", "stderr": f"{name}.err", **options}
        self.client.launch(Launch(container=name, argv=argv, **fields))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds of the events."""
        async with asyncio.timeout(DEADLINE_S):
            while not holds():
                self._heard.clear()
                await self._heard.wait()

    def of(self, kind: type, name: str) -> list[Any]:
        """Return the events of a kind about a container."""
        return [event for event in self.events if isinstance(event, kind) and getattr(event, "container", "") == name]

    async def started(self, name: str) -> int:
        """Wait until a container runs; return its pid."""
        await self.until(lambda: bool(self.of(Started, name)))
        pid: int = self.of(Started, name)[0].pid
        return pid

    async def exited(self, name: str) -> int | None:
        """Wait until a container has ended; return its raw wait status."""
        await self.until(lambda: bool(self.of(Exited, name) or self.of(LaunchFailed, name)))
        assert not self.of(LaunchFailed, name), self.of(LaunchFailed, name)
        status: int | None = self.of(Exited, name)[0].status
        return status

    async def failed(self, name: str) -> LaunchFailed:
        """Wait until a container could not be started."""
        await self.until(lambda: bool(self.of(Exited, name) or self.of(LaunchFailed, name)))
        failure: LaunchFailed = self.of(LaunchFailed, name)[0]
        return failure

    async def run(self, *argv: str, name: str = "c", **options: Any) -> tuple[int | None, str]:
        """Run a program to its end; return status and output, stdout first."""
        self.launch(name, *argv, **options)
        status = await self.exited(name)
        return status, "".join((self.sandbox / f"{name}.{end}").read_text() for end in ("out", "err"))

    def told(self) -> dict[str, int | None]:
        """Return the wait status of every container whose end was told, in whatever way."""
        ends: dict[str, int | None] = {}
        for event in self.events:
            if isinstance(event, Exited):
                ends.setdefault(event.container, event.status)
            elif isinstance(event, LauncherState):
                for report in event.containers:
                    if report.exit is not None:
                        ends.setdefault(report.container, report.exit.status)
        return ends

    def state(self) -> LauncherState:
        """Return the state told at the last connect."""
        return next(event for event in reversed(self.events) if isinstance(event, LauncherState))

    def fifo(self, name: str) -> Path:
        """Make a pipe that a task can wait at: `read x < NAME`."""
        os.mkfifo(self.sandbox / name)
        return self.sandbox / name


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds that nobody tells."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            if holds():
                return
            await asyncio.sleep(0.01)


async def open_gate(path: Path) -> None:
    """Let a task go on that waits at a pipe, or is about to."""

    def opened() -> bool:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # Nobody waits yet.
            return False
        os.write(fd, b"go\n")
        os.close(fd)
        return True

    await until(opened)


def open_to_others(path: Path) -> Path:
    """Let other users pass through pytest's private directories."""
    for directory in (path, *path.parents):
        if "pytest-of-" in str(directory):
            directory.chmod(0o755)
    return path


def gone(pid: int) -> bool:
    """Whether a process runs no more."""
    found = processes.stat(pid)
    return found is None or found.state == "Z"
