"""What Chronos had no endpoints for, of jobs: pages with filters, next runs, backfill, pause, calendars (`/v1/meseta`). Times are ms since
the epoch; where one is sent, text of ISO 8601 (UTC where it says none) will do, too."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice, pairwise
from typing import Any

import msgspec
from aiohttp import web
from msgspec import Raw, Struct

from chronos import inputs
from chronos.api import answers
from chronos.api.runs import shown_record
from chronos.api.times import instant
from chronos.book import Book
from chronos.catalog import Catalog, Wanted
from chronos.entry import Entry
from chronos.extension import one_of
from chronos.history import PAGE_MAX
from chronos.job import write_job
from chronos.leadership import Leadership
from chronos.life import Life
from chronos.records import record_of
from chronos.schedule import Calendar, clock_note, next_runs
from chronos.states import QUEUED, STATES, current_state, has_state, last_state
from kernel.errors import CallError
from kernel.net.request import Request

NEXT_MAX = 1000


class _Run(Struct, forbid_unknown_fields=True):
    arguments: str | None = None


class _Range(Struct, forbid_unknown_fields=True, rename={"from_": "from", "dry_run": "dryRun"}):
    from_: str | int
    to: str | int
    dry_run: bool = False


class _Pause(Struct, forbid_unknown_fields=True):
    label: str = ""


class MoreApi:
    """The handlers."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership

    async def _look(self, read: Any) -> Any:
        return await self._leadership.working().ask(inputs.Look(read))

    # ---- Jobs -------------------------------------------------------------------------------------------

    async def jobs(self, request: Request) -> web.StreamResponse:
        """A page, by name: ?limit= ?after= ?name= ?owner= ?label=KEY=VALUE ?state= ?kind=."""
        limit = answers.number(request, "limit", 100, 1, PAGE_MAX)
        after, name, owner, label, state, kind = (
            answers.text(request, field) for field in ("after", "name", "owner", "label", "state", "kind")
        )
        if state is not None:
            one_of(state, STATES, "state")
        if kind is not None:
            one_of(kind, ("scheduled", "dependent"), "kind")
        if label is not None and "=" not in label:
            raise CallError(f"label: {label[:100]!r} is no label: KEY=VALUE is due")
        key, _, value = (label or "").partition("=")
        wanted = Wanted(name)

        def read(book: Book, life: Life, now_ms: int) -> tuple[list[bytes], str]:
            entries: Iterable[Entry]
            if state in (QUEUED, "running"):  # Only those with runs.
                entries = Catalog(book.entries[known] for known in life.by_job if known in book.entries).walk(after, wanted)
            else:
                entries = book.catalog.walk(after, wanted)
            if owner is not None:
                entries = (entry for entry in entries if owner in entry.job.owner.replace(" ", "").split(","))
            if label is not None:
                entries = (entry for entry in entries if entry.job.more.labels.get(key) == value)
            if kind is not None:
                entries = (entry for entry in entries if entry.job.dependent == (kind == "dependent"))
            if state is not None:
                entries = (entry for entry in entries if has_state(entry, life, state))
            page = list(islice(entries, limit + 1))
            following = page[limit - 1].name if len(page) > limit else ""
            return [msgspec.json.encode(_shown(entry, life)) for entry in page[:limit]], following

        items, following = await self._look(read)
        body = b'{"jobs":[' + b",".join(items) + b'],"next":' + msgspec.json.encode(following) + b"}"
        return await answers.raw(request, body)

    async def job(self, request: Request) -> web.StreamResponse:
        """`/jobs/NAME`, and what is below it."""
        name, _, what = request.rest.partition("/")
        handler = self._BELOW.get((request.method if request.method != "HEAD" else "GET", what))
        if handler is None:
            raise answers.nothing(request)
        return await handler(self, request, name)

    async def _one(self, request: Request, name: str) -> web.StreamResponse:
        return await answers.shown(request, await self._look(lambda book, life, now_ms: _shown(book.find(name), life)))

    async def _next(self, request: Request, name: str) -> web.StreamResponse:
        count = answers.number(request, "n", 10, 1, NEXT_MAX)

        entry, now_ms = await self._look(lambda book, life, now_ms: (book.find(name).copy(), now_ms))
        if entry.schedule is None or entry.status.next_ms is None:
            return await answers.shown(request, {"runs": []})
        slots = next_runs(entry.schedule, entry.status.next_ms - 1, count, entry.status.left)
        runs = [{"slot": at, "note": clock_note(entry.schedule, before, at)} for before, at in pairwise([now_ms, *slots])]
        return await answers.shown(request, {"runs": runs})

    async def _run(self, request: Request, name: str) -> web.StreamResponse:
        said = await answers.body_of(request, _Run)
        return await answers.shown(request, {"run": await self._leadership.working().ask(inputs.RunNow(name, said.arguments))})

    async def _backfill(self, request: Request, name: str) -> web.StreamResponse:
        said = await answers.body_of(request, _Range)
        asked = inputs.Backfill(name, instant(said.from_, "from"), instant(said.to, "to"), said.dry_run)
        return await answers.shown(request, {"slots" if said.dry_run else "runs": await self._leadership.working().ask(asked)})

    async def _pause_one(self, request: Request, name: str) -> web.StreamResponse:
        await self._leadership.working().ask(inputs.Pause(request.rest.endswith("/pause"), name=name))
        return answers.done()

    async def _enable(self, request: Request, name: str) -> web.StreamResponse:
        await self._leadership.working().ask(inputs.SetEnabled(name, request.rest.endswith("/enable")))
        return answers.done()

    async def _live(self, request: Request, name: str) -> web.StreamResponse:
        def read(book: Book, life: Life, now_ms: int) -> list[Any]:
            job = book.find(name).job
            return [record_of(life.runs[run_id], job, "") for run_id in life.by_job.get(name, ())]

        return await answers.shown(request, {"runs": [shown_record(record) for record in await self._look(read)]})

    _BELOW = {  # noqa: RUF012
        ("GET", ""): _one,
        ("GET", "next"): _next,
        ("GET", "live"): _live,
        ("POST", "run"): _run,
        ("POST", "backfill"): _backfill,
        ("POST", "pause"): _pause_one,
        ("POST", "resume"): _pause_one,
        ("POST", "enable"): _enable,
        ("POST", "disable"): _enable,
    }

    # ---- All of them ------------------------------------------------------------------------------------

    async def quarantined(self, request: Request) -> web.StreamResponse:
        """Jobs that are kept and do not run, with what is wrong with each."""

        def read(book: Book, life: Life, now_ms: int) -> dict[str, str]:
            return {**book.unreadable, **{entry.name: entry.fault for entry in book.entries.values() if entry.fault}}

        found = await self._look(read)
        return await answers.shown(request, {"jobs": [{"name": name, "fault": fault} for name, fault in sorted(found.items())]})

    async def pauses(self, request: Request) -> web.StreamResponse:
        pauses = await self._look(lambda book, life, now_ms: life.pauses)
        shown = {"everything": pauses.everything, "jobs": sorted(pauses.jobs), "labels": sorted(pauses.labels)}
        return await answers.shown(request, shown)

    async def pause(self, request: Request) -> web.StreamResponse:
        """All jobs, or those with `{"label":"KEY=VALUE"}`."""
        said = await answers.body_of(request, _Pause)
        await self._leadership.working().ask(inputs.Pause(request.path.rstrip("/").endswith("/pause"), label=said.label))
        return answers.done()

    # ---- Calendars --------------------------------------------------------------------------------------

    async def calendars(self, request: Request) -> web.StreamResponse:
        return await answers.shown(request, {"calendars": await self._look(lambda book, life, now_ms: dict(book.calendars))})

    async def calendar(self, request: Request) -> web.StreamResponse:
        name = request.rest
        if request.method in ("GET", "HEAD"):
            calendars = await self._look(lambda book, life, now_ms: book.calendars)
            if name not in calendars:
                raise CallError(f"calendar: there is no calendar {name[:100]!r}")
            return await answers.shown(request, calendars[name])
        calendar = await answers.body_of(request, Calendar) if request.method == "PUT" else None
        await self._leadership.working().ask(inputs.PutCalendar(name, calendar))
        return answers.done()


def _shown(entry: Entry, life: Life) -> dict[str, Any]:
    status = entry.status
    return {
        "job": Raw(write_job(Book.shown(entry))),
        "kind": "dependent" if entry.job.dependent else "scheduled",
        "state": current_state(life, entry.name),
        "last": last_state(status),
        "paused": life.pauses.of(entry.job),
        "fault": entry.fault,
        "next": None if status.disabled else status.next_ms,
        "runsLeft": status.left,
    }
