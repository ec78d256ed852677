"""Why tasks wait: the answer of `GET /explain` on the master, an extension. Amounts are in units, times in seconds since the epoch."""

from __future__ import annotations

from msgspec import Struct


class Limit(Struct, frozen=True):
    """The limit that keeps a demand waiting."""

    role: str
    resource: str
    limit: float
    consumed: float
    frameworks: int


class Guarantee(Struct, frozen=True):
    """What is kept for the guarantees of other roles."""

    resource: str
    free: float
    kept: float
    roles: tuple[str, ...]


class WaitingDemand(Struct, frozen=True, omit_defaults=True):
    """waiting: how many tasks of this shape are neither launched nor offered; offered: for how many an offer is open. why: a word for
    programs; reason and unblocks for people."""

    framework_id: str
    framework: str
    name: str
    role: str
    resources: dict[str, float]
    waiting: int
    offered: int
    since: float
    why: str
    reason: str
    unblocks: str
    limit: Limit | None = None
    guarantee: Guarantee | None = None


class Silent(Struct, frozen=True):
    """A framework that states no demand: what it waits for is not known."""

    framework_id: str
    framework: str


class Explanation(Struct, frozen=True):
    """The demands that have waited longest. more: how many others there are. silent: connected frameworks of which nothing can be said."""

    demands: tuple[WaitingDemand, ...]
    more: int
    silent: tuple[Silent, ...] = ()
