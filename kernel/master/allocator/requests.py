"""What a framework says it waits for in a role, and what it launches of that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kernel.master.allocator.demand import Demand, Entry, likeness
from kernel.master.allocator.filters import lift
from kernel.master.allocator.nodes import Leaf
from kernel.master.allocator.state import Allocation, State
from kernel.wire.resources import Resources
from kernel.wire.shapes import MANY


def state_demand(state: State, leaf: Leaf, wanted: Mapping[Demand, tuple[int, int]]) -> None:
    """This is the leaf's whole demand now: count and `min` by demand."""
    known, leaf.entries = leaf.entries, {}
    for demand, (count, least) in wanted.items():
        entry = known.pop(demand, None) or Entry(leaf, demand, state.now_s)
        leaf.entries[demand] = entry
        entry.min = least
        if not entry.needed:
            entry.begin(state.now_s)
        entry.change(count=count - entry.count)
    for entry in known.values():
        state.release(entry)
        entry.end()
    leaf.open = {entry: None for entry in leaf.entries.values() if entry.needed and not entry.gang}
    leaf.gangs = {entry: None for entry in leaf.entries.values() if entry.gang}
    leaf.alike = {}
    for entry in leaf.entries.values():
        leaf.alike.setdefault(likeness(entry.demand.shape), []).append(entry)
    for allocation in leaf.offers:
        _cover_again(allocation)
    if leaf.softly_refused:
        lift(leaf, soft_only=True)
        for entry in leaf.entries.values():
            entry.settled = False
    if not leaf.needed and not leaf.gangs:
        state.rest(leaf)
    for room in tuple(leaf.rooms.values()):
        if not room.gangs:
            state.rooms.drop(room)
    for entry in leaf.entries.values():
        if entry.needed:
            state.need(entry)
        else:
            state.release(entry)
    state.tree.touch(leaf)


def launched(state: State, leaf: Leaf, shapes: Iterable[Resources]) -> None:
    """Tasks of these shapes were launched: they are waited for no more."""
    counts: dict[Resources, int] = {}
    for shape in shapes:
        counts[shape] = counts.get(shape, 0) + 1
    for shape, count in counts.items():
        like = likeness(shape)
        answered = [(entry, times) for entry, times in leaf.answered if likeness(entry.demand.shape) == like]
        for entry, most in (*answered, *((entry, MANY) for entry in leaf.alike.get(like, ()))):
            done = min(count, most, entry.count)
            if done:
                count -= done
                _one_launched(state, entry, done)
    leaf.answered = []
    if not leaf.needed and not leaf.gangs:
        state.rest(leaf)


def _one_launched(state: State, entry: Entry, times: int) -> None:
    entry.change(count=-times)
    entry.since_s = state.now_s
    if entry.needed:
        state.need(entry)  # What is left of a gang may be less than one.
    else:
        state.release(entry)


def _cover_again(allocation: Allocation) -> None:
    """The demand has changed: what the open offer has beyond demands that are still alive covers others."""
    leaf, uniform = allocation.leaf, allocation.agent.uniform
    kept = [(entry, times) for entry, times in allocation.cover if entry.alive]
    if kept and len(kept) == len(allocation.cover):
        return
    rest = allocation.resources
    for entry, times in kept:
        rest = rest.without(entry.shape.cut(rest, times, uniform))
    for entry in list(leaf.open):
        times = min(entry.needed, entry.shape.fits(rest, uniform))
        if times and entry.demand.agent_id in (None, allocation.agent_id):
            entry.change(covered=times)
            kept.append((entry, times))
            rest = rest.without(entry.shape.cut(rest, times, uniform))
    allocation.cover = kept
