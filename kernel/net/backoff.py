"""How long to wait before the next attempt."""

from __future__ import annotations


def delay_s(failures: int, roll: float, *, first_s: float = 0.1, most_s: float = 30.0) -> float:
    """Return the seconds to wait after `failures` (from 1) failures in a row: doubling, within bounds.

    roll: a random number of [0, 1). Up to half of the delay goes by it, so that peers which failed
    together do not come back together.
    """
    longest_s = min(most_s, first_s * 2.0 ** min(max(failures, 1) - 1, 60))
    return longest_s * (1.0 - roll / 2)
