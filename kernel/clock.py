"""Time as the cores see it: handed in, never asked for."""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol


class Now(NamedTuple):
    """One instant on two clocks.

    mono_s: seconds on a clock that never jumps, for timeouts; wall_s: seconds since the epoch, for
    whatever is stored or shown.
    """

    mono_s: float
    wall_s: float


class Clock(Protocol):
    """Where a main loop reads the time."""

    def now(self) -> Now: ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> Now:
        return Now(time.monotonic(), time.time())
