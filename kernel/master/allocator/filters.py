"""Refusals: what a framework, in a role, does not want from an agent again for a while (spec: mesos-v1, section 2.10).

Kept at the agent, so that looking at one agent costs what was refused there. A refusal blocks an offer that holds no more than
what was refused.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from kernel.wire.resources import Resources

if TYPE_CHECKING:
    from kernel.master.allocator.nodes import Leaf
    from kernel.master.allocator.state import Agent

COMPACT_ABOVE = 1024


class Refusal:
    """soft: made with refuse_seconds 0, only so that an offer does not go to and fro; a REQUEST lifts it, REVIVE lifts both kinds."""

    __slots__ = ("agent", "dropped", "due_s", "generation", "leaf", "resources", "soft")

    def __init__(self, leaf: Leaf, agent: Agent, resources: Resources, due_s: float, soft: bool) -> None:
        self.leaf, self.agent, self.resources, self.due_s, self.soft = leaf, agent, resources, due_s, soft
        self.generation = leaf.soft_generation if soft else leaf.generation
        self.dropped = False

    @property
    def alive(self) -> bool:
        return not self.dropped and self.generation == (self.leaf.soft_generation if self.soft else self.leaf.generation)


class Refusals:
    """All refusals by when they end."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Refusal]] = []
        self._made = 0
        self._compact_above = COMPACT_ABOVE

    def add(self, leaf: Leaf, agent: Agent, resources: Resources, due_s: float, soft: bool) -> None:
        refusal = Refusal(leaf, agent, resources, due_s, soft)
        _count(refusal, 1)
        held = agent.refusals.get(leaf)
        if held is None:
            agent.refusals[leaf] = [refusal]
        else:
            held[:] = [other for other in held if other.alive]
            held.append(refusal)
        leaf.softly_refused |= soft
        self._made += 1
        heapq.heappush(self._due, (due_s, self._made, refusal))
        if len(self._due) > self._compact_above:  # Lifted refusals would stay for up to a year.
            for entry in self._due:
                if not entry[2].alive:
                    _drop(entry[2])
            self._due = [entry for entry in self._due if entry[2].alive]
            heapq.heapify(self._due)
            self._compact_above = max(COMPACT_ABOVE, 2 * len(self._due))

    def expire(self, now_s: float) -> list[Agent]:
        """Drop those that have ended; return the agents where one really did."""
        changed: dict[Agent, None] = {}
        while self._due and self._due[0][0] <= now_s:
            refusal = heapq.heappop(self._due)[2]
            if refusal.alive:
                changed[refusal.agent] = None
            _drop(refusal)
        return list(changed)

    @property
    def next_due_s(self) -> float | None:
        """When the next one may end (it may have been lifted before)."""
        return self._due[0][0] if self._due else None

    def count(self) -> int:
        """How many are in force."""
        return sum(entry[2].alive for entry in self._due)


def _count(refusal: Refusal, change: int) -> None:
    if refusal.soft:
        refusal.leaf.soft_refusals += change
    else:
        refusal.leaf.refusals += change


def _void(refusal: Refusal) -> None:
    if refusal.alive:
        _count(refusal, -1)
    refusal.dropped = True


def _drop(refusal: Refusal) -> None:
    _void(refusal)
    agent, leaf = refusal.agent, refusal.leaf
    held = agent.refusals.get(leaf)
    if held is not None:
        held[:] = [other for other in held if other.alive]
        if not held:
            del agent.refusals[leaf]


def is_refused(agent: Agent, leaf: Leaf, piece: Resources) -> bool:
    held = agent.refusals.get(leaf)
    if held is None:
        return False
    for refusal in held:  # noqa: SIM110  # any() would cost as much again, for each leaf passed over.
        if refusal.alive and (refusal.resources == piece or refusal.resources.contains(piece)):
            return True
    return False


def lift(leaf: Leaf, soft_only: bool = False) -> None:
    """End the leaf's refusals everywhere, at once."""
    leaf.soft_generation += 1
    leaf.soft_refusals = 0
    leaf.softly_refused = False
    if not soft_only:
        leaf.generation += 1
        leaf.refusals = 0


def drop_all(agent: Agent) -> None:
    """End all refusals on an agent: it was removed, or is no longer what was refused."""
    for held in agent.refusals.values():
        for refusal in held:
            _void(refusal)
    agent.refusals.clear()
