"""What each role holds, with all that lies below it (spec: mesos-v1, section 5.2, /roles)."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct, field

from kernel.master.render import holders
from kernel.master.state import MasterState, Quantities
from kernel.master.views.shapes import reserved_by_role, unreserved
from kernel.wire.resources import Resources
from kernel.wire.roles import ancestors


class RoleSums(Struct):
    """Thousandths by name. frameworks: ids of those subscribed to the role itself or holding something in it. consumed:
    what counts against its quota: all that is reserved for it, and what is allocated to it beside that."""

    name: str
    weight: float = 1.0
    frameworks: dict[str, None] = field(default_factory=dict)
    allocated: Counter[str] = field(default_factory=Counter)
    offered: Counter[str] = field(default_factory=Counter)
    reserved: Counter[str] = field(default_factory=Counter)
    consumed: Counter[str] = field(default_factory=Counter)


def role_sums(state: MasterState) -> list[RoleSums]:
    """All known roles, by name: those subscribed to, holding or keeping something or allowed by the whitelist, and the
    roles above them. Cost: one look at everything that holds resources."""
    found: dict[str, RoleSums] = {}
    for name in state.config.roles_allowed or ():
        _role(found, name)
    allocated: dict[str, Quantities] = {}
    offered: dict[str, Quantities] = {}
    reserved: dict[str, Quantities] = {}
    beside: dict[str, Quantities] = {}  # Allocated beside reservations, where there are any.
    for agent in state.agents.values():
        for name, resources in reserved_by_role(agent.total).items():
            _add(reserved, name, resources)
    for framework_id, framework in state.frameworks.items():
        roles = dict.fromkeys(framework.roles)
        for holder in holders(framework):
            roles[holder.role] = None
            _add(allocated, holder.role, holder.resources)
            if reserved:
                _add(beside, holder.role, unreserved(holder.resources))
        for offer in framework.offers.values():
            roles[offer.role] = None
            _add(offered, offer.role, offer.resources)
        for name in roles:
            _role(found, name).frameworks[framework_id] = None
    consumed = (reserved, beside) if reserved else (allocated,)
    for kind, by_role in (
        ("allocated", allocated),
        ("offered", offered),
        ("reserved", reserved),
        *(("consumed", part) for part in consumed),
    ):
        for name, quantities in by_role.items():
            for role in (name, *ancestors(name)):
                getattr(_role(found, role), kind).update(quantities.scalars())
    return [found[name] for name in sorted(found)]


def _role(found: dict[str, RoleSums], name: str) -> RoleSums:
    """The role, made when new together with those above it."""
    for role in (*ancestors(name), name):
        if role not in found:
            found[role] = RoleSums(role)
    return found[name]


def _add(by_role: dict[str, Quantities], role: str, resources: Resources) -> None:
    quantities = by_role.get(role)
    if quantities is None:
        quantities = by_role[role] = Quantities()
    quantities.add(resources)
