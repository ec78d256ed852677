"""Everything that decides who is offered what, at one instant: the answer of `GET /allocation` on the master, an extension.

It is what the allocator can be made anew from, elsewhere: to try what a change would do (`meseta plan`).
"""

from __future__ import annotations

from msgspec import Struct

from kernel.wire.common import DomainInfo
from kernel.wire.framework import OfferFilters
from kernel.wire.nodes import Attribute
from kernel.wire.offer import RoleConstraints
from kernel.wire.resources import Resource


class _Part(Struct, frozen=True, omit_defaults=True):
    """Base of the parts."""


class Holding(_Part, frozen=True):
    """What a framework has on an agent: so many tasks or executors of one shape, or an offer."""

    framework_id: str
    role: str
    resources: tuple[Resource, ...]
    count: int = 1
    offered: bool = False


class Refused(_Part, frozen=True):
    """What a framework does not want from an agent again, for so many seconds more. soft: until its next REQUEST at most."""

    framework_id: str
    role: str
    resources: tuple[Resource, ...]
    left_s: float
    soft: bool = False


class AgentPart(_Part, frozen=True):
    """open: whether it may be offered."""

    id: str
    hostname: str
    total: tuple[Resource, ...]
    open: bool = True
    attributes: tuple[Attribute, ...] = ()
    domain: DomainInfo | None = None
    held: tuple[Holding, ...] = ()
    refused: tuple[Refused, ...] = ()


class Awaited(_Part, frozen=True):
    """A demand: tasks that are neither launched nor offered (see `kernel.wire.scheduler.ResourceRequest`)."""

    name: str
    role: str
    resources: tuple[Resource, ...]
    count: int
    min: int | None = None
    agent_id: str | None = None
    constraints: RoleConstraints | None = None
    priority: int = 0
    prefer: tuple[str, ...] = ()


class FrameworkPart(_Part, frozen=True):
    """demands: whether it has told what it waits for, so that it is offered that and no more."""

    id: str
    name: str
    active: bool
    roles: tuple[str, ...]
    suppressed: tuple[str, ...] = ()
    demands: bool = False
    awaited: tuple[Awaited, ...] = ()
    gpu_aware: bool = False
    revocable: bool = False
    shared: bool = False
    refined: bool = False
    region_aware: bool = False
    offer_filters: dict[str, OfferFilters] = {}
    constraints: dict[str, RoleConstraints] = {}


class RolePart(_Part, frozen=True):
    """What an operator decided for a role: amounts in thousandths by name. A missing limit is none."""

    name: str
    weight: float = 1.0
    guarantees: dict[str, int] = {}
    limits: dict[str, int] = {}


class Rules(_Part, frozen=True):
    """What of the master's settings decides. drawn_roles, drawn_frameworks: the order is drawn by weight: what is planned is then one of
    many ways it may go. preempts: tasks end for guarantees (`--preempt_for_guarantees`)."""

    min_allocatable: tuple[dict[str, int], ...] = ()
    excluded_names: tuple[str, ...] = ()
    filter_gpu_resources: bool = True
    region: str | None = None
    interval_s: float = 1.0
    drawn_roles: bool = False
    drawn_frameworks: bool = False
    preempts: bool = False


class Snapshot(_Part, frozen=True):
    """Agents in the order in which they are looked at. made: offers and grants ever made, by node of the tree of roles (`ROLE`, `ROLE/.`,
    and `ROLE/.` with `|` and the framework's id for its leaf): they decide between equal shares."""

    rules: Rules
    roles: tuple[RolePart, ...]
    frameworks: tuple[FrameworkPart, ...]
    made: dict[str, int] = {}
    agents: tuple[AgentPart, ...] = ()
