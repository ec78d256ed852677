"""When a job is due: texts become `Schedule`s, and a schedule and an instant give the next run. Pure.

A text is a repeating interval of ISO 8601 (`R/START/PERIOD`), an expression of cron, `@daily` or `@every 90s`. Instants are milliseconds
since the epoch. A slot is an instant at which a job is to run; calendars, a start and an end take slots away, jitter delays what is
done in one without giving it another name.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from chronos.schedule.calendars import Calendar, Days, compile_calendar
from chronos.schedule.cron import ALIASES, Cron, compile_cron
from chronos.schedule.iso8601 import (
    ByCalendar,
    Elapsed,
    Period,
    read_duration,
    read_period,
    read_time,
    rule,
    show_time,
    split,
)
from chronos.schedule.zones import DAY_S, FIRST_S, LAST_S, UTC_ZONE, Gap, Zone, fixed, zone
from kernel.errors import CallError

__all__ = [
    "ALWAYS", "Calendar", "Gap", "Schedule", "Window", "clock_note", "compile_calendar", "jitter_ms", "last_run", "moved", "next_run",
    "next_runs", "parse", "read_duration", "read_instant", "show_time", "zone",
]  # fmt: skip

INTERVAL_MS_MIN = 1000
_EVERY = "@every "
_BARE_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_HORIZON_MS = 41 * 366 * DAY_S * 1000  # As far as a calendar and an expression may miss each other.


class Window(Struct, frozen=True, gc=False):
    """What takes slots away. end_ms: the first instant that is too late."""

    start_ms: int | None = None
    end_ms: int | None = None
    days: Days | None = None


ALWAYS = Window()
Rule: TypeAlias = Cron | Elapsed | ByCalendar


class Schedule(Struct, frozen=True, gc=False):
    """A compiled schedule. Equal texts of cron share one. repeats: how many runs there are to be, None for without end."""

    text: str
    rule: Rule
    zone: Zone
    gap: Gap
    repeats: int | None
    window: Window


def parse(
    text: str,
    zone_name: str = "",
    *,
    now_ms: int,
    gap: Gap = Gap.NEXT,
    window: Window = ALWAYS,
    interval_ms_min: int = INTERVAL_MS_MIN,
) -> Schedule:
    """Read a schedule.

    zone_name: takes the place of an offset in the text, whose local time is kept. now_ms: stands for an empty START, and is what
    `@every` counts from; whoever reads the text again gives the same. interval_ms_min: what is more frequent is refused.
    Raises CallError naming `schedule` or `scheduleTimeZone`, also for what would never run.
    """
    text = text.strip()
    if text[:1] == "R" or (text[:1] != "@" and len(text.split()) == 1):
        schedule = _repeating(text, zone_name, now_ms, gap, interval_ms_min)
    elif text.startswith(_EVERY):
        every_ms = read_duration(text[len(_EVERY) :], "schedule")
        if every_ms == 0:
            raise CallError(f"schedule: {text!r} has no length: at least {interval_ms_min} ms are allowed")
        _check_interval(text, every_ms, interval_ms_min)
        schedule = Schedule(text, Elapsed(now_ms + every_ms, every_ms), zone(zone_name), gap, None, ALWAYS)
    elif text.startswith("@") and text.lower() not in ALIASES:
        allowed = f"{', '.join(ALIASES)} and @every 90s"
        reason = ": a cluster does not start as a machine does" if text.lower() == "@reboot" else ""
        raise CallError(f"schedule: {text[:100]!r} is not allowed{reason}; {allowed} are")
    else:
        schedule, shortest_ms = _cron(text, zone_name, gap)
        _check_interval(text, shortest_ms, interval_ms_min)
        if gap is Gap.SKIP and next_run(schedule, now_ms) is None:
            raise CallError(
                f"schedule: {text!r} never runs: the clocks of {schedule.zone.name} leave out each of its times, and dst is skip"
            )
    if window is ALWAYS or window == ALWAYS:
        return schedule
    schedule = Schedule(schedule.text, schedule.rule, schedule.zone, gap, schedule.repeats, window)
    if schedule.repeats != 0 and next_run(schedule, FIRST_S * 1000 if window.start_ms is None else window.start_ms - 1) is None:
        raise CallError(f"schedule: {text!r} never runs between its start and end on a day its calendar allows")
    return schedule


@lru_cache(1 << 16)
def _cron(text: str, zone_name: str, gap: Gap) -> tuple[Schedule, int]:
    """An expression, and how near two of its runs may lie, in ms."""
    rule = compile_cron(ALIASES.get(text.lower(), text))
    return Schedule(text, rule, zone(zone_name), gap, None, ALWAYS), rule.shortest_s * 1000


def _repeating(text: str, zone_name: str, now_ms: int, gap: Gap, interval_ms_min: int) -> Schedule:
    said = split(text)
    period = read_period(said.period)
    known = zone(zone_name) if zone_name else None
    if said.start:
        local_ms, stated = read_time(said.start, "schedule")
        known = known or stated or UTC_ZONE
    else:
        known = known or UTC_ZONE
        local_ms = now_ms + known.offset(now_ms // 1000) * 1000
    if period == Period(0, 0, 0):
        if said.repeats not in (0, 1):
            raise CallError(f"schedule: {text!r} has a period of no length, which only R1 allows")
    else:
        _check_interval(text, (period.months * 28 + period.days) * DAY_S * 1000 + period.ms, interval_ms_min)
    return Schedule(text, rule(local_ms, known, period), known, gap, said.repeats, ALWAYS)


def _check_interval(text: str, interval_ms: int, interval_ms_min: int) -> None:
    if interval_ms < interval_ms_min:
        raise CallError(f"schedule: {text[:100]!r} is too frequent: at least {interval_ms_min / 1000:g} s are to lie between two runs")


def read_instant(text: str, known: Zone, field: str, *, end: bool = False) -> int:
    """An instant of a text: its offset counts, else it is what the wall of the zone shows. end: a bare date is over when its day is."""
    local_ms, stated = read_time(text, field)
    if end and stated is None and _BARE_DATE.fullmatch(text):
        local_ms += DAY_S * 1000
    instant = (stated or known).instant(local_ms // 1000, Gap.NEXT)
    assert instant is not None
    return instant * 1000 + local_ms % 1000


# ---- Runs -----------------------------------------------------------------------------------------------


def next_run(schedule: Schedule, after_ms: int, left: int | None = None) -> int | None:
    """The first slot later than an instant; None when there is none.

    left: how many runs remain, None for as many as the schedule says. What was skipped is not a run: `Rn` counts, as in Chronos,
    what has run.
    """
    if (schedule.repeats if left is None else left) == 0:
        return None
    after_ms = max(after_ms, FIRST_S * 1000)
    window = schedule.window
    if window is ALWAYS:
        return _next(schedule, after_ms)
    if window.start_ms is not None and after_ms < window.start_ms:
        after_ms = window.start_ms - 1
    horizon_ms: int | None = None
    while True:
        at = _next(schedule, after_ms)
        if at is None or (window.end_ms is not None and at >= window.end_ms):
            return None
        if window.days is None:
            return at
        if horizon_ms is None:
            horizon_ms = at + _HORIZON_MS
        elif at > horizon_ms:
            return None
        day = (at // 1000 + schedule.zone.offset(at // 1000)) // DAY_S
        allowed = window.days.next_allowed(day)
        if allowed == day:
            return at
        midnight = None if allowed is None else schedule.zone.instant(allowed * DAY_S, Gap.NEXT)
        if midnight is None:
            return None
        after_ms = midnight * 1000 - 1
        if after_ms - at > _HORIZON_MS // 10:  # A range was leapt over.
            horizon_ms = None


def _next(schedule: Schedule, after_ms: int) -> int | None:
    """The same without a window."""
    if after_ms > LAST_S * 1000:
        return None
    of = schedule.rule
    if isinstance(of, Cron):
        seconds = schedule.zone.next_shown(after_ms // 1000, of.next_local, schedule.gap, of.hourly)
        at = None if seconds is None else seconds * 1000
    else:
        at = of.next(after_ms, schedule.zone, schedule.gap)
    return None if at is None or at > LAST_S * 1000 else at


def next_runs(schedule: Schedule, after_ms: int, count: int, left: int | None = None) -> list[int]:
    """The next slots in order, at most `count` and at most as many as are left."""
    left = schedule.repeats if left is None else left
    runs: list[int] = []
    for _ in range(count if left is None else min(count, left)):
        at = next_run(schedule, after_ms, left)
        if at is None:
            break
        runs.append(at)
        after_ms = at
    return runs


def last_run(schedule: Schedule, after_ms: int, until_ms: int, left: int | None = None) -> int | None:
    """The last slot later than one instant and not later than another. Cost: some 40 next runs, however many slots lie between."""
    found = next_run(schedule, after_ms, left)
    if found is None or found > until_ms:
        return None
    high = until_ms  # No slot lies later than it, up to until_ms.
    while high > found:
        middle = (found + high) // 2
        at = next_run(schedule, middle, left)
        if at is not None and at <= until_ms:
            found = at
        else:
            high = middle
    return found


def clock_note(schedule: Schedule, after_ms: int, slot_ms: int) -> str:
    """What people should know of a slot where clocks change, and of those skipped since `after_ms`, the slot before; "" mostly."""
    of, seconds = schedule.rule, slot_ms // 1000
    if isinstance(of, Elapsed) or (isinstance(of, ByCalendar) and of.period.ms) or schedule.zone.fixed is not None:
        return ""
    again = isinstance(of, Cron) and of.hourly
    notes = [] if schedule.gap is Gap.NEXT or again else _skipped(schedule, after_ms, slot_ms)
    span = schedule.zone.span(seconds)
    local = seconds + span.offset
    if seconds == span.start and span.offset > span.before:
        due = of.next_local(local - 1) == local if isinstance(of, Cron) else (local - of.anchor_ms // 1000) % DAY_S == 0
        if not due:
            notes.append("the clock leaves out the time that is meant; this is the first instant after it")
    elif schedule.zone.twice(seconds):
        notes.append(f"the clock shows this time twice; it runs {'each time' if again else 'the first time'}")
    return "; ".join(notes)


def _skipped(schedule: Schedule, after_ms: int, until_ms: int) -> list[str]:
    """What no clock shows later than one instant and not later than another, of a schedule that skips it."""
    notes, made_up = [], replace(schedule, gap=Gap.NEXT)
    while (at := next_run(made_up, after_ms)) is not None and at <= until_ms:
        after_ms = at
        span = schedule.zone.span(at // 1000)
        if at // 1000 != span.start or span.offset <= span.before:
            continue
        unchanged = replace(schedule, zone=fixed(span.before), window=ALWAYS)
        gap_ms = (span.offset - span.before) * 1000
        meant = [run for run in next_runs(unchanged, span.start * 1000 - 1, 2) if run < span.start * 1000 + gap_ms]
        if meant:
            first = show_time(meant[0], unchanged.zone)[:19].replace("T", " ").removesuffix(":00")
            until = show_time(span.start * 1000, schedule.zone)[11:16]
            several = f"and later times before {until} do not exist and are skipped"
            notes.append(f"{first} {schedule.zone.name} {'does not exist and is skipped' if len(meant) == 1 else several}")
    return notes


def jitter_ms(job: str, slot_ms: int, jitter_ms_max: int) -> int:
    """By how much the run of a slot is delayed: at most so much, evenly over names and slots, the same each time it is asked."""
    if jitter_ms_max <= 0:
        return 0
    digest = hashlib.blake2b(f"{job}\0{slot_ms}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % (jitter_ms_max + 1)


def moved(schedule: Schedule, next_ms: int, left: int | None) -> str:
    """A repeating interval as Chronos 3.x shows it after launches: `R<left>/<next>/<period>`. Other texts stay what they are."""
    if isinstance(schedule.rule, Cron) or schedule.text[:1] != "R":
        return schedule.text
    return f"R{'' if left is None else left}/{show_time(next_ms, schedule.zone)}/{split(schedule.text).period}"
