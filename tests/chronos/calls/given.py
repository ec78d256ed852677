"""Attempts to make, and what came of them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from chronos import inputs
from chronos.calls import Caller, Calls
from chronos.history import History
from chronos.job import job_of
from chronos.records import Output
from chronos.run import Attempt, Cause, Run, RunState

T = TypeVar("T")
LIMIT_S = 60.0
ROOT = Path(__file__).parents[3]


def start(meseta: dict[str, Any], number: int = 0, *, again: bool = False, begun: bool = False) -> inputs.StartCall:
    """The attempt `number` of a job that calls."""
    job = job_of({"name": "j", "schedule": "R/2026-01-01T00:00:00Z/P1D", "meseta": meseta})
    attempt = Attempt(0, f"ct:1:{number}:j:", 1, started_ms=2 if begun else 0)
    run = Run("j@1", "j", 1, Cause.SCHEDULE, RunState.LAUNCHING, 1, 1, attempts=(attempt,))
    return inputs.StartCall(job, run, attempt, again)


class World:
    """The calls of a scheduler. told: what its core heard of them."""

    def __init__(self, history: History, callers: dict[str, Caller]) -> None:
        self.told: list[Any] = []
        self.history = history
        self._more = asyncio.Event()
        self.calls = Calls(callers, history, self._tell)

    def _tell(self, message: Any) -> None:
        self.told.append(message)
        self._more.set()

    async def until(self, kind: type) -> Any:
        while not any(isinstance(message, kind) for message in self.told):
            self._more.clear()
            async with asyncio.timeout(LIMIT_S):
                await self._more.wait()
        return next(message for message in self.told if isinstance(message, kind))

    async def ended(self) -> inputs.CallEnded:
        found: inputs.CallEnded = await self.until(inputs.CallEnded)
        return found

    async def output(self) -> Output | None:
        return await self.history.output("j@1")


def within(folder: Path, make: Callable[[], dict[str, Caller]], work: Callable[[World], Awaitable[T]]) -> T:
    async def run() -> T:
        return await inside(folder, make(), work)

    return asyncio.run(run())


async def inside(folder: Path, callers: dict[str, Caller], work: Callable[[World], Awaitable[T]]) -> T:
    history = History(folder / "history.db")
    world = World(history, callers)
    try:
        return await work(world)
    finally:
        await world.calls.close()
        await history.close()


@contextmanager
def working(broker: str) -> Iterator[None]:
    """A real worker of Celery, for the tasks of `celery_tasks.py`."""
    command = [sys.executable, "-m", "celery", "-A", "tests.chronos.calls.celery_tasks", "worker", "--concurrency=2", "-P", "threads"]
    environ = {**os.environ, "BROKER": broker, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*command, "--loglevel=ERROR"], env=environ, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()
