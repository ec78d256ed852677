"""Which waiting task goes to which offer: pure, with the reason for each refusal.

First come, first served within a priority; each offer is filled as far as it goes, those of agents that are to be under
maintenance last, the soonest at the very end. Offers of one agent and role count as one, so that a task may use the sum of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from msgspec import Struct

from frameworks.sdk.tasks import Shape, TaskRecord
from kernel.wire.ids import AgentID
from kernel.wire.offer import AttributeConstraint, Offer, Predicate, PseudoattributeType, RoleConstraints
from kernel.wire.resources import Resources
from kernel.wire.roles import ANY_ROLE
from kernel.wire.values import ValueType


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


def satisfied(constraints: RoleConstraints, offer: Offer) -> bool:
    """Whether an offer's agent meets constraints as the master reads them (spec: mesos-v1, section 2.12)."""
    return any(all(_holds(constraint, offer) for constraint in group.attribute_constraints) for group in constraints.groups)


def _unfit(shape: Shape, offer: Offer, role: str) -> str | None:
    """Why no amount of resources in this offer would do, or None."""
    if shape.role != role:
        return f"offered to role {role}, wanted by {shape.role}"
    if shape.agent_id is not None and shape.agent_id != offer.agent_id.value:
        return f"must run on agent {shape.agent_id}"
    if shape.constraints is not None and not satisfied(shape.constraints, offer):
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


def _holds(constraint: AttributeConstraint, offer: Offer) -> bool:
    selector, predicate = constraint.selector, constraint.predicate
    fault_domain = offer.domain.fault_domain if offer.domain is not None else None
    value: str | None
    match selector.pseudoattribute_type:
        case PseudoattributeType.HOSTNAME:
            value = offer.hostname
        case PseudoattributeType.REGION:
            value = fault_domain.region.name if fault_domain is not None else None
        case PseudoattributeType.ZONE:
            value = fault_domain.zone.name if fault_domain is not None else None
        case _:
            named = next((attribute for attribute in offer.attributes if attribute.name == selector.attribute_name), None)
            if named is not None and named.type is not ValueType.TEXT:
                return predicate.not_exists is None  # Text predicates hold for what is no text.
            value = named.text.value if named is not None and named.text is not None else None
    return _true(predicate, value)


def _true(predicate: Predicate, value: str | None) -> bool:
    if predicate.exists is not None:
        return value is not None
    if predicate.not_exists is not None:
        return value is None
    if predicate.text_equals is not None:
        return value == predicate.text_equals.value
    if predicate.text_not_equals is not None:
        return value != predicate.text_not_equals.value
    if predicate.text_matches is not None:
        return value is not None and _pattern(predicate.text_matches.regex).fullmatch(value) is not None
    if predicate.text_not_matches is not None:
        return value is None or _pattern(predicate.text_not_matches.regex).fullmatch(value) is None
    return False


@lru_cache(maxsize=256)
def _pattern(regex: str) -> re.Pattern[str]:
    return re.compile(regex)
