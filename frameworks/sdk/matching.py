"""Which waiting task goes to which offer: pure, with the reason for each refusal.

First come, first served within a priority; each offer is filled as far as it goes, those of agents that are to be under
maintenance last, the soonest at the very end. Offers of one agent and role count as one, so that a task may use the sum of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from frameworks.sdk.tasks import Shape, TaskRecord
from kernel.wire.constraints import Site, satisfied
from kernel.wire.ids import AgentID
from kernel.wire.offer import Offer
from kernel.wire.resources import Resources
from kernel.wire.roles import ANY_ROLE


class Bundle(Struct, frozen=True):
    """What one agent offers to one role, and the tasks that are to run on it (none: decline)."""

    offers: tuple[Offer, ...]
    role: str
    tasks: tuple[TaskRecord, ...]
    left: Resources

    @property
    def agent_id(self) -> AgentID:
        return self.offers[0].agent_id


class Refusal(Struct, frozen=True):
    """Why tasks of a shape that still wait got nothing of an agent's offer. reason: in words, for people."""

    shape: Shape
    hostname: str
    reason: str


class Matching(Struct, frozen=True):
    """bundles: every offer is in exactly one. refusals: only for shapes of which tasks are left."""

    bundles: tuple[Bundle, ...]
    refusals: tuple[Refusal, ...]


def match(waiting: Sequence[tuple[Shape, Mapping[str, TaskRecord]]], offers: Iterable[Offer]) -> Matching:
    """Place waiting tasks (by shape, the most important first) on offers.

    Cost: O(launches + offers x shapes); resources are compared as integers.
    """
    grouped: dict[tuple[str, str], list[Offer]] = {}
    for offer in offers:
        grouped.setdefault((offer.agent_id.value, role_of(offer)), []).append(offer)
    queues = [(shape, list(records.values())[::-1]) for shape, records in waiting]
    bundles: list[Bundle] = []
    for (_, role), group in sorted(grouped.items(), key=_unavailable_ns, reverse=True):
        free = _sum(group)
        tasks: list[TaskRecord] = []
        for shape, queue in queues:
            if not queue or _unfit(shape, group[0], role) is not None:
                continue
            while queue and free.contains(shape.wants):
                free -= shape.wants
                tasks.append(queue.pop())
        bundles.append(Bundle(tuple(group), role, tuple(tasks), free))
    refusals = [
        Refusal(shape, bundle.offers[0].hostname, _unfit(shape, bundle.offers[0], bundle.role) or _shortage(shape.wants, bundle.left))
        for shape, queue in queues
        if queue
        for bundle in bundles
    ]
    return Matching(tuple(bundles), tuple(refusals))


def _unavailable_ns(grouped: tuple[object, Sequence[Offer]]) -> float:
    """When the agent of these offers is to be under maintenance; infinity when nothing is planned."""
    planned = grouped[1][0].unavailability
    return float("inf") if planned is None else planned.start.nanoseconds


def role_of(offer: Offer) -> str:
    """For which role an offer is made."""
    return (offer.allocation_info.role if offer.allocation_info is not None else None) or ANY_ROLE


def _unfit(shape: Shape, offer: Offer, role: str) -> str | None:
    """Why no amount of resources in this offer would do, or None."""
    if shape.role != role:
        return f"offered to role {role}, wanted by {shape.role}"
    if shape.agent_id is not None and shape.agent_id != offer.agent_id.value:
        return f"must run on agent {shape.agent_id}"
    if shape.constraints is not None and not satisfied(shape.constraints, Site(offer.hostname, offer.attributes, offer.domain)):
        return "the agent's attributes do not meet the constraints"
    return None


def _shortage(wants: Resources, free: Resources) -> str:
    has = free.scalars()
    needs = wants.scalars().items()
    short = [f"{name} {amount / 1000:g} wanted, {has.get(name, 0) / 1000:g} free" for name, amount in needs if has.get(name, 0) < amount]
    return "; ".join(short) or f"{{{wants}}} wanted, {{{free}}} free"


def _sum(offers: Sequence[Offer]) -> Resources:
    total = Resources.of(offers[0].resources)
    for offer in offers[1:]:
        total += Resources.of(offer.resources)
    return total
