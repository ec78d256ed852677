"""What the allocator knows: agents, frameworks, what is offered, and what has changed since it last looked.

Nothing here decides; `allocate` does, `allocator` takes the events.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping

from msgspec import Struct

from kernel.master.allocator.chance import Chance
from kernel.master.allocator.demand import Entry
from kernel.master.allocator.filters import Refusal, Refusals
from kernel.master.allocator.free import FreeIndex, firm_amounts, slack_amounts
from kernel.master.allocator.nodes import Leaf
from kernel.master.allocator.quota import Quota, Quotas, set_apart
from kernel.master.allocator.rooms import Rooms
from kernel.master.allocator.sorter import RoleTree, shared_amounts
from kernel.wire.constraints import Site, satisfied
from kernel.wire.conversion import Conversion, apply
from kernel.wire.framework import OfferFilters
from kernel.wire.offer import OfferConstraints, RoleConstraints
from kernel.wire.resources import EMPTY, Resources
from kernel.wire.revocable import firm
from kernel.wire.roles import ancestors
from kernel.wire.shapes import Shape

Quantities = Mapping[str, int]  # Thousandths by name.
VERDICTS_MAX = 1000  # Remembered of one agent.
NEVER_OFFERED = "ephemeral_ports"  # An agent shares them out among its containers by itself.
CLAIMED_PART = 0.25  # Of all agents; so many may be kept at a time.


class AllocatorConfig(Struct, frozen=True):
    """offer_hold_s: a whole-agent offer older than this may be taken back for a demand. starvation_s: a demand that has waited so
    long claims an agent. interval_s: the least time a refusal holds. min_allocatable: an agent's free part is offered when it
    reaches all amounts of one of these. excluded_names: do not count into shares. locality_s: a demand waits so long for agents it
    prefers. starvation_by_role: other times than starvation_s, for a role and those below it. drawn_roles, drawn_frameworks: their order
    is random, by weight, and not by shares. filter_gpu_resources: agents with GPUs are
    offered only to frameworks that know of them. region: agents of another one only to frameworks that know of regions. preempts: the
    caller acts on `Allocator.reliefs`, as who looks at a snapshot is told."""

    offer_hold_s: float = 5.0
    starvation_s: float = 60.0
    interval_s: float = 1.0
    min_allocatable: tuple[Quantities, ...] = ({"cpus": 10}, {"mem": 32_000})
    excluded_names: frozenset[str] = frozenset()
    locality_s: float = 3.0
    starvation_by_role: Mapping[str, float] = {}
    drawn_roles: bool = False
    drawn_frameworks: bool = False
    filter_gpu_resources: bool = True
    region: str | None = None
    preempts: bool = False


class FrameworkOptions(Struct, frozen=True):
    """What of a FrameworkInfo matters here: capabilities, minimum offers and constraints by role."""

    gpu_aware: bool = False
    revocable: bool = False
    shared: bool = False
    refined: bool = False
    region_aware: bool = False
    offer_filters: Mapping[str, OfferFilters] = {}
    constraints: OfferConstraints | None = None


class Agent:
    """held: used or offered. free: the rest of total. open: active and whitelisted, so it may be offered. uniform: nothing of it is
    reserved, revocable, shared, a special disk or never offered. roles: for which something there is reserved. claim: what it is kept
    for. verdicts: whether it meets the constraints it was asked for. spare: what of it counts as free for guarantees, by
    `Quotas.pools`."""

    __slots__ = (
        "active", "agent_id", "claim", "dirty", "free", "gpus", "held", "offers", "open", "refusals", "revocable", "roles",
        "site", "spare", "total", "uniform", "verdicts",
    )  # fmt: skip

    def __init__(self, agent_id: str, total: Resources, site: Site) -> None:
        self.agent_id, self.active, self.open, self.dirty = agent_id, True, True, False
        self.held = EMPTY
        self.offers: dict[Allocation, None] = {}
        self.refusals: dict[Leaf, list[Refusal]] = {}
        self.claim: Entry | None = None
        self.spare: list[int] = []
        self.describe(total, site)

    def describe(self, total: Resources, site: Site) -> None:
        self.total, self.site = total, site
        self.verdicts: dict[RoleConstraints, bool] = {}
        self.free = total.without(self.held)
        self.uniform = not any(
            key.reservations or key.revocable or key.shared or key.disk or key.name == NEVER_OFFERED for key in total.other or ()
        )
        self.roles = frozenset(key.role for key in total.other or () if key.reservations)
        self.revocable = any(key.revocable for key in total.other or ())
        self.gpus = bool(total.scalars().get("gpus"))

    def meets(self, constraints: RoleConstraints) -> bool:
        """Whether constraints hold there."""
        verdict = self.verdicts.get(constraints)
        if verdict is None:
            if len(self.verdicts) >= VERDICTS_MAX:
                self.verdicts.clear()
            verdict = self.verdicts[constraints] = satisfied(constraints, self.site)
        return verdict


class Framework:
    """demands: it has sent REQUEST since it subscribed, so it is offered what it asks for and no more."""

    __slots__ = ("active", "demands", "framework_id", "leaves", "options")

    def __init__(self, framework_id: str, options: FrameworkOptions) -> None:
        self.framework_id, self.options = framework_id, options
        self.active, self.demands = True, False
        self.leaves: dict[str, Leaf] = {}


class Allocation:
    """Resources of one agent set aside for one framework in one role, until `Allocator.close_offers`.

    whole: all that was free there, for a framework that states no demand. cover: which demands it is for, how many of each.
    Compared by identity.
    """

    __slots__ = ("agent", "agent_id", "cover", "framework_id", "leaf", "made_s", "resources", "role", "whole")

    def __init__(self, leaf: Leaf, agent: Agent, resources: Resources, made_s: float, cover: list[tuple[Entry, int]], whole: bool) -> None:
        self.framework_id, self.role, self.agent_id = leaf.framework.framework_id, leaf.role, agent.agent_id
        self.leaf, self.agent, self.resources, self.made_s, self.cover, self.whole = leaf, agent, resources, made_s, cover, whole

    def __repr__(self) -> str:
        return f"Allocation({self.framework_id}, {self.role}, {self.agent_id}, {self.resources})"


class Search:
    """A look through agents that have not changed, for leaves that want something new. hurried: demands take all they can of
    each agent; else they are spread, and spared says that one got less than would have fitted."""

    __slots__ = ("agents", "hurried", "leaves", "spared")

    def __init__(self, leaves: dict[Leaf, None], agents: Iterator[Agent], hurried: bool) -> None:
        self.leaves, self.agents, self.hurried, self.spared = leaves, agents, hurried, False


class State:
    """All of it. The methods keep the sums in step."""

    def __init__(self, config: AllocatorConfig, seed: int) -> None:
        self.config = config
        self.now_s = 0.0  # The latest time told.
        self.agents: dict[str, Agent] = {}
        self.frameworks: dict[str, Framework] = {}
        self.tree = RoleTree(config.excluded_names, Chance(seed), config.drawn_roles, config.drawn_frameworks)
        self.tree.minimums = config.min_allocatable
        self.quota = Quotas(self.unsettle)
        self.paused = False
        self.reserving: dict[str, dict[Agent, None]] = {}  # Agents by role for which something is reserved; under "": with revocable.
        self.capped_takers: dict[Leaf, None] = {}  # At a limit, though not for what is revocable.
        self.totals: dict[str, int] = {}
        self.index = FreeIndex(firm_amounts)
        self.slack = FreeIndex(slack_amounts)
        self.refusals = Refusals()
        self.whitelist: frozenset[str] | None = None
        self.totals_changed = False
        # What has changed since the last pass.
        self.dirty_agents: deque[Agent] = deque()
        self.dirty_leaves: dict[Leaf, None] = {}
        self.search: Search | None = None
        self.rooms = Rooms()
        # For demands that wait: whom to help, from which offers (whole agents: young, then old enough to be taken back).
        self.demanding: dict[Leaf, None] = {}
        self.unhelped: dict[Leaf, None] = {}
        self.stirred: dict[Allocation, None] = {}
        self.young: deque[Allocation] = deque()
        self.old: dict[Allocation, None] = {}
        self.starving: list[tuple[float, int, Entry]] = []
        self.delayed: list[tuple[float, int, Entry]] = []  # Those that wait for agents they prefer.
        self.starving_due = False
        self.queued: dict[Entry, None] = {}  # Starving ones that wait as enough agents are kept: the next that is not goes to the first.
        self.timers = 0
        self.claimed = 0
        self.accumulating: dict[Entry, None] = {}  # Gangs for which agents are kept.

    # ---- agents -----------------------------------------------------------------------------------------

    def hold(self, agent: Agent, resources: Resources) -> None:
        """Take from an agent's free part (an agent may report more than it has)."""
        agent.held += resources
        agent.free = EMPTY if agent.held == agent.total else agent.total.without(agent.held)
        self.touch(agent)
        if self.quota.pools:
            self.quota.recount(agent)

    def give_back(self, agent: Agent, resources: Resources) -> None:
        agent.held = agent.held.without(resources)
        agent.free = agent.total.without(agent.held)
        self.look_at(agent)

    def convert(self, agent: Agent, change: Conversion, leaf: Leaf | None) -> None:
        """An operation has made something else of what is there, offered to the leaf or free. Of each kind it is as much as before, so
        totals and shares stay; what is reserved, and for whom, does not."""
        if leaf is not None:
            agent.held = apply(agent.held, change)
            self.count(leaf, change.consumed, -1)
            self.count(leaf, change.converted, 1)
        for part, sign in ((change.consumed, -1), (change.converted, 1)):
            for role in self.quota.count_reserved(part, sign):
                self.tree.touch_role(role)
        self.unindex_reserved(agent)
        agent.describe(apply(agent.total, change), agent.site)
        self.index_reserved(agent)
        self.touch(agent)
        if self.quota.pools:
            self.quota.recount(agent)

    def judge(self, agent: Agent) -> None:
        """Decide whether the agent may be offered."""
        agent.open = agent.active and (self.whitelist is None or agent.site.hostname in self.whitelist)
        if not agent.spare:  # It is new.
            agent.spare = [0] * len(self.quota.pools)
        if agent.claim is not None and not agent.open:
            self.release_agent(agent)
        self.look_at(agent)

    def look_at(self, agent: Agent) -> None:
        """Something there has become free, or open to somebody."""
        self.touch(agent)
        if self.quota.pools:
            self.quota.recount(agent)
        if self.rooms.all:
            self.rooms.changed[agent] = None
        if not agent.dirty:
            agent.dirty = True
            self.dirty_agents.append(agent)

    def touch(self, agent: Agent) -> None:
        """What is free there, or whether it may be offered, has changed."""
        self.index.touch(agent)
        if agent.revocable:
            self.slack.touch(agent)

    def likely(self, shape: Shape) -> list[Agent]:
        """Agents where one of a shape may fit."""
        return (self.slack if shape.slack else self.index).likely(*shape.corner)

    def index_reserved(self, agent: Agent) -> None:
        for role in (*agent.roles, *("",) * agent.revocable):
            self.reserving.setdefault(role, {})[agent] = None

    def unindex_reserved(self, agent: Agent) -> None:
        if agent.revocable:
            self.slack.touch(agent)  # It may be the last time.
        for role in (*agent.roles, *("",) * agent.revocable):
            del self.reserving[role][agent]

    def count_total(self, resources: Resources, sign: int) -> None:
        """Shares are parts of what agents have. Slack is no such part: it comes and goes, and each time all shares would change."""
        cpus, mem, disk, gpus, extra = shared_amounts(firm(resources))
        for name, amount in (("cpus", cpus), ("mem", mem), ("disk", disk), ("gpus", gpus), *(extra or {}).items()):
            self.totals[name] = self.totals.get(name, 0) + sign * amount
        self.totals_changed = True
        if resources.other is not None:
            for role in self.quota.count_reserved(resources, sign):
                self.tree.touch_role(role)

    # ---- leaves -----------------------------------------------------------------------------------------

    def set_quotas(self, quotas: Mapping[str, Quota]) -> None:
        """These are all quotas now. Everybody is looked at again."""
        leaves = list(self.tree.leaves(self.tree.root))
        self.quota.put(quotas, leaves, self.agents.values())
        self.tree.set_bounds(self.quota.bounds, bool(self.quota.pools))
        for leaf in leaves:
            self.unsettle(leaf)

    def count(self, leaf: Leaf, resources: Resources, sign: int) -> None:
        """What the leaf holds counts against its quotas: so much more (sign 1) or less (-1)."""
        if resources.other is not None and (apart := set_apart(resources)) is not None:
            held = leaf.apart or {}
            for name, amount in apart.items():
                held[name] = held.get(name, 0) + sign * amount
            leaf.apart = {name: amount for name, amount in held.items() if amount} or None
        if leaf.lines:
            self.quota.charge(leaf, resources, sign)

    def charge(self, leaf: Leaf, resources: Resources, allocations: int = 0) -> None:
        """allocations: how many offers were made by that."""
        self.count(leaf, resources, 1)
        self.tree.add(leaf, *shared_amounts(resources), allocations=allocations)

    def discharge(self, leaf: Leaf, resources: Resources) -> None:
        self.count(leaf, resources, -1)
        cpus, mem, disk, gpus, extra = shared_amounts(resources)
        self.tree.add(leaf, -cpus, -mem, -disk, -gpus, extra and {name: -amount for name, amount in extra.items()})

    def look_for(self, leaf: Leaf) -> None:
        """The leaf may want something it did not want before: agents that have not changed matter too."""
        if leaf.lines:
            self.quota.forget(leaf)
        leaf.capped = False
        self.tree.touch(leaf)
        self.dirty_leaves[leaf] = None

    def need(self, entry: Entry) -> None:
        """An entry may need something: watch over it."""
        if not entry.needed or not entry.leaf.live:
            return
        if entry.waits_since_s is None:
            entry.waits_since_s = self.now_s
        if not entry.timed and not entry.shape.slack:  # No agent is kept from others for what may be taken back.
            entry.timed = True
            self.time(entry, self.now_s + self.starvation_s(entry.leaf))
        if entry.claim is not None if entry.gang else entry.kept:  # It is a gang, or is none, since it was said again.
            self.release(entry)
        if entry.prefer:
            self.delay(entry)
        if entry.gang:
            self.rooms.add(entry, self.likely, self.now_s)
            return
        self.demanding[entry.leaf] = None
        if not entry.settled:
            self.look_for(entry.leaf)

    def delay(self, entry: Entry) -> None:
        """Watch how long it waits for agents it prefers."""
        due_s = entry.local_s + self.config.locality_s
        if due_s <= self.now_s:
            entry.far = True
        elif not entry.far and not entry.delayed:
            entry.delayed = True
            self.timers += 1
            heapq.heappush(self.delayed, (due_s, self.timers, entry))

    def served_at(self, entry: Entry, agent: Agent) -> None:
        """It got something there."""
        if agent.agent_id in entry.prefer:
            entry.local_s, entry.far = self.now_s, False
            self.delay(entry)

    def expire_delays(self) -> None:
        """Let those that have waited long enough for agents they prefer go elsewhere."""
        while self.delayed and self.delayed[0][0] <= self.now_s:
            entry = heapq.heappop(self.delayed)[2]
            entry.delayed = False
            if entry.needed and entry.leaf.live:
                self.delay(entry)
                if entry.far:
                    entry.settled = False
                    if entry.room is not None and entry.room.alive:
                        self.rooms.drop(entry.room)
                    self.need(entry)

    def starvation_s(self, leaf: Leaf) -> float:
        """How long demands of a leaf wait before agents are kept for them: what is said for its role, or the nearest above."""
        by_role = self.config.starvation_by_role
        if by_role:
            for role in (leaf.role, *reversed(ancestors(leaf.role))):
                if role in by_role:
                    return by_role[role]
        return self.config.starvation_s

    def time(self, entry: Entry, due_s: float) -> None:
        self.timers += 1
        heapq.heappush(self.starving, (due_s, self.timers, entry))

    def unsettle(self, leaf: Leaf) -> None:
        """What the leaf waits for may fit where it did not before."""
        leaf.capped = False
        for entry in leaf.entries.values():
            entry.settled = False
            self.need(entry)
        self.look_for(leaf)

    def claim(self, entry: Entry, agent: Agent, awaited: Allocation | None) -> None:
        """Keep an agent for an entry: nothing there goes to others."""
        agent.claim = entry
        if entry.gang:
            entry.kept[agent] = self.accumulating[entry] = None
        else:
            entry.claim, entry.awaited = agent, awaited
        self.claimed += 1
        self.touch(agent)
        if self.quota.pools:
            self.quota.recount(agent)

    @property
    def claimed_besides(self) -> int:
        """How many agents are kept, without those of the gang that has most."""
        return self.claimed - max((len(entry.kept) for entry in self.accumulating), default=0)

    @property
    def most_claimed(self) -> int:
        """How many agents may be kept at a time."""
        return max(1, int(len(self.agents) * CLAIMED_PART))

    @property
    def may_claim(self) -> bool:
        """Whether one more may be kept."""
        return self.claimed_besides < self.most_claimed

    def look_at_starving(self) -> None:
        """Note whether the time has come for one of them."""
        due = bool(self.starving) and self.starving[0][0] <= self.now_s
        self.starving_due = due or (bool(self.queued) and self.may_claim)

    def cap(self, leaf: Leaf) -> None:
        """Limits leave nothing for the leaf, but where something is reserved for it: leave it out until they do, or until an offer that
        counts against them can be taken back."""
        self.quota.park_capped(leaf)
        leaf.capped = True
        if leaf.takes_slack:
            self.capped_takers[leaf] = None
        for entry in leaf.open:
            self.release(entry)
        searched = self.search is not None and leaf in self.search.leaves
        if searched or leaf in self.dirty_leaves:  # It is left out of the search: see to it where something is reserved.
            self.dirty_leaves.pop(leaf, None)
            if self.search is not None:
                self.search.leaves.pop(leaf, None)
            self.look_where_reserved(leaf)
        if leaf.needed and leaf.framework.demands:
            self.unhelped[leaf] = None
        self.tree.touch(leaf)

    def look_where_reserved(self, leaf: Leaf) -> None:
        """Agents with something that limits do not concern may have something for the leaf."""
        for role in (leaf.role, *ancestors(leaf.role), *("",) * leaf.takes_slack):
            for agent in self.reserving.get(role, ()):
                if agent.free:
                    self.look_at(agent)

    def uncap(self, leaf: Leaf) -> None:
        """Consider it all the same."""
        leaf.capped = False
        self.tree.touch(leaf)

    def release(self, entry: Entry) -> None:
        """The entry keeps no agent any more, and waits for none."""
        if entry in self.queued:
            del self.queued[entry]
            entry.timed = False
        if entry.claim is not None:
            self.release_agent(entry.claim)
        for agent in tuple(entry.kept):
            self.release_agent(agent)

    def release_agent(self, agent: Agent) -> None:
        """The agent is kept for nobody any more."""
        entry, agent.claim = agent.claim, None
        assert entry is not None, "it is kept"
        if entry.claim is agent:
            entry.claim = entry.awaited = None
        else:
            del entry.kept[agent]
            if not entry.kept:
                del self.accumulating[entry]
        self.claimed -= 1
        self.starving_due = self.starving_due or bool(self.queued)
        if self.demanding:  # Meanwhile no offer there was taken back for anybody else.
            self.stirred |= {allocation: None for allocation in agent.offers if allocation in self.old}
        self.look_at(agent)

    def rest(self, leaf: Leaf) -> None:
        """The leaf wants nothing for now: nothing is kept for it."""
        for entry in leaf.entries.values():
            self.release(entry)
        for room in tuple(leaf.rooms.values()):
            self.rooms.drop(room)
        self.demanding.pop(leaf, None)
        self.unhelped.pop(leaf, None)
        self.tree.touch(leaf)

    def remove(self, leaf: Leaf) -> None:
        """The leaf is no more."""
        self.quota.forget(leaf)
        self.dirty_leaves.pop(leaf, None)
        self.capped_takers.pop(leaf, None)
        self.tree.remove_leaf(leaf)

    def forget(self, leaf: Leaf) -> None:
        """The leaf states no demand any more."""
        self.rest(leaf)
        for entry in leaf.entries.values():
            entry.end()
        leaf.entries = {}
