"""What a scheduler tells of itself: ping, leader, metrics (spec: chronos-v1, 2 and 12)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from aiohttp import web

from chronos import inputs
from chronos.api import answers
from chronos.book import Book
from chronos.leadership import Leadership
from chronos.life import Life
from chronos.run import RunState
from kernel.net.metrics import Metrics
from kernel.net.request import Request
from kernel.net.response import text

MANAGER = "org.apache.mesos.chronos.scheduler.jobs.TaskManager"


class SystemApi:
    """The handlers. measured: numbers of the edge."""

    def __init__(self, leadership: Leadership, measured: Callable[[], dict[str, float]]) -> None:
        self._leadership = leadership
        self._metrics = Metrics(measured, self._numbers)

    async def ping(self, request: Request) -> web.StreamResponse:
        return text(200, "pong")

    async def leader(self, request: Request) -> web.StreamResponse:
        leader = self._leadership.leader or self._leadership.me
        return await answers.shown(request, {"leader": leader.address})

    async def metrics(self, request: Request) -> web.StreamResponse:
        """Chronos' JSON; for whoever asks for text, as Prometheus does, its form."""
        accept = request.headers.get("Accept", "")
        if "openmetrics" in accept or "text/plain" in accept:
            return await self._metrics.prometheus(request)
        return await self._dropwizard(request)

    async def prometheus(self, request: Request) -> web.StreamResponse:
        return await self._metrics.prometheus(request)

    async def snapshot(self, request: Request) -> web.StreamResponse:
        return await self._metrics.snapshot(request)

    async def _numbers(self) -> Iterable[dict[str, float]]:
        if self._leadership.work is None:
            return ()
        numbers: dict[str, float] = await self._leadership.work.ask(inputs.Look(_counted))
        return (numbers, self._leadership.work.framework.loop.numbers())

    async def _dropwizard(self, request: Request) -> web.StreamResponse:
        working = self._leadership.working()

        def read(book: Book, life: Life, now_ms: int) -> tuple[dict[str, float], list[tuple[str, int, int]]]:
            counters = [(name, entry.status.success_count, entry.status.error_count) for name, entry in book.entries.items()]
            return _counted(book, life, now_ms), counters

        numbers, counters = await working.ask(inputs.Look(read))
        found = await working.history.all_percentiles()
        own = {f"meseta.{name.replace('/', '.')}": {"value": value} for name, value in numbers.items()}
        queued = {"value": int(numbers["chronos/runs_queued"])}
        body: dict[str, Any] = {
            "version": "3.0.0",  # Of the form.
            "gauges": {f"{MANAGER}.queueSize": queued, f"{MANAGER}.highQueueSize": {"value": 0}, **own},
            "counters": {
                f"jobs.run.{kind}.{name}": {"count": count}
                for name, successes, failures in counters
                for kind, count in (("success", successes), ("failure", failures))
                if count
            },
            "histograms": {
                f"jobs.run.time.{name}": {
                    "count": known.count,
                    "mean": known.mean,
                    "p50": known.median,
                    "p75": known.p75,
                    "p95": known.p95,
                    "p98": known.p98,
                    "p99": known.p99,
                }
                for name, known in found.items()
            },
            "meters": {},
            "timers": {},
        }
        return await answers.raw(request, msgspec.json.encode(body))


def _counted(book: Book, life: Life, now_ms: int) -> dict[str, float]:
    states = [run.state for run in life.runs.values()]
    next_ms = book.next_due_ms()
    return {
        "chronos/jobs": float(len(book.entries)),
        "chronos/jobs_quarantined": float(len(book.unreadable) + sum(bool(entry.fault) for entry in book.entries.values())),
        "chronos/jobs_disabled": float(sum(entry.status.disabled for entry in book.entries.values())),
        "chronos/runs_live": float(sum(run.live for run in life.runs.values())),
        "chronos/runs_queued": float(states.count(RunState.QUEUED) + states.count(RunState.LAUNCHING)),
        "chronos/runs_running": float(states.count(RunState.RUNNING)),
        "chronos/behind_s": max(0.0, (now_ms - next_ms) / 1000) if next_ms is not None else 0.0,
    }
