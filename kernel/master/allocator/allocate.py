"""The pass: who is offered what (spec: mesos-v1, section 7.2; design, section 3 "Allocator").

Only what has changed is looked at: agents where something became free, against everybody who wants something; and leaves that
want something new, against the agents where it may fit. A pass can stop within its budget and go on later.

On one agent, leaves take turns in the order of DRF. A framework without a stated demand takes all that is free; one with a demand
takes as many of its shapes as fit before it is another's turn. So equal demands end with equal shares, in few offers.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from msgspec import Struct

from kernel.master.allocator.demand import Entry
from kernel.master.allocator.eligibility import admits, is_worth, may_serve, open_part
from kernel.master.allocator.filters import is_refused
from kernel.master.allocator.free import slack_amounts
from kernel.master.allocator.gangs import Gangs, Part
from kernel.master.allocator.nodes import Leaf
from kernel.master.allocator.quota import unreserved_amount
from kernel.master.allocator.rescue import Rescue
from kernel.master.allocator.sorter import shared_amounts
from kernel.master.allocator.state import Agent, Allocation, Search, State
from kernel.wire.resources import EMPTY, Resources
from kernel.wire.revocable import revocable
from kernel.wire.shapes import MANY

# A demand is spread over at least so many agents, where there are so many and unless it gets too little by that.
SPREAD_AGENTS = 32
# Agents between two looks at the stopwatch: some 100 us.
STRIDE = 16


class Pass(Struct):
    """allocations: to be offered; rescind: offers to be taken back (`Allocator.close_offers` them); finished: nothing is left to do.
    waited: demands that got something in `allocations`: whose, in which role, and for how many seconds some of it had waited."""

    allocations: list[Allocation]
    rescind: list[Allocation]
    finished: bool
    waited: list[tuple[str, str, float]] = []


def allocate(state: State, budget_s: float, stopwatch: Callable[[], float] | None) -> Pass:
    """Decide until all is settled or the budget (of stopwatch seconds) is used up.

    Cost: per changed agent O(d log w + leaves that cannot use it) for each turn, d levels of roles, w wanting siblings.
    """
    turn = _Turn(state)
    if state.paused:
        return Pass([], [], finished=True)
    if state.totals_changed:
        state.totals_changed = False
        state.tree.set_totals(state.totals)
    end_s = stopwatch() + budget_s if stopwatch is not None else 0.0
    steps = 0
    while turn.step():
        steps += 1
        if stopwatch is not None and steps % STRIDE == 0 and stopwatch() >= end_s:
            return Pass(turn.allocations, turn.rescind, finished=False, waited=turn.waited)
    return Pass(turn.allocations, turn.rescind, finished=True, waited=turn.waited)


class _Turn:
    """One call of `allocate`."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.allocations: list[Allocation] = []
        self.waited: list[tuple[str, str, float]] = []
        self._rescue = Rescue(state)
        self._gangs = Gangs(state, self._offer_gang, self._rescue.take_back_from_claimed)
        # The least (cpus, mem) that the usual offer needs.
        self._least = [(minimum.get("cpus", 0), minimum.get("mem", 0)) for minimum in state.tree.minimums] or [(0, 0)]

    @property
    def rescind(self) -> list[Allocation]:
        return self._rescue.rescind

    def step(self) -> bool:
        """Do one piece of work; say whether there was one."""
        state = self.state
        if state.rooms.busy and self._gangs.step(in_turn=bool(state.dirty_agents or state.dirty_leaves or state.search is not None)):
            return True
        if state.dirty_agents:
            state.tree.refresh()
            agent = state.dirty_agents.popleft()
            agent.dirty = False
            self._serve(agent)
            return True
        if state.dirty_leaves and (state.index.apply() or state.slack.apply()):
            return True
        if state.dirty_leaves or state.search is not None:
            self._search()
            return True
        if state.quota.relieved:
            self._relieve()
            return True
        if state.starving_due:
            self._rescue.claim_for_starving(self._gangs.accumulate)
            return True
        if state.stirred or state.unhelped:
            self._rescue.take_back_for_waiting()
            return True
        return False

    # ---- one agent --------------------------------------------------------------------------------------

    def _serve(self, agent: Agent) -> None:
        """Offer what is free on an agent to whoever comes next, until nobody can use the rest."""
        if not self._is_open(agent):
            return
        state = self.state
        if not agent.uniform:
            self._consider_capped(agent)
        made: dict[Leaf, _Grant] = {}
        if state.tree.root.owed:
            self._walk(agent, made, owed_only=True)
        if agent.free and not self._walk(agent, made, owed_only=False) and not agent.uniform:
            self._serve_reserved(agent, made)
        for leaf, grant in made.items():
            self._offer(leaf, agent, grant.resources, grant.cover, whole=False)
        if agent.free and state.demanding:
            for allocation in agent.offers:
                if allocation in state.old:
                    state.stirred[allocation] = None

    def _walk(self, agent: Agent, made: dict[Leaf, _Grant], owed_only: bool) -> bool:
        """One walk through those who want something. owed_only: through those to whom something is guaranteed and not given. False: it
        was ended, as what is free and not reserved is too little for anybody."""
        state, tree, walk = self.state, self.state.tree, self.state.tree.next
        hope, looked = _Hope.ANY, False  # Not looked into before the first has got nothing: mostly it gets all.
        tree.begin(owed_only)
        while hope is not _Hope.NONE and (leaf := walk()) is not None:
            if leaf.framework.demands:
                grant = self._cut(agent, leaf, alone=False, owed_only=owed_only) if hope is _Hope.ANY or not agent.uniform else None
                if grant is None:
                    tree.pass_over(leaf)
                    if not looked:
                        hope, looked = self._hope(agent, owed_only), True
                    continue
                state.count(leaf, grant.resources, 1)
                tree.grant(leaf, *shared_amounts(grant.resources))
                if leaf in made:
                    made[leaf].join(grant)
                else:
                    made[leaf] = grant
            else:
                piece = self._whole(agent, leaf, owed_only)
                if piece is None:
                    tree.pass_over(leaf)
                    if not looked:
                        hope, looked = self._hope(agent, owed_only), True
                    continue
                state.hold(agent, piece)
                state.count(leaf, piece, 1)
                tree.grant(leaf, *shared_amounts(piece))
                self._offer(leaf, agent, piece, [], whole=True)
            if agent.free is EMPTY or not agent.free:
                break
            hope, looked = self._hope(agent, owed_only), True
        return hope is not _Hope.NONE

    def _hope(self, agent: Agent, owed_only: bool) -> _Hope:
        """Who may be able to use what is free there and neither reserved nor kept for guarantees (owed_only: or kept for them)."""
        quota, cpus, mem = self.state.quota, agent.free.cpus, agent.free.mem
        if not quota.pools or owed_only:
            return self._hope_of(cpus, mem)
        reach = quota.reach(cpus, mem)
        left = self._hope_of(*reach)
        if left is not _Hope.ANY and reach != (cpus, mem) and self._hope_of(cpus, mem) is not left:
            quota.deny()
        return left

    def _hope_of(self, cpus: int, mem: int) -> _Hope:
        tree = self.state.tree
        if tree.wanted.may_fit(cpus, mem):
            return _Hope.ANY
        if tree.takers:
            if tree.picky:
                return _Hope.TAKERS
            for least_cpus, least_mem in self._least:
                if cpus >= least_cpus and mem >= least_mem:
                    return _Hope.TAKERS
        return _Hope.NONE

    def _consider_capped(self, agent: Agent) -> None:
        """Those at a limit may have what is reserved for them, or revocable."""
        state = self.state
        for leaf in self._reserved_for(agent):
            if leaf.capped:
                state.uncap(leaf)
        if state.capped_takers and agent.revocable and revocable(agent.free):
            takers, state.capped_takers = state.capped_takers, {}
            for leaf in takers:
                if leaf.capped:
                    state.uncap(leaf)
        state.tree.refresh()

    def _reserved_for(self, agent: Agent) -> dict[Leaf, None]:
        """All who may be offered something that is reserved there."""
        tree = self.state.tree
        nodes = [tree.roles[role] for role in agent.roles if role in tree.roles]
        return {leaf: None for node in nodes for leaf in tree.leaves(node)}

    def _serve_reserved(self, agent: Agent, made: dict[Leaf, _Grant]) -> None:
        """The rest is used up: offer what is reserved or revocable to those it is for. Each in turn gets an equal part of what fits."""
        state = self.state
        found = self._reserved_for(agent)
        if self._may_lend(agent):
            found |= state.tree.slackers
        leaves = sorted((leaf for leaf in found if leaf.wants), key=lambda leaf: state.tree.path_key(leaf, turns=True))
        while leaves:
            served: list[Leaf] = []
            for number, leaf in enumerate(leaves):
                if leaf.framework.demands:
                    grant = self._cut(agent, leaf, alone=True, parts=len(leaves) - number)
                    if grant is None:
                        continue
                    state.charge(leaf, grant.resources, allocations=1)
                    if leaf in made:
                        made[leaf].join(grant)
                    else:
                        made[leaf] = grant
                    served.append(leaf)
                elif (piece := self._whole(agent, leaf)) is not None:
                    state.hold(agent, piece)
                    state.charge(leaf, piece, allocations=1)
                    self._offer(leaf, agent, piece, [], whole=True)
                else:
                    continue
                if not agent.roles and not self._may_lend(agent):
                    break  # What is left is of no use to anybody.
            leaves = [leaf for leaf in served if leaf.wants]
        state.tree.refresh()

    def _may_lend(self, agent: Agent) -> bool:
        """Whether somebody may be able to use what of it is free and revocable."""
        tree = self.state.tree
        if not agent.revocable or not tree.slackers or (amounts := slack_amounts(agent)) is None:
            return False
        return bool(tree.slack_takers) or tree.slack_wanted.may_fit(*amounts)

    def _relieve(self) -> None:
        """More is free beyond what is guaranteed than when somebody was denied it."""
        state = self.state
        state.quota.relieve()
        if self._hope_of(*state.quota.reach(MANY, MANY)) is _Hope.NONE:
            state.quota.deny()
            return
        for leaf in list(state.tree.leaves(state.tree.root)):
            if leaf.wants:
                state.unsettle(leaf)
            elif leaf.capped:
                state.look_where_reserved(leaf)

    def _serve_one(self, agent: Agent, leaf: Leaf) -> None:
        """Offer to one leaf only: nobody else can use what is free on the agent."""
        if not self._is_open(agent):
            return
        if leaf.framework.demands:
            grant = self._cut(agent, leaf, alone=True)
            if grant is not None:
                self.state.charge(leaf, grant.resources, allocations=1)
                self._offer(leaf, agent, grant.resources, grant.cover, whole=False)
        else:
            piece = self._whole(agent, leaf)
            if piece is not None:
                self.state.hold(agent, piece)
                self.state.charge(leaf, piece, allocations=1)
                self._offer(leaf, agent, piece, [], whole=True)
        if leaf.lines and leaf.wants and agent.free:
            self._too_much(leaf, open_part(agent, leaf, agent.free))

    def _is_open(self, agent: Agent) -> bool:
        """Whether there is something that is not kept for a demand; serves that demand first."""
        state = self.state
        if not agent.open or not agent.free:
            return False
        entry = agent.claim
        if entry is None:
            return True
        leaf, awaited = entry.leaf, entry.awaited
        if not state.quota.may_keep(leaf, agent):
            state.release_agent(agent)
            return True
        if entry.gang:
            return False
        times = 0
        if entry.needed and leaf.waits and admits(agent, leaf, state):
            piece = open_part(agent, leaf, agent.free)
            times = entry.shape.fits(piece, agent.uniform)
        if not times:
            if awaited is None or awaited in agent.offers:
                return False
            state.release(entry)
            return True
        state.release(entry)
        if leaf.lines:
            piece = state.quota.shrink(leaf, piece)
            times = entry.shape.fits(piece, agent.uniform)
            if not times:
                return True
        # What an offer gave back goes half to the demand, the rest to whoever comes next: a whole-agent framework would take it all.
        times = min(entry.needed, 1 if awaited is None else max(1, times // 2))
        resources = entry.shape.cut(piece, times, agent.uniform)
        entry.tried.clear()
        entry.patience_s = 0.0
        self._cover(entry, times)
        state.served_at(entry, agent)
        state.hold(agent, resources)
        state.charge(leaf, resources, allocations=1)
        state.tree.refresh()
        self._offer(leaf, agent, resources, [(entry, times)], whole=False)
        if leaf.needed:  # Of another kind of task, it may be.
            state.unhelped[leaf] = None
        return bool(agent.free)

    def _whole(self, agent: Agent, leaf: Leaf, owed_only: bool = False) -> Resources | None:
        """All that the leaf can be offered there; nothing if owed_only and none of it is owed to the leaf."""
        state = self.state
        if not admits(agent, leaf, state):
            return None
        piece = agent.free if agent.uniform else open_part(agent, leaf, agent.free)
        if leaf.lines:
            full, piece = piece, state.quota.shrink(leaf, piece)
            if owed_only and not any(unreserved_amount(piece, name) for name in state.quota.slack(leaf)):
                if piece is not full:
                    state.quota.note(leaf, full)
                return None
            if piece is not full and (not is_worth(piece, leaf.minimums) or is_refused(agent, leaf, piece)):
                self._too_much(leaf, full)  # What was refused was as little as this; more may be welcome.
                return None
        if is_refused(agent, leaf, piece) or not is_worth(piece, leaf.minimums):
            return None
        return piece

    def _cut(self, agent: Agent, leaf: Leaf, alone: bool, owed_only: bool = False, parts: int = 1) -> _Grant | None:
        """As many of the leaf's demands as fit before it is another's turn (alone: as fit). Holds them on the agent. owed_only: so
        many as are owed to it. parts: one so manieth of what fits."""
        state = self.state
        if not admits(agent, leaf, state):
            return None
        full = piece = open_part(agent, leaf, agent.free)
        too_much = False
        if leaf.lines:
            piece = state.quota.shrink(leaf, piece)
        slack = state.quota.slack(leaf) if owed_only else {}
        search = state.search
        grant: _Grant | None = None
        for entry in list(leaf.open):
            if not may_serve(agent, entry):
                continue
            shape = entry.shape
            times = shape.fits(piece, agent.uniform)
            if not times:
                too_much = too_much or (piece is not full and grant is None and shape.fits(full, agent.uniform) > 0)
                continue
            if parts > 1:
                times = -(-times // parts)
            if owed_only:
                times = min(times, _turns_owed(entry, slack))
                if not times:
                    continue
            if not alone:
                turns = state.tree.room(leaf, shape, *((0, 0) if grant is None else (grant.resources.cpus, grant.resources.mem)))
                if turns == 0 and grant is not None:
                    break
                times = min(times, max(1, turns))
            if search is not None and not search.hurried:
                spread = max(-(-entry.count // SPREAD_AGENTS), -(-entry.count // len(state.agents)))
                if spread < min(times, entry.needed):
                    search.spared = True
                    times = spread
            times = min(times, entry.needed)
            cut = shape.cut(piece, times, agent.uniform)
            if is_refused(agent, leaf, cut):
                too_much = too_much or (piece is not full and grant is None)
                continue
            if grant is None:
                grant = _Grant(cut, [(entry, times)])
            else:
                grant.join(_Grant(cut, [(entry, times)]))
            self._cover(entry, times)
            if entry.prefer:
                state.served_at(entry, agent)
            state.hold(agent, cut)
            piece -= cut
            for name in slack:
                slack[name] -= unreserved_amount(cut, name)
        if grant is None and too_much:
            self._too_much(leaf, full)
        return grant

    def _too_much(self, leaf: Leaf, piece: Resources) -> None:
        """Its quotas, or others', keep the leaf from what it would take of the piece."""
        if self.state.quota.is_capped(leaf):
            if any(key.reservations for key in piece.other or ()):  # With what is reserved for it a little more might do.
                self.state.quota.note_kept(leaf, piece)
            self.state.cap(leaf)
        else:
            self.state.quota.note(leaf, piece)

    def _cover(self, entry: Entry, times: int) -> None:
        entry.change(covered=times)
        now_s = entry.since_s = self.state.now_s
        began_s, leaf = entry.waits_since_s, entry.leaf
        self.waited.append((leaf.framework.framework_id, leaf.role, 0.0 if began_s is None else now_s - began_s))
        if not entry.needed:
            entry.waits_since_s = None
            self.state.release(entry)
        if not entry.leaf.needed:
            self.state.demanding.pop(entry.leaf, None)
            self.state.unhelped.pop(entry.leaf, None)

    def _offer_gang(self, gang: Entry, parts: Sequence[Part]) -> None:
        """All that was found for it, in one pass."""
        self._cover(gang, sum(part.times for part in parts))
        for part in parts:
            self._offer(gang.leaf, part.agent, part.resources, [(gang, part.times)], whole=False)
        self.state.need(gang)  # The rest of it has turns like any other demand.

    def _offer(self, leaf: Leaf, agent: Agent, resources: Resources, cover: list[tuple[Entry, int]], whole: bool) -> None:
        allocation = Allocation(leaf, agent, resources, self.state.now_s, cover, whole)
        agent.offers[allocation] = leaf.offers[allocation] = None
        if whole:
            self.state.young.append(allocation)
        self.allocations.append(allocation)

    # ---- leaves that want something new -----------------------------------------------------------------

    def _search(self) -> None:
        """Look at one more agent for the leaves that want something new; begin, or end, the search."""
        state = self.state
        if state.dirty_leaves:
            leaves = {**(state.search.leaves if state.search is not None else {}), **state.dirty_leaves}
            state.dirty_leaves.clear()
            self._begin_search(leaves, hurried=False)
        search = state.search
        if search is None:
            return
        state.tree.refresh()
        leaves = search.leaves
        while leaves and not (first := next(iter(leaves))).wants:
            del leaves[first]
        agent = next(search.agents, None) if leaves else None
        if agent is None:
            self._end_search(search)
        elif len(leaves) == 1:
            self._serve_one(agent, first)
        else:
            self._serve(agent)

    def _begin_search(self, leaves: Iterable[Leaf], hurried: bool) -> None:
        state = self.state
        state.tree.refresh()
        wanted: dict[tuple[int, int], None] = {}
        slack: dict[tuple[int, int], None] = {}
        wanting: dict[Leaf, None] = {}
        preferred: dict[str, None] = {}
        for leaf in leaves:
            if not leaf.wants:
                continue
            wanting[leaf] = None
            if leaf.framework.demands:
                for entry in leaf.open:
                    if not entry.settled:
                        preferred |= dict.fromkeys(entry.demand.prefer)
                        if entry.far or not entry.prefer:
                            (slack if entry.shape.slack else wanted)[entry.shape.corner] = None
            else:
                wanted[0, 0] = None
                if leaf.takes_slack:
                    slack[0, 0] = None
        agents = state.index.matching(wanted) if wanted else iter(())
        if slack:
            agents = chain(agents, state.slack.matching(slack))
        if preferred:
            agents = chain([state.agents[agent_id] for agent_id in preferred if agent_id in state.agents], agents)
        state.search = Search(wanting, agents, hurried) if wanted or slack or preferred else None

    def _end_search(self, search: Search) -> None:
        state = self.state
        state.search = None
        if search.leaves and search.spared:
            self._begin_search(search.leaves, hurried=True)
            return
        for leaf in search.leaves:
            if leaf.wants and leaf.framework.demands:
                state.unhelped[leaf] = None
                for entry in leaf.open:
                    entry.settled = True


class _Hope(enum.Enum):
    """Who may be able to use what is left of an agent."""

    ANY = "demands"
    TAKERS = "only those who take what there is"
    NONE = "nobody"


def _turns_owed(entry: Entry, slack: dict[str, int]) -> int:
    """How many of a demand it takes until nothing of what it needs is owed any more."""
    turns = 0
    for name, owed in slack.items():
        each = unreserved_amount(entry.shape.resources, name)
        if each and owed > 0:
            turns = max(turns, -(-owed // each))
    return turns


class _Grant:
    """What a leaf gets of one agent."""

    __slots__ = ("cover", "resources")

    def __init__(self, resources: Resources, cover: list[tuple[Entry, int]]) -> None:
        self.resources, self.cover = resources, cover

    def join(self, more: _Grant) -> None:
        self.resources += more.resources
        self.cover += more.cover
