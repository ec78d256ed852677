"""What a quota that was just set asks of what is offered already, and of what is to be reserved (spec: mesos-v1, section 7.4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from kernel.master.allocator.books import Books
from kernel.master.allocator.nodes import Leaf
from kernel.master.allocator.quota import Bound, Pool, unreserved_amount
from kernel.master.allocator.state import Allocation, State


class LimitPassed(Struct, frozen=True):
    """A limit that would be passed: whose, of what, and how much of it is consumed; thousandths."""

    role: str
    name: str
    limit: int
    consumed: int


def limit_passed(state: State, role: str, amounts: Mapping[str, int]) -> LimitPassed | None:
    """The first limit on the role's path that would be passed if so much more were consumed there."""
    bound = state.quota.excess(role, amounts)
    if bound is None:
        return None
    assert bound.limit is not None
    return LimitPassed(bound.role, bound.name, bound.limit, bound.consumed)


def beyond_quota(state: State) -> list[Allocation]:
    """The offers to be taken back: below each role beyond a limit, of the highest share first, until it is within or nothing is
    offered there; then agent by agent, of whom it is not guaranteed to, until what is guaranteed is free.

    Cost: one look at each offer for each limit that is passed, and at each for all guarantees.
    """
    recall = _Recall(state)
    for bounds in state.quota.bounds.values():
        for bound in bounds:
            if bound.limit is not None and bound.consumed > bound.limit and bound.role in state.tree.roles:
                recall.enforce(bound, bound.limit)
    if any(pool.free < pool.below for pool in state.quota.pools):
        for agent in state.agents.values():
            if agent.open and agent.claim is None:
                for allocation in agent.offers:
                    recall.free_for_guarantees(allocation)
    recall.books.undo()
    return recall.taken


class _Recall:
    """Takes offers back on the books only, so as to see what that gives."""

    def __init__(self, state: State) -> None:
        self.state, self.books = state, Books(state)
        self.taken: list[Allocation] = []
        self._known: set[Allocation] = set()

    def enforce(self, bound: Bound, limit: int) -> None:
        state = self.state
        leaves: Iterable[Leaf] = state.tree.leaves(state.tree.roles[bound.role])
        for leaf in sorted(leaves, key=state.tree.path_key, reverse=True):
            for allocation in reversed(leaf.offers):
                if bound.consumed <= limit:
                    return
                if allocation not in self._known and unreserved_amount(allocation.resources, bound.name):
                    self._take(allocation)
                    self._note(allocation)

    def free_for_guarantees(self, allocation: Allocation) -> None:
        pools = self.state.quota.pools
        if allocation in self._known:
            return
        lacking = [(pool, pool.below - pool.free) for pool in pools if pool.free < pool.below]
        if not lacking:
            return
        mark = self.books.mark
        self._take(allocation)
        if any(_lack(pool) < lack for pool, lack in lacking):
            self._note(allocation)
        else:  # It is offered on a guarantee: to take it back would only make that wanting.
            self.books.undo(mark)

    def _note(self, allocation: Allocation) -> None:
        self._known.add(allocation)
        self.taken.append(allocation)

    def _take(self, allocation: Allocation) -> None:
        self.books.change(allocation.leaf, allocation.agent, allocation.resources, 1)


def _lack(pool: Pool) -> int:
    return max(0, pool.below - pool.free)
