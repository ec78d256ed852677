"""A value over time, in at most so many equal steps, whatever the time turns out to be."""

from __future__ import annotations

STEPS_MAX = 512


class Series:
    """Means of a piecewise constant value. Steps double in width when there would be too many. step_s: their width."""

    __slots__ = ("_areas", "step_s")

    def __init__(self, step_s: float = 1.0) -> None:
        self.step_s = step_s
        self._areas: list[float] = []  # Value times seconds, of each step.

    def add(self, since_s: float, until_s: float, value: float) -> None:
        """The value from since_s to until_s; what was not told is 0."""
        while until_s > self.step_s * STEPS_MAX:
            self._areas = [sum(self._areas[at : at + 2]) for at in range(0, len(self._areas), 2)]
            self.step_s *= 2
        last = int(until_s / self.step_s)
        if len(self._areas) <= last:
            self._areas += [0.0] * (last + 1 - len(self._areas))
        if not value:
            return
        at_s = since_s
        for step in range(int(since_s / self.step_s), last + 1):
            end_s = min(until_s, (step + 1) * self.step_s)
            self._areas[step] += value * (end_s - at_s)
            at_s = end_s

    def points(self, end_s: float) -> list[tuple[float, float]]:
        """(seconds at the begin of a step, its mean) up to end_s."""
        found = []
        for step, area in enumerate(self._areas):
            begin_s = step * self.step_s
            if begin_s < end_s:
                found.append((begin_s, area / (min(end_s, begin_s + self.step_s) - begin_s)))
        return found

    def mean(self, end_s: float) -> float:
        return sum(self._areas) / end_s if end_s else 0.0
