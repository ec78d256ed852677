"""Time zones: what a clock on the wall shows at an instant, and which instant a shown time is.

Rules come from zoneinfo; their changes are found once by asking day by day and kept in spans, so that a next run costs a look-up.
Instants are whole seconds since the epoch; a `local` is what the wall shows, counted as if it were UTC. What a time means that the
wall never shows (the gap in spring) or shows twice (the overlap in autumn): docs/decisions/cron.md.
"""

from __future__ import annotations

import difflib
import re
import zoneinfo
from bisect import bisect_right
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from kernel.errors import CallError

DAY_S = 86_400
# No run lies beyond: a day before the last that Python counts, so that no offset leaves its calendar. The same at the beginning.
FIRST_S = -62_135_596_800 + 2 * DAY_S
LAST_S = 253_402_300_799 - 2 * DAY_S

_BLOCK_S = 1 << 25  # What is asked for at once: about a year.
_BLOCKS_MAX = 64
_GAPS_MAX = 60  # In a row: rules never stayed as they are for as many years, and then changed.

# Names of three letters that Java kept from old times, and Chronos therefore knows (spec: chronos-v1, 5.2).
_JAVA = {
    "ACT": "Australia/Darwin",
    "AET": "Australia/Sydney",
    "AGT": "America/Argentina/Buenos_Aires",
    "ART": "Africa/Cairo",
    "AST": "America/Anchorage",
    "BET": "America/Sao_Paulo",
    "BST": "Asia/Dhaka",
    "CAT": "Africa/Harare",
    "CNT": "America/St_Johns",
    "CST": "America/Chicago",
    "CTT": "Asia/Shanghai",
    "EAT": "Africa/Addis_Ababa",
    "ECT": "Europe/Paris",
    "IET": "America/Indiana/Indianapolis",
    "IST": "Asia/Kolkata",
    "JST": "Asia/Tokyo",
    "MIT": "Pacific/Apia",
    "NET": "Asia/Yerevan",
    "NST": "Pacific/Auckland",
    "PLT": "Asia/Karachi",
    "PNT": "America/Phoenix",
    "PRT": "America/Puerto_Rico",
    "PST": "America/Los_Angeles",
    "SST": "Pacific/Guadalcanal",
    "VST": "Asia/Ho_Chi_Minh",
}
_OFFSET = re.compile(r"(?:GMT|UTC)([+-])([0-9]{1,2})(?::?([0-9]{2}))?")


class Gap(Enum):
    """What becomes of a time that a zone leaves out: run at the first valid instant after it, or not at all."""

    NEXT = "next"
    SKIP = "skip"


class Span(NamedTuple):
    """From `start` until before `end` the wall shows `offset` seconds more than UTC, before that `before`."""

    start: int
    end: int
    offset: int
    before: int


class Zone:
    """The rules of one time zone. The same name gives the same object (`zone`), so comparing is by identity."""

    __slots__ = ("_blocks", "_rules", "fixed", "name")

    def __init__(self, name: str, rules: tzinfo) -> None:
        self.name = name
        self._rules = rules
        self._blocks: dict[int, tuple[list[int], list[int]]] = {}
        self.fixed: int | None = None
        """The offset, where it never changes."""
        if isinstance(rules, timezone):
            self.fixed = round(rules.utcoffset(None).total_seconds())

    def __repr__(self) -> str:
        return f"Zone({self.name})"

    def span(self, instant: int) -> Span:
        """The span an instant lies in. It may end without a change: it is no longer than a block."""
        if self.fixed is not None:
            return Span(FIRST_S, LAST_S + 1, self.fixed, self.fixed)
        number = instant // _BLOCK_S
        block = self._blocks.get(number)
        if block is None:
            block = self._read(number)
        edges, offsets = block
        index = bisect_right(edges, instant)
        return Span(edges[index - 1], edges[index], offsets[index], offsets[index - 1])

    def offset(self, instant: int) -> int:
        """Seconds the wall is before UTC."""
        return self.fixed if self.fixed is not None else self.span(instant).offset

    def twice(self, instant: int) -> bool:
        """Whether what the wall shows at an instant it will show once more, as clocks are set back soon after."""
        span = self.span(instant)
        return self.fixed is None and instant >= span.end - span.offset + self.span(span.end).offset

    def instant(self, local: int, gap: Gap) -> int | None:
        """When the wall first shows a time; None when it never does and gap is SKIP, or beyond the calendar."""
        if self.fixed is not None:
            return local - self.fixed
        at = local - DAY_S - 3_600
        if not FIRST_S <= at <= LAST_S:
            return None
        while True:
            span = self.span(at)
            if local < span.start + span.offset:
                return span.start if gap is Gap.NEXT else None
            if local < span.end + span.offset:
                return local - span.offset
            at = span.end

    def next_shown(self, after: int, next_local: Callable[[int], int | None], gap: Gap, again: bool) -> int | None:
        """The first instant later than `after` at which the wall shows one of the times that `next_local` counts; None for never.

        next_local: the first such time later than a given one. again: whether times the wall shows twice are taken twice, and those
        it leaves out are nothing to make up for; this is for what happens every hour.
        """
        if self.fixed is not None:
            local = next_local(after + self.fixed)
            return None if local is None else local - self.fixed
        span = self.span(after)
        from_local = after + span.offset
        if not again and span.before > span.offset:
            from_local = max(from_local, span.start + span.before - 1)
        local, gaps = next_local(from_local), 0
        while local is not None and local <= LAST_S and gaps < _GAPS_MAX:
            if local < span.end + span.offset:
                return local - span.offset
            end, offset = span.end, span.offset
            span = self.span(end)
            if local < end + span.offset:  # In the gap.
                if gap is Gap.NEXT and not again:
                    return end
                local, gaps = next_local(end + span.offset - 1), gaps + 1
            elif again and span.offset < offset:
                local = next_local(end + span.offset - 1)
            elif not again and local - span.offset - _BLOCK_S > end:  # Far away: no need to look at each year.
                span = self.span(local - span.offset - _BLOCK_S // 2)
        return None

    def _read(self, number: int) -> tuple[list[int], list[int]]:
        """Ask for the offsets of a block: edges, of which the first and last are the block's own, and the offset before each edge."""
        if len(self._blocks) >= _BLOCKS_MAX:
            self._blocks.clear()
        start, end = number * _BLOCK_S, (number + 1) * _BLOCK_S
        edges, offsets = [start], [self._ask(start - 1), self._ask(start)]
        at = start
        while at < end - 1:
            to = min(at + DAY_S, end - 1)
            if self._ask(to) != offsets[-1]:
                low, high = at, to  # The change lies after low, at the latest at high.
                while high - low > 1:
                    middle = (low + high) // 2
                    low, high = (low, middle) if self._ask(middle) != offsets[-1] else (middle, high)
                edges.append(high)
                offsets.append(self._ask(high))
                at = high
            else:
                at = to
        edges.append(end)
        self._blocks[number] = edges, offsets
        return edges, offsets

    def _ask(self, instant: int) -> int:
        offset = datetime.fromtimestamp(min(max(instant, FIRST_S), LAST_S), self._rules).utcoffset()
        assert offset is not None
        return int(offset.total_seconds())


UTC_ZONE = Zone("UTC", UTC)


@lru_cache(1)
def _names() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


@lru_cache(2048)
def zone(name: str, field: str = "scheduleTimeZone") -> Zone:
    """The zone of a name: of the tz database, three letters of Java's, or GMT+2, UTC-03:30; "" is UTC. CallError for others."""
    if name in ("", "UTC", "GMT", "Z", "Etc/UTC"):
        return UTC_ZONE
    found = _OFFSET.fullmatch(name)
    if found is not None and int(found[2]) < 24 and int(found[3] or 0) < 60:
        return fixed(int(f"{found[1]}1") * (int(found[2]) * 3_600 + int(found[3] or 0) * 60))
    name_there = _JAVA.get(name, name)
    if name_there in _names():
        return _zone(name_there)
    if not _names():
        raise CallError(f"{field}: {name[:100]!r} is not known, as this machine has no time zone database (Debian: tzdata)")
    near = difflib.get_close_matches(name[:100], sorted(_names() | _JAVA.keys()), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise CallError(f"{field}: {name[:100]!r} is no time zone: a name of the tz database is due, as in Europe/Madrid{hint}")


@lru_cache(2048)
def _zone(name: str) -> Zone:
    return Zone(name, zoneinfo.ZoneInfo(name))


@lru_cache(2048)
def fixed(offset_s: int) -> Zone:
    """A zone that is always as many seconds before UTC."""
    if offset_s == 0:
        return UTC_ZONE
    rules = timezone(timedelta(seconds=offset_s))
    return Zone(rules.tzname(None), rules)
