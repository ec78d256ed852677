"""Durations as text: a number and a unit, `5secs`, `1.5hrs` (spec: mesos-v1, section 3.4). Counted in whole nanoseconds."""

from __future__ import annotations

import re
from decimal import Decimal

NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "secs": 1_000_000_000,
    "mins": 60 * 1_000_000_000,
    "hrs": 3_600 * 1_000_000_000,
    "days": 86_400 * 1_000_000_000,
    "weeks": 7 * 86_400 * 1_000_000_000,
}
NANOSECONDS_MAX = 2**63 - 1

_DURATION = re.compile(r"([+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?) *([a-z]+)")


def parse_duration(text: str) -> int:
    """Return nanoseconds, rounded. ValueError, with what is allowed, unless it is a number, a unit and fits 64 bits."""
    found = _DURATION.fullmatch(text.strip())
    if found is None or found[2] not in NANOSECONDS:
        raise ValueError(f"{text!r} is not a duration: a number and one of {' '.join(NANOSECONDS)} are due, as in 5secs")
    nanoseconds = round(Decimal(found[1]) * NANOSECONDS[found[2]])
    if abs(nanoseconds) > NANOSECONDS_MAX:
        raise ValueError(f"{text!r} is too long a duration: at most 15250 weeks are allowed")
    return nanoseconds


def format_duration(nanoseconds: int) -> str:
    """Return the text in the largest unit that divides it, so that it reads back as the same number."""
    unit = next(unit for unit, size in reversed(NANOSECONDS.items()) if nanoseconds % size == 0)
    return f"{nanoseconds // NANOSECONDS[unit]}{unit}" if nanoseconds else "0ns"
