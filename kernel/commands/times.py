"""Times as people write them: `60s`, `1h30m`, `2026-12-01T02:00`, `+2h`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime

import click

from kernel.wire.durations import NANOSECONDS, NANOSECONDS_MAX

_SHORT = {
    "": "secs",
    "s": "secs",
    "sec": "secs",
    "m": "mins",
    "min": "mins",
    "h": "hrs",
    "hr": "hrs",
    "d": "days",
    "day": "days",
    "w": "weeks",
}
_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?) *([a-z]*) *")


def parse_nanoseconds(text: str) -> int:
    """`60s`, `90` (seconds), `1h30m`, `2days`, and all that Mesos writes. ValueError for what is none."""
    total, position = 0.0, 0
    text = text.strip().lower()
    while found := _PART.match(text, position):
        unit = _SHORT.get(found[2], found[2])
        if unit not in NANOSECONDS:
            break
        total += float(found[1]) * NANOSECONDS[unit]
        position = found.end()
    if not position or position < len(text) or total > NANOSECONDS_MAX:
        raise ValueError(f"{text!r} is not a duration: write 60s, 30m, 2h or 1h30m")
    return round(total)


def parse_instant(text: str, now_s: float | None = None) -> int:
    """Nanoseconds since the epoch: of a local date and time, with an offset from UTC if it has one, `+2h` from now, or `now`.
    ValueError for what is none."""
    now_s = time.time() if now_s is None else now_s
    text = text.strip()
    if text == "now":
        return int(now_s * 1e9)
    if text.startswith("+"):
        return int(now_s * 1e9) + parse_nanoseconds(text[1:])
    try:
        nanoseconds = int(datetime.fromisoformat(text).timestamp()) * 10**9
    except (ValueError, OverflowError, OSError):
        nanoseconds = -1
    if not 0 <= nanoseconds <= NANOSECONDS_MAX:
        raise ValueError(f"{text!r} is not a time: write 2026-12-01T02:00 (local time), +2h or now")
    return nanoseconds


def show_duration(nanoseconds: int) -> str:
    """`2h`, `1h30m`, `45s`."""
    seconds, parts = round(nanoseconds / 1e9), []
    for name, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if seconds >= size:
            parts.append(f"{seconds // size}{name}")
            seconds %= size
    return "".join(parts) or "0s"


def show_instant(nanoseconds: int) -> str:
    """In local time, to the minute."""
    try:
        return datetime.fromtimestamp(nanoseconds / 1e9).astimezone().strftime("%Y-%m-%d %H:%M %Z")
    except (ValueError, OverflowError, OSError):  # Beyond the calendar.
        return f"{nanoseconds / 1e9:.0f} s since 1970"


def duration(text: str) -> int:
    """Nanoseconds, as the type of an option."""
    return _option(parse_nanoseconds, text)


def instant(text: str) -> int:
    """Nanoseconds since the epoch, as the type of an option."""
    return _option(parse_instant, text)


def _option(parse: Callable[[str], int], text: str) -> int:
    try:
        return parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
