"""Answers for people: why a demand waits, and what each role holds. Computed when asked, from the same rules as the pass."""

from __future__ import annotations

import enum
from collections.abc import Iterator

from msgspec import Struct

from kernel.master.allocator.demand import Entry
from kernel.master.allocator.eligibility import admits, allows, may_serve, open_part
from kernel.master.allocator.filters import is_refused
from kernel.master.allocator.nodes import VIRTUAL, Leaf, Node
from kernel.master.allocator.state import Agent, State
from kernel.wire.resources import Resources
from kernel.wire.values import format_milli


class Why(enum.Enum):
    """What keeps a demand waiting; the first that holds."""

    INACTIVE = "the framework is not connected"
    SUPPRESSED = "the role is suppressed"
    NO_AGENTS = "no agent is active"
    CONSTRAINT = "no active agent is allowed by the demand or may be offered to the framework"
    SIZE = "no agent is large enough"
    SLACK = "no agent has so much to lend as revocable"
    RESERVED = "it would fit only with resources reserved for other roles"
    QUOTA_LIMIT = "the role, or one above it, is at a limit of its quota"
    GUARANTEED = "what is free is kept for the guarantees of other roles"
    FILTERS = "the framework refused the agents where it fits"
    CLAIMED = "an agent is kept for it until it fits"
    LOCALITY = "it waits a while for an agent it prefers"
    GANG = "fewer tasks fit than are to start together"
    NO_FREE = "not enough is free"
    PENDING = "it is about to be offered"


class AtLimit(Struct, frozen=True):
    """The limit that keeps a demand waiting: whose, of what, how much of it is consumed and by how many frameworks. Thousandths."""

    role: str
    name: str
    limit: int
    consumed: int
    frameworks: int


class Kept(Struct, frozen=True):
    """What is kept for guarantees: of what, how much is free and how much of that is kept, for which roles. Thousandths."""

    name: str
    free: int
    kept: int
    roles: tuple[str, ...]


class Together(Struct, frozen=True):
    """How many tasks are to start together, and how many fit."""

    needed: int
    fitting: int


class Short(Struct, frozen=True):
    """What there is too little of on any one agent: of what, how much a task needs and the most there is. Thousandths."""

    name: str
    needed: int
    most: int


class Reason(Struct, frozen=True):
    """waiting: how many of the demand are neither launched nor offered; offered: for how many an offer is open. limit, kept, together,
    short: more on QUOTA_LIMIT, on GUARANTEED, on GANG, on SIZE and NO_FREE."""

    name: str
    role: str
    shape: Resources
    waiting: int
    offered: int
    why: Why
    waiting_since_s: float
    limit: AtLimit | None = None
    kept: Kept | None = None
    together: Together | None = None
    short: Short | None = None

    @property
    def sentence(self) -> str:
        """Why it waits, for people."""
        if self.limit is not None:
            at = self.limit
            by = "1 framework" if at.frameworks == 1 else f"{at.frameworks} frameworks"
            state = "is at" if at.consumed >= at.limit else "is too near"
            return (
                f"role {at.role} {state} its limit of {format_milli(at.limit)} {at.name}: {format_milli(at.consumed)} used, offered or "
                f"reserved by {by}"
            )
        if self.kept is not None:
            return (
                f"{format_milli(self.kept.kept)} of the {format_milli(self.kept.free)} {self.kept.name} that are free are kept for the "
                f"guarantees of {', '.join(self.kept.roles)}"
            )
        if self.together is not None:
            return f"{self.together.needed} tasks are to start together, {self.together.fitting} fit"
        if self.short is not None:
            left = " free" if self.why is Why.NO_FREE else ""
            most, needed = format_milli(self.short.most), format_milli(self.short.needed)
            return f"no agent has more than {most} {self.short.name}{left}, and {needed} is needed"
        return self.why.value


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


def reason_of(state: State, entry: Entry) -> Reason:
    """Why a demand that needs something waits."""
    leaf, demand, quota = entry.leaf, entry.demand, state.quota
    why = _why(state, leaf, entry)
    limit = kept = together = short = None
    if why is Why.GANG:
        together = Together(entry.quorum, _fitting(state, entry))
    elif why is Why.QUOTA_LIMIT and (bound := quota.binding(leaf, entry.least)) is not None and bound.limit is not None:
        limit = AtLimit(bound.role, bound.name, bound.limit, bound.consumed, _users(state, bound.role, bound.name))
    elif why is Why.GUARANTEED and (pool := quota.withholding(leaf, entry.least)) is not None:
        kept = Kept(pool.name, pool.free, min(pool.free, pool.below), tuple(sorted(bound.role for bound in quota.owed(pool.name))))
    elif why in (Why.SIZE, Why.NO_FREE):
        short = _short(state, entry, of_free=why is Why.NO_FREE)
    return Reason(demand.name, leaf.role, demand.shape, entry.needed, entry.covered, why, entry.since_s, limit, kept, together, short)


def _short(state: State, entry: Entry, of_free: bool) -> Short | None:
    """The scalar of which most is missing on every agent; None when each is there somewhere, but not all together."""
    wanted, leaf = entry.demand.shape.scalars(), entry.leaf
    most = dict.fromkeys(wanted, 0)
    for agent in state.agents.values():
        if not agent.open or not allows(agent, entry) or not admits(agent, leaf, state) or (of_free and agent.claim is not None):
            continue
        has = open_part(agent, leaf, agent.free if of_free else agent.total).scalars()
        for name in most:
            if has.get(name, 0) > most[name]:
                most[name] = has[name]
    scarcest = min(wanted, key=lambda name: most[name] / wanted[name], default="")
    return Short(scarcest, wanted[scarcest], most[scarcest]) if scarcest and most[scarcest] < wanted[scarcest] else None


def _users(state: State, role: str, name: str) -> int:
    """How many frameworks hold some of a resource in a role or below."""
    node = state.tree.roles.get(role)
    return len({leaf.name for leaf in state.tree.leaves(node) if leaf.unreserved(name)}) if node is not None else 0


def _why(state: State, leaf: Leaf, entry: Entry) -> Why:
    if not leaf.framework.active:
        return Why.INACTIVE
    if leaf.suppressed:
        return Why.SUPPRESSED
    opened = [agent for agent in state.agents.values() if agent.open]
    if not opened:
        return Why.NO_AGENTS

    def allowed() -> Iterator[Agent]:
        return (agent for agent in opened if allows(agent, entry) and admits(agent, leaf, state))

    if next(allowed(), None) is None:
        return Why.CONSTRAINT
    if entry.claim is not None or entry.kept:
        return Why.CLAIMED
    if not any(_fits(agent, leaf, entry, agent.total) for agent in allowed()):
        if any(entry.shape.fits(agent.total, agent.uniform) for agent in allowed()):
            return Why.RESERVED
        return Why.SLACK if entry.shape.slack else Why.SIZE
    quota, shape = state.quota, entry.shape
    binding = quota.binding(leaf, shape.resources) is not None
    if binding:
        wholes = ((agent, quota.shrink(leaf, open_part(agent, leaf, agent.total), limits_only=True)) for agent in allowed())
        if not any(shape.fits(whole, agent.uniform) for agent, whole in wholes):
            return Why.QUOTA_LIMIT
    why = _why_of_free(state, leaf, entry, binding)
    return _why_of_gang(state, entry) if entry.gang and why is Why.PENDING else why


def _why_of_gang(state: State, entry: Entry) -> Why:
    """What keeps the whole from what is free, though one task would fit."""
    if _fitting(state, entry) < entry.quorum:
        return Why.GANG
    if state.quota.binding(entry.leaf, entry.least) is not None:
        return Why.QUOTA_LIMIT
    return Why.PENDING if state.quota.withholding(entry.leaf, entry.least) is None else Why.GUARANTEED


def _fitting(state: State, entry: Entry) -> int:
    """How many tasks fit on what is free."""
    leaf, shape = entry.leaf, entry.shape
    return sum(
        shape.fits(open_part(agent, leaf, agent.free), agent.uniform)
        for agent in state.likely(shape)
        if agent.open and agent.claim is None and may_serve(agent, entry) and admits(agent, leaf, state)
    )


def _why_of_free(state: State, leaf: Leaf, entry: Entry, binding: bool) -> Why:
    """What keeps it from what is free, by the agent that comes furthest."""
    quota, shape, found = state.quota, entry.shape, [Why.NO_FREE]
    for agent in state.likely(shape):
        if not agent.open or agent.claim is not None or not allows(agent, entry) or not admits(agent, leaf, state):
            continue
        piece = open_part(agent, leaf, agent.free)
        if not shape.fits(piece, agent.uniform):
            continue
        if not may_serve(agent, entry):
            found.append(Why.LOCALITY)
        elif leaf.lines and not shape.fits(quota.shrink(leaf, piece), agent.uniform):
            found.append(Why.QUOTA_LIMIT if binding else Why.GUARANTEED)
        elif is_refused(agent, leaf, shape.cut(piece, 1, agent.uniform)):
            found.append(Why.FILTERS)
        else:
            return Why.PENDING
    return max(found, key=_FURTHER.index)


_FURTHER = (Why.NO_FREE, Why.GUARANTEED, Why.QUOTA_LIMIT, Why.LOCALITY, Why.FILTERS)


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
