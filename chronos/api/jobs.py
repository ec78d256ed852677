"""Chronos' jobs: create, replace, list, search, run, kill, delete, statistics (spec: chronos-v1, 2)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec
from aiohttp import web
from msgspec import UNSET, Struct

from chronos import inputs
from chronos.api import answers
from chronos.book import Book
from chronos.catalog import Wanted
from chronos.entry import Entry
from chronos.history import Query
from chronos.job import Defaults, Job, cross_filled, read_job, write_job
from chronos.joins import Outcome
from chronos.leadership import Leadership
from chronos.life import Life
from chronos.records import Percentiles, record_of
from chronos.run import Attempt
from chronos.states import current_state, last_state
from kernel.errors import CallError
from kernel.net.request import Request, read_body

TASK_ID = re.compile(r"ct:(\d+):(\d+):([\w.-]+):?(.*)", re.ASCII)
SEARCH_LIMIT = 10


class _Progress(Struct, rename="camel"):
    num_additional_elements_processed: int | None = None


class _StatusCode(Struct, rename="camel"):
    status_code: int | None = None


class JobsApi:
    """The handlers. history_limit: how many tasks a job's statistics show."""

    def __init__(self, leadership: Leadership, defaults: Defaults, history_limit: int) -> None:
        self._leadership, self._defaults, self._history_limit = leadership, defaults, history_limit

    async def _look(self, read: Any) -> Any:
        return await self._leadership.working().ask(inputs.Look(read))

    # ---- Writing ----------------------------------------------------------------------------------------

    async def scheduled(self, request: Request) -> web.StreamResponse:
        job = await self._posted(request)
        if job.dependent:
            raise CallError("parents: a job that has parents is posted to /dependency")
        await self._leadership.working().ask(inputs.Put(job))
        return answers.done()

    async def dependent(self, request: Request) -> web.StreamResponse:
        job = await self._posted(request)
        if not job.dependent:
            raise CallError("parents: a dependent job has at least one parent; one with a schedule is posted to /iso8601")
        await self._leadership.working().ask(inputs.Put(job))
        return answers.done()

    async def _posted(self, request: Request) -> Job:
        return read_job(await read_body(request, answers.BODY_BYTES_MAX), self._defaults)

    # ---- Lists ------------------------------------------------------------------------------------------

    async def all(self, request: Request) -> web.StreamResponse:
        entries: list[Entry] = await self._look(lambda book, life, now_ms: book.snapshot())
        return await answers.listed(request, (write_job(cross_filled(Book.shown(entry))) for entry in entries))

    async def summary(self, request: Request) -> web.StreamResponse:
        entries, states = await self._look(
            lambda book, life, now_ms: (book.snapshot(), {name: current_state(life, name) for name in life.by_job})
        )
        return await answers.enclosed(request, "jobs", (_summary(entry, states) for entry in entries))

    async def search(self, request: Request) -> web.StreamResponse:
        limit, offset = answers.number(request, "limit", SEARCH_LIMIT), answers.number(request, "offset", 0)
        wanted = Wanted(*(answers.text(request, field) for field in ("name", "command", "any")))

        def read(book: Book, life: Life, now_ms: int) -> list[Entry]:
            return [entry.copy() for entry in islice(book.catalog.walk(wanted=wanted), offset, offset + limit)]

        entries: list[Entry] = await self._look(read)
        return await answers.listed(request, (write_job(Book.shown(entry)) for entry in entries))

    # ---- One job ----------------------------------------------------------------------------------------

    async def job(self, request: Request) -> web.StreamResponse:
        """`/job/NAME`, `/job/stat/NAME`, `/job/success/NAME`, `/job/NAME/task/ID/progress`."""
        name, _, more = request.rest.partition("/")
        if not more:
            return await self._ONE[request.method](self, request, name)
        if name == "stat" and request.method in ("GET", "HEAD"):
            return await self._stat(request, more)
        if name == "success" and request.method == "PUT":
            return await self._success(more)
        path = more.split("/")
        if len(path) >= 3 and path[0] == "task" and path[-1] == "progress" and request.method == "POST":
            return await self._progress(request, name, "/".join(path[1:-1]))
        raise answers.nothing(request)

    async def _get(self, request: Request, name: str) -> web.StreamResponse:
        job: Job = await self._look(lambda book, life, now_ms: book.shown(book.find(name)))
        return await answers.raw(request, write_job(job))

    async def _run(self, request: Request, name: str) -> web.StreamResponse:
        await self._leadership.working().ask(inputs.RunNow(name, request.query.get("arguments")))
        return answers.done()

    async def _delete(self, request: Request, name: str) -> web.StreamResponse:
        await self._leadership.working().ask(inputs.Delete(name))
        return answers.done()

    async def _post(self, request: Request, name: str) -> web.StreamResponse:
        raise answers.nothing(request)

    _ONE = {"GET": _get, "HEAD": _get, "PUT": _run, "DELETE": _delete, "POST": _post}  # noqa: RUF012

    async def _success(self, name: str) -> web.StreamResponse:
        known = await self._leadership.working().ask(inputs.MarkSuccess(name))
        return web.Response(text=f"marked job {name} as successful: true" if known else "false", content_type="application/json")

    async def _stat(self, request: Request, name: str) -> web.StreamResponse:
        working = self._leadership.working()

        def read(book: Book, life: Life, now_ms: int) -> Any:
            job = book.find(name).job
            return job, [record_of(life.runs[run_id], job, "") for run_id in life.by_job.get(name, ())]

        job, live = await self._look(read)
        past = (await working.history.runs(Query(job=name, limit=self._history_limit, attempted=True))).runs
        known = {attempt.task_id: attempt for record in (*past, *live) for attempt in record.attempts}
        newest = sorted(known.values(), key=lambda attempt: attempt.started_ms or attempt.asked_ms, reverse=True)[: self._history_limit]
        elements = await working.history.progress([attempt.task_id for attempt in newest]) if job.data_processing_job_type else None
        shown = [_task(attempt, name, None if elements is None else elements.get(attempt.task_id, 0)) for attempt in newest]
        return await answers.shown(request, {"histogram": await working.history.percentiles(name), "taskStatHistory": shown})

    async def _progress(self, request: Request, name: str, task_id: str) -> web.StreamResponse:
        working = self._leadership.working()
        said = await answers.body_of(request, _Progress)
        job, live = await self._look(
            lambda book, life, now_ms: (
                book.find(name).job,
                {attempt.task_id for run_id in life.by_job.get(name, ()) for attempt in life.runs[run_id].attempts},
            )
        )
        if TASK_ID.fullmatch(task_id) is None:
            raise CallError(f"taskId: {task_id[:200]!r} is no id of a task")
        if not job.data_processing_job_type:
            raise CallError(f"dataProcessingJobType: {name} is no job whose elements are counted")
        count = said.num_additional_elements_processed
        if count is None:
            return answers.done()
        if not 0 <= count < 1 << 62:
            raise CallError(f"numAdditionalElementsProcessed: {count} is not allowed: 0 or more is")
        if task_id not in live and not await working.history.knows_task(name, task_id):
            raise CallError(f"taskId: {name} has no task {task_id[:200]!r}")
        await working.history.add_progress(task_id, count)
        return answers.done()

    # ---- Tasks ------------------------------------------------------------------------------------------

    async def task(self, request: Request) -> web.StreamResponse:
        """`DELETE /task/kill/NAME`, `DELETE /task/all` and `PUT /task/ID`."""
        working = self._leadership.working()
        if request.method == "DELETE" and request.rest.startswith("kill/"):
            await working.ask(inputs.KillRuns(request.rest.removeprefix("kill/")))
        elif request.method == "DELETE" and request.rest == "all":
            await working.ask(inputs.ClearQueues())
        elif request.method == "PUT" and request.rest:
            await working.ask(await self._finished(request))
        else:
            raise answers.nothing(request)
        return answers.done()

    async def _finished(self, request: Request) -> inputs.FinishTask:
        parts = TASK_ID.fullmatch(request.rest)
        if parts is None:
            raise CallError(f"taskId: {request.rest[:200]!r} is no id of a task")
        code = (await answers.body_of(request, _StatusCode)).status_code
        if code is None:
            raise CallError("statusCode: a number is due, 0 for success")
        return inputs.FinishTask(parts[3], request.rest, Outcome.FAILURE if code else Outcome.SUCCESS)

    # ---- Statistics -------------------------------------------------------------------------------------

    async def percentile(self, request: Request) -> web.StreamResponse:
        """`/stats/PERCENTILE`: every job, the slowest first."""
        names: list[str] = await self._look(lambda book, life, now_ms: list(book.entries))
        fields = {field.encode_name: field.name for field in msgspec.structs.fields(Percentiles)}
        if request.rest not in fields:
            return await answers.listed(request, ())
        found = await self._leadership.working().history.all_percentiles()
        seconds = [(getattr(found[name], fields[request.rest]) / 1000 if name in found else 0.0, name) for name in names]
        seconds.sort(key=lambda pair: (-pair[0], pair[1]))
        return await answers.listed(request, (msgspec.json.encode({"jobNameLabel": name, "time": time_s}) for time_s, name in seconds))


def _summary(entry: Entry, states: dict[str, str]) -> bytes:
    job = Book.shown(entry)
    return msgspec.json.encode({
        "name": job.name,
        "status": last_state(entry.status),  # Chronos named these two so.
        "state": states.get(job.name, "idle"),
        "schedule": "" if job.schedule is UNSET else job.schedule,
        "parents": job.parent_names,
        "disabled": job.disabled,
    })  # fmt: skip


_ENDS = {"TASK_FINISHED": "Success", "TASK_FAILED": "Fail", "TASK_KILLED": "Fail", "TASK_RUNNING": "Running", "TASK_KILLING": "Running"}


def _task(attempt: Attempt, job: str, elements: int | None) -> dict[str, Any]:
    start_ms, end_ms = attempt.started_ms or attempt.launched_ms, attempt.ended_ms
    known = {
        "taskId": attempt.task_id,
        "jobName": job,
        "slaveId": attempt.agent_id,
        "startTime": _clock(start_ms),
        "endTime": _clock(end_ms),
    }
    if start_ms and end_ms:
        known["duration"] = _lasting(max(0, end_ms - start_ms) // 1000)
    known["status"] = _ENDS.get(attempt.state, "Fail" if end_ms else "Idle")
    return known if elements is None else {**known, "numElementsProcessed": elements}


def _clock(instant_ms: int) -> str:
    """As Chronos wrote it, by the clock of this machine."""
    return time.strftime("%m/%d/%y %H:%M:%S", time.localtime(instant_ms / 1000)) if instant_ms else "N/A"


def _lasting(seconds: int) -> str:
    parts: Iterator[tuple[int, str]] = iter(((seconds // 3600, "h"), (seconds // 60 % 60, "m")))
    return "".join(f"{count}{unit}" for count, unit in parts if count) + f"{seconds % 60}s"
