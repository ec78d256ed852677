"""The logging level that operators set for a while (spec: mesos-v1, SET_LOGGING_LEVEL and /logging/toggle).

Levels are Mesos's verbosity: 0 is normal, 1 and more log what is for debugging.
"""

from __future__ import annotations

import asyncio
import logging

from kernel.errors import CallError

LEVEL_MAX = 3


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
            raise CallError(f"set_logging_level.level: {level} is not allowed; give 0 to {LEVEL_MAX}")
        if not for_s >= 0:
            raise CallError("set_logging_level.duration: must not be negative")
        if self._reverts is not None:
            self._reverts.cancel()
        self._apply(level)
        self._reverts = asyncio.get_running_loop().call_later(for_s, self._apply, 0)

    def _apply(self, level: int) -> None:
        self._level = level
        logging.getLogger().setLevel(logging.DEBUG if level else self._normal)
