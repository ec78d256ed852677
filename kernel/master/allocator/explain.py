"""Answers for people: why a demand waits, and what each role holds. Computed when asked, from the same rules as the pass."""

from __future__ import annotations

import enum

from msgspec import Struct

from kernel.master.allocator.demand import Entry
from kernel.master.allocator.eligibility import admits, may_serve, open_part
from kernel.master.allocator.filters import is_refused
from kernel.master.allocator.sorter import VIRTUAL, Leaf, Node
from kernel.master.allocator.state import Agent, Framework, State
from kernel.wire.resources import Resources


class Why(enum.Enum):
    """What keeps a demand waiting; the first that holds."""

    INACTIVE = "the framework is not connected"
    SUPPRESSED = "the role is suppressed"
    NO_AGENTS = "no agent is active"
    CONSTRAINT = "no active agent is allowed by the demand or may be offered to the framework"
    SIZE = "no agent is large enough"
    RESERVED = "it would fit only with resources reserved for other roles"
    FILTERS = "the framework refused the agents where it fits"
    CLAIMED = "an agent is kept for it until it fits"
    NO_FREE = "not enough is free"
    PENDING = "it is about to be offered"


class Reason(Struct, frozen=True):
    """waiting: how many of the demand are neither launched nor offered; offered: for how many an offer is open."""

    name: str
    role: str
    shape: Resources
    waiting: int
    offered: int
    why: Why
    waiting_since_s: float


class RoleView(Struct, frozen=True):
    """A role. share is weighted; allocated (used and offered) and offered, in thousandths by name, are of the whole subtree; frameworks
    and suppressed only of the role itself."""

    role: str
    weight: float
    share: float
    allocated: dict[str, int]
    offered: dict[str, int]
    frameworks: tuple[str, ...]
    suppressed: tuple[str, ...]


class RoleLoad(Struct, frozen=True):
    """Of a role: its weighted share, and how many refusals of its own frameworks are in force."""

    role: str
    share: float
    refusals: int


def reasons(state: State, framework: Framework) -> list[Reason]:
    """One reason for each demand of the framework that waits, in the order of its roles and demands."""
    return [
        Reason(entry.demand.name, leaf.role, entry.demand.shape, entry.needed, entry.covered, _why(state, leaf, entry), entry.since_s)
        for leaf in framework.leaves.values()
        for entry in leaf.entries.values()
        if entry.needed
    ]


def _why(state: State, leaf: Leaf, entry: Entry) -> Why:
    if not leaf.framework.active:
        return Why.INACTIVE
    if leaf.suppressed:
        return Why.SUPPRESSED
    agents = [agent for agent in state.agents.values() if agent.open]
    if not agents:
        return Why.NO_AGENTS
    agents = [agent for agent in agents if may_serve(agent, entry) and admits(agent, leaf, state)]
    if not agents:
        return Why.CONSTRAINT
    if entry.claim is not None:
        return Why.CLAIMED
    large = [agent for agent in agents if _fits(agent, leaf, entry, agent.total)]
    if not large:
        return Why.RESERVED if any(entry.shape.fits(agent.total, agent.uniform) for agent in agents) else Why.SIZE
    free = [agent for agent in large if agent.claim is None and _fits(agent, leaf, entry, agent.free)]
    if not free:
        return Why.NO_FREE
    refused = all(is_refused(agent, leaf, entry.shape.cut(open_part(agent, leaf, agent.free), 1, agent.uniform)) for agent in free)
    return Why.FILTERS if refused else Why.PENDING


def _fits(agent: Agent, leaf: Leaf, entry: Entry, of: Resources) -> bool:
    return entry.shape.fits(open_part(agent, leaf, of), agent.uniform) > 0


def role_views(state: State) -> list[RoleView]:
    """All roles that somebody is in, or below which somebody is, by name."""
    return [_role(state, state.tree.roles[path]) for path in sorted(state.tree.roles)]


def role_loads(state: State) -> list[RoleLoad]:
    """The same roles, without looking at what is offered there."""
    return [
        RoleLoad(path, state.tree.share(node), sum(leaf.refusals + leaf.soft_refusals for leaf in _own(node)))
        for path, node in state.tree.roles.items()
    ]


def _own(node: Node) -> list[Leaf]:
    home = node.children.get(VIRTUAL, node)
    return [leaf for leaf in home.children.values() if isinstance(leaf, Leaf)]


def _role(state: State, node: Node) -> RoleView:
    own = _own(node)
    offered: dict[str, int] = {}
    for leaf in state.tree.leaves(node):
        for allocation in leaf.offers:
            for name, amount in allocation.resources.scalars().items():
                offered[name] = offered.get(name, 0) + amount
    held = {"cpus": node.cpus, "mem": node.mem, "disk": node.disk, "gpus": node.gpus, **(node.extra or {})}
    return RoleView(
        role=node.path,
        weight=node.weight,
        share=state.tree.share(node),
        allocated={name: amount for name, amount in held.items() if amount},
        offered=offered,
        frameworks=tuple(leaf.name for leaf in own if leaf.subscribed),
        suppressed=tuple(leaf.name for leaf in own if leaf.subscribed and leaf.suppressed),
    )
