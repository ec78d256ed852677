"""All jobs: what they say, what the scheduler keeps of each, when each is due next.

    jobs/NAME      the job, as JSON
    status/NAME    its Status, in msgpack
    calendars/NAME a Calendar, as JSON

A job that cannot be read, or no longer makes sense, is quarantined: it is shown with what is wrong and never due, and the rest goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, MutableMapping

import msgspec
from msgspec import UNSET

from chronos import catch_up
from chronos.agenda import Agenda
from chronos.catalog import Catalog
from chronos.entry import Entry, Status
from chronos.graph import Graph
from chronos.job import Job, kept_job, stored_job
from chronos.schedule import Calendar, Schedule, compile_calendar, last_run, moved, next_run, read_instant, show_time
from chronos.schedule.zones import UTC_ZONE
from chronos.sharing import Shared
from chronos.validation import LIMITS, NAME, NAME_CHARS_MAX, Limits, schedule_of
from kernel.errors import CallError
from kernel.mainloop import Persist

log = logging.getLogger(__name__)

JOBS, STATUS, CALENDARS = "jobs/", "status/", "calendars/"
LAPSED_MAX = 1000  # Places in the agenda that stand for nothing; beside those, as many as there are jobs.


class Book:
    """The jobs. Methods that change return what to persist; they raise CallError before the first change. catalog: the same by name."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.limits = limits
        self.entries: dict[str, Entry] = {}
        self.unreadable: dict[str, str] = {}  # Stored under a name, with what is wrong.
        self.calendars: dict[str, Calendar] = {}
        self.graph = Graph()
        self.catalog = Catalog()
        self._agenda = Agenda(self._due_of)
        self._shared = Shared()

    # ---- Loading ----------------------------------------------------------------------------------------

    def load(self, kept: MutableMapping[str, bytes]) -> None:
        """Take jobs and calendars out of what a store held."""
        for key in [key for key in kept if key.startswith(CALENDARS)]:
            name = key.removeprefix(CALENDARS)
            try:
                self.calendars[name] = msgspec.json.decode(kept.pop(key), type=Calendar)
            except msgspec.MsgspecError as error:
                log.error("calendar %s cannot be read, and jobs that name it are quarantined until it is put again: %s", name, error)
        for key in [key for key in kept if key.startswith(JOBS)]:
            name = key.removeprefix(JOBS)
            self._load_job(name, kept.pop(key), kept.pop(STATUS + name, None))
        self._load_graph()
        self.catalog = Catalog(self.entries.values())
        self._plan()

    def _load_job(self, name: str, body: bytes, status: bytes | None) -> None:
        try:
            job = self._shared.job(stored_job(body))
            known = _decoder.decode(status) if status is not None else Status(0)
            if job.name != name:
                raise msgspec.ValidationError(f"it calls itself {job.name[:100]!r}")
        except msgspec.MsgspecError as error:
            log.error("job %s is quarantined: it cannot be read: %s", name, error)
            self.unreadable[name] = f"it cannot be read: {error}"
            return
        try:
            schedule = None if job.dependent else schedule_of(job, known.posted_ms, self.calendars, self.limits)
            self.entries[job.name] = Entry(job, schedule, known)
        except CallError as error:
            log.error("job %s is quarantined: %s", name, error)
            self.entries[job.name] = Entry(job, None, msgspec.structs.replace(known, next_ms=None), str(error))

    def _load_graph(self) -> None:
        """Parents first. Whoever hangs in the air, or in a cycle, is quarantined with all below it."""
        missing = {name: parents for name, entry in self.entries.items() if (parents := entry.job.parent_names)}
        graph = Graph({name: () for name in self.entries if name not in missing})
        while missing:
            ready = [name for name, parents in missing.items() if all(parent in graph for parent in parents)]
            if not ready:
                break
            for name in ready:
                graph.put(name, missing.pop(name))
        for name, parents in missing.items():
            absent = [parent for parent in parents if parent not in self.entries]
            self.entries[name].fault = (
                f"parents: {absent[0]} does not exist" if absent else "parents: they are quarantined, or close a cycle"
            )
            log.error("job %s is quarantined: %s", name, self.entries[name].fault)
        for name in missing:
            graph.put(name)
        self.graph = graph

    # ---- Changing ---------------------------------------------------------------------------------------

    def put(self, job: Job, now_ms: int) -> list[Persist]:
        """Add a job, or put it in the place of the one of its name, counters and all (spec: chronos-v1, 2.2)."""
        old = self.entries.get(job.name)
        same = old is not None and not old.fault and _when(old.job) == _when(job)
        posted_ms = old.status.posted_ms if old is not None and same else now_ms
        schedule = None if job.dependent else schedule_of(job, posted_ms, self.calendars, self.limits)
        self.graph.put(job.name, job.parent_names)
        status = Status(
            posted_ms,
            disabled=job.disabled,
            success_count=job.success_count,
            error_count=job.error_count,
            errors_since_success=job.errors_since_last_success,
            last_success_ms=_ms(job.last_success),
            last_error_ms=_ms(job.last_error),
        )
        if schedule is not None and old is not None and same:
            status = msgspec.structs.replace(status, next_ms=old.status.next_ms, left=old.status.left)
        elif schedule is not None:
            status = msgspec.structs.replace(status, next_ms=_first(job, schedule, now_ms), left=schedule.repeats)
        self.unreadable.pop(job.name, None)
        entry = self.entries[job.name] = Entry(self._shared.job(job), schedule, status)
        self.catalog.put(entry)
        self._push(entry)
        return [Persist(JOBS + job.name, kept_job(job)), self._kept(entry)]

    def remove(self, name: str) -> list[Persist]:
        """Also of one that cannot be read."""
        if self.unreadable.pop(name, None) is None:
            self.graph.remove(name)
            self.catalog.remove(name)
            del self.entries[name]
        return [Persist(JOBS + name, None), Persist(STATUS + name, None)]

    def change(self, entry: Entry, **changes: object) -> Persist:
        """Other values in its status."""
        entry.status = msgspec.structs.replace(entry.status, **changes)
        if "next_ms" in changes:
            self._push(entry)
        return self._kept(entry)

    def put_calendar(self, name: str, calendar: Calendar, now_ms: int) -> list[Persist]:
        """A calendar, or another in its place: jobs that name it go by it from now on. Raises CallError when one would never run again."""
        compile_calendar(calendar, f"calendar {name[:100]}")
        if not NAME.fullmatch(name) or len(name) > NAME_CHARS_MAX:
            raise CallError(f"calendar: the name {name[:100]!r} is invalid: it must match ([\\w\\.-]+)")
        calendars = {**self.calendars, name: calendar}
        fresh = {
            entry: schedule_of(entry.job, entry.status.posted_ms, calendars, self.limits)
            for entry in self.entries.values()
            if entry.job.more.calendar == name and not entry.job.dependent
        }
        self.calendars = calendars
        out = [Persist(CALENDARS + name, msgspec.json.encode(calendar))]
        for entry, schedule in fresh.items():
            entry.schedule, entry.fault = schedule, ""
            out.append(self.change(entry, next_ms=next_run(schedule, now_ms, entry.status.left)))
        return out

    def remove_calendar(self, name: str) -> list[Persist]:
        """Raises CallError when there is none, or a job needs it."""
        if name not in self.calendars:
            raise CallError(f"calendar: there is no calendar {name[:100]!r}")
        user = next((entry.name for entry in self.entries.values() if entry.job.more.calendar == name), None)
        if user is not None:
            raise CallError(f"calendar: {name} is needed by job {user}")
        del self.calendars[name]
        return [Persist(CALENDARS + name, None)]

    # ---- Looking ----------------------------------------------------------------------------------------

    def find(self, name: str) -> Entry:
        """Raises CallError: to clients of Chronos a job that does not exist is a wrong argument, not a missing page."""
        entry = self.entries.get(name)
        if entry is None:
            fault = self.unreadable.get(name)
            raise CallError(f"job: there is no job {name[:200]!r}" if fault is None else f"job: {name} is quarantined: {fault}")
        return entry

    def due_ms(self, now_ms: int) -> int | None:
        """The earliest slot that is due by now; None when none is."""
        first = self._agenda.first(now_ms)
        return first[0] if first is not None else None

    def due(self, now_ms: int) -> Iterator[Entry]:
        """Jobs with a due slot, the earliest first; each must get another `next_ms` before the next is asked for."""
        while (name := self._agenda.take(now_ms)) is not None:
            yield self.entries[name]

    def snapshot(self) -> list[Entry]:
        """All jobs as they are now, in values that stay so."""
        return [entry.copy() for entry in self.entries.values()]

    @staticmethod
    def shown(entry: Entry) -> Job:
        """The job as clients see it: with its counters, and a schedule that moves as Chronos' did."""
        status = entry.status
        schedule = entry.job.schedule
        if entry.schedule is not None and status.next_ms is not None and schedule is not UNSET and schedule.startswith("R"):
            schedule = moved(entry.schedule, status.next_ms, status.left)
        elif entry.schedule is not None and status.left == 0 and schedule is not UNSET and schedule.startswith("R"):
            schedule = f"R0/{schedule.partition('/')[2]}"
        return msgspec.structs.replace(
            entry.job,
            schedule=schedule,
            disabled=status.disabled,
            success_count=status.success_count,
            error_count=status.error_count,
            errors_since_last_success=status.errors_since_success,
            last_success=_text(status.last_success_ms),
            last_error=_text(status.last_error_ms),
        )

    def _push(self, entry: Entry) -> None:
        if len(self._agenda) > 2 * len(self.entries) + LAPSED_MAX:
            self._plan()
        elif entry.status.next_ms is not None:
            self._agenda.add(entry.status.next_ms, entry.name)

    def _plan(self) -> None:
        """Make the agenda anew, without what has lapsed."""
        self._agenda.clear()
        for name, entry in self.entries.items():
            if entry.status.next_ms is not None:
                self._agenda.add(entry.status.next_ms, name)

    def _due_of(self, name: str) -> int | None:
        entry = self.entries.get(name)
        return None if entry is None or entry.fault or entry.status.disabled else entry.status.next_ms

    def _kept(self, entry: Entry) -> Persist:
        return Persist(STATUS + entry.name, _encoder.encode(entry.status))


def _when(job: Job) -> tuple[object, ...]:
    """What of a job says when it runs."""
    more = job.more
    return (job.schedule, job.schedule_time_zone, more.start, more.end, more.calendar, more.dst)


def _first(job: Job, schedule: Schedule, now_ms: int) -> int | None:
    """The first slot of a job that was just posted. As in Chronos an interval that began in the past is due at once, for its last
    slot (spec: chronos-v1, 5.3); an expression of cron never is."""
    if job.schedule is not UNSET and job.schedule.lstrip().startswith("R") and catch_up.rules_of(job).policy != "none":
        before_ms = last_run(schedule, 0, now_ms, schedule.repeats)
        if before_ms is not None:
            return before_ms
    return next_run(schedule, now_ms, schedule.repeats)


def _ms(text: str) -> int:
    """A time that a client sent back to us; what is none counts as never."""
    try:
        return read_instant(text, UTC_ZONE, "lastSuccess") if text else 0
    except CallError:
        return 0


def _text(instant_ms: int) -> str:
    """As Chronos wrote times of its own: UTC, with milliseconds and Z."""
    return show_time(instant_ms, UTC_ZONE) if instant_ms else ""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Status)
