"""What a scheduler tells of itself: ping, leader, metrics (spec: chronos-v1, 2 and 12)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from aiohttp import web

from chronos import inputs
from chronos.api import answers
from chronos.book import Book
from chronos.entry import Entry
from chronos.leadership import Leadership, Working
from chronos.life import Life
from chronos.run import Run, RunState
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
        work = self._leadership.work
        if work is None:
            return ()
        return (await _counted(work), work.framework.loop.numbers())

    async def _dropwizard(self, request: Request) -> web.StreamResponse:
        working = self._leadership.working()
        numbers = await _counted(working)
        counters: list[tuple[str, int, int]] = await working.ask(inputs.Look(_counters))
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


async def _counted(working: Working) -> dict[str, float]:
    entries, runs, unreadable, next_ms, now_ms = await working.ask(inputs.Look(_all))
    return await asyncio.to_thread(_numbers_of, entries, runs, unreadable, next_ms, now_ms)  # There may be a million.


def _all(book: Book, life: Life, now_ms: int) -> tuple[list[Entry], list[Run], int, int | None, int]:
    return list(book.entries.values()), list(life.runs.values()), len(book.unreadable), book.due_ms(now_ms), now_ms


def _counters(book: Book, life: Life, now_ms: int) -> list[tuple[str, int, int]]:
    statuses = ((name, entry.status) for name, entry in book.entries.items())
    return [(name, status.success_count, status.error_count) for name, status in statuses if status.success_count or status.error_count]


def _numbers_of(entries: list[Entry], runs: list[Run], unreadable: int, next_ms: int | None, now_ms: int) -> dict[str, float]:
    states = [run.state for run in runs]
    return {
        "chronos/jobs": float(len(entries)),
        "chronos/jobs_quarantined": float(unreadable + sum(bool(entry.fault) for entry in entries)),
        "chronos/jobs_disabled": float(sum(entry.status.disabled for entry in entries)),
        "chronos/runs_live": float(sum(run.live for run in runs)),
        "chronos/runs_queued": float(states.count(RunState.QUEUED) + states.count(RunState.LAUNCHING)),
        "chronos/runs_running": float(states.count(RunState.RUNNING)),
        "chronos/behind_s": max(0.0, (now_ms - next_ms) / 1000) if next_ms is not None else 0.0,
    }
