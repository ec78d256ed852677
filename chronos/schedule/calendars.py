"""Calendars: the days a schedule may run on. A job names one or carries its own; days are those of its zone.

An entry is a date (2026-12-25), a range of dates with both ends in it (2026-12-24/2027-01-01), a day of each year (--12-25), or a
weekday or range of them (sat, mon-fri). A day is allowed when an entry of `include` has it, or there is none, and none of `exclude`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from operator import itemgetter

from msgspec import Struct

from kernel.errors import CallError
from kernel.wire.values import Spans, coalesce

ENTRIES_MAX = 2_000
_EPOCH = date(1970, 1, 1).toordinal()
_FIRST: itemgetter[int] = itemgetter(0)
_AHEAD_MAX = 20 * 366  # Days looked at one by one; longer ranges are leapt over.

_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_YEARLY = re.compile(r"--([0-9]{2})-([0-9]{2})")
WEEKDAY_NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_WEEKDAYS = re.compile(r"({0})[a-z]*(?:-({0})[a-z]*)?".format("|".join(WEEKDAY_NAMES)))


class Calendar(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A calendar as it is written down."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class DaySet(Struct, frozen=True, gc=False):
    """Some days, counted since the epoch. weekdays: a mask from Sunday; spans: first and last; yearly: month and day."""

    weekdays: int = 0
    spans: Spans = ()
    yearly: frozenset[tuple[int, int]] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.weekdays or self.spans or self.yearly)

    def until(self, day: int) -> int | None:
        """The last day of the stretch of it that a day is known to be in; None when the day is not in it."""
        at = bisect_right(self.spans, day, key=_FIRST)
        if at and day <= self.spans[at - 1][1]:
            return self.spans[at - 1][1]
        if self.weekdays >> ((day + 4) % 7) & 1:
            return day
        if self.yearly:
            shown = date.fromordinal(day + _EPOCH)
            if (shown.month, shown.day) in self.yearly:
                return day
        return None


class Days(Struct, frozen=True, gc=False):
    """A compiled calendar."""

    include: DaySet
    exclude: DaySet

    def next_allowed(self, day: int) -> int | None:
        """The first allowed day from one on; None when there is none within 20 years of days that no range leaves out."""
        for _ in range(_AHEAD_MAX):
            left_out = self.exclude.until(day)
            if left_out is not None:
                day = left_out + 1
            elif not self.include or self.include.until(day) is not None:
                return day
            elif self.include.weekdays or self.include.yearly:
                day += 1
            else:
                at = bisect_right(self.include.spans, day, key=_FIRST)
                if at == len(self.include.spans):
                    return None
                day = self.include.spans[at][0]
        return None


@lru_cache(256)
def compile_calendar(calendar: Calendar, field: str = "meseta.calendar") -> Days:
    """Read the entries. Raises CallError naming the one that is none."""
    return Days(_read(calendar.include, f"{field}.include"), _read(calendar.exclude, f"{field}.exclude"))


def _read(entries: Sequence[str], field: str) -> DaySet:
    if len(entries) > ENTRIES_MAX:
        raise CallError(f"{field}: {len(entries)} entries are too many: at most {ENTRIES_MAX} are allowed")
    weekdays, spans, yearly = 0, [], set()
    for index, entry in enumerate(entries):
        text, at = entry.strip().lower(), f"{field}[{index}]"
        if (named := _WEEKDAYS.fullmatch(text)) is not None:
            first = WEEKDAY_NAMES.index(named[1])
            last = WEEKDAY_NAMES.index(named[2]) if named[2] else first
            for step in range((last - first) % 7 + 1):
                weekdays |= 1 << (first + step) % 7
        elif (each := _YEARLY.fullmatch(text)) is not None:
            _day(f"2000-{each[1]}-{each[2]}", entry, at)  # A leap year.
            yearly.add((int(each[1]), int(each[2])))
        else:
            begin, slash, end = text.partition("/")
            span = _day(begin, entry, at), _day(end if slash else begin, entry, at)
            if span[0] > span[1]:
                raise CallError(f"{at}: {entry[:100]!r} ends before it begins")
            spans.append(span)
    return DaySet(weekdays, coalesce(sorted(spans)), frozenset(yearly))


def _day(text: str, entry: str, at: str) -> int:
    try:
        if _DATE.fullmatch(text.strip()):
            return date.fromisoformat(text.strip()).toordinal() - _EPOCH
    except ValueError:
        pass
    raise CallError(
        f"{at}: {entry[:100]!r} is no day: a date is due as in 2026-12-25, a range 2026-12-24/2027-01-01, "
        "a day of each year --12-25, or weekdays as sat or mon-fri"
    )
