"""Times that clients say."""

from __future__ import annotations

from chronos.schedule import read_instant
from chronos.schedule.zones import UTC_ZONE
from kernel.errors import CallError


def instant(value: str | int, field: str) -> int:
    """ms since the epoch, or ISO 8601 (UTC where it says none). Raises CallError."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 17 and len(value) != 4:
        value = int(value)
    if isinstance(value, int):
        if not 0 <= value < 1 << 52:
            raise CallError(f"{field}: {value} is no time in ms since 1970")
        return value
    return read_instant(value, UTC_ZONE, field)
