"""Which waiting task goes to which offer: pure, with the reason for each refusal.

First come, first served within a priority; each offer is filled as far as it goes, those of agents that are to be under
maintenance last, the soonest at the very end. Offers of one agent and role count as one, so that a task may use the sum of them. A gang
is placed on all of the offers together, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from frameworks.sdk.tasks import Shape, TaskRecord
from kernel.wire import shapes
from kernel.wire.constraints import Site, satisfied
from kernel.wire.ids import AgentID
from kernel.wire.offer import Offer
from kernel.wire.resources import Resources
from kernel.wire.roles import ANY_ROLE


class Bundle(Struct, frozen=True):
    """What one agent offers to one role, and the tasks that are to run on it (none: decline), each with what it gets of it."""

    offers: tuple[Offer, ...]
    role: str
    tasks: tuple[tuple[TaskRecord, Resources], ...]
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
    places = [_Place(group, role, _sum(group)) for (_, role), group in sorted(grouped.items(), key=_unavailable_ns, reverse=True)]
    queues = [(shape, list(records.values())[::-1]) for shape, records in waiting]
    for shape, queue in queues:
        _fill(shape, queue, places)
    bundles = [Bundle(tuple(place.group), place.role, tuple(place.tasks), place.free) for place in places]
    refusals = [
        Refusal(shape, bundle.offers[0].hostname, _unfit(shape, bundle.offers[0], bundle.role) or _shortage(shape, len(queue), bundle.left))
        for shape, queue in queues
        if queue
        for bundle in bundles
    ]
    return Matching(tuple(bundles), tuple(refusals))


class _Place:
    """What one agent offers to one role, while it is filled."""

    def __init__(self, group: list[Offer], role: str, free: Resources) -> None:
        self.group, self.role, self.free = group, role, free
        self.uniform = shapes.is_uniform(free)
        self.tasks: list[tuple[TaskRecord, Resources]] = []

    def room(self, need: shapes.Shape, most: int) -> int:
        """How many tasks of a shape fit, up to so many."""
        return min(most, need.fits(self.free, self.uniform))

    def take(self, need: shapes.Shape) -> Resources:
        """What a task of a shape that fits gets: of what is reserved before the rest."""
        part = need.resources if self.uniform and not need.ports else need.cut(self.free, 1, self.uniform)
        self.free -= part
        return part


def _fill(shape: Shape, queue: list[TaskRecord], places: Sequence[_Place]) -> None:
    """Place tasks of one shape, from the end of the queue; of a gang, enough of them or none."""
    need = shapes.Shape(shape.wants)
    found: list[tuple[_Place, int]] = []
    wanted, missing = shape.quorum(len(queue)), len(queue)
    for place in sorted(places, key=lambda place: _rank(shape, place)) if shape.prefer else places:
        if not missing:
            break
        if _unfit(shape, place.group[0], place.role) is not None:
            continue
        if times := place.room(need, missing):
            found.append((place, times))
            missing -= times
    if len(queue) - missing >= wanted:
        for place, times in found:
            place.tasks += [(queue.pop(), place.take(need)) for _ in range(times)]


def _rank(shape: Shape, place: _Place) -> int:
    """The agents it prefers come first, the best at the very first."""
    agent_id = place.group[0].agent_id.value
    return shape.prefer.index(agent_id) if agent_id in shape.prefer else len(shape.prefer)


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


def _shortage(shape: Shape, count: int, free: Resources) -> str:
    has = free.scalars()
    needs = shape.wants.scalars().items()
    short = [f"{name} {amount / 1000:g} wanted, {has.get(name, 0) / 1000:g} free" for name, amount in needs if has.get(name, 0) < amount]
    if not short and shapes.Shape(shape.wants).fits(free, shapes.is_uniform(free)):
        return f"{shape.quorum(count)} tasks are to start together; the offers have room for fewer"
    return "; ".join(short) or f"{{{shape.wants}}} wanted, {{{free}}} free"


def _sum(offers: Sequence[Offer]) -> Resources:
    total = Resources.of(offers[0].resources)
    for offer in offers[1:]:
        total += Resources.of(offer.resources)
    return total
