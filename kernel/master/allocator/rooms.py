"""Where gangs may find room: how many tasks of a kind fit on which agent, adjusted as agents change.

A gang is a demand of which fewer than `min` at once are of no use. This only counts; `gangs` decides.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernel.master.allocator.demand import Entry
    from kernel.master.allocator.state import Agent
    from kernel.wire.shapes import Shape


class Room:
    """Of gangs of one kind: one leaf, shape and choice of agents; `sample` is one of them. What quotas and refusals leave of it is
    not looked at.

    times: how many tasks fit on which agent that is kept for nobody, at the last look; total: the sum. unseen: agents not looked at
    yet where it may fit. least: the fewest of which an attempt is worth it. due_s: when the next attempt may be.
    """

    __slots__ = ("alive", "due_s", "leaf", "least", "sample", "timed", "times", "total", "unseen")

    def __init__(self, sample: Entry, unseen: Iterator[Agent]) -> None:
        self.sample, self.leaf, self.unseen = sample, sample.leaf, unseen
        self.times: dict[Agent, int] = {}
        self.total, self.least = 0, sample.quorum
        self.due_s = 0.0
        self.alive, self.timed = True, False

    def put(self, agent: Agent, times: int) -> None:
        """So many fit there now."""
        self.total += times - self.times.get(agent, 0)
        if times:
            self.times[agent] = times
        else:
            self.times.pop(agent, None)

    @property
    def gangs(self) -> list[Entry]:
        """Those that wait for it, in their order."""
        return [entry for entry in self.leaf.gangs if entry.room is self]


class Rooms:
    """All of them. changed: agents where more may be free than at the last look. ready: rooms where an attempt is due. searching: those
    that have not seen all agents."""

    def __init__(self) -> None:
        self.all: dict[Room, None] = {}
        self.changed: dict[Agent, None] = {}
        self.ready: dict[Room, None] = {}
        self.searching: dict[Room, None] = {}
        self._due: list[tuple[float, int, Room]] = []
        self._made = 0

    @property
    def busy(self) -> bool:
        return bool(self.changed or self.ready or self.searching)

    def add(self, entry: Entry, likely: Callable[[Shape], Iterable[Agent]], now_s: float) -> None:
        """A gang waits, or may be luckier than before. likely: tells the agents where a shape may fit."""
        rooms, kind = entry.leaf.rooms, entry.kind
        room = entry.room = rooms.get(kind)
        if room is None:
            room = entry.room = rooms[kind] = Room(entry, iter(likely(entry.shape)))
            self.all[room] = self.searching[room] = None
        room.least = min(room.least, entry.quorum)
        if room.total >= room.least or entry.kept:
            self.prepare(room, now_s)

    def prepare(self, room: Room, now_s: float) -> None:
        """There may be enough: let an attempt be made, no sooner than it may."""
        if room.due_s <= now_s:
            self.ready[room] = None
        elif not room.timed:
            room.timed = True
            self._made += 1
            heapq.heappush(self._due, (room.due_s, self._made, room))

    def expire(self, now_s: float) -> None:
        while self._due and self._due[0][0] <= now_s:
            room = heapq.heappop(self._due)[2]
            room.timed = False
            if room.alive:
                self.ready[room] = None

    @property
    def next_due_s(self) -> float | None:
        return self._due[0][0] if self._due else None

    def drop(self, room: Room) -> None:
        """Nobody waits for it."""
        room.alive = False
        room.leaf.rooms.pop(room.sample.kind, None)
        for rooms in (self.all, self.ready, self.searching):
            rooms.pop(room, None)
        if not self.all:
            self.changed.clear()
