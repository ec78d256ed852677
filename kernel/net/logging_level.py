"""The logging level that operators set for a while (spec: mesos-v1, SET_LOGGING_LEVEL and /logging/toggle).

Levels are Mesos's verbosity: 0 is normal, 1 and more log what is for debugging.
"""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web

from kernel.config import duration
from kernel.errors import CallError
from kernel.net.errors import HttpError
from kernel.net.request import Request
from kernel.net.response import text

LEVEL_MAX = 3
ABOUT = "how much is logged; POST ?level= &duration= sets it for a while"


class LoggingLevel:
    """The level of all our loggers. Made when the process starts, which is the level it goes back to."""

    def __init__(self) -> None:
        self._normal = logging.getLogger().level
        self._level = 0
        self._reverts: asyncio.TimerHandle | None = None

    def get(self) -> int:
        return self._level

    def set(self, level: int, for_s: float) -> None:
        """Log at `level` for so many seconds. Raises CallError."""
        if not 0 <= level <= LEVEL_MAX:
            raise CallError(f"level: {level} is not allowed; give 0 to {LEVEL_MAX}")
        if not for_s >= 0:
            raise CallError("duration: must not be negative")
        if self._reverts is not None:
            self._reverts.cancel()
        self._apply(level)
        self._reverts = asyncio.get_running_loop().call_later(for_s, self._apply, 0)

    def _apply(self, level: int) -> None:
        self._level = level
        logging.getLogger().setLevel(logging.DEBUG if level else self._normal)


def toggle(request: Request, level: LoggingLevel) -> web.Response:
    """Answer /logging/toggle: without a query the level, else it is set (by POST). Raises CallError."""
    if not request.query:
        return text(200, f"{level.get()}\n")
    if request.method != "POST":
        raise HttpError(405, "Expecting one of { 'POST' }, but received 'GET'.", {"Allow": "POST"})
    wanted, lasting = request.query.get("level"), request.query.get("duration")
    if wanted is None or lasting is None:
        raise CallError("Expecting 'level=value' and 'duration=value' in query.")
    try:
        number, for_s = int(wanted), duration(lasting)
    except ValueError as error:
        raise CallError(f"level is a number and duration like 15secs, not {error}") from None
    level.set(number, for_s)
    return text(200)
