"""Instants at which the master looks at something again (design: deadlines are looked at on each `Tick`)."""

from __future__ import annotations

import heapq
from collections.abc import Iterator


class Deadlines:
    """When to look at what, soonest first. An entry is only a hint: the field in the state decides, and whoever is looked at
    too early pushes again. So moving a deadline on costs nothing, and each (kind, key) has one entry however often it moves."""

    __slots__ = ("_heap", "_soonest")

    def __init__(self) -> None:
        self._heap: list[tuple[float, str, str]] = []
        self._soonest: dict[tuple[str, str], float] = {}

    def __len__(self) -> int:
        return len(self._soonest)

    def push(self, due_s: float, kind: str, key: str) -> None:
        """Look at it then, unless it is looked at sooner anyway."""
        known_s = self._soonest.get((kind, key))
        if known_s is None or due_s < known_s:
            self._soonest[kind, key] = due_s
            heapq.heappush(self._heap, (due_s, kind, key))

    def pop_due(self, now_s: float) -> Iterator[tuple[str, str]]:
        """Yield (kind, key) of every entry that has come up; pushing meanwhile is allowed."""
        while self._heap and self._heap[0][0] <= now_s:
            due_s, kind, key = heapq.heappop(self._heap)
            if self._soonest.get((kind, key)) == due_s:  # Else it was looked at, sooner.
                del self._soonest[kind, key]
                yield kind, key
