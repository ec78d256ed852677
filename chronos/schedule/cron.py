"""Cron expressions: read by croniter, compiled to bit masks, run by arithmetic of our own. Knows nothing of zones.

Five fields (minute, hour, day of month, month, day of week) or six, of which the sixth is the second: croniter's order. A
compiled expression finds the next match in microseconds; croniter, that it is compared with, takes a hundred times as long.
Where we mean something else than croniter: docs/decisions/cron.md.
"""

from __future__ import annotations

import itertools
import re
from datetime import date
from functools import lru_cache
from typing import NamedTuple

from croniter import croniter
from msgspec import Struct

from chronos.schedule.zones import DAY_S, LAST_S
from kernel.errors import CallError

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
TEXT_MAX = 500

_EPOCH = date(1970, 1, 1).toordinal()
_YEARS_MAX = 41  # 29 February on a given day of the week: at most 40 years apart.
_ALL_HOURS = (1 << 24) - 1
_ALL_MONTHS = ((1 << 12) - 1) << 1
_ALL_WEEKDAYS = (1 << 7) - 1
_LAST = 0  # The last of its weekday in a month, as the second value of `nth`.
_LENGTHS = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class _FieldKind(NamedTuple):
    name: str
    low: int
    high: int
    allowed: str


_STEPS = "lists, ranges and steps, as in 1,5 or 10-20 or */5"
_FIELDS = (
    _FieldKind("minute", 0, 59, f"0-59, {_STEPS}"),
    _FieldKind("hour", 0, 23, f"0-23, {_STEPS}"),
    _FieldKind("day of month", 1, 31, f"1-31, L (the last), 15W (the weekday nearest to the 15th), {_STEPS}"),
    _FieldKind("month", 1, 12, f"1-12 or jan-dec, {_STEPS}"),
    _FieldKind("day of week", 0, 6, f"0-7 (0 and 7 are Sunday) or sun-sat, 5#2 (the second Friday), L5 (the last Friday), {_STEPS}"),
    _FieldKind("second", 0, 59, f"0-59, {_STEPS}"),
)
_DAY, _WEEKDAY, _SECOND = 2, 4, 5
_CHARACTERS = re.compile(r"[a-z0-9*?,/#-]+")
_CHANCE = re.compile(r"(?:^|,)[hr](?![a-z])")  # croniter's own: a value by chance or by a name.


class Cron(Struct, frozen=True, gc=False):
    """Times of a wall clock. Bit i of a mask says whether value i is in; weekdays count from Sunday, nth pairs are (weekday, which).

    nearest: the day of month whose nearest weekday is meant, or 0. either: days match by day of month or by weekday, where both are
    restricted; otherwise each that is restricted must.
    """

    seconds: int
    minutes: int
    hours: int
    days: int
    last_day: bool
    nearest: int
    months: int
    weekdays: int
    nth: tuple[tuple[int, int], ...]
    either: bool
    day_free: bool
    weekly: bool
    """Only weekdays matter, of all that says which days."""

    @property
    def hourly(self) -> bool:
        """Whether it happens in every hour: then it follows the hours that pass, not those the wall shows."""
        return self.hours == _ALL_HOURS

    def next_local(self, local: int) -> int | None:
        """The first match later than a time, both in seconds of the wall's clock."""
        local += 1
        day, rest = divmod(local, DAY_S)
        if self.day(day) == day:
            hour, rest = divmod(rest, 3_600)
            if self.hours >> hour & 1:
                minute, second = divmod(rest, 60)
                if self.minutes >> minute & 1 and (left := self.seconds >> second):
                    return local + _lowest(left)
                if left := self.minutes >> (minute + 1):
                    return local - rest + (minute + 1 + _lowest(left)) * 60 + _lowest(self.seconds)
            if left := self.hours >> (hour + 1):
                return day * DAY_S + (hour + 1 + _lowest(left)) * 3_600 + _lowest(self.minutes) * 60 + _lowest(self.seconds)
            day += 1
        found = self.day(day)
        return None if found is None else found * DAY_S + self.first

    @property
    def first(self) -> int:
        """Seconds of its day at which it first happens."""
        return _lowest(self.hours) * 3_600 + _lowest(self.minutes) * 60 + _lowest(self.seconds)

    def day(self, day: int) -> int | None:
        """The first day that matches, from a given one on, both counted since the epoch."""
        if self.weekly:
            weekday = (day + 4) % 7
            return day + _lowest((self.weekdays | self.weekdays << 7) >> weekday)
        if day * DAY_S > LAST_S:
            return None
        at = date.fromordinal(day + _EPOCH)
        year, month, skip = at.year, at.month, at.day
        for _ in range(_YEARS_MAX * 12):
            if self.months >> month & 1 and (left := self.days_of(year, month) >> skip):
                return date(year, month, 1).toordinal() - _EPOCH - 1 + skip + _lowest(left)
            year, month, skip = (year + 1, 1, 0) if month == 12 else (year, month + 1, 0)
            if year > 9999:
                break
        return None

    def days_of(self, year: int, month: int) -> int:
        """A mask of the days of a month that match."""
        return self.days_in(date(year, month, 1).toordinal() % 7, days_in_month(year, month))

    def days_in(self, first_weekday: int, length: int) -> int:
        """The same of a month of so many days, the first of which is that weekday."""
        by_weekday = _weekday_days(self.weekdays, first_weekday, length)
        if self.nth:
            by_weekday = 0
            for weekday, which in self.nth:
                first = 1 + (weekday - first_weekday) % 7
                day = first + (length - first) // 7 * 7 if which == _LAST else first + (which - 1) * 7
                if day <= length:
                    by_weekday |= 1 << day
        if self.day_free:
            return by_weekday
        by_day = self.days & ((2 << length) - 1)
        if self.last_day:
            by_day |= 1 << length
        if self.nearest:
            by_day = 1 << _nearest_weekday(self.nearest, first_weekday, length)
        return by_day | by_weekday if self.either else by_day & by_weekday

    @property
    def possible(self) -> bool:
        """Whether it ever happens: a month of any length begins on any day of the week, some year."""
        return any(
            self.months >> month & 1 and self.days_in(first_weekday, length)
            for month in range(1, 13)
            for length in ((28, 29) if month == 2 else (_LENGTHS[month],))
            for first_weekday in range(7)
        )

    @property
    def shortest_s(self) -> int:
        """No two matches are nearer than this, as the wall shows them; next days count as if all were in."""
        seconds, minutes, hours = _values(self.seconds), _values(self.minutes), _values(self.hours)
        within_minute = seconds[-1] - seconds[0]
        within_hour = (minutes[-1] - minutes[0]) * 60 + within_minute
        within_day = (hours[-1] - hours[0]) * 3_600 + within_hour
        return min(
            [b - a for a, b in itertools.pairwise(seconds)]
            + [(b - a) * 60 - within_minute for a, b in itertools.pairwise(minutes)]
            + [(b - a) * 3_600 - within_hour for a, b in itertools.pairwise(hours)]
            + [DAY_S - within_day]
        )


def days_in_month(year: int, month: int) -> int:
    return 29 if month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else _LENGTHS[month]


def _lowest(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def _values(mask: int) -> list[int]:
    return [value for value in range(mask.bit_length()) if mask >> value & 1]


@lru_cache(4096)
def _weekday_days(weekdays: int, first_weekday: int, length: int) -> int:
    return sum(1 << day for day in range(1, length + 1) if weekdays >> ((first_weekday + day - 1) % 7) & 1)


def _nearest_weekday(day: int, first_weekday: int, length: int) -> int:
    """The day from Monday to Friday nearest to one, in the same month."""
    day = min(day, length)
    weekday = (first_weekday + day - 1) % 7
    if weekday == 6:
        return day - 1 if day > 1 else 3
    if weekday == 0:
        return day + 1 if day < length else day - 2
    return day


# ---- Reading --------------------------------------------------------------------------------------------


class _FieldError(Exception):
    """One field cannot be read; the text names it and what is allowed."""


class _Field(NamedTuple):
    """One field as croniter reads it. full: it takes in every value."""

    mask: int
    full: bool
    last: bool
    nearest: int
    nth: tuple[tuple[int, int], ...]


@lru_cache(1 << 16)
def compile_cron(text: str) -> Cron:
    """Read an expression of five or six fields. The same text gives the same object. Raises CallError, naming the field `schedule`."""
    parts = text.lower().split()
    if not 5 <= len(parts) <= 6 or len(text) > TEXT_MAX:
        raise CallError(
            f"schedule: {text[:100]!r} has {len(parts)} fields: 5 are allowed (minute, hour, day of month, month, day of week), "
            "or 6, the last being the second"
        )
    try:
        read = [_read_field(index, part) for index, part in enumerate(parts)]
    except _FieldError as error:
        raise CallError(f"schedule: of {text[:100]!r} {error}") from None
    minutes, hours, day, months, weekday = read[:5]
    # croniter's rule for what is a star. Beside a star in the other field, all values are one, too.
    day_free = parts[_DAY] in ("*", "?") or (day.full and "*" in parts[_WEEKDAY])
    weekday_free = parts[_WEEKDAY] in ("*", "?") or (weekday.full and "*" in parts[_DAY])
    weekdays = _ALL_WEEKDAYS if weekday_free else weekday.mask
    cron = Cron(
        seconds=read[_SECOND].mask if len(read) > _SECOND else 1,
        minutes=minutes.mask,
        hours=hours.mask,
        days=day.mask,
        last_day=day.last,
        nearest=day.nearest,
        months=months.mask,
        weekdays=weekdays,
        nth=weekday.nth,
        either=not day_free and not weekday_free,
        day_free=day_free,
        weekly=day_free and months.mask == _ALL_MONTHS and not weekday.nth,
    )
    if not cron.possible:
        raise CallError(f"schedule: {text!r} never runs: no month it names has such a day")
    return cron


@lru_cache(8192)
def _read_field(index: int, part: str) -> _Field:
    kind = _FIELDS[index]
    refused = _FieldError(f"the {kind.name} {part[:100]!r} is not allowed: * or {kind.allowed} are")
    if not _CHARACTERS.fullmatch(part) or _CHANCE.search(part):
        raise refused
    around = ["*"] * (6 if index == _SECOND else 5)
    around[index] = part
    try:
        read = croniter(" ".join(around), 0)
    except (ValueError, TypeError, LookupError, AttributeError):
        raise refused from None
    values = read.expanded[index]
    full = "*" in values
    mask = sum(1 << value for value in (range(kind.low, kind.high + 1) if full else values) if isinstance(value, int))
    nth = tuple(
        sorted(
            (weekday, _LAST if str(which) == "l" else int(which))
            for key, many in read.nth_weekday_of_month.items()
            for weekday in (range(7) if str(key) == "*" else (int(key),))
            for which in many
        )
    )
    return _Field(mask, full, "l" in values, max(read.nearest_weekday, default=0), nth)
