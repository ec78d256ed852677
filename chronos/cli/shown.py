"""How jobs, runs and times look to people."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

WIDTH_MAX = 60


def at(ms: int | None, zone: tzinfo | None = None) -> str:
    """An instant to the second, in a zone or the local one; "" for none."""
    if not ms:
        return ""
    try:
        return datetime.fromtimestamp(ms / 1000, zone).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms since 1970"


def lasted(ms: int) -> str:
    """`250ms`, `4.2s`, `3m20s`, `2h5m`, `3d4h`."""
    if ms < 1000:
        return f"{ms}ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f}s".replace(".0s", "s")
    seconds, parts = ms // 1000, []
    for name, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if seconds >= size:
            parts.append(f"{seconds // size}{name}")
            seconds %= size
    return "".join(parts[:2])


def until(ms: int | None, now_ms: int | None = None) -> str:
    """`in 5m`, `now` when it is due, "" for never."""
    if ms is None:
        return ""
    left = ms - (int(time.time() * 1000) if now_ms is None else now_ms)
    return f"in {lasted(left)}" if left >= 1000 else "now"


def short(text: str, most: int = WIDTH_MAX) -> str:
    """On one line, with dots where something is left out."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 3] + "..."


def when(job: dict[str, Any]) -> str:
    """What starts a job."""
    if job.get("parents"):
        return "after " + ", ".join(job["parents"])
    zone = job.get("scheduleTimeZone") or ""
    return f"{job.get('schedule', '')} {zone}".strip()


def what(job: dict[str, Any]) -> str:
    """What a job does."""
    more = job.get("meseta") or {}
    if celery := more.get("celery"):
        return f"celery {celery['task']}"
    if http := more.get("http"):
        return f"{http.get('method', 'GET')} {http['url']}"
    container = job.get("container") or {}
    entry = [option["value"] for option in container.get("parameters") or () if option["key"] == "entrypoint"]
    program = job.get("command") or (entry[0] if entry else container.get("image", ""))
    return " ".join(map(str, (program, *(job.get("arguments") or ())))).strip()


def standing(shown: dict[str, Any]) -> str:
    """One word or two for how a job stands."""
    if shown["fault"]:
        return "quarantined"
    if shown["job"].get("disabled"):
        return "finished" if shown["runsLeft"] == 0 else "disabled"
    ends = shown["runsLeft"] == 0 or (shown["kind"] == "scheduled" and shown["next"] is None)
    if ends and shown["state"] == "idle":
        return "finished"
    return "paused" if shown["paused"] else str(shown["state"])


def zone_of(job: dict[str, Any]) -> tzinfo | None:
    """The zone a job's schedule is in: its own, else that of its text, else UTC; None where this machine does not know it."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    name = job.get("scheduleTimeZone") or ""
    if name:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            return _of_java(name)
    start = str(job.get("schedule", "")).split("/")
    try:
        offset = datetime.fromisoformat(start[1]).utcoffset() if len(start) == 3 else timedelta()
    except ValueError:
        offset = timedelta()
    return timezone(offset) if offset else UTC


def _of_java(name: str) -> tzinfo | None:
    """Of a name that the tz database does not have."""
    from zoneinfo import ZoneInfo

    from chronos.schedule.zones import zone
    from kernel.errors import CallError

    try:
        known = zone(name)
    except CallError:
        return None
    return ZoneInfo(known.name) if known.fixed is None else timezone(timedelta(seconds=known.fixed), name)


def exit_of(run: dict[str, Any]) -> str:
    attempts = run["attempts"]
    status = attempts[-1]["exitStatus"] if attempts else None
    return "" if status is None else str(status)


def joined(parts: Iterable[str]) -> str:
    return ", ".join(part for part in parts if part)
