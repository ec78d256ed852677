"""Gangs: all or nothing, over many agents (design, section 3 "Allocator": `min`).

A gang has no turn on single agents. When there is room for as many of its tasks as are of use at once, so many are offered in one
pass, or none. One that has waited `starvation_s` accumulates: agents are kept for it, nothing there goes to others, until enough of
them is free. Of several that accumulate the eldest takes agents from the younger, so none waits for another in a circle.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

from kernel.master.allocator.demand import Entry
from kernel.master.allocator.eligibility import admits, may_serve, open_part
from kernel.master.allocator.filters import is_refused
from kernel.master.allocator.quota import cut_to, unreserved_amount
from kernel.master.allocator.rescue import CLAIM_CANDIDATES, PATIENCE_S_MAX
from kernel.master.allocator.rooms import Room
from kernel.master.allocator.state import Agent, Allocation, State
from kernel.wire.resources import Resources

SEEN_AT_ONCE = 64  # Agents looked at for a new gang in one step: some 100 us.
COMPARED = 32  # Of so many rooms where an attempt is due, that of the lowest share comes first.


class Part(NamedTuple):
    """What a gang gets of one agent."""

    agent: Agent
    times: int
    resources: Resources


class Gangs:
    """What one pass does for them. offer: offers a gang what it is to get. take_back: takes an offer of an agent
    that is kept back, if it is old enough."""

    def __init__(self, state: State, offer: Callable[[Entry, list[Part]], None], take_back: Callable[[Allocation], None]) -> None:
        self.state = state
        self._offer, self._take_back = offer, take_back

    def step(self, in_turn: bool) -> bool:
        """Do one piece of work; say whether there was one. in_turn: place only a gang that comes before all others that want
        something, in the order of shares."""
        rooms = self.state.rooms
        if rooms.changed:
            agent = next(iter(rooms.changed))
            del rooms.changed[agent]
            self._see(agent)
            return True
        room = self._next(in_turn)
        if room is None:
            return False
        if room in rooms.ready:
            del rooms.ready[room]
            self._attempt(room)
        else:
            self._search(room)
        return True

    # ---- where there is room ----------------------------------------------------------------------------

    def _see(self, agent: Agent) -> None:
        """More may be free there, or refusals have ended."""
        state = self.state
        for room in state.rooms.all:
            room.put(agent, self._times(room, agent))
            if agent in room.times and room.total >= room.least:
                state.rooms.prepare(room, state.now_s)
        if agent.claim is not None and agent.claim.room is not None:
            state.rooms.prepare(agent.claim.room, state.now_s)

    def _search(self, room: Room) -> None:
        """Look at more agents for a new gang."""
        agents = list(islice(room.unseen, SEEN_AT_ONCE))
        for agent in agents:
            room.put(agent, self._times(room, agent))
        if not agents:
            del self.state.rooms.searching[room]
        elif room.total >= room.least:
            self.state.rooms.prepare(room, self.state.now_s)

    def _times(self, room: Room, agent: Agent) -> int:
        """How many tasks fit on an agent that is kept for nobody."""
        return self._fits(room.sample, agent, agent.free) if agent.claim is None else 0

    def _fits(self, entry: Entry, agent: Agent, of: Resources) -> int:
        if not agent.open or not of or not may_serve(agent, entry) or not admits(agent, entry.leaf, self.state):
            return 0
        return entry.shape.fits(open_part(agent, entry.leaf, of), agent.uniform)

    # ---- all or nothing ---------------------------------------------------------------------------------

    def _next(self, in_turn: bool) -> Room | None:
        """Of the rooms where an attempt is due, that of the lowest share; or one that has not seen all agents."""
        rooms, tree = self.state.rooms, self.state.tree
        due = islice(rooms.ready, COMPARED) if rooms.ready else islice(rooms.searching, 1)
        room = min(due, key=lambda room: tree.path_key(room.leaf, turns=True), default=None)
        if room is not None and in_turn:
            tree.refresh()
            tree.begin()
            first = tree.next()
            if first is not None and tree.path_key(first, turns=True) < tree.path_key(room.leaf, turns=True):
                return None
        return room

    def _attempt(self, room: Room) -> None:
        """Place the first gang for which there is enough."""
        state, gangs = self.state, room.gangs
        if not gangs or not room.leaf.live:
            state.rooms.drop(room)
            return
        for gang in gangs:
            if room.total + sum(self._fits(gang, agent, agent.free) for agent in gang.kept) < gang.quorum:
                continue
            parts = self._parts(room, gang)
            if parts is not None:
                self._place(gang, parts)
                break
        else:
            if room not in state.rooms.searching:
                room.due_s = state.now_s + state.config.interval_s
            return
        gangs = room.gangs
        if not gangs:
            state.rooms.drop(room)
            return
        room.least = min(gang.quorum for gang in gangs)
        if room.total >= room.least:
            state.rooms.ready[room] = None

    def _parts(self, room: Room, gang: Entry) -> list[Part] | None:
        """Where as many as are of use at once get what they need, those agents first that are kept for it; None if too little is free.
        What is wrong with the room is put right."""
        state, leaf, shape = self.state, gang.leaf, gang.shape
        missing = gang.quorum
        allowed = state.quota.allowance(leaf, gang.kept)
        parts: list[Part] = []
        places = sorted(room.times, key=lambda agent: agent.agent_id not in gang.prefer) if gang.prefer else room.times
        for agent in dict.fromkeys((*gang.kept, *places)):
            if agent.claim is not gang:
                room.put(agent, self._times(room, agent))
                if agent not in room.times:
                    continue
            elif not self._fits(gang, agent, agent.free):
                continue
            piece = open_part(agent, leaf, agent.free)
            for name, amount in allowed.items():
                if unreserved_amount(piece, name) > amount:
                    piece = cut_to(piece, name, amount)
            times = min(shape.fits(piece, agent.uniform), missing)
            if not times or is_refused(agent, leaf, cut := shape.cut(piece, times, agent.uniform)):
                continue
            for name in allowed:
                allowed[name] -= unreserved_amount(cut, name)
            parts.append(Part(agent, times, cut))
            missing -= times
            if not missing:
                return parts
        if leaf.lines:
            state.quota.note(leaf, gang.least)
        return None

    def _place(self, gang: Entry, parts: list[Part]) -> None:
        state, room = self.state, gang.room
        assert room is not None
        state.release(gang)
        gang.tried.clear()
        gang.patience_s = 0.0
        for part in parts:
            state.hold(part.agent, part.resources)
            state.charge(gang.leaf, part.resources, allocations=1)
            state.served_at(gang, part.agent)
            if part.agent in room.times:
                room.put(part.agent, self._times(room, part.agent))
        self._offer(gang, parts)

    # ---- those that starve ------------------------------------------------------------------------------

    def accumulate(self, gang: Entry) -> None:
        """It has waited too long: keep agents for it, or others than before when nothing became free there."""
        state, order = self.state, self.state.accumulating
        if state.quota.binding(gang.leaf, gang.least) is not None:
            return
        if gang in order:
            self._take_back_old(gang)
            lack = self._lack(gang)
            if lack < gang.lack:
                gang.lack = lack
                return
            state.release(gang)
        rival = next((other for other in order if other.leaf.role == gang.leaf.role), None)
        if rival is not None and rival.since_s <= gang.since_s:
            return
        chosen = self._choose(gang, eldest=all(other.since_s > gang.since_s for other in order))
        gang.patience_s = min(2 * gang.patience_s, PATIENCE_S_MAX) or state.starvation_s(gang.leaf)
        if not chosen:
            return
        if rival is not None:
            state.release(rival)
        for agent in chosen:
            if agent.claim is not None:
                state.release_agent(agent)
            if state.quota.may_keep(gang.leaf, agent):
                state.claim(gang, agent, None)
                for room in state.rooms.all:
                    room.put(agent, 0)
        gang.tried.update(agent.agent_id for agent in chosen)
        gang.lack = self._lack(gang)
        self._take_back_old(gang)
        if gang.room is not None:
            state.rooms.prepare(gang.room, state.now_s)

    def _take_back_old(self, gang: Entry) -> None:
        for agent in gang.kept:
            for allocation in agent.offers:
                self._take_back(allocation)

    def _lack(self, gang: Entry) -> float:
        """How many of its tasks do not fit on what is free of the agents kept for it; a little less for what became free besides."""
        lack = float(gang.quorum)
        for agent in gang.kept:
            free, total = agent.free.scalars(), agent.total.scalars()
            parts = [free.get(name, 0) / total[name] for name in gang.shape.resources.scalars() if total.get(name)]
            lack -= self._fits(gang, agent, agent.free) + min(parts, default=0.0) / 2
        return lack

    def _choose(self, gang: Entry, eldest: bool) -> list[Agent]:
        """So many agents that enough fits when all else there has ended, those first where most fits now. Empty: there are not so
        many, or they have been tried; then it rests for once. eldest: also those kept for other gangs, and as many as it takes;
        else no more than a part of all agents is kept."""
        state = self.state
        candidates: list[tuple[int, int, int, Agent]] = []
        most = fitting = 0
        for agent in state.agents.values():
            if agent.agent_id in gang.tried or (agent.claim is not None and not (eldest and agent.claim.kept)):
                continue
            times = self._fits(gang, agent, agent.total)
            if not times or not state.quota.may_keep(gang.leaf, agent) or self._is_refused(gang, agent):
                continue
            candidates.append((-self._fits(gang, agent, agent.free), -times, len(candidates), agent))
            most += times
            if len(candidates) >= CLAIM_CANDIDATES and most >= gang.quorum:
                break
        if most < gang.quorum:
            gang.tried.clear()
            return []
        chosen: list[Agent] = []
        for _, times, _, agent in sorted(candidates, key=lambda candidate: candidate[:3]):
            chosen.append(agent)
            fitting -= times
            if fitting >= gang.quorum:
                break
        if not eldest and state.claimed_besides + len(chosen) > state.most_claimed:
            return []
        return chosen

    def _is_refused(self, gang: Entry, agent: Agent) -> bool:
        return is_refused(agent, gang.leaf, gang.shape.cut(open_part(agent, gang.leaf, agent.total), 1, agent.uniform))
