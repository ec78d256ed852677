"""What frameworks wait for: shapes of tasks (REQUEST)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec import Struct

from kernel.wire.offer import RoleConstraints
from kernel.wire.resources import EMPTY, Amount, Key, Resources
from kernel.wire.revocable import firm, revocable
from kernel.wire.shapes import Shape

if TYPE_CHECKING:
    from kernel.master.allocator.nodes import Leaf
    from kernel.master.allocator.rooms import Room
    from kernel.master.allocator.state import Agent, Allocation


class Demand(Struct, frozen=True, gc=False):
    """Tasks of one shape that wait, as a framework states them (spec: design, section 3 "Allocator").

    shape: what one task needs; `ports` as ranges means these ports, as a scalar so many of any. agent_id: the only agent it may
    run on. priority: higher first within the framework. min: fewer at once are of no use. Said again with nothing but another count or
    min, it is the same demand: it keeps the time it has waited and what is offered for it.
    """

    name: str
    role: str
    shape: Resources
    count: int = 1
    min: int | None = None
    agent_id: str | None = None
    constraints: RoleConstraints | None = None
    priority: int = 0
    prefer: tuple[str, ...] = ()


class Wanted:
    """The smallest (cpus, mem) anybody waits for, so that an agent with less is not looked at by each. May know of some that were
    waited for just before."""

    def __init__(self) -> None:
        self._counts: dict[tuple[int, int], int] = {}
        self._least: list[tuple[int, int]] = []
        self._gone = 0

    def add(self, cpus: int, mem: int) -> None:
        pair = (cpus, mem)
        count = self._counts[pair] = self._counts.get(pair, 0) + 1
        if count == 1 and not self.may_fit(cpus, mem):
            self._least = [other for other in self._least if other[0] < cpus or other[1] < mem]
            self._least.append(pair)

    def remove(self, cpus: int, mem: int) -> None:
        pair = (cpus, mem)
        self._counts[pair] -= 1
        if not self._counts[pair]:
            del self._counts[pair]
            self._gone += 1
            if self._gone > len(self._counts):  # So that this costs little, however many come and go.
                self._gone = 0
                self._least = []
                for other in sorted(self._counts):
                    if not self._least or other[1] < self._least[-1][1]:
                        self._least.append(other)

    def may_fit(self, cpus: int, mem: int) -> bool:
        """Whether something that is waited for needs no more than this."""
        for least_cpus, least_mem in self._least:  # noqa: SIM110  # any() would cost twice as much, for each agent and grant.
            if least_cpus <= cpus and least_mem <= mem:
                return True
        return False


class Entry:
    """A demand while it waits.

    count: tasks not launched yet; covered: those of them for which an offer is open; needed: the rest. settled: no agent has a
    free piece for it, as far as agents have not changed since. since_s: when it last got something, or began to wait.
    min: fewer at once are of no use. gang: of what it needs, fewer than `quorum` tasks at once are of no use; room: where it may fit;
    kept: agents kept for it as a gang.
    prefer: the only agents that serve it, until it is far: nothing became free for it there in time; local_s: when it last got
    something there, or began to wait; delayed: that is watched.
    claim: the agent kept for it as any other; awaited: until this offer has come back (None: until it fits, as it is starving).
    tried: agents that were kept for it in vain; lack: which part was not free there at the last look (of a gang: how many tasks);
    patience_s: until the next one. waits_since_s: since when some of it has not been offered; None: all is.
    """

    __slots__ = (
        "alive",
        "awaited",
        "claim",
        "count",
        "covered",
        "delayed",
        "demand",
        "far",
        "gang",
        "kept",
        "lack",
        "leaf",
        "local_s",
        "min",
        "needed",
        "patience_s",
        "prefer",
        "room",
        "settled",
        "shape",
        "since_s",
        "timed",
        "tried",
        "waits_since_s",
    )  # fmt: skip

    def __init__(self, leaf: Leaf, demand: Demand, now_s: float) -> None:
        self.leaf, self.demand, self.shape = leaf, demand, Shape(demand.shape)
        self.count = self.covered = self.needed = 0
        self.min = 1
        self.prefer = frozenset(demand.prefer)
        self.local_s, self.far, self.delayed = now_s, False, False
        self.since_s = now_s
        self.waits_since_s: float | None = None
        self.alive, self.settled, self.timed, self.gang = True, False, False, False
        self.room: Room | None = None
        self.kept: dict[Agent, None] = {}
        self.claim: Agent | None = None
        self.awaited: Allocation | None = None
        self.tried: set[str] = set()
        self.lack = self.patience_s = 0.0

    def begin(self, now_s: float) -> None:
        """It needs something, and did not before."""
        self.since_s = self.local_s = now_s
        self.far = False

    @property
    def quorum(self) -> int:
        """So many more of its tasks at least are to be placed at once: with those that are offered, `min`, or all that are left."""
        return max(1, min(self.min, self.count) - self.covered)

    @property
    def least(self) -> Resources:
        """What scalars it needs at once, at least."""
        shape, times = self.shape, self.quorum
        if times == 1:
            return shape.resources
        other: dict[Key, Amount] = {Key(name): amount * times for name, amount in shape.scalars.items()}
        other |= {Key(name, revocable=True): amount * times for name, amount in shape.slack.items()}
        return Resources(shape.cpus * times, shape.mem * times, shape.disk * times, shape.gpus * times, other or None)

    @property
    def kind(self) -> object:
        """Equal for gangs of one leaf that may share a room."""
        demand = self.demand
        return (demand.shape, demand.agent_id, demand.constraints, self if demand.prefer else None)

    def change(self, count: int = 0, covered: int = 0) -> None:
        """Adjust both numbers; the leaf's sum follows."""
        self.count += count
        self.covered += covered
        if not self.alive:
            return
        before, needed = self.needed, max(0, self.count - self.covered)
        was, is_gang = self.gang, self.min > 1 and needed > 0 and self.quorum > 1
        self.needed, self.gang = needed, is_gang
        if was is is_gang and (was or (before > 0) is (needed > 0)):
            if not was:
                self.leaf.needed += needed - before
            return
        if was:
            del self.leaf.gangs[self]
        elif before:
            self._close(before)
        if is_gang:
            self.leaf.gangs[self] = None
        elif needed:
            self._open(needed)
        else:
            self.settled = False

    def _open(self, needed: int) -> None:
        """Have turns on single agents."""
        self.settled = False  # While it was a gang nobody looked where one fits.
        self.leaf.needed += needed
        self.leaf.open[self] = None
        if self.shape.slack:
            self.leaf.slack_open += 1
            self.leaf.slack_wanted.add(*self.shape.corner)
        else:
            self.leaf.wanted.add(self.shape.cpus, self.shape.mem)

    def _close(self, needed: int) -> None:
        self.leaf.needed -= needed
        del self.leaf.open[self]
        if self.shape.slack:
            self.leaf.slack_open -= 1
            self.leaf.slack_wanted.remove(*self.shape.corner)
        else:
            self.leaf.wanted.remove(self.shape.cpus, self.shape.mem)

    def end(self) -> None:
        """The framework does not want it any more."""
        self.change(count=-self.count)
        self.alive = False

    def __repr__(self) -> str:
        return f"Entry({self.demand.name!r}, {self.demand.shape}, count={self.count}, covered={self.covered})"


def likeness(resources: Resources) -> object:
    """Equal for a demand and a task launched for it, whichever ports or reservations the task got."""
    if resources.other is None:
        return resources
    slack = revocable(resources)
    if slack:
        return (frozenset(firm(resources).scalars().items()), frozenset(slack.scalars().items()))
    return frozenset(resources.scalars().items())


def merged(demands: Iterable[Demand]) -> dict[Demand, tuple[int, int]]:
    """Count and min by demand, each with count 1 and without min, so that the same demand said again is recognised. Highest priority
    first."""
    found: dict[Demand, tuple[int, int]] = {}
    for demand in sorted(demands, key=lambda demand: -demand.priority):
        one = Demand(demand.name, demand.role, demand.shape, 1, None, demand.agent_id, demand.constraints, demand.priority, demand.prefer)
        if demand.shape != EMPTY:
            count, least = found.get(one, (0, 1))
            found[one] = (count + demand.count, max(least, demand.min or 1))
    return found
