"""The allocator as the master core sees it: events in, allocations out (design, section 3 "Allocator").

It knows agents, frameworks and roles by id and what they hold as `Resources`; nothing of tasks, offers or the API. Events only
note what has changed; `allocate` decides. Deterministic: equal events at equal times give equal allocations. An event that
is told without the time happened at the last time told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from kernel.clock import Now
from kernel.errors import CallError
from kernel.master.allocator import requests
from kernel.master.allocator import snapshot as snapshots
from kernel.master.allocator.allocate import Pass, allocate
from kernel.master.allocator.demand import Demand, Entry, merged
from kernel.master.allocator.enforce import LimitPassed, beyond_quota, limit_passed
from kernel.master.allocator.explain import Reason, RoleLoad, RoleView, reason_of, role_loads, role_views
from kernel.master.allocator.filters import drop_all, lift
from kernel.master.allocator.nodes import Leaf
from kernel.master.allocator.preempt import Relief, Run, claimants, reliefs, roles_over_limit
from kernel.master.allocator.quota import Quota
from kernel.master.allocator.snapshot import AgentSeen, Held
from kernel.master.allocator.state import Agent, Allocation, AllocatorConfig, Framework, FrameworkOptions, Quantities, State
from kernel.wire.allocation import Snapshot
from kernel.wire.constraints import Site
from kernel.wire.conversion import Conversion, apply, unshared
from kernel.wire.resources import EMPTY, Resources
from kernel.wire.revocable import firm
from kernel.wire.values import to_milli

REFUSE_S_MAX = 31_536_000.0


class Allocator:
    """Weighted DRF over roles, then frameworks. Every method but `explain` and `shares` costs no more than what it changes."""

    def __init__(self, config: AllocatorConfig, seed: int = 0) -> None:
        """seed: of the random sorter."""
        self._state = State(config, seed)

    # ---- agents -----------------------------------------------------------------------------------------

    def add_agent(self, agent_id: str, total: Resources, site: Site, now: Now) -> None:
        """An agent, with nothing used yet (`charge` what it runs before the next `allocate`)."""
        self._state.now_s = now.mono_s
        state = self._state
        assert agent_id not in state.agents, "an agent is added once"
        agent = state.agents[agent_id] = Agent(agent_id, total, site)
        state.count_total(total, 1)
        state.index_reserved(agent)
        state.judge(agent)

    def update_agent(self, agent_id: str, total: Resources, site: Site, now: Now) -> None:
        """The agent has other resources, or is at another site: that lifts all refusals there."""
        self._state.now_s = now.mono_s
        state, agent = self._state, self._state.agents[agent_id]
        if (agent.total, agent.site) == (total, site):
            return
        if agent.site != site:
            drop_all(agent)
        if firm(agent.total) != firm(total):
            state.count_total(agent.total, -1)
            state.count_total(total, 1)
        state.unindex_reserved(agent)
        agent.describe(total, site)
        state.index_reserved(agent)
        state.judge(agent)

    def remove_agent(self, agent_id: str) -> None:
        """The agent is gone. Its tasks must have been recovered; its open offers are void."""
        state, agent = self._state, self._state.agents[agent_id]
        for allocation in list(agent.offers):
            self._close(allocation)
        drop_all(agent)
        state.count_total(agent.total, -1)
        state.unindex_reserved(agent)
        agent.active = False
        state.judge(agent)
        del state.agents[agent_id]

    def set_agent_active(self, agent_id: str, active: bool) -> None:
        """Of an inactive agent nothing is offered; what is, the caller takes back."""
        agent = self._state.agents[agent_id]
        if agent.active != active:
            agent.active = active
            self._state.judge(agent)

    def set_whitelist(self, hostnames: frozenset[str] | None) -> None:
        """Only agents on these hosts are offered; None: all."""
        self._state.whitelist = hostnames
        for agent in self._state.agents.values():
            self._state.judge(agent)

    # ---- frameworks -------------------------------------------------------------------------------------

    def add_framework(self, framework_id: str, roles: Iterable[str], suppressed: Iterable[str], options: FrameworkOptions) -> None:
        """A framework, active, without a stated demand."""
        assert framework_id not in self._state.frameworks, "a framework is added once"
        self._state.frameworks[framework_id] = Framework(framework_id, options)
        self.update_framework(framework_id, roles, suppressed, options)

    def update_framework(self, framework_id: str, roles: Iterable[str], suppressed: Iterable[str], options: FrameworkOptions) -> None:
        """The framework's roles, suppressed roles and options are now these. Offers in a role it left are the caller's matter."""
        framework = self._state.frameworks[framework_id]
        framework.options = options
        subscribed, quiet = frozenset(roles), frozenset(suppressed)
        for role in dict.fromkeys(roles):
            leaf = framework.leaves.get(role) or self._add_leaf(framework, role)
            leaf.subscribed, leaf.suppressed = True, role in quiet
            leaf.minimums = _minimums(options, role, self._state.config.min_allocatable)
            leaf.constraints = options.constraints.role_constraints.get(role) if options.constraints is not None else None
            self._wake(leaf)
        for role, leaf in list(framework.leaves.items()):
            if role not in subscribed:
                leaf.subscribed = False
                self._state.forget(leaf)
                self._remove_if_spent(leaf)

    def remove_framework(self, framework_id: str) -> None:
        """The framework is gone. Its tasks must have been recovered; its open offers are void."""
        framework = self._state.frameworks.pop(framework_id)
        framework.active = False
        for leaf in list(framework.leaves.values()):
            for allocation in list(leaf.offers):
                self._close(allocation)
            self._state.forget(leaf)
            lift(leaf)
            self._state.remove(leaf)

    def set_framework_active(self, framework_id: str, active: bool) -> None:
        """To an inactive framework nothing is offered. Deactivation lifts its refusals and keeps its demand."""
        framework = self._state.frameworks[framework_id]
        if framework.active != active:
            framework.active = active
            for leaf in framework.leaves.values():
                if not active:
                    lift(leaf)
                self._wake(leaf)

    def suppress(self, framework_id: str, roles: Iterable[str]) -> None:
        """No more offers for these roles (none named: for any)."""
        for leaf in self._leaves(framework_id, roles):
            leaf.suppressed = True
            self._wake(leaf)

    def revive(self, framework_id: str, roles: Iterable[str], now: Now) -> None:
        """Offers again for these roles (none named: for all), whatever was refused."""
        self._state.now_s = now.mono_s
        for leaf in self._leaves(framework_id, roles):
            lift(leaf)
            leaf.suppressed = False
            self._wake(leaf)

    def set_weight(self, role: str, weight: float) -> None:
        """weight: more than 0; a role of weight 2 may hold twice as much as its siblings of weight 1."""
        self._state.tree.set_weight(role, weight)

    # ---- quota ------------------------------------------------------------------------------------------

    def set_quotas(self, quotas: Mapping[str, Quota]) -> None:
        """These are all quotas now, by role. Offers beyond them are the caller's matter (`offers_beyond_quota`). Cost: one look at each
        framework in each of its roles, and at each agent."""
        self._state.set_quotas(quotas)

    def offers_beyond_quota(self) -> list[Allocation]:
        """The open offers that are to be taken back, so that used and offered are within all limits, where that can be had without
        ending tasks, and enough is free for what is guaranteed."""
        return beyond_quota(self._state)

    def limit_passed(self, role: str, amounts: Mapping[str, int]) -> LimitPassed | None:
        """The first limit that would be passed if so much more (thousandths by name), unreserved and not offered to the role now,
        were reserved for it; None if none."""
        return limit_passed(self._state, role, amounts)

    def headroom(self, role: str) -> dict[str, int]:
        """By resource that is limited for a role or one above it: how much more may be offered to it or reserved for it. Thousandths."""
        return self._state.quota.headroom(role)

    def pause(self, paused: bool) -> None:
        """While paused, nothing is offered."""
        self._state.paused = paused

    # ---- room for guarantees ----------------------------------------------------------------------------

    @property
    def is_owed(self) -> bool:
        """Whether anybody wants something that is guaranteed and not consumed. Cost: see `preempt.claimants`."""
        return not self._state.paused and bool(claimants(self._state))

    def roles_over_limit(self) -> list[str]:
        """The roles that consume more than their limit."""
        return roles_over_limit(self._state)

    def reliefs(self, runs: Iterable[Run]) -> list[Relief]:
        """What would have to end so that those have what is guaranteed who cannot have it out of what is free, unless nothing would."""
        return reliefs(self._state, runs)

    def keep(self, entry: Entry, agent: Agent) -> bool:
        """Keep an agent, where room is being made, for a demand: nothing there goes to others. False, and nothing done, when that cannot
        be. Ended by `give_up`, or when it fits."""
        state = self._state
        if entry.claim is agent:
            return True
        if not entry.needed or entry.awaited is not None or agent.claim is not None or not agent.open:
            return False
        if any(other.claim is not None for other in entry.leaf.open if other is not entry) or not state.quota.may_keep(entry.leaf, agent):
            return False
        if entry.claim is None and not state.may_claim:
            return False
        state.release(entry)
        state.claim(entry, agent, None)
        entry.lack = math.inf  # Whether something becomes free there is seen at the first look.
        return True

    def give_up(self, entry: Entry, agent: Agent) -> None:
        """No room is made there any more."""
        if entry.claim is agent:
            self._state.release(entry)

    # ---- demand -----------------------------------------------------------------------------------------

    def request(self, framework_id: str, demands: Iterable[Demand], now: Now) -> None:
        """The framework's whole demand (roles are its own). From now on it is offered only what it asks for. What its open
        offers cover is not needed again."""
        self._state.now_s = now.mono_s
        framework = self._state.frameworks[framework_id]
        by_role: dict[str, dict[Demand, tuple[int, int]]] = {}
        for demand, numbers in merged(demands).items():
            if demand.role not in framework.leaves:
                raise CallError(f"request.requests.role: '{demand.role}' is not one of the framework's roles")
            by_role.setdefault(demand.role, {})[demand] = numbers
        framework.demands = True
        for leaf in framework.leaves.values():
            requests.state_demand(self._state, leaf, by_role.get(leaf.role, {}))

    def forget_demand(self, framework_id: str) -> None:
        """The framework states no demand any more: it is offered whole agents."""
        framework = self._state.frameworks[framework_id]
        if framework.demands:
            framework.demands = False
            for leaf in framework.leaves.values():
                self._state.forget(leaf)
                self._state.look_for(leaf)

    def launched(self, framework_id: str, role: str, shapes: Iterable[Resources]) -> None:
        """Tasks of these shapes were launched: they are waited for no more. Called after `close_offers`."""
        framework = self._state.frameworks.get(framework_id)
        leaf = framework.leaves.get(role) if framework is not None else None
        if leaf is None or not leaf.entries:
            return
        requests.launched(self._state, leaf, shapes)

    # ---- what is used -----------------------------------------------------------------------------------

    def charge(self, framework_id: str, role: str, agent_id: str, resources: Resources) -> None:
        """A task or executor that runs already (its agent has reported it)."""
        state = self._state
        resources = unshared(resources)
        framework = state.frameworks[framework_id]
        leaf = framework.leaves.get(role)
        if leaf is None:
            leaf = self._add_leaf(framework, role)
            leaf.subscribed = False
        state.charge(leaf, resources)
        state.hold(state.agents[agent_id], resources)

    def recover(self, framework_id: str, role: str, agent_id: str, resources: Resources, now: Now) -> None:
        """A task or executor has ended."""
        self._state.now_s = now.mono_s
        state = self._state
        resources = unshared(resources)
        framework = state.frameworks.get(framework_id)
        leaf = framework.leaves.get(role) if framework is not None else None
        if leaf is not None:
            state.discharge(leaf, resources)
            self._remove_if_spent(leaf)
        agent = state.agents.get(agent_id)
        if agent is not None:
            state.give_back(agent, resources)

    def close_offers(
        self,
        allocations: Iterable[Allocation],
        used: Resources,
        refuse_s: float | None,
        now: Now,
        changes: Iterable[Conversion] = (),
        welcome: Resources = EMPTY,
    ) -> None:
        """Open offers of one framework, role and agent have ended: `used` of them stays charged, the rest is free.

        changes: what operations have made of them, and so of the agent's resources. welcome: the part of the rest that is not refused.
        A shared volume is held by offers only: tasks do not take it from each other.

        refuse_s: the rest is refused for so long, at least AllocatorConfig.interval_s (at 0 until the next REQUEST, too); None: it
        is not refused (the offer was taken back). Offers that are closed already are passed over.
        """
        self._state.now_s = now.mono_s
        rest = EMPTY
        first: Allocation | None = None
        cover: list[tuple[Entry, int]] = []
        for allocation in allocations:
            if allocation in allocation.agent.offers:
                first = first or allocation
                cover += allocation.cover
                rest += allocation.resources
                self._detach(allocation)
        if first is None:
            return
        state, leaf, agent = self._state, first.leaf, first.agent
        leaf.answered = cover
        for change in changes:
            state.convert(agent, change, leaf)
            rest = apply(rest, change)
        rest -= used
        if not rest:
            return
        state.discharge(leaf, rest)
        state.give_back(agent, rest)
        refused = rest.without(welcome) if welcome else rest
        if refuse_s is not None and refused and leaf.framework.active:
            interval_s = state.config.interval_s
            due_s = now.mono_s + min(max(refuse_s, interval_s), REFUSE_S_MAX)
            state.refusals.add(leaf, agent, refused, due_s, soft=refuse_s <= 0)

    def convert(self, agent_id: str, change: Conversion, now: Now) -> None:
        """An operation has made something else of an agent's free resources."""
        self._state.now_s = now.mono_s
        agent = self._state.agents[agent_id]
        self._state.convert(agent, change, None)
        self._state.look_at(agent)

    def _detach(self, allocation: Allocation) -> None:
        """The offer covers no demand any more; what it held stays charged."""
        state, leaf = self._state, allocation.leaf
        del allocation.agent.offers[allocation]
        del leaf.offers[allocation]
        state.old.pop(allocation, None)
        for entry, times in allocation.cover:
            entry.change(covered=-times)
            if entry.alive:
                entry.since_s = state.now_s
                state.need(entry)
        state.tree.touch(leaf)

    def _close(self, allocation: Allocation) -> None:
        """The offer is void."""
        self._detach(allocation)
        self._state.discharge(allocation.leaf, allocation.resources)
        self._state.give_back(allocation.agent, allocation.resources)

    # ---- leaves -----------------------------------------------------------------------------------------

    def _add_leaf(self, framework: Framework, role: str) -> Leaf:
        leaf = framework.leaves[role] = self._state.tree.add_leaf(framework, role)
        leaf.minimums = self._state.config.min_allocatable
        leaf.lines = self._state.quota.lines(role)
        return leaf

    def _remove_if_spent(self, leaf: Leaf) -> None:
        """A role the framework has left is remembered only while something is held there."""
        if not leaf.subscribed and not leaf.offers and not (leaf.cpus or leaf.mem or leaf.disk or leaf.gpus or leaf.extra):
            del leaf.framework.leaves[leaf.role]
            self._state.remove(leaf)

    def _leaves(self, framework_id: str, roles: Iterable[str]) -> list[Leaf]:
        """The framework's leaves in these roles; in all when none is named."""
        leaves = self._state.frameworks[framework_id].leaves
        return [leaves[role] for role in roles if role in leaves] or ([] if tuple(roles) else list(leaves.values()))

    def _wake(self, leaf: Leaf) -> None:
        """What decides whether the leaf wants something has changed."""
        if leaf.subscribed and not leaf.suppressed and leaf.framework.active:
            self._state.unsettle(leaf)
        else:
            self._state.rest(leaf)

    # ---- decisions --------------------------------------------------------------------------------------

    def expire(self, now: Now) -> None:
        """Note what the time has changed: refusals that ended, offers grown old, demands that starve."""
        state, now_s = self._state, now.mono_s
        state.now_s = now_s
        for agent in state.refusals.expire(now_s):
            state.look_at(agent)
        while state.young and state.young[0].made_s + state.config.offer_hold_s <= now_s:
            allocation = state.young.popleft()
            if allocation in allocation.agent.offers:
                state.old[allocation] = None
                if state.demanding or state.accumulating:
                    state.stirred[allocation] = None
        state.look_at_starving()
        state.rooms.expire(now_s)
        state.expire_delays()

    def next_due(self) -> float | None:
        """The earliest instant (mono_s) at which `expire` has something to do."""
        state = self._state
        while state.young and state.young[0] not in state.young[0].agent.offers:
            state.young.popleft()
        dues = [state.refusals.next_due_s, state.rooms.next_due_s]
        dues.append(state.young[0].made_s + state.config.offer_hold_s if state.young else None)
        dues.append(state.starving[0][0] if state.starving else None)
        dues.append(state.delayed[0][0] if state.delayed else None)
        return min((due for due in dues if due is not None), default=None)

    @property
    def unsettled(self) -> bool:
        """Whether `allocate` has something to do."""
        state = self._state
        return not state.paused and bool(
            state.dirty_agents or state.dirty_leaves or state.search is not None or state.starving_due or state.stirred or state.unhelped
            or state.quota.relieved or state.rooms.busy
        )  # fmt: skip

    def allocate(self, now: Now, budget_s: float = 0.0, stopwatch: Callable[[], float] | None = None) -> Pass:
        """Decide who is offered what has changed. Stops after budget_s seconds of the stopwatch, when there is one; goes on at
        the next call. The caller closes the offers in `rescind` and calls again while `unsettled`."""
        self.expire(now)
        return allocate(self._state, budget_s, stopwatch)

    # ---- for those who look -----------------------------------------------------------------------------

    def explain(self, framework_id: str) -> list[Reason]:
        """Why each pending demand of the framework waits. Cost: agents times demands, at worst."""
        return [self.why(entry) for entry in self.waiting(framework_id)]

    def states_demand(self, framework_id: str) -> bool:
        """Whether the framework has said what it wants since it subscribed."""
        return self._state.frameworks[framework_id].demands

    def waiting(self, framework_id: str) -> list[Entry]:
        """The demands of the framework that need something, in the order of its roles and demands."""
        return [entry for leaf in self._state.frameworks[framework_id].leaves.values() for entry in leaf.entries.values() if entry.needed]

    def why(self, entry: Entry) -> Reason:
        """Why a demand waits."""
        return reason_of(self._state, entry)

    def snapshot(self, names: Mapping[str, str], weights: Mapping[str, float], quotas: Mapping[str, Quota]) -> Snapshot:
        """All of it as a message, but for its agents, while nothing is `unsettled`. names: of frameworks, by id; weights and quotas as
        they were set."""
        state = self._state
        return Snapshot(
            snapshots.rules_of(state.config),
            snapshots.role_parts(weights, quotas),
            tuple(snapshots.framework_part(framework, names.get(name, "")) for name, framework in state.frameworks.items()),
            snapshots.grants_made(state.tree.root),
        )

    def agents_seen(self, held: Callable[[str], Iterable[Held]]) -> list[AgentSeen]:
        """The agents of the snapshot. held: what is held on one."""
        return snapshots.agents_seen(self._state, held)

    @classmethod
    def restored(cls, snapshot: Snapshot, now: Now) -> Allocator:
        """One like that of which it is the snapshot. What was offered is held; nobody can give it back."""
        allocator = cls(snapshots.config_of(snapshot.rules))
        snapshots.fill(allocator, allocator._state, snapshot, now)
        return allocator

    def shares(self) -> list[RoleView]:
        """All roles that somebody is in, by name."""
        return role_views(self._state)

    def loads(self) -> list[RoleLoad]:
        """Shares and refusals of the same roles. Cost: one look at each framework in each of its roles."""
        return role_loads(self._state)

    def framework_shares(self, framework_id: str) -> dict[str, float]:
        """The dominant share of a framework in each of its roles."""
        tree = self._state.tree
        return {role: tree.share(leaf) for role, leaf in self._state.frameworks[framework_id].leaves.items()}

    @property
    def backlog(self) -> int:
        """How many agents and frameworks have changed since `allocate` looked at them."""
        return len(self._state.dirty_agents) + len(self._state.dirty_leaves)


def _minimums(options: FrameworkOptions, role: str, default: tuple[Quantities, ...]) -> tuple[Quantities, ...]:
    """What an offer must reach; an empty list in FrameworkInfo.offer_filters means that anything will do."""
    filters = options.offer_filters.get(role)
    if filters is None or filters.min_allocatable_resources is None:
        return default
    return tuple(
        {name: to_milli(scalar.value, f"offer_filters.{role}") for name, scalar in minimum.quantities.items()}
        for minimum in filters.min_allocatable_resources.quantities
    )
