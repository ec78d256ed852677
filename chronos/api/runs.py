"""Runs, those that go on and those that are over: pages, one, its output, why it waits, again, kill, export (`/v1/meseta/runs`)."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from itertools import islice
from typing import Any

import msgspec
from aiohttp import web

from chronos import inputs
from chronos.api import answers
from chronos.api.times import instant
from chronos.book import Book
from chronos.core import ChronosScheduler
from chronos.extension import one_of
from chronos.history import PAGE_MAX, Query
from chronos.leadership import Leadership
from chronos.life import Life
from chronos.records import CSV_COLUMNS, Record, csv_row, record_of
from chronos.run import OVER, Attempt, RunState
from chronos.schedule import show_time
from chronos.schedule.zones import UTC_ZONE
from frameworks.sdk.tasks import TaskRecord
from kernel.errors import CallError
from kernel.net.request import Request

EXPORT_BYTES = 64 * 1024
WHY_MAX = 50


class RunsApi:
    """The handlers."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership

    async def _look(self, read: Any) -> Any:
        return await self._leadership.working().ask(inputs.Look(read))

    async def history(self, request: Request) -> web.StreamResponse:
        """A page of runs that are over, the newest first: ?job= ?identity= ?state= ?owner= ?from= ?to= ?limit= ?before=."""
        page = await self._leadership.working().history.runs(_query(request, answers.number(request, "limit", 100, 1, PAGE_MAX)))
        return await answers.shown(request, {"runs": [shown_record(record) for record in page.runs], "next": page.next})

    async def live(self, request: Request) -> web.StreamResponse:
        """Runs that are not in the history yet, the oldest first: ?job= ?limit= ?offset=. Who asks here, then for history, misses none."""
        job = answers.text(request, "job")
        limit, offset = answers.number(request, "limit", 100, 1, PAGE_MAX), answers.number(request, "offset", 0)

        def read(book: Book, life: Life, now_ms: int) -> list[Record]:
            run_ids = life.runs if job is None else life.by_job.get(job, {})
            runs = [life.runs[run_id] for run_id in islice(run_ids, offset, offset + limit)]
            return [record_of(run, entry.job if (entry := book.entries.get(run.job)) is not None else None, "") for run in runs]

        return await answers.shown(request, {"runs": [shown_record(record) for record in await self._look(read)]})

    async def run(self, request: Request) -> web.StreamResponse:
        """`/runs/ID`, and what is below it."""
        run_id, _, what = request.rest.partition("/")
        handler = self._BELOW.get((request.method if request.method != "HEAD" else "GET", what))
        if handler is None:
            raise answers.nothing(request)
        return await handler(self, request, run_id)

    async def _found(self, run_id: str) -> Record:
        """Raises CallError: nobody knows it."""
        working = self._leadership.working()

        def read(book: Book, life: Life, now_ms: int) -> Record | None:
            run = life.runs.get(run_id)
            entry = book.entries.get(run.job) if run is not None else None
            return None if run is None else record_of(run, entry.job if entry is not None else None, working.core.framework_id)

        found: Record | None = await working.ask(inputs.Look(read)) or await working.history.run(run_id)
        if found is None:
            raise CallError(f"run: there is no run {run_id[:200]!r}")
        return found

    async def _one(self, request: Request, run_id: str) -> web.StreamResponse:
        return await answers.shown(request, shown_record(await self._found(run_id)))

    async def _output(self, request: Request, run_id: str) -> web.StreamResponse:
        """The end of what it printed; `kept` says whether anything was kept."""
        await self._found(run_id)
        output = await self._leadership.working().history.output(run_id)
        texts = (output.stdout, output.stderr) if output is not None else (b"", b"")
        stdout, stderr = (text.decode(errors="replace") for text in texts)
        return await answers.shown(request, {"kept": output is not None, "stdout": stdout, "stderr": stderr})

    async def _why(self, request: Request, run_id: str) -> web.StreamResponse:
        """Why it does not run yet, or why it ended so. demand: what waits at the master, where that is what it waits for: `/explain` there
        knows more."""
        record = await self._found(run_id)
        reasons = [record.reason] if record.reason else []
        if record.state == RunState.WAITING.value and not record.attempts:
            reasons.append(f"it is due at {show_time(record.due, UTC_ZONE)}")
        demand = None
        if record.state == RunState.LAUNCHING.value and record.attempts and not record.attempts[-1].launched_ms:
            core = self._leadership.working().core
            task = core.tasks.get(record.attempts[-1].task_id)
            if task is not None:
                demand = {"frameworkId": core.framework_id, "name": task.shape.name}
            reasons += _refusals(core, task)
        return await answers.shown(request, {"run": run_id, "state": record.state, "reasons": reasons, "demand": demand})

    async def _kill(self, request: Request, run_id: str) -> web.StreamResponse:
        record = await self._found(run_id)
        if not await self._leadership.working().ask(inputs.KillRuns(record.job, run_id)):
            raise CallError(f"run: {run_id[:200]} is over already")
        return answers.done()

    async def _again(self, request: Request, run_id: str) -> web.StreamResponse:
        """Run it again within the run of its graph, and then what depends on it."""
        record = await self._found(run_id)
        if RunState(record.state) not in OVER:
            raise CallError(f"run: {run_id[:200]} is not over")
        working = self._leadership.working()
        outcomes = await working.history.outcomes(record.identity) if record.identity else {}
        asked = inputs.RunAgain(record.job, record.identity or record.id, record.slot, tuple(outcomes.items()))
        return await answers.shown(request, {"run": await working.ask(asked)})

    _BELOW = {  # noqa: RUF012
        ("GET", ""): _one,
        ("GET", "output"): _output,
        ("GET", "why"): _why,
        ("DELETE", ""): _kill,
        ("POST", "again"): _again,
    }

    # ---- Export -----------------------------------------------------------------------------------------

    async def export(self, request: Request) -> web.StreamResponse:
        """All runs that are asked for: ?format=csv, or json (an object a line), and what `history` takes."""
        kind = answers.text(request, "format") or "json"
        one_of(kind, ("json", "csv"), "format")
        records = self._leadership.working().history.all(_query(request, PAGE_MAX))
        media = "text/csv; charset=utf-8" if kind == "csv" else "application/x-ndjson"
        told = {"Content-Type": media, "Content-Disposition": f"attachment; filename=history.{kind}"}
        stream = web.StreamResponse(headers={**told, **answers.headers(request)})
        await stream.prepare(request)
        async for piece in _csv(records) if kind == "csv" else _lines(records):
            await stream.write(piece)
        return stream


def _refusals(core: ChronosScheduler, task: TaskRecord | None) -> list[str]:
    """Why offers did not do for a task that waits."""
    if not core.driver.subscribed:
        return ["the scheduler is not connected to a master"]
    if task is None:
        return []
    said = [f"{refusal.hostname}: {refusal.reason}" for refusal in core.refusals if refusal.shape == task.shape]
    return said[:WHY_MAX] or ["it waits for an offer of resources"]


async def _lines(records: AsyncIterator[Record]) -> AsyncIterator[bytes]:
    piece = bytearray()
    async for record in records:
        piece += msgspec.json.encode(shown_record(record)) + b"\n"
        if len(piece) >= EXPORT_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


async def _csv(records: AsyncIterator[Record]) -> AsyncIterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    async for record in records:
        writer.writerow(csv_row(record))
        if text.tell() >= EXPORT_BYTES:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()


def _query(request: Request, limit: int) -> Query:
    states = tuple(part.strip() for part in (answers.text(request, "state") or "").split(",") if part.strip())
    for state in states:
        one_of(state, sorted(state.value for state in OVER), "state")
    ends = [None if (said := answers.text(request, field)) is None else instant(said, field) for field in ("from", "to")]
    return Query(
        answers.text(request, "job"),
        answers.text(request, "identity"),
        states,
        answers.text(request, "owner"),
        ends[0],
        ends[1],
        answers.text(request, "before") or "",
        limit,
    )


def shown_record(record: Record) -> dict[str, Any]:
    """A run as clients see it."""
    shown: dict[str, Any] = msgspec.to_builtins(record)
    shown["attempts"] = [_attempt(attempt) for attempt in record.attempts]
    return shown


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "taskId": attempt.task_id,
        "state": attempt.state,
        "exitStatus": attempt.exit_status,
        "message": attempt.message,
        "asked": attempt.asked_ms,
        "launched": attempt.launched_ms,
        "started": attempt.started_ms,
        "ended": attempt.ended_ms,
        "agentId": attempt.agent_id,
        "hostname": attempt.hostname,
        "agentUrl": attempt.agent_url,
    }
