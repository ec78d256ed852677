"""Help for demands that wait although they could be met: nobody starves beside whole-agent offers or small tasks.

While a demand waits that fits only inside a whole-agent offer older than `offer_hold_s`, one such offer is taken back, of the
framework with the highest share. A demand that has waited `starvation_s` and fits no free piece gets an agent kept for it: nothing
else is offered there until it fits (design, section 3 "Allocator").
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

from kernel.master.allocator.demand import Entry
from kernel.master.allocator.eligibility import admits, may_serve, open_part
from kernel.master.allocator.filters import is_refused
from kernel.master.allocator.nodes import Leaf
from kernel.master.allocator.state import Agent, Allocation, State

# Of how many agents the one to keep for a starving demand is chosen.
CLAIM_CANDIDATES = 500
PATIENCE_S_MAX = 86_400.0


class Rescue:
    """What one pass does for demands that wait. rescind: the offers to be taken back."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.rescind: list[Allocation] = []

    def take_back_for_waiting(self) -> None:
        """For each leaf with a demand that would fit on an agent if a whole-agent offer, old enough, came back: take one back,
        of the framework with the highest share."""
        state = self.state
        stirred, unhelped = state.stirred, state.unhelped
        state.stirred, state.unhelped = {}, {}
        for allocation in stirred:
            self.take_back_from_claimed(allocation)
        pools: dict[bool, tuple[list[Allocation], set[object]]] = {
            True: (self._ranked(state.old if unhelped else ()), set()),
            False: (self._ranked(stirred), set()),
        }
        for leaf in list(state.demanding if stirred else unhelped):
            if leaf.waits and not any(entry.awaited is not None for entry in leaf.open):
                self._take_back_for(leaf, *pools[leaf in unhelped])

    def _ranked(self, allocations: Iterable[Allocation]) -> list[Allocation]:
        """Those of the highest share first."""
        keys = {leaf: self.state.tree.path_key(leaf) for leaf in {allocation.leaf: None for allocation in allocations}}
        return sorted(allocations, key=lambda allocation: keys[allocation.leaf], reverse=True)

    def _take_back_for(self, leaf: Leaf, candidates: list[Allocation], hopeless: set[object]) -> None:
        options = leaf.framework.options
        for entry in leaf.open:
            like = (
                (leaf.role, options.gpu_aware, options.revocable, options.shared, options.refined),
                (entry.demand.shape, entry.demand.agent_id, entry.demand.constraints, None if entry.far else entry.prefer),
            )
            if entry.claim is not None or like in hopeless:
                continue
            fitting = withheld = False
            for place, allocation in enumerate(candidates):
                agent = allocation.agent
                if (
                    allocation not in self.state.old
                    or agent.claim is not None
                    or not agent.open
                    or not may_serve(agent, entry)
                    or not admits(agent, leaf, self.state)
                ):
                    continue
                piece = open_part(agent, leaf, agent.free + allocation.resources)
                if not entry.shape.fits(piece, agent.uniform):
                    continue
                if leaf.lines:
                    piece = self.state.quota.shrink_after(leaf, piece, allocation)
                    if not entry.shape.fits(piece, agent.uniform):
                        withheld = True
                        continue
                fitting = True
                if allocation.leaf.framework is leaf.framework or is_refused(agent, leaf, entry.shape.cut(piece, 1, agent.uniform)):
                    continue
                del candidates[place]
                self.state.claim(entry, agent, allocation)
                self.rescind.append(allocation)
                return
            if not fitting and not withheld:
                hopeless.add(like)

    def claim_for_starving(self, accumulate: Callable[[Entry], None]) -> None:
        """A demand that has waited too long, and fits no free piece, gets an agent kept for it until it fits; what is done for a gang,
        `accumulate` says. An agent where nothing has become free meanwhile is given up for another, each for twice as long: so neither an
        agent that never drains nor one that drains slowly starves it. Those for whom no more agents may be kept wait in a queue, for by
        their own clocks some might always come when others have just taken the turn."""
        entry = self._next_starving()
        if entry is not None:
            entry.timed = False
            if entry.needed and entry.leaf.live:
                self._see_to(entry, accumulate)
        self.state.look_at_starving()

    def _next_starving(self) -> Entry | None:
        state = self.state
        if state.queued and state.may_claim:
            entry = next(iter(state.queued))
            del state.queued[entry]
            return entry
        if state.starving and state.starving[0][0] <= state.now_s:
            return heapq.heappop(state.starving)[2]
        return None

    def _see_to(self, entry: Entry, accumulate: Callable[[Entry], None]) -> None:
        state, now_s = self.state, self.state.now_s
        due_s = entry.since_s + (wait_s := state.starvation_s(entry.leaf))
        entry.timed = True
        if due_s <= now_s:
            if entry.gang:
                accumulate(entry)
            elif state.quota.binding(entry.leaf, entry.shape.resources) is None:
                if entry.claim is None and not state.may_claim:
                    state.queued[entry] = None
                    return
                self._claim(entry)
            due_s = now_s + (entry.patience_s or wait_s)
        state.time(entry, due_s)

    def _claim(self, entry: Entry) -> None:
        """Keep the agent that lacks least, of those not kept for it before. One agent a leaf is kept."""
        state, kept = self.state, entry.claim
        if kept is None and any(other.claim is not None for other in entry.leaf.open):
            return
        if kept is not None and entry.awaited is None and (lack := self._lack(entry, kept)) is not None and lack < entry.lack:
            entry.lack = lack
            return
        found = self._least_lacking(entry)
        if found is None:
            return
        entry.lack, agent = found
        if agent is not kept:
            state.release(entry)
            state.claim(entry, agent, None)
        for allocation in agent.offers:
            self.take_back_from_claimed(allocation)
        entry.tried.add(agent.agent_id)
        entry.patience_s = min(2 * entry.patience_s, PATIENCE_S_MAX) or state.starvation_s(entry.leaf)

    def _least_lacking(self, entry: Entry) -> tuple[float, Agent] | None:
        """Of all agents where it can ever fit. When each has been tried, each may be tried again."""
        lacking: list[tuple[bool, float, int, Agent]] = []
        for agent in self.state.agents.values():
            lack = self._lack(entry, agent)
            if lack is not None:
                lacking.append((agent.agent_id in entry.tried, lack, len(lacking), agent))
                if len(lacking) == CLAIM_CANDIDATES:
                    break
        if not lacking:
            return None
        tried, lack, _, agent = min(lacking)
        if tried:
            entry.tried.clear()
        return lack, agent

    def take_back_from_claimed(self, allocation: Allocation) -> None:
        """An offer that is not answered must not keep a starving demand from the agent that is kept for it."""
        claim, old_s = allocation.agent.claim, self.state.now_s - self.state.config.offer_hold_s
        if claim is not None and claim.awaited is None and allocation.made_s <= old_s and allocation in allocation.agent.offers:
            self.rescind.append(allocation)

    def _lack(self, entry: Entry, agent: Agent) -> float | None:
        """Which part of a shape is not free on the agent; None when it never fits there or may not be offered."""
        state, leaf, shape = self.state, entry.leaf, entry.shape
        if not agent.open or (agent.claim is not None and agent.claim is not entry):
            return None
        if not may_serve(agent, entry) or not admits(agent, leaf, state):
            return None
        total = open_part(agent, leaf, agent.total)
        if not state.quota.may_keep(leaf, agent):
            return None
        if not shape.fits(total, agent.uniform) or is_refused(agent, leaf, shape.cut(total, 1, agent.uniform)):
            return None
        free = open_part(agent, leaf, agent.free).scalars()
        return max((1 - free.get(name, 0) / wanted for name, wanted in shape.resources.scalars().items() if wanted), default=0.0)
