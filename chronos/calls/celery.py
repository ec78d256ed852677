"""Celery tasks by name: sent to a broker with our task's id as theirs, followed by the result back end to their results."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from celery import Celery
from celery.exceptions import CeleryError
from celery.result import AsyncResult
from kombu.exceptions import KombuError
from msgspec import UNSET

from chronos import inputs
from chronos.calls import LEFT, Result
from chronos.extension import CeleryCall
from chronos.joins import Outcome
from kernel.errors import KernelError

LOOK_FIRST_S = 0.1
LOOK_MAX_S = 2.0
SILENT_S = 300.0  # How long a result back end that does not answer is waited for.
UNKNOWN_S = 30.0  # How long after a restart a task that may never have been sent is looked for.
REVOKE_S = 5.0  # How long one who stops waits for the broker to take what is still to be revoked.
THREADS = 8
OUTPUT_BYTES = 8 * 1024
READY = frozenset({"SUCCESS", "FAILURE", "REVOKED", "REJECTED", "IGNORED"})

T = TypeVar("T")
log = logging.getLogger(__name__)


class CannotSend(KernelError):
    """There is no broker, or it does not take the task."""


class CeleryCaller:
    """Sends and follows, in a few threads: Celery's clients block. broker, backend: for jobs that name none; URLs."""

    def __init__(self, broker: str, backend: str, unknown_s: float = UNKNOWN_S) -> None:
        self._broker, self._backend, self._unknown_s = broker, backend, unknown_s
        self._apps: dict[str, Celery] = {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="celery")
        self._revoking: set[Future[None]] = set()

    async def close(self) -> None:
        revoking = [asyncio.wrap_future(future) for future in self._revoking.copy()]
        if revoking:
            await asyncio.wait(revoking, timeout=REVOKE_S)
        self._threads.shutdown(wait=False, cancel_futures=True)
        for app in self._apps.values():
            app.close()

    async def call(self, effect: inputs.StartCall, began: Callable[[], None]) -> Result:
        said = effect.job.more.celery
        assert said is not UNSET, "it is a job that sends a Celery task"
        app = self._app(said)
        task_id = effect.attempt.task_id
        surely = not effect.again or effect.attempt.started_ms > 0
        if not effect.again:
            await self._in_thread(app, lambda: _send(app, said, task_id))
            began()
        try:
            return await self._follow(app, task_id, surely)
        except asyncio.CancelledError as cancelled:
            if LEFT not in cancelled.args:
                revoking = self._threads.submit(_revoke_if_possible, app, task_id)
                self._revoking.add(revoking)
                revoking.add_done_callback(self._revoking.discard)
            raise

    def _app(self, said: CeleryCall) -> Celery:
        broker = said.broker or self._broker
        if not broker:
            raise CannotSend("meseta.celery.broker: no broker is named, and the scheduler has none (--celery_broker)")
        if broker not in self._apps:
            backend = self._backend if broker == self._broker and self._backend else broker
            app = Celery("meseta", broker=broker, backend=backend, set_as_current=False)
            app.conf.update(broker_connection_retry=False, broker_transport_options={"max_retries": 2}, result_expires=86_400)
            self._apps[broker] = app
        return self._apps[broker]

    async def _follow(self, app: Celery, task_id: str, surely: bool) -> Result:
        """surely: it was sent."""
        clock = asyncio.get_running_loop().time
        wait_s, until_s, silent_s = LOOK_FIRST_S, clock() + self._unknown_s, clock() + SILENT_S
        while True:
            try:
                state, value = await self._in_thread(app, lambda: _look(app, task_id))
                silent_s = clock() + SILENT_S
            except CannotSend as error:
                if clock() >= silent_s:
                    return Result(Outcome.FAILURE, str(error), lost=True)
                await asyncio.sleep(LOOK_MAX_S)
                continue
            if state in READY:
                return _result(state, value)
            if state != "PENDING":
                surely = True
            if not surely and clock() >= until_s:
                await self._in_thread(app, lambda: _revoke(app, task_id))  # Should it still come, no worker takes it.
                return Result(Outcome.FAILURE, "the scheduler was restarted while it was sent", lost=True)
            await asyncio.sleep(wait_s)
            wait_s = min(LOOK_MAX_S, wait_s * 1.5)

    async def _in_thread(self, app: Celery, work: Callable[[], T]) -> T:
        """Raises CannotSend, in which no password of a URL is."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except (KombuError, CeleryError, OSError, ValueError, TypeError, KeyError) as error:
            raise CannotSend(f"the broker or its result back end: {_shown(error)}") from None
        except Exception as error:  # Each transport has errors of its own.
            raise CannotSend(f"the broker or its result back end: {type(error).__name__}: {_shown(error)}") from None


def _send(app: Celery, said: CeleryCall, task_id: str) -> None:
    options: dict[str, Any] = {**said.options}
    if said.queue:
        options["queue"] = said.queue
    app.send_task(said.task, args=list(said.args), kwargs=said.kwargs, task_id=task_id, **options)


def _look(app: Celery, task_id: str) -> tuple[str, Any]:
    meta = AsyncResult(task_id, app=app)._get_task_meta()  # State and result of one moment.
    return str(meta["status"]), meta.get("result")


def _revoke(app: Celery, task_id: str) -> None:
    app.control.revoke(task_id, terminate=True)


def _revoke_if_possible(app: Celery, task_id: str) -> None:
    try:
        _revoke(app, task_id)
    except Exception as error:  # Each transport has errors of its own.
        log.warning("the Celery task %s could not be revoked: %s", task_id, _shown(error))


def _result(state: str, value: Any) -> Result:
    text = repr(value) if isinstance(value, BaseException) else str(value)
    output = text.encode(errors="replace")[-OUTPUT_BYTES:]
    if state == "SUCCESS":
        return Result(Outcome.SUCCESS, "the task succeeded", output, 0)
    if state == "REVOKED":
        return Result(Outcome.KILLED, "the task was revoked", output)
    return Result(Outcome.FAILURE, f"the task ended as {state}: {text[:500]}", output, 1)


def _shown(error: Exception) -> str:
    return re.sub(r"://[^/@\s]*@", "://", str(error))[:500]
