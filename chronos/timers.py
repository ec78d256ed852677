"""When runs are looked at again: those that wait for a time or for a silent agent, and those that have a deadline. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from chronos.run import Run, RunState


class Timers:
    """Places in time. What has become of a run since then is for whoever looks: `goes_on_ms` says what holds now."""

    def __init__(self) -> None:
        self._times: list[tuple[int, int, str, RunState]] = []
        self._deadlines: list[tuple[int, str]] = []
        self._numbers = 0  # Equal times come in the order they were set.

    def wait(self, run: Run) -> None:
        """Look at it again when what it waits for is due."""
        at_ms = goes_on_ms(run)
        if at_ms is not None:
            self._numbers += 1
            heapq.heappush(self._times, (at_ms, self._numbers, run.run_id, run.state))

    def watch(self, run_id: str, deadline_ms: int) -> None:
        """Look at it again when its deadline has passed."""
        heapq.heappush(self._deadlines, (deadline_ms, run_id))

    def due(self, now_ms: int) -> Iterator[tuple[str, RunState, int]]:
        """Take out what is due: the run, the state it waited in, and since when."""
        while self.any_due(now_ms):
            at_ms, _, run_id, state = heapq.heappop(self._times)
            yield run_id, state, at_ms

    def any_due(self, now_ms: int) -> bool:
        return bool(self._times) and self._times[0][0] <= now_ms

    def passed(self, now_ms: int) -> Iterator[str]:
        """Take out runs whose deadline has passed."""
        while self._deadlines and self._deadlines[0][0] <= now_ms:
            yield heapq.heappop(self._deadlines)[1]


def goes_on_ms(run: Run) -> int | None:
    """When a run goes on by itself; None when it waits for no time."""
    if run.state is RunState.WAITING:
        return max(run.due_ms, run.not_before_ms)
    return run.not_before_ms if run.state is RunState.UNREACHABLE else None
