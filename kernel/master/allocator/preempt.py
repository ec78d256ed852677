"""Whose tasks would have to end so that a role gets what it is guaranteed (docs/decisions/preemption.md).

Only tasks with revocable resources and tasks of roles above a limit may be ended, and no more of them than let tasks fit that wait and
lie within the guarantee. Pure: nothing is changed; what comes of it is `kernel.master.preemption`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kernel.master.allocator.books import Books
from kernel.master.allocator.demand import Entry
from kernel.master.allocator.eligibility import admits, allows, is_worth, open_part
from kernel.master.allocator.filters import is_refused
from kernel.master.allocator.nodes import Leaf
from kernel.master.allocator.quota import Bound, unreserved_amount
from kernel.master.allocator.state import Agent, Allocation, State
from kernel.wire.resources import Amount, Key, Resources
from kernel.wire.roles import ancestors, is_same_or_below
from kernel.wire.shapes import MANY

# Bounds of one look; what is left out is seen to at a later one.
ENDED_MAX = 200  # Tasks.
AGENTS_MAX = 20  # For a task that waits: agents that are compared.

Rank = tuple[float, ...]  # Lower goes first.


class Run(NamedTuple):
    """What runs on an agent and would end as a whole: a task, or all tasks of a default executor. key: whatever the caller knows it by.
    started_s: on any clock. ending: it is being ended, so what it holds counts as free. noticed: it was chosen before."""

    key: object
    framework_id: str
    role: str
    agent_id: str
    resources: Resources
    started_s: float
    ending: bool = False
    noticed: bool = False


class Relief:
    """What would let one framework have, in one role, what it waits for within guarantees. guarantees: the roles to which something is
    owed there; ended: the runs to end; returned: the offers to take back first; kept: agents that are to be kept for its demands;
    lacks: whether even that is not enough."""

    __slots__ = ("ended", "framework_id", "guarantees", "kept", "lacks", "returned", "role")

    def __init__(self, leaf: Leaf, guarantees: tuple[str, ...]) -> None:
        self.framework_id, self.role, self.guarantees = leaf.framework.framework_id, leaf.role, guarantees
        self.ended: list[Run] = []
        self.returned: list[Allocation] = []
        self.kept: dict[Entry, Agent] = {}
        self.lacks = False

    def note(self, items: Iterable[_Item]) -> None:
        for item in items:
            if isinstance(item.of, Run):
                self.ended.append(item.of)
            else:
                self.returned.append(item.of)


def claimants(state: State) -> dict[Leaf, tuple[str, ...]]:
    """Who wants something that is guaranteed and not consumed, with the roles to which it is owed, nearest first; those of the lowest
    share first. Cost: one look at each guarantee, and at those in roles whose own is unmet."""
    found: dict[Leaf, None] = {}
    for bound in state.quota.owing():
        node = state.tree.roles.get(bound.role)
        for leaf in state.tree.leaves(node) if node is not None else ():
            if leaf.waits or (leaf.gangs and leaf.live):
                found[leaf] = None
    return {leaf: _owing_above(leaf) for leaf in sorted(found, key=state.tree.path_key)}


def _owing_above(leaf: Leaf) -> tuple[str, ...]:
    owing = {
        bound.role for line in leaf.lines if line.pool is not None and line.bound is not None for bound in line.bound.path() if bound.owes
    }
    return tuple(sorted(owing, key=lambda role: -role.count("/")))


def roles_over_limit(state: State) -> list[str]:
    """The roles that consume more than their limit."""
    return [role for role, bounds in state.quota.bounds.items() if any(map(_is_over, bounds))]


def reliefs(state: State, runs: Iterable[Run]) -> list[Relief]:
    """For each of `claimants` that cannot have what is guaranteed out of what is free: what would help. runs: those that may be ended
    (others are passed over) or are being ended. Cost: about a look at each run and, for each task that waits, at the runs of few agents."""
    return _Search(state, runs).run() if claimants(state) else []


class _Item:
    """Something that can be had of an agent: an offer, or a run. used: it is to be had already."""

    __slots__ = ("agent", "leaf", "of", "rank", "resources", "revocable", "used")

    def __init__(self, leaf: Leaf, agent: Agent, of: Run | Allocation, rank: Rank) -> None:
        self.leaf, self.agent, self.of, self.rank, self.resources = leaf, agent, of, rank, of.resources
        self.revocable = isinstance(of, Run) and _is_revocable(of.resources)
        self.used = False


class _Search:
    """One look."""

    def __init__(self, state: State, runs: Iterable[Run]) -> None:
        self.state = state
        self.items = [_Item(allocation.leaf, agent, allocation, (0,)) for agent in state.agents.values() for allocation in agent.offers]
        ending: list[tuple[Leaf, Agent, Resources]] = []
        excess = _Excess(state)
        for number, run in enumerate(runs):
            framework, agent = state.frameworks.get(run.framework_id), state.agents.get(run.agent_id)
            leaf = framework.leaves.get(run.role) if framework is not None else None
            if leaf is None or agent is None:
                continue
            if run.ending:
                ending.append((leaf, agent, run.resources))
            elif agent.open and not _holds_reserved(run.resources):
                rank = (2 - run.noticed, not _is_revocable(run.resources), -excess.of(run.role), -run.started_s, number)
                self.items.append(_Item(leaf, agent, run, rank))
        self.items.sort(key=lambda item: item.rank)
        self.on: dict[Agent, list[_Item]] = {}
        for item in self.items:
            self.on.setdefault(item.agent, []).append(item)
        self.books = Books(state, frozenset(agent for _, agent, _ in ending if not agent.open))
        for leaf, agent, resources in ending:
            self.books.change(leaf, agent, resources, 1)
        self.left = ENDED_MAX
        self.promised: dict[str, int] = {}  # Of what is free: to those who state no demand.

    def run(self) -> list[Relief]:
        found: list[Relief] = []
        served: set[tuple[str, ...]] = set()
        for leaf, guarantees in claimants(self.state).items():
            if leaf.framework.demands:
                found.append(self._for_demands(leaf, guarantees))
            elif guarantees not in served:  # Two of a role are owed the same.
                served.add(guarantees)
                found.append(self._for_any(leaf, guarantees))
        self.books.undo()
        return [relief for relief in found if relief.ended or relief.returned or relief.kept or relief.lacks]

    # ---- who states what it waits for -------------------------------------------------------------------

    def _for_demands(self, leaf: Leaf, guarantees: tuple[str, ...]) -> Relief:
        """As many tasks as lie, with all of theirs, within what is guaranteed are placed one after the other."""
        relief, slack = Relief(leaf, guarantees), self.state.quota.slack(leaf)
        for entry in (*leaf.open, *leaf.gangs):
            times = min(entry.needed, _within(leaf, entry, slack))
            least = entry.quorum if entry.gang else 1
            if times < least:
                continue
            mark, chosen = self.books.mark, list[_Item]()
            placed = self._place(leaf, entry, times, relief)
            while placed < times and (more := self._make_room(leaf, entry, times - placed, relief, chosen)):
                placed += more
            relief.lacks |= placed < times and self.left > 0
            if placed < least:  # A gang that does not fit as a whole is of no use.
                self.books.undo(mark)
                self._drop(chosen)
                continue
            relief.note(chosen)
            for name in slack:
                slack[name] -= placed * unreserved_amount(entry.shape.resources, name)
        return relief

    def _place(self, leaf: Leaf, entry: Entry, most: int, relief: Relief) -> int:
        """As many as fit, at most so many, where nothing else has to end for it. Returns how many."""
        state, shape, left = self.state, entry.shape, most
        own = [entry.claim] if entry.claim is not None else []
        for agent in dict.fromkeys((*own, *self.books.held, *state.likely(shape))):
            if not left:
                break
            if self._may_use(leaf, entry, agent) and (times := self._put(leaf, entry, agent, left)):
                left -= times
                if agent is entry.claim:
                    relief.kept[entry] = agent
        return most - left

    def _put(self, leaf: Leaf, entry: Entry, agent: Agent, most: int) -> int:
        free = self._open(leaf, entry, agent)
        times = min(most, entry.shape.fits(free, agent.uniform))
        if not times or is_refused(agent, leaf, cut := entry.shape.cut(free, times, agent.uniform)):
            return 0
        self.books.change(leaf, agent, cut, -1)
        return times

    def _make_room(self, leaf: Leaf, entry: Entry, most: int, relief: Relief, chosen: list[_Item]) -> int:
        """Have something end on one agent, so that one fits: there where the last that has to end is first in the order of all. Returns
        how many fit then, at most so many; 0 when it fits nowhere."""
        best: list[_Item] = []
        looked: set[Agent] = set()
        for item in self.items:
            if (best and item.rank > best[-1].rank) or len(looked) >= AGENTS_MAX:
                break
            agent = item.agent
            if item.used or agent in looked or not self._may_use(leaf, entry, agent):
                continue
            looked.add(agent)
            if entry.shape.fits(open_part(agent, leaf, agent.total), agent.uniform):
                least = self._least(leaf, entry, agent, relief.guarantees)
                if least and (not best or (least[-1].rank, len(least)) < (best[-1].rank, len(best))):
                    best = least
        ended = sum(isinstance(item.of, Run) for item in best)
        if ended > self.left:
            self.left = 0
            return 0
        for item in best:
            self._use(item)
        chosen += best
        if not best:
            return 0
        if ended and not entry.gang:
            relief.kept.setdefault(entry, best[0].agent)
        return self._put(leaf, entry, best[0].agent, most)

    def _least(self, leaf: Leaf, entry: Entry, agent: Agent, guarantees: tuple[str, ...]) -> list[_Item]:
        """What has to end on an agent so that one fits, in order; none when that is not enough. Nothing that could be left out."""
        books, mark, chosen, fits = self.books, self.books.mark, list[_Item](), False
        for item in self.on[agent]:
            if not item.used and self._may_take(item, guarantees):
                chosen.append(item)
                books.change(item.leaf, agent, item.resources, 1)
                if fits := self._fits(leaf, entry, agent):
                    break
        for item in chosen[-2::-1] if fits else ():
            books.change(item.leaf, agent, item.resources, -1)
            if self._fits(leaf, entry, agent):
                chosen.remove(item)
            else:
                books.change(item.leaf, agent, item.resources, 1)
        books.undo(mark)
        return chosen if fits else []

    def _fits(self, leaf: Leaf, entry: Entry, agent: Agent) -> bool:
        free = self._open(leaf, entry, agent)
        return entry.shape.fits(free, agent.uniform) > 0 and not is_refused(agent, leaf, entry.shape.cut(free, 1, agent.uniform))

    def _open(self, leaf: Leaf, entry: Entry, agent: Agent) -> Resources:
        """What the leaf may have of what is free there."""
        free = open_part(agent, leaf, self.books.free(agent))
        return self.state.quota.shrink(leaf, free, limits_only=agent is entry.claim)

    def _may_use(self, leaf: Leaf, entry: Entry, agent: Agent) -> bool:
        usable = self.books.counts(agent) or agent is entry.claim
        return usable and allows(agent, entry) and admits(agent, leaf, self.state)

    # ---- who does not -----------------------------------------------------------------------------------

    def _for_any(self, leaf: Leaf, guarantees: tuple[str, ...]) -> Relief:
        """What is owed is to be free, wherever the framework may have it."""
        relief, slack = Relief(leaf, guarantees), self.state.quota.slack(leaf)
        lack: dict[str, int] = {}
        for pool in self.state.quota.pools:
            if pool.name in slack:
                promised = self.promised.get(pool.name, 0)
                lack[pool.name] = max(0, slack[pool.name] + promised - pool.free)
                self.promised[pool.name] = promised + slack[pool.name]
        if not is_worth(_amounts(lack), leaf.minimums):
            return relief
        chosen: list[_Item] = []
        for item in self.items:
            if not self.left or all(amount <= 0 for amount in lack.values()):
                break
            if any(amount > 0 and unreserved_amount(item.resources, name) for name, amount in lack.items()) and self._helps(
                item, leaf, relief
            ):
                self._use(item)
                chosen.append(item)
                _give(lack, item, -1)
        relief.lacks = self.left > 0 and any(amount > 0 for amount in lack.values())
        for item in chosen[-2::-1]:
            _give(lack, item, 1)
            if all(amount <= 0 or not unreserved_amount(item.resources, name) for name, amount in lack.items()):
                chosen.remove(item)
                self._drop([item])
                self.books.change(item.leaf, item.agent, item.resources, -1)
            else:
                _give(lack, item, -1)
        relief.note(chosen)
        return relief

    def _helps(self, item: _Item, leaf: Leaf, relief: Relief) -> bool:
        agent = item.agent
        usable = not item.used and self.books.counts(agent) and admits(agent, leaf, self.state)
        return usable and not is_refused(agent, leaf, item.resources) and self._may_take(item, relief.guarantees)

    # ---- what may end -----------------------------------------------------------------------------------

    def _may_take(self, item: _Item, guarantees: tuple[str, ...]) -> bool:
        """Whether it stands above: nothing of those that are to gain, nothing that somebody is guaranteed; and of runs without revocable
        resources only while their role is above a limit."""
        if any(is_same_or_below(item.leaf.role, role) for role in guarantees):
            return False
        above = item.revocable or isinstance(item.of, Allocation)
        for line in item.leaf.lines:
            amount = unreserved_amount(item.resources, line.name)
            for bound in line.bound.path() if line.bound is not None and amount else ():
                if bound.guarantee and bound.consumed - amount < bound.guarantee:
                    return False
                above = above or _is_over(bound)
        return above

    def _use(self, item: _Item) -> None:
        item.used = True
        self.left -= isinstance(item.of, Run)
        self.books.change(item.leaf, item.agent, item.resources, 1)

    def _drop(self, items: Iterable[_Item]) -> None:
        for item in items:
            item.used = False
            self.left += isinstance(item.of, Run)


class _Excess:
    """How far roles are above limits: as a part of the cluster, by their weights."""

    def __init__(self, state: State) -> None:
        self._by_role: dict[str, float] = {}
        for role, bounds in state.quota.bounds.items():
            weight = state.tree.weights.get(role, 1.0)
            for bound in bounds:
                if _is_over(bound) and bound.limit is not None and (total := state.totals.get(bound.name)):
                    excess = (bound.consumed - bound.limit) / total / weight
                    self._by_role[role] = max(excess, self._by_role.get(role, 0.0))

    def of(self, role: str) -> float:
        """Of the role, or of one above it that is furthest above its limit."""
        return max((self._by_role.get(path, 0.0) for path in (role, *ancestors(role))), default=0.0) if self._by_role else 0.0


def _is_over(bound: Bound) -> bool:
    return bound.limit is not None and bound.consumed > bound.limit


def _within(leaf: Leaf, entry: Entry, slack: dict[str, int]) -> int:
    """How many of a demand lie, with all of theirs that is guaranteed, within what is owed. What wants revocable resources does not."""
    times = MANY if not entry.shape.slack else 0
    for name, bound, pool in leaf.lines:
        each = unreserved_amount(entry.shape.resources, name)
        if pool is not None and bound is not None and each and any(above.guarantee for above in bound.path()):
            times = min(times, max(0, slack.get(name, 0)) // each)
    return times if times < MANY else 0


def _give(lack: dict[str, int], item: _Item, sign: int) -> None:
    for name in lack:
        lack[name] += sign * unreserved_amount(item.resources, name)


def _amounts(milli: Mapping[str, int]) -> Resources:
    slots = {name: amount for name, amount in milli.items() if name in ("cpus", "mem", "disk", "gpus")}
    other: dict[Key, Amount] = {Key(name): amount for name, amount in milli.items() if name not in slots and amount}
    return Resources(**slots, other=other or None)


def _is_revocable(resources: Resources) -> bool:
    return any(key.revocable for key in resources.other or ())


def _holds_reserved(resources: Resources) -> bool:
    return any(key.reservations for key in resources.other or ())
