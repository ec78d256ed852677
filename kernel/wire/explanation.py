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


class Preemption(Struct, frozen=True):
    """Tasks of one framework and agent that end for what a role is guaranteed. due: when at the latest, if that cannot be had before;
    ending: they are being ended; answer: what the framework said when it was asked to give way (UNKNOWN: nothing yet)."""

    guarantee: str
    framework_id: str
    framework: str
    role: str
    agent_id: str
    tasks: tuple[str, ...]
    due: float
    ending: bool
    answer: str


class Unmet(Struct, frozen=True):
    """A framework that wants what a role is guaranteed, for which not enough may be ended."""

    guarantee: str
    framework_id: str
    framework: str
    role: str


class RoomMade(Struct, frozen=True):
    """How a demand comes to what its role is guaranteed: so many tasks of these frameworks end, the last at `due`. lacks: not enough of
    those that may be ended are left."""

    guarantee: str
    tasks: int
    frameworks: tuple[str, ...]
    due: float | None
    lacks: bool


class WaitingDemand(Struct, frozen=True, omit_defaults=True):
    """resources: by name, what is revocable as NAME_revocable. waiting: how many tasks of this shape are neither launched nor
    offered; offered: for how many an offer is open. why: a word for programs; reason and unblocks for people."""

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
    room: RoomMade | None = None


class Silent(Struct, frozen=True):
    """A framework that states no demand: what it waits for is not known."""

    framework_id: str
    framework: str


class Explanation(Struct, frozen=True):
    """The demands that have waited longest. more: how many others there are. silent: connected frameworks of which nothing can be said.
    preemptions: with `--preempt_for_guarantees`, whose tasks are to end for guarantees; unmet: for whom that is not enough."""

    demands: tuple[WaitingDemand, ...]
    more: int
    silent: tuple[Silent, ...] = ()
    preemptions: tuple[Preemption, ...] = ()
    unmet: tuple[Unmet, ...] = ()
