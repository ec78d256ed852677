"""Attempts that are no tasks: a URL that is called, a Celery task that is sent. One interface for the kinds, one place that runs them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from msgspec import UNSET, Struct

from chronos import inputs
from chronos.history import History
from chronos.job import Job
from chronos.joins import Outcome
from chronos.records import Output
from chronos.tasks import timeout_ms_of
from kernel.errors import KernelError

log = logging.getLogger(__name__)

LEFT = "left alone"  # With this a call is cancelled that goes on without us.


class Result(Struct, frozen=True):
    """What a call came to. output: what it had to say, the end of it. lost: nobody knows how it went, or it was never taken."""

    outcome: Outcome
    message: str
    output: bytes = b""
    exit_status: int | None = None
    lost: bool = False


class Caller(Protocol):
    """One kind of call."""

    async def call(self, effect: inputs.StartCall, began: Callable[[], None]) -> Result:
        """Begin it, say so, follow it to its end. `effect.again`: this process has not begun it; follow it if that can be done.
        Raises KernelError: it came to nothing. Cancelled where it is to end, or, with the message LEFT, to go on without us."""

    async def close(self) -> None: ...


class Calls:
    """All calls under way. tell: takes `CallBegan` and `CallEnded`."""

    def __init__(self, callers: dict[str, Caller], history: History, tell: Callable[[Any], None]) -> None:
        self._callers, self._history, self._tell = callers, history, tell
        self._running: dict[str, asyncio.Task[None]] = {}

    def start(self, effect: inputs.StartCall) -> None:
        self._running[effect.attempt.task_id] = asyncio.create_task(self._run(effect))

    def cancel(self, effect: inputs.CancelCall) -> None:
        """End it; what nobody runs is over."""
        running = self._running.get(effect.task_id)
        if running is not None:
            running.cancel()
        else:
            self._tell(inputs.CallEnded(effect.run_id, effect.task_id, Outcome.KILLED, "it was not under way any more"))

    async def close(self) -> None:
        """Leave them: whoever comes next follows those that can be followed."""
        running, self._running = list(self._running.values()), {}
        for task in running:
            task.cancel(LEFT)
        if running:
            await asyncio.wait(running)
        for caller in self._callers.values():
            await caller.close()

    async def _run(self, effect: inputs.StartCall) -> None:
        run_id, task_id = effect.run.run_id, effect.attempt.task_id
        try:
            result = await self._call(effect)
        except asyncio.CancelledError:
            if task_id not in self._running:  # We stop; it goes on.
                raise
            result = Result(Outcome.KILLED, "cancelled on request")
        if result.output:
            await self._history.put_output(run_id, Output(result.output, b""))
        self._running.pop(task_id, None)
        self._tell(inputs.CallEnded(run_id, task_id, result.outcome, result.message, result.exit_status, result.lost))

    async def _call(self, effect: inputs.StartCall) -> Result:
        ids = effect.run.run_id, effect.attempt.task_id
        timeout_ms = timeout_ms_of(effect.job)
        try:
            async with asyncio.timeout(timeout_ms / 1000 if timeout_ms else None):
                return await self._callers[kind_of(effect.job)].call(effect, lambda: self._tell(inputs.CallBegan(*ids)))
        except TimeoutError:
            return Result(Outcome.FAILURE, f"it took longer than {timeout_ms / 1000:g} s")
        except KernelError as error:
            return Result(Outcome.FAILURE, str(error))
        except Exception:
            log.exception("the call %s failed", effect.attempt.task_id)
            return Result(Outcome.FAILURE, "internal error; see the scheduler's log")


def kind_of(job: Job) -> str:
    return "http" if job.more.http is not UNSET else "celery"
