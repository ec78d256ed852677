"""Repeating intervals of ISO 8601, as Chronos has them: `R5/2026-01-31T02:30:00Z/P1M` (spec: chronos-v1, 5).

The run of index k is START + k x PERIOD, reckoned from START each time: nothing drifts, neither at the end of a month nor where
clocks change. Days and longer keep the time that the wall shows, hours and shorter are elapsed time. Instants are milliseconds.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from msgspec import Struct

from chronos.schedule.cron import days_in_month
from chronos.schedule.zones import DAY_S, FIRST_S, LAST_S, Gap, Zone, fixed
from kernel.errors import CallError

DAY_MS = DAY_S * 1000
TEXT_MAX = 200

_EPOCH = date(1970, 1, 1).toordinal()
_MONTH_MS = 30.436875 * DAY_MS  # On average.
_REPEATING = re.compile(r"R([0-9]*)/(.*)/(P.*)", re.DOTALL)
_PERIOD = re.compile(
    r"P(?:([0-9]{1,9})Y)?(?:([0-9]{1,9})M)?(?:([0-9]{1,9})W)?(?:([0-9]{1,9})D)?"
    r"(?:T(?:([0-9]{1,9})H)?(?:([0-9]{1,9})M)?(?:([0-9]{1,9})(?:[.,]([0-9]{1,9}))?S)?)?"
)
_DURATION = re.compile(r"(?:([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": DAY_MS}
REPEATS_MAX = 2**31 - 1


class Period(NamedTuple):
    """An ISO 8601 period: months and days as a calendar counts them, and milliseconds."""

    months: int
    days: int
    ms: int


class Elapsed(Struct, frozen=True, gc=False):
    """Every so many milliseconds from an instant on. period_ms 0: that instant alone."""

    anchor_ms: int
    period_ms: int

    def next(self, after_ms: int, zone: Zone, gap: Gap) -> int | None:
        if after_ms < self.anchor_ms:
            return self.anchor_ms
        if self.period_ms == 0:
            return None
        return self.anchor_ms + ((after_ms - self.anchor_ms) // self.period_ms + 1) * self.period_ms


class ByCalendar(Struct, frozen=True, gc=False):
    """Every so many months and days, reckoned on the wall's calendar from a time it shows, and then milliseconds."""

    anchor_ms: int
    """As the wall shows it."""
    period: Period

    def next(self, after_ms: int, zone: Zone, gap: Gap) -> int | None:
        months, days, ms = self.period
        index = max(int((after_ms - self.anchor_ms) / (months * _MONTH_MS + days * DAY_MS + ms)) - 2, 0)
        while index > 0 and (self._at(index, zone, Gap.NEXT) or 0) > after_ms:
            index -= 1
        while True:
            index += 1
            at = self._at(index - 1, zone, Gap.NEXT)
            if at is None:
                return None
            if at > after_ms and (gap is Gap.NEXT or self._at(index - 1, zone, gap) is not None):
                return at

    def _at(self, index: int, zone: Zone, gap: Gap) -> int | None:
        """The run of an index; None when it is left out, or beyond the calendar."""
        months, days, ms = self.period
        day, of_day_ms = divmod(self.anchor_ms, DAY_MS)
        moved = _add_months(day, index * months) if months else day
        if moved is None:
            return None
        local_s, below_ms = divmod((moved + index * days) * DAY_MS + of_day_ms, 1000)
        if not FIRST_S <= local_s <= LAST_S:
            return None
        instant = zone.instant(local_s, gap)
        if instant is None:
            return None
        at = instant * 1000 + index * ms
        # The first instant after a gap is a whole second.
        return at + below_ms if instant + zone.offset(instant) == local_s else at


def _add_months(day: int, months: int) -> int | None:
    """A day so many months later; at the end of a month that has no such day."""
    at = date.fromordinal(day + _EPOCH)
    year, month = divmod(at.year * 12 + at.month - 1 + months, 12)
    if year > 9999:
        return None
    return date(year, month + 1, min(at.day, days_in_month(year, month + 1))).toordinal() - _EPOCH


# ---- Reading --------------------------------------------------------------------------------------------


class Repeating(NamedTuple):
    """What a text says. repeats: None for without end. start: as written, may be empty. period: as written."""

    repeats: int | None
    start: str
    period: str


def split(text: str) -> Repeating:
    """Take a repeating interval apart. Raises CallError."""
    found = _REPEATING.fullmatch(text) if len(text) <= TEXT_MAX else None
    if found is None:
        raise CallError(
            f"schedule: {text[:100]!r} cannot be read: R[n]/START/PERIOD is due, as in R/2026-01-31T02:30:00Z/P1M, "
            "five or six fields of cron, @daily or @every 90s"
        )
    repeats = int(found[1]) if found[1] else None
    if repeats is not None and repeats > REPEATS_MAX:
        raise CallError(f"schedule: {text!r} repeats too often: at most R{REPEATS_MAX}, or R for without end")
    return Repeating(repeats, found[2].strip(), found[3].strip())


def read_period(text: str, field: str = "schedule") -> Period:
    """Read `P1Y2M3W4DT5H6M7.5S`. `P` alone is zero. Raises CallError."""
    found = _PERIOD.fullmatch(text)
    if found is None:
        raise CallError(f"{field}: {text[:100]!r} is no period: one is due as in PT90S, PT1H, P1D, P2W or P1M")
    years, months, weeks, days, hours, minutes, seconds = (int(part or 0) for part in found.groups()[:7])
    fraction = (found[8] or "").ljust(3, "0")
    if fraction[3:].strip("0"):
        raise CallError(f"{field}: {text[:100]!r} is finer than milliseconds")
    return Period(years * 12 + months, weeks * 7 + days, ((hours * 60 + minutes) * 60 + seconds) * 1000 + int(fraction[:3]))


def read_time(text: str, field: str) -> tuple[int, Zone | None]:
    """Read a date or a date with a time: what the wall shows, in milliseconds, and the zone of the offset, if there is one. CallError."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or not text[:4].isdigit():
        raise CallError(f"{field}: {text[:100]!r} is no time: one is due as in 2026-01-31T02:30:00Z, or a date")
    local = at.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    local_ms = (local.days * DAY_S + local.seconds) * 1000 + local.microseconds // 1000
    if not FIRST_S + 2 * DAY_S <= local_ms // 1000 <= LAST_S - 2 * DAY_S:
        raise CallError(f"{field}: {text[:100]!r} is beyond what can be reckoned: years 1 to 9999 are allowed")
    offset = at.utcoffset()
    return local_ms, None if offset is None else fixed(int(offset.total_seconds()))


def read_duration(value: float | str, field: str) -> int:
    """Milliseconds of a number of seconds, or of text: `90s`, `1h30m`, `1d`, `250ms`, `PT15M`. Raises CallError."""
    ms: float = -1
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("P") and len(text) <= TEXT_MAX:
            period = read_period(text, field)
            ms = period.days * DAY_MS + period.ms if not period.months else -1
        elif len(text) <= TEXT_MAX and _DURATION.fullmatch(text):
            ms = sum(float(number) * _UNIT_MS[unit] for number, unit in _DURATION_PART.findall(text))
    else:
        ms = value * 1000
    if not 0 <= ms <= (LAST_S - FIRST_S) * 1000:
        raise CallError(
            f"{field}: {str(value)[:100]!r} is no duration: seconds are due as in 90, or text as in 90s, 15m, 1h30m, 1d or PT15M"
        )
    return round(ms)


def rule(local_ms: int, zone: Zone, period: Period) -> Elapsed | ByCalendar:
    """The rule of a repeating interval. local_ms: its START as the wall shows it."""
    if zone.fixed is not None and not period.months:
        return Elapsed(local_ms - zone.fixed * 1000, period.days * DAY_MS + period.ms)
    if not period.months and not period.days:
        instant = zone.instant(local_ms // 1000, Gap.NEXT)
        assert instant is not None
        shown = instant + zone.offset(instant) == local_ms // 1000
        return Elapsed(instant * 1000 + (local_ms % 1000 if shown else 0), period.ms)
    return ByCalendar(local_ms, period)


def show_time(instant_ms: int, zone: Zone) -> str:
    """Text as Chronos wrote it: `2026-01-31T02:30:00.000+01:00`, with Z where a zone's offset is zero."""
    seconds, ms = divmod(instant_ms, 1000)
    offset = zone.offset(seconds)
    at = datetime(1970, 1, 1) + timedelta(seconds=seconds + offset, milliseconds=ms)
    minutes = abs(offset) // 60
    suffix = f"{'-' if offset < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}" if offset else "Z"
    return at.isoformat(timespec="milliseconds") + suffix
