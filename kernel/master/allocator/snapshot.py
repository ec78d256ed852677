"""The allocator as a message, and made anew from one (`kernel.wire.allocation`).

What waits for a time to come (how long a demand has waited, an agent kept for one) is not in it, nor is a pass that is not over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from kernel.clock import Now
from kernel.master.allocator.demand import Demand, Entry
from kernel.master.allocator.nodes import Leaf, Node
from kernel.master.allocator.quota import Quota
from kernel.master.allocator.state import Agent, AllocatorConfig, Framework, FrameworkOptions, State
from kernel.wire.allocation import AgentPart, Awaited, FrameworkPart, Holding, Refused, RolePart, Rules, Snapshot
from kernel.wire.constraints import Site
from kernel.wire.offer import OfferConstraints
from kernel.wire.resources import Resources

if TYPE_CHECKING:
    from kernel.master.allocator.allocator import Allocator


def rules_of(config: AllocatorConfig) -> Rules:
    return Rules(
        tuple(dict(minimum) for minimum in config.min_allocatable),
        tuple(sorted(config.excluded_names)),
        config.filter_gpu_resources,
        config.region,
        config.interval_s,
        config.drawn_roles,
        config.drawn_frameworks,
        config.preempts,
    )


def config_of(rules: Rules) -> AllocatorConfig:
    return AllocatorConfig(
        interval_s=rules.interval_s,
        min_allocatable=rules.min_allocatable,
        excluded_names=frozenset(rules.excluded_names),
        filter_gpu_resources=rules.filter_gpu_resources,
        region=rules.region,
        drawn_roles=rules.drawn_roles,
        drawn_frameworks=rules.drawn_frameworks,
        preempts=rules.preempts,
        locality_s=0.0,
    )


def role_parts(weights: Mapping[str, float], quotas: Mapping[str, Quota]) -> tuple[RolePart, ...]:
    nothing = Quota()
    return tuple(
        RolePart(name, weights.get(name, 1.0), dict(quotas.get(name, nothing).guarantees), dict(quotas.get(name, nothing).limits))
        for name in sorted({*weights, *quotas})
    )


class Held(NamedTuple):
    """What a framework has on an agent: see `Holding`."""

    framework_id: str
    role: str
    resources: Resources
    times: int = 1
    offered: bool = False


class AgentSeen(NamedTuple):
    """An agent at one instant: taken at once, made a message later, as there may be many."""

    agent_id: str
    site: Site
    total: Resources
    open: bool
    held: tuple[Held, ...]
    refused: tuple[tuple[str, str, Resources, float, bool], ...]

    def part(self) -> AgentPart:
        return AgentPart(
            id=self.agent_id,
            hostname=self.site.hostname,
            total=self.total.messages(),
            open=self.open,
            attributes=tuple(self.site.attributes),
            domain=self.site.domain,
            held=tuple(Holding(held.framework_id, held.role, held.resources.messages(), held.times, held.offered) for held in self.held),
            refused=tuple(Refused(who, role, resources.messages(), left_s, soft) for who, role, resources, left_s, soft in self.refused),
        )


def agents_seen(state: State, held: Callable[[str], Iterable[Held]]) -> list[AgentSeen]:
    """In the order in which they would be looked at. held: what is held on an agent."""
    return [_seen(state, agent, held) for agent in dict.fromkeys((*state.index.in_order(), *state.agents.values()))]


def _seen(state: State, agent: Agent, held: Callable[[str], Iterable[Held]]) -> AgentSeen:
    refused = tuple(
        (leaf.framework.framework_id, leaf.role, refusal.resources, max(0.0, refusal.due_s - state.now_s), refusal.soft)
        for leaf, refusals in agent.refusals.items()
        for refusal in refusals
        if refusal.alive
    )
    return AgentSeen(agent.agent_id, agent.site, agent.total, agent.open, tuple(held(agent.agent_id)), refused)


def framework_part(framework: Framework, name: str) -> FrameworkPart:
    options = framework.options
    subscribed = [leaf for leaf in framework.leaves.values() if leaf.subscribed]
    entries = [entry for leaf in subscribed for entry in leaf.entries.values() if entry.needed]
    return FrameworkPart(
        id=framework.framework_id,
        name=name,
        active=framework.active,
        roles=tuple(leaf.role for leaf in subscribed),
        suppressed=tuple(leaf.role for leaf in subscribed if leaf.suppressed),
        demands=framework.demands,
        awaited=tuple(map(_awaited, entries)),
        gpu_aware=options.gpu_aware,
        revocable=options.revocable,
        shared=options.shared,
        refined=options.refined,
        region_aware=options.region_aware,
        offer_filters=dict(options.offer_filters),
        constraints=dict(options.constraints.role_constraints) if options.constraints is not None else {},
    )


def _awaited(entry: Entry) -> Awaited:
    demand = entry.demand
    return Awaited(
        demand.name,
        demand.role,
        demand.shape.messages(),
        entry.needed,
        entry.quorum if entry.gang else None,
        demand.agent_id,
        demand.constraints,
        demand.priority,
        demand.prefer,
    )


def options_of(part: FrameworkPart) -> FrameworkOptions:
    return FrameworkOptions(
        gpu_aware=part.gpu_aware,
        revocable=part.revocable,
        shared=part.shared,
        refined=part.refined,
        region_aware=part.region_aware,
        offer_filters=part.offer_filters,
        constraints=OfferConstraints(part.constraints) if part.constraints else None,
    )


def demand_of(part: Awaited) -> Demand:
    return Demand(
        part.name,
        part.role,
        Resources.of(part.resources),
        part.count,
        part.min,
        part.agent_id,
        part.constraints,
        part.priority,
        part.prefer,
    )


def grants_made(root: Node) -> dict[str, int]:
    """How many allocations were ever made, by node."""
    return {key: node.count for key, node in _nodes(root) if node.count}


def set_grants_made(root: Node, made: Mapping[str, int]) -> None:
    for key, node in _nodes(root):
        node.count = made.get(key, 0)


def _nodes(root: Node) -> Iterator[tuple[str, Node]]:
    waiting: list[Node] = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Leaf):
            yield f"{node.role}|{node.name}", node
        elif node.parent is not None:
            yield (f"{node.path}/." if node.name == "." else node.path), node
        waiting += node.children.values()


def fill(allocator: Allocator, state: State, snapshot: Snapshot, now: Now) -> None:
    """Tell an empty allocator all that is in a snapshot."""
    for role in snapshot.roles:
        allocator.set_weight(role.name, role.weight)
    for agent in snapshot.agents:
        site = Site(agent.hostname, agent.attributes, agent.domain)
        allocator.add_agent(agent.id, Resources.of(agent.total), site, now)
    for framework in snapshot.frameworks:
        allocator.add_framework(framework.id, framework.roles, framework.suppressed, options_of(framework))
        if framework.demands:
            allocator.request(framework.id, map(demand_of, framework.awaited), now)
        allocator.set_framework_active(framework.id, framework.active)
    for agent in snapshot.agents:
        for held in agent.held:
            allocator.charge(held.framework_id, held.role, agent.id, Resources.sum([Resources.of(held.resources)] * held.count))
        for refused in agent.refused:
            leaf = state.frameworks[refused.framework_id].leaves.get(refused.role)
            if leaf is None:
                continue
            due_s = now.mono_s + refused.left_s
            state.refusals.add(leaf, state.agents[agent.id], Resources.of(refused.resources), due_s, refused.soft)
        allocator.set_agent_active(agent.id, agent.open)
    quotas = {role.name: Quota(role.guarantees, role.limits) for role in snapshot.roles if role.guarantees or role.limits}
    if quotas:
        allocator.set_quotas(quotas)
    set_grants_made(state.tree.root, snapshot.made)
