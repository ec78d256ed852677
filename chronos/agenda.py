"""When which job is due: a heap of what is near, lists of what is far, as most of a million jobs are. Pure.

A place in a heap has 100 bytes, one in a list 8. Where a clock says that a list is due, what it names is put into the heap.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

SPAN_BITS = 20  # Of milliseconds: a list is of 17 minutes.
_BEFORE_ALL = -(1 << 62)


class Agenda:
    """Names by time. due_of: when a name is due as things are, None when never. What was added for another time has lapsed, so nothing need
    be taken out."""

    def __init__(self, due_of: Callable[[str], int | None]) -> None:
        self._due_of = due_of
        self._near: list[tuple[int, str]] = []
        self._far: dict[int, list[str]] = {}
        self._spans: list[int] = []  # A heap of the keys of _far.
        self._opened = _BEFORE_ALL  # The last span whose names are near.
        self._size = 0

    def __len__(self) -> int:
        """How many places there are, with those that have lapsed."""
        return self._size

    def clear(self) -> None:
        self._near, self._far, self._spans, self._size = [], {}, [], 0

    def add(self, at_ms: int, name: str) -> None:
        self._size += 1
        span = at_ms >> SPAN_BITS
        if span <= self._opened:
            heapq.heappush(self._near, (at_ms, name))
            return
        names = self._far.get(span)
        if names is None:
            names = self._far[span] = []
            heapq.heappush(self._spans, span)
        names.append(name)

    def first(self, now_ms: int) -> tuple[int, str] | None:
        """The earliest that is due by then: when, and who. The same until it is taken or no longer due."""
        while self._spans and self._spans[0] <= now_ms >> SPAN_BITS:
            self._open(heapq.heappop(self._spans))
        while self._near and self._near[0][0] <= now_ms:
            at_ms, name = self._near[0]
            if self._due_of(name) == at_ms:
                return at_ms, name
            self._drop()
        return None

    def take(self, now_ms: int) -> str | None:
        """Take out the earliest that is due by then."""
        first = self.first(now_ms)
        if first is None:
            return None
        self._drop()
        return first[1]

    def _drop(self) -> None:
        heapq.heappop(self._near)
        self._size -= 1

    def _open(self, span: int) -> None:
        names = self._far.pop(span)
        due = [(at_ms, name) for name in dict.fromkeys(names) if (at_ms := self._due_of(name)) is not None and at_ms >> SPAN_BITS == span]
        self._size += len(due) - len(names)
        self._near += due
        heapq.heapify(self._near)
        self._opened = max(self._opened, span)
