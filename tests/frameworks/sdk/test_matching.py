"""Which task goes where: values in, values out."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from frameworks.sdk.matching import match
from frameworks.sdk.tasks import Shape, TaskBook, TaskRecord, resources, task
from kernel.wire.common import DomainInfo, FaultDomain, RegionInfo, TimeInfo, ZoneInfo
from kernel.wire.ids import AgentID, FrameworkID, OfferID
from kernel.wire.nodes import Attribute, Unavailability
from kernel.wire.offer import (
    AttributeConstraint,
    ConstraintGroup,
    Exists,
    Offer,
    Predicate,
    RoleConstraints,
    Selector,
)
from kernel.wire.resources import EMPTY, AllocationInfo, ReservationInfo, ReservationType, Resources
from kernel.wire.values import Text, ValueType


def offer(number: int, agent: str = "a1", role: str = "*", attributes: tuple[Attribute, ...] = (), **amounts: float) -> Offer:
    return Offer(
        OfferID(f"o{number}"),
        FrameworkID("f"),
        AgentID(agent),
        f"host-{agent}",
        domain=DomainInfo(FaultDomain(RegionInfo("eu"), ZoneInfo("eu-1"))),
        resources=resources(**amounts).messages(role),
        attributes=attributes,
        allocation_info=AllocationInfo(role),
    )


def book(*shapes: tuple[Shape, int]) -> TaskBook:
    made = TaskBook()
    for index, (shape, count) in enumerate(shapes):
        for number in range(count):
            made.add(TaskRecord(task(f"t{index}-{number}", "true"), shape))
    return made


def placed(found: TaskBook, *offers: Offer) -> dict[str, list[str]]:
    """Offer ids joined by + to the ids of the tasks placed on them."""
    bundles = match(found.waiting(), offers).bundles
    return {"+".join(one.id.value for one in bundle.offers): [record.task_id for record, _ in bundle.tasks] for bundle in bundles}


ONE = Shape(resources(cpus=1, mem=100), "*")


def test_offers_are_filled_one_after_the_other_in_the_order_tasks_came() -> None:
    offers = offer(1, "a1", cpus=2, mem=1000), offer(2, "a2", cpus=2, mem=1000)
    assert placed(book((ONE, 3)), *offers) == {"o1": ["t0-0", "t0-1"], "o2": ["t0-2"]}


def test_small_tasks_go_where_a_large_one_does_not_fit() -> None:
    large = Shape(resources(cpus=8), "*")
    assert placed(book((large, 1), (ONE, 1)), offer(1, cpus=2, mem=1000)) == {"o1": ["t1-0"]}


def test_higher_priority_goes_first() -> None:
    urgent = Shape(resources(cpus=1, mem=100), "*", priority=5)
    assert placed(book((ONE, 1), (urgent, 1)), offer(1, cpus=1, mem=1000)) == {"o1": ["t1-0"]}


def test_offers_of_one_agent_add_up() -> None:
    offers = offer(1, cpus=1, mem=500), offer(2, cpus=1, mem=500)
    assert placed(book((Shape(resources(cpus=2, mem=800), "*"), 1)), *offers) == {"o1+o2": ["t0-0"]}


def test_offers_for_other_roles_and_agents_are_refused_with_the_reason() -> None:
    role, agent = Shape(resources(cpus=1), "web"), Shape(resources(cpus=1), "*", agent_id="a9")
    matching = match(book((role, 1), (agent, 1)).waiting(), [offer(1, cpus=4)])
    assert [refusal.reason for refusal in matching.refusals] == ["offered to role *, wanted by web", "must run on agent a9"]


def test_a_shortage_names_what_is_short() -> None:
    (refusal,) = match(book((Shape(resources(cpus=1, mem=500), "*"), 1)).waiting(), [offer(1, cpus=4, mem=100)]).refusals
    assert refusal.reason == "mem 500 wanted, 100 free"


def test_nothing_is_refused_when_nothing_waits() -> None:
    matching = match(book((ONE, 1)).waiting(), [offer(1, cpus=4, mem=500), offer(2, "a2", cpus=4)])
    assert matching.refusals == ()
    assert [len(bundle.tasks) for bundle in matching.bundles] == [1, 0]


def test_ports_are_taken_out_of_an_offer() -> None:
    wants = Resources.parse("cpus:1;ports:[31000-31001]")
    one = Offer(OfferID("o1"), FrameworkID("f"), AgentID("a1"), "h", resources=Resources.parse("cpus:4;ports:[31000-31002]").messages("*"))
    (bundle,) = match(book((Shape(wants, "*"), 2)).waiting(), [one]).bundles
    assert len(bundle.tasks) == 1
    assert str(bundle.left) == "cpus:3; ports:[31002-31002]"


# ---- Reservations ---------------------------------------------------------------------------------------


def reserved(role: str, amounts: Resources) -> Resources:
    key = (ReservationInfo(ReservationType.DYNAMIC, role),)
    return Resources.made_of((replace(one, reservations=key), amount) for one, amount in amounts.parts())


def of_eng(number: int, *parts: Resources) -> Offer:
    return replace(offer(number, role="eng/db"), resources=sum(parts, EMPTY).messages("eng/db"))


def test_what_is_reserved_for_the_role_and_above_goes_first_the_narrowest_at_the_very_first() -> None:
    one = of_eng(1, resources(cpus=4, mem=500), reserved("eng", resources(cpus=1)), reserved("eng/db", resources(cpus=0.5)))
    (bundle,) = match(book((Shape(resources(cpus=1, mem=100), "eng/db"), 2)).waiting(), [one]).bundles
    assert [str(part) for _, part in bundle.tasks] == [
        "mem:100; cpus(reservations: [(DYNAMIC,eng)]):0.5; cpus(reservations: [(DYNAMIC,eng/db)]):0.5",
        "cpus:0.5; mem:100; cpus(reservations: [(DYNAMIC,eng)]):0.5",
    ]
    assert str(bundle.left) == "cpus:3.5; mem:300"


def test_a_task_that_only_the_sum_is_enough_for_runs() -> None:
    one = of_eng(1, resources(cpus=0.2, mem=100), reserved("eng", resources(cpus=0.3)))
    assert placed(book((Shape(resources(cpus=0.5, mem=32), "eng/db"), 1)), one) == {"o1": ["t0-0"]}
    (refusal,) = match(book((Shape(resources(cpus=0.6, mem=32), "eng/db"), 1)).waiting(), [one]).refusals
    assert refusal.reason == "cpus 0.6 wanted, 0.5 free"


# ---- Gangs ----------------------------------------------------------------------------------------------

GANG = Shape(resources(cpus=1, mem=100), "*", gang="g")


def test_a_gang_is_placed_whole_over_all_offers() -> None:
    offers = offer(1, "a1", cpus=2, mem=1000), offer(2, "a2", cpus=2, mem=1000)
    assert placed(book((GANG, 3)), *offers) == {"o1": ["t0-0", "t0-1"], "o2": ["t0-2"]}


def test_a_gang_that_does_not_fit_whole_is_placed_nowhere_and_says_why() -> None:
    offers = offer(1, "a1", cpus=2, mem=1000), offer(2, "a2", cpus=2, mem=1000)
    assert placed(book((GANG, 5), (ONE, 3)), *offers) == {"o1": ["t1-0", "t1-1"], "o2": ["t1-2"]}
    refusals = match(book((GANG, 5)).waiting(), offers).refusals
    assert {refusal.reason for refusal in refusals} == {"5 tasks are to start together; the offers have room for fewer"}


def test_a_gang_may_say_how_many_at_least() -> None:
    some = Shape(resources(cpus=1, mem=100), "*", gang="g", min=3)
    assert placed(book((some, 9)), offer(1, cpus=4, mem=1000)) == {"o1": ["t0-0", "t0-1", "t0-2", "t0-3"]}
    assert placed(book((some, 9)), offer(1, cpus=2, mem=1000)) == {"o1": []}


def test_gangs_of_other_names_are_others() -> None:
    other = Shape(resources(cpus=1, mem=100), "*", gang="h")
    assert placed(book((GANG, 3), (other, 2)), offer(1, cpus=4, mem=1000)) == {"o1": ["t0-0", "t0-1", "t0-2"]}


def test_the_demand_of_a_gang_says_how_many_start_together() -> None:
    assert [(GANG.request(count).name, GANG.request(count).min) for count in (1, 4)] == [("/g", None), ("/g", 4)]
    assert Shape(resources(cpus=1), "*", name="n", gang="g", min=2).request(4).min == 2
    assert ONE.request(4).min is None


# ---- Locality -------------------------------------------------------------------------------------------


def test_agents_that_are_preferred_are_filled_first() -> None:
    shape = Shape(resources(cpus=1), "*", prefer=("a3", "a2"))
    offers = [offer(number, f"a{number}", cpus=1) for number in (1, 2, 3)]
    assert placed(book((shape, 2)), *offers) == {"o1": [], "o2": ["t0-1"], "o3": ["t0-0"]}
    assert [agent_id.value for agent_id in shape.request(2).prefer] == ["a3", "a2"]


# ---- Constraints ----------------------------------------------------------------------------------------

RACK = Selector(attribute_name="rack")


def test_a_constrained_task_waits_for_the_right_agent() -> None:
    shape = Shape(resources(cpus=1), "*", RoleConstraints((ConstraintGroup((AttributeConstraint(RACK, Predicate(exists=Exists())),)),)))
    offers = offer(1, "a1", cpus=4), offer(2, "a2", attributes=(Attribute("rack", ValueType.TEXT, text=Text("r1")),), cpus=4)
    assert placed(book((shape, 1)), *offers) == {"o1": [], "o2": ["t0-0"]}


# ---- Properties -----------------------------------------------------------------------------------------

amounts = st.builds(Resources, cpus=st.integers(0, 4000), mem=st.integers(0, 4000), gpus=st.sampled_from([0, 1000]))
pieces = st.builds(lambda plain, more: plain + reserved("eng", more) + reserved("eng/db", more), amounts, st.just(EMPTY) | amounts)


@settings(deadline=None)
@given(st.lists(st.tuples(amounts, st.integers(1, 5)), max_size=5), st.lists(st.tuples(st.sampled_from("abc"), pieces), max_size=6))
def test_no_agent_gets_more_than_it_offered_and_no_task_goes_twice(
    wants: list[tuple[Resources, int]], had: list[tuple[str, Resources]]
) -> None:
    waiting = book(*((Shape(wanted, "*", name=str(index)), count) for index, (wanted, count) in enumerate(wants)))
    offers = [
        Offer(OfferID(f"o{index}"), FrameworkID("f"), AgentID(agent), agent, resources=amount.messages("*"))
        for index, (agent, amount) in enumerate(had)
    ]
    matching = match(waiting.waiting(), offers)
    assert sorted(one.id.value for bundle in matching.bundles for one in bundle.offers) == sorted(one.id.value for one in offers)
    launched = [record.task_id for bundle in matching.bundles for record, _ in bundle.tasks]
    assert len(launched) == len(set(launched))
    for bundle in matching.bundles:
        total = sum((Resources.of(one.resources) for one in bundle.offers), EMPTY)
        assert sum((part for _, part in bundle.tasks), bundle.left) == total
        assert all(part.scalars() == record.shape.wants.scalars() for record, part in bundle.tasks)
        for shape, records in waiting.waiting():  # Whoever still waits did not fit into what is left.
            if any(task_id not in launched for task_id in records):
                assert any(bundle.left.scalars().get(name, 0) < amount for name, amount in shape.wants.scalars().items())


def test_agents_that_are_to_be_under_maintenance_come_last() -> None:
    def planned(number: int, start_ns: int | None) -> Offer:
        made = offer(number, f"a{number}", cpus=1, mem=1000)
        return made if start_ns is None else replace(made, unavailability=Unavailability(TimeInfo(start_ns)))

    offers = planned(1, 10), planned(2, 20), planned(3, None)
    assert placed(book((ONE, 1)), *offers) == {"o3": ["t0-0"], "o2": [], "o1": []}
    assert placed(book((ONE, 2)), *offers) == {"o3": ["t0-0"], "o2": ["t0-1"], "o1": []}
    assert placed(book((ONE, 3)), *offers)["o1"] == ["t0-2"]
