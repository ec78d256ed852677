"""Chance for the random sorter: numbers that look random and are the same for the same seed, so that decisions can be repeated.

Source: Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014 (SplitMix64).
"""

from __future__ import annotations

import math

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15


class Chance:
    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def part(self) -> float:
        """A number of (0, 1], any as likely as any other."""
        self._state = (self._state + _STEP) & _MASK
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return (((mixed ^ (mixed >> 31)) >> 11) + 1) / (1 << 53)

    def wait(self, rate: float) -> float:
        """How long until something happens that happens `rate` times in a unit of time, as likely at any time."""
        return -math.log(self.part()) / rate
