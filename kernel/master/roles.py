"""What each role holds, with all that lies below it (spec: mesos-v1, section 5.2, /roles)."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct, field

from kernel.master.allocator import Quota
from kernel.master.quantities import Quantities
from kernel.master.state import MasterState
from kernel.wire.legacy import reserved_by_role
from kernel.wire.roles import ancestors, is_same_or_below


class RoleSums(Struct):
    """Thousandths by name. frameworks: ids of those subscribed to the role itself or holding something in it. consumed:
    what counts against its quota: all that is reserved for it, and what is allocated to it beside that. share: the weighted dominant
    one, offers included. suppressed: those of `frameworks` that want no offers for the role."""

    name: str
    weight: float = 1.0
    quota: Quota = Quota()  # It does not change.
    share: float = 0.0
    suppressed: list[str] = field(default_factory=list)
    frameworks: dict[str, None] = field(default_factory=dict)
    allocated: Counter[str] = field(default_factory=Counter)
    offered: Counter[str] = field(default_factory=Counter)
    reserved: Counter[str] = field(default_factory=Counter)
    consumed: Counter[str] = field(default_factory=Counter)


def role_sums(state: MasterState) -> list[RoleSums]:
    """All known roles, by name: those subscribed to, holding or keeping something, with a weight or quota or allowed by the whitelist,
    and the roles above them. Cost: one look at every agent, and at each framework in each of its roles."""
    found: dict[str, RoleSums] = {}
    for name in (*(state.config.roles_allowed or ()), *state.weights, *state.quotas):
        _role(found, name)
    for name, reserved in _reserved(state).items():
        for role in _with_ancestors(found, name):
            role.reserved.update(reserved.scalars())
            role.consumed.update(reserved.scalars())
    for framework_id, framework in state.frameworks.items():
        for name in (*framework.roles, *framework.used.by_role, *framework.offered.by_role):
            _role(found, name).frameworks[framework_id] = None
        for name in framework.suppressed:
            _role(found, name).suppressed.append(framework_id)
        for name, used in framework.used.by_role.items():
            allocated, consumed = used.scalars(), used.scalars(free_only=True)
            for role in _with_ancestors(found, name):
                role.allocated.update(allocated)
                role.consumed.update(consumed)
        for name, held in framework.offered.by_role.items():
            offered = held.scalars()
            for role in _with_ancestors(found, name):
                role.offered.update(offered)
    shares = {load.role: load.share for load in state.allocator.loads()}
    for name, role in found.items():
        role.weight, role.quota = state.weights.get(name, 1.0), state.quotas.get(name, role.quota)
        role.share = shares.get(name, 0.0)
    return [found[name] for name in sorted(found)]


def consumed_by(state: MasterState, name: str) -> Counter[str]:
    """What counts against the quota of a role: all that is reserved for it and those below it, and what is allocated there beside
    that. Cost: one look at every agent, and at each framework in each of its roles."""
    consumed: Counter[str] = Counter()
    for role, reserved in _reserved(state).items():
        if is_same_or_below(role, name):
            consumed.update(reserved.scalars())
    for framework in state.frameworks.values():
        for role, used in framework.used.by_role.items():
            if is_same_or_below(role, name):
                consumed.update(used.scalars(free_only=True))
    return consumed


def _reserved(state: MasterState) -> dict[str, Quantities]:
    found: dict[str, Quantities] = {}
    for agent in state.agents.values():
        if agent.total.other is not None:
            for name, resources in reserved_by_role(agent.total).items():
                found.setdefault(name, Quantities()).add(resources)
    return found


def _role(found: dict[str, RoleSums], name: str) -> RoleSums:
    """The role, made when new together with those above it."""
    for role in (*ancestors(name), name):
        if role not in found:
            found[role] = RoleSums(role)
    return found[name]


def _with_ancestors(found: dict[str, RoleSums], name: str) -> list[RoleSums]:
    _role(found, name)
    return [found[role] for role in (name, *ancestors(name))]
