"""How many may run at a time: of one job, of one owner, of one label. Pure.

A run passes when there is room in all of its gates at once, and then takes a place in each; otherwise it waits at the first that is
full, where those of the highest priority, then those due first, go on when a place becomes free.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from msgspec import Struct


class Gate(Struct, frozen=True, order=True):
    """What is limited: kind `job`, `owner` or `label`, and its name."""

    kind: str
    name: str


class Ticket(Struct, frozen=True, order=True):
    """One who wants to pass; lower ones go first."""

    rank: int  # The priority, negated.
    due_ms: int
    run_id: str
    gates: tuple[tuple[Gate, int], ...] = ()  # With how many may pass each at a time.


class Gates:
    """All gates that hold or keep somebody."""

    def __init__(self) -> None:
        self._inside: dict[Gate, dict[str, None]] = {}
        self._places: dict[str, tuple[Gate, ...]] = {}
        self._waiting: dict[Gate, list[Ticket]] = {}
        self._tickets: dict[str, Ticket] = {}

    def inside(self, gate: Gate) -> Sequence[str]:
        """Who has passed and not left."""
        return tuple(self._inside.get(gate, ()))

    def waits(self, run_id: str) -> bool:
        return run_id in self._tickets

    def blocked(self, gates: Iterable[tuple[Gate, int]]) -> Gate | None:
        """The first that has no room."""
        return next((gate for gate, limit in gates if len(self._inside.get(gate, ())) >= limit), None)

    def enter(self, ticket: Ticket) -> bool:
        """Pass, or wait; say whether it passed."""
        gate = self.blocked(ticket.gates)
        if gate is not None:
            self._tickets[ticket.run_id] = ticket
            heapq.heappush(self._waiting.setdefault(gate, []), ticket)
            return False
        self.place(ticket)
        return True

    def place(self, ticket: Ticket) -> None:
        """Take its places whether there is room or not: it runs already."""
        self._places[ticket.run_id] = tuple(gate for gate, _ in ticket.gates)
        for gate, _ in ticket.gates:
            self._inside.setdefault(gate, {})[ticket.run_id] = None

    def withdraw(self, run_id: str) -> None:
        """It waits no more."""
        self._tickets.pop(run_id, None)

    def leave(self, run_id: str) -> list[str]:
        """It is over; return who passes now, in order."""
        gates = self._places.pop(run_id, ())
        for gate in gates:
            inside = self._inside[gate]
            del inside[run_id]
            if not inside:
                del self._inside[gate]
        passed: list[str] = []
        for gate in gates:
            passed += self._let_in(gate)
        return passed

    def _let_in(self, gate: Gate) -> list[str]:
        passed: list[str] = []
        waiting = self._waiting.get(gate, [])
        while waiting:
            ticket = waiting[0]
            if self._tickets.get(ticket.run_id) is not ticket:  # Withdrawn, or it came again.
                heapq.heappop(waiting)
                continue
            full = self.blocked(ticket.gates)
            if full == gate:
                break
            heapq.heappop(waiting)
            if full is None:
                del self._tickets[ticket.run_id]
                self.place(ticket)
                passed.append(ticket.run_id)
            else:
                heapq.heappush(self._waiting.setdefault(full, []), ticket)
        if not waiting:
            self._waiting.pop(gate, None)
        return passed
