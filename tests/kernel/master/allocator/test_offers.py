"""Whole-agent offers: what is offered to frameworks that state no demand, refusals, suppression (spec: mesos-v1, 2.10, 7, 13.3)."""

from __future__ import annotations

import pytest

from kernel.master.allocator import AllocatorConfig, Demand, FrameworkOptions
from kernel.wire.constraints import Site
from kernel.wire.framework import MinAllocatableResources, OfferFilters, ResourceQuantities
from kernel.wire.resources import ReservationInfo, ReservationType, Resource, Resources, RevocableInfo, Scalar, ValueType
from kernel.wire.task import Attribute
from kernel.wire.values import Text
from tests.kernel.master.allocator.cluster import TestCluster, given, parse, who

AGENT = "cpus:2;mem:1024"


def one_each() -> TestCluster:
    """A framework and an agent."""
    cluster = TestCluster()
    cluster.framework("f1")
    cluster.agent("s1", AGENT)
    return cluster


def test_all_that_is_free_on_an_agent_goes_to_one_framework() -> None:
    cluster = TestCluster()
    cluster.framework("f1")
    cluster.framework("f2")
    cluster.agent("s1", "cpus:2;mem:1024;disk:10;ports:[1-9]")
    assert given(cluster.allocate()) == [("f1", "s1", "cpus:2; mem:1024; disk:10; ports:[1-9]")]


def test_nothing_is_offered_twice_and_a_pass_without_change_offers_nothing() -> None:
    cluster = one_each()
    assert who(cluster.allocate()) == ["f1"]
    assert not cluster.allocator.unsettled
    assert cluster.allocate() == []
    assert cluster.wait(10) == []


# ---- Refusals -------------------------------------------------------------------------------------------


def test_a_declined_agent_is_offered_again_when_the_refusal_ends() -> None:
    cluster = one_each()
    cluster.decline(*cluster.allocate(), refuse_s=5)
    assert cluster.wait(4.75) == []
    assert who(cluster.wait(0.25)) == ["f1"]


def test_others_are_offered_what_one_declined_at_once() -> None:
    cluster = one_each()
    cluster.framework("f2")
    cluster.decline(*cluster.allocate())
    assert who(cluster.allocate()) == ["f2"]


def test_a_refusal_shorter_than_the_interval_holds_for_the_interval() -> None:
    cluster = one_each()
    cluster.decline(*cluster.allocate(), refuse_s=0.1)
    assert cluster.wait(0.75) == []
    assert who(cluster.wait(0.25)) == ["f1"]


def test_declining_for_no_time_does_not_make_an_offer_go_to_and_fro() -> None:
    cluster = one_each()
    cluster.decline(*cluster.allocate(), refuse_s=0)
    assert cluster.allocate() == []
    assert who(cluster.wait(1)) == ["f1"]


def test_an_offer_taken_back_is_not_refused() -> None:
    cluster = one_each()
    cluster.rescind(*cluster.allocate())
    assert who(cluster.allocate()) == ["f1"]


def test_a_refusal_lasts_a_year_at_most() -> None:
    cluster = one_each()
    cluster.decline(*cluster.allocate(), refuse_s=1e300)
    assert cluster.allocator.next_due() == pytest.approx(cluster.now_s + 365 * 24 * 3600)


def test_more_than_was_refused_is_offered_again() -> None:
    cluster = one_each()
    cluster.agent("s2", AGENT)
    first, second = cluster.allocate()
    cluster.launch(first, "cpus:1;mem:512")  # The rest is refused.
    cluster.decline(second)
    assert cluster.allocate() == []
    cluster.finish()
    assert given(cluster.allocate()) == [("f1", "s1", "cpus:2; mem:1024")]


def test_a_part_of_what_was_refused_is_refused_too() -> None:
    cluster = TestCluster()
    cluster.agent("s1", AGENT)
    cluster.framework("f1")
    cluster.decline(*cluster.allocate())
    cluster.tasks.append(("f1", "*", "s1", parse("cpus:1;mem:512")))
    cluster.allocator.charge("f1", "*", "s1", parse("cpus:1;mem:512"))
    cluster.agent("s2", "cpus:1;mem:1")
    assert given(cluster.allocate()) == [("f1", "s2", "cpus:1; mem:1")]


def test_several_refusals_of_one_agent_each_hold_for_their_time() -> None:
    cluster = one_each()
    (offer,) = cluster.allocate()
    cluster.launch(offer, "cpus:1;mem:512", refuse_s=100)
    cluster.finish()
    cluster.decline(*cluster.allocate(), refuse_s=2)
    assert cluster.wait(1.75) == []
    assert who(cluster.wait(0.25)) == ["f1"]


def test_revive_lifts_refusals_and_suppression() -> None:
    cluster = one_each()
    cluster.decline(*cluster.allocate(), refuse_s=1000)
    cluster.allocator.suppress("f1", ())
    assert cluster.allocate() == []
    cluster.allocator.revive("f1", (), cluster.now)
    assert who(cluster.allocate()) == ["f1"]


def test_a_refusal_that_was_lifted_does_not_come_back() -> None:
    cluster = one_each()
    cluster.decline(*cluster.allocate(), refuse_s=10)
    cluster.allocator.revive("f1", (), cluster.now)
    cluster.decline(*cluster.allocate(), refuse_s=3)
    assert who(cluster.wait(3)) == ["f1"]
    assert cluster.wait(20) == []


def test_suppressing_and_reviving_act_on_the_roles_named() -> None:
    cluster = TestCluster()
    cluster.framework("f1", "a", "b")
    cluster.allocator.suppress("f1", ("a",))
    cluster.agent("s1", AGENT)
    (offer,) = cluster.allocate()
    assert offer.role == "b"
    cluster.decline(offer, refuse_s=1000)
    cluster.allocator.revive("f1", ("a",), cluster.now)
    (offer,) = cluster.allocate()
    assert offer.role == "a"
    cluster.decline(offer, refuse_s=1000)
    assert cluster.allocate() == []


def test_suppressing_takes_no_offer_back() -> None:
    cluster = one_each()
    cluster.allocate()
    cluster.allocator.suppress("f1", ())
    cluster.allocate()
    assert not cluster.rescinded
    assert len(cluster.offers) == 1


def test_a_framework_may_begin_suppressed() -> None:
    cluster = TestCluster()
    cluster.framework("f1", "a", "b", suppressed=("a", "b"))
    cluster.agent("s1", AGENT)
    assert cluster.allocate() == []


def test_deactivation_ends_offers_and_refusals() -> None:
    cluster = one_each()
    cluster.decline(*cluster.allocate(), refuse_s=1000)
    cluster.allocator.set_framework_active("f1", False)
    assert cluster.wait(10) == []
    cluster.allocator.set_framework_active("f1", True)
    assert who(cluster.allocate()) == ["f1"]


def test_an_offer_of_a_framework_that_left_is_not_refused_by_it() -> None:
    cluster = one_each()
    (offer,) = cluster.allocate()
    cluster.allocator.set_framework_active("f1", False)
    cluster.decline(offer)
    cluster.allocator.set_framework_active("f1", True)
    assert who(cluster.allocate()) == ["f1"]


def test_reactivation_takes_the_suppressed_roles_it_is_told() -> None:
    cluster = TestCluster()
    cluster.framework("f1", suppressed=("*",))
    cluster.agent("s1", AGENT)
    cluster.allocator.set_framework_active("f1", False)
    cluster.allocator.update_framework("f1", ("*",), (), FrameworkOptions())
    cluster.allocator.set_framework_active("f1", True)
    assert who(cluster.allocate()) == ["f1"]


def test_lifted_refusals_do_not_pile_up() -> None:
    cluster = one_each()
    for _ in range(5000):
        cluster.decline(*cluster.allocate(), refuse_s=100_000)
        cluster.allocator.revive("f1", (), cluster.now)
    assert len(cluster.allocator._state.refusals._due) < 2000


# ---- Agents ---------------------------------------------------------------------------------------------


def test_what_a_task_gives_back_is_offered_again() -> None:
    cluster = one_each()
    cluster.launch(*cluster.allocate())
    assert cluster.allocate() == []
    cluster.finish()
    assert given(cluster.allocate()) == [("f1", "s1", "cpus:2; mem:1024")]


@pytest.mark.parametrize(("total", "offered"), [("cpus:0.01;mem:1", True), ("mem:32", True), ("cpus:0.009;mem:31;disk:999", False)])
def test_an_agent_with_less_than_the_minimum_is_not_offered(total: str, offered: bool) -> None:
    cluster = TestCluster()
    cluster.framework("f1")
    cluster.agent("s1", total)
    assert bool(cluster.allocate()) == offered


def minimum(**quantities: float) -> ResourceQuantities:
    return ResourceQuantities({name: Scalar(value) for name, value in quantities.items()})


@pytest.mark.parametrize(
    ("minimums", "offered"),
    [((), True), ((minimum(cpus=1),), False), ((minimum(cpus=1), minimum(disk=5)), True), ((minimum(cpus=0.001, mem=2),), False)],
)
def test_a_framework_may_set_the_minimum_for_a_role(minimums: tuple[ResourceQuantities, ...], offered: bool) -> None:
    cluster = TestCluster()
    filters = {"*": OfferFilters(MinAllocatableResources(minimums))}
    cluster.framework("f1", options=FrameworkOptions(offer_filters=filters))
    cluster.agent("s1", "cpus:0.005;mem:1;disk:5")
    assert bool(cluster.allocate()) == offered


def test_only_whitelisted_agents_are_offered() -> None:
    cluster = TestCluster()
    cluster.framework("f1")
    cluster.agent("s1", AGENT, hostname="a")
    cluster.agent("s2", AGENT, hostname="b")
    cluster.allocator.set_whitelist(frozenset(["b"]))
    assert [offer.agent_id for offer in cluster.allocate()] == ["s2"]
    cluster.allocator.set_whitelist(None)
    assert [offer.agent_id for offer in cluster.allocate()] == ["s1"]


def test_an_inactive_agent_is_not_offered_until_it_is_active_again() -> None:
    cluster = TestCluster()
    cluster.framework("f1")
    cluster.agent("s1", AGENT)
    cluster.allocator.set_agent_active("s1", False)
    assert cluster.allocate() == []
    cluster.allocator.set_agent_active("s1", True)
    assert who(cluster.allocate()) == ["f1"]


def test_a_grown_agent_is_offered_again_though_it_was_refused() -> None:
    cluster = one_each()
    cluster.decline(*cluster.allocate(), refuse_s=1000)
    cluster.totals["s1"] = parse("cpus:3;mem:1024")
    cluster.allocator.update_agent("s1", parse("cpus:3;mem:1024"), Site("s1"), cluster.now)
    assert given(cluster.allocate()) == [("f1", "s1", "cpus:3; mem:1024")]


def test_other_attributes_lift_the_refusals_of_an_agent() -> None:
    cluster = one_each()
    cluster.decline(*cluster.allocate(), refuse_s=1000)
    cluster.allocator.update_agent("s1", parse(AGENT), Site("s1", (Attribute("rack", ValueType.TEXT, text=Text("r1")),)), cluster.now)
    assert who(cluster.allocate()) == ["f1"]


def test_an_agent_that_reports_more_used_than_it_has_offers_nothing() -> None:
    cluster = one_each()
    cluster.allocator.charge("f1", "*", "s1", parse("cpus:1;mem:2000"))
    (offer,) = cluster.allocator.allocate(cluster.now).allocations
    assert str(offer.resources) == "cpus:1"
    cluster.allocator.recover("f1", "*", "s1", parse("cpus:1;mem:2000"), cluster.now)
    (offer,) = cluster.allocator.allocate(cluster.now).allocations
    assert str(offer.resources) == "cpus:1; mem:1024"


def test_the_offers_of_a_removed_agent_or_framework_are_void() -> None:
    cluster = TestCluster()
    cluster.framework("f1")
    cluster.framework("f2")
    cluster.agent("s1", AGENT)
    cluster.agent("s2", AGENT)
    first, second = cluster.allocate()
    cluster.allocator.remove_agent("s1")
    cluster.allocator.remove_framework("f2")
    cluster.allocator.close_offers([first], parse("cpus:1"), 5.0, cluster.now)
    cluster.allocator.close_offers([second], parse("cpus:1"), 5.0, cluster.now)
    assert [view.allocated for view in cluster.allocator.shares()] == [{}]


# ---- What a framework can be offered --------------------------------------------------------------------


@pytest.mark.parametrize("filtering", [True, False])
def test_agents_with_gpus_are_for_frameworks_that_know_of_them(filtering: bool) -> None:
    cluster = TestCluster(filter_gpu_resources=filtering)
    cluster.framework("f1")
    cluster.agent("s1", "cpus:2;mem:1024;gpus:1")
    assert bool(cluster.allocate()) != filtering
    cluster.framework("f2", options=FrameworkOptions(gpu_aware=True))
    assert who(cluster.allocate()) == (["f2"] if filtering else [])


def test_what_is_reserved_goes_to_its_role_and_those_below() -> None:
    cluster = TestCluster()
    cluster.framework("f1", "a/b")
    cluster.framework("f2", "b")
    cluster.agent("s1", "cpus(a):2;mem(a):1024;cpus:1")
    assert given(cluster.allocate()) == [("f1", "s1", "cpus:1; cpus(a):2; mem(a):1024")]
    cluster.agent("s2", "cpus(a/b):2;mem:1024")
    assert given(cluster.allocate()) == [("f1", "s2", "cpus(a/b):2"), ("f2", "s2", "mem:1024")][::-1]


def test_what_is_reserved_below_does_not_go_to_the_role_above() -> None:
    cluster = TestCluster()
    cluster.framework("f1", "a")
    cluster.agent("s1", "cpus(a/b):2;mem(a/b):1024")
    assert cluster.allocate() == []


def revocable(cpus: float) -> Resources:
    return Resources.of([Resource("cpus", ValueType.SCALAR, Scalar(cpus), revocable=RevocableInfo())])


def test_revocable_resources_go_only_to_frameworks_that_take_them() -> None:
    cluster = TestCluster()
    cluster.framework("f1")
    cluster.agent("s1", AGENT)
    cluster.totals["s1"] = parse(AGENT) + revocable(1)
    cluster.allocator.update_agent("s1", cluster.totals["s1"], Site("s1"), cluster.now)
    assert given(cluster.allocate()) == [("f1", "s1", "cpus:2; mem:1024")]
    cluster.framework("f2", options=FrameworkOptions(revocable=True))
    (offer,) = cluster.allocate()
    assert (offer.framework_id, offer.resources) == ("f2", revocable(1))
    cluster.launch(offer)
    cluster.finish()
    assert who(cluster.allocate()) == ["f2"]


def test_refined_reservations_go_only_to_frameworks_that_know_them() -> None:
    stack = (ReservationInfo(ReservationType.STATIC, "a"), ReservationInfo(ReservationType.DYNAMIC, "a/b"))
    refined = Resources.of([Resource("cpus", ValueType.SCALAR, Scalar(1.0), reservations=stack)])
    cluster = TestCluster()
    cluster.framework("f1", "a/b")
    cluster.totals["s1"] = refined
    cluster.allocator.add_agent("s1", refined, Site("s1"), cluster.now)
    assert cluster.allocate() == []
    cluster.framework("f2", "a/b", options=FrameworkOptions(refined=True))
    assert who(cluster.allocate()) == ["f2"]


@pytest.mark.parametrize("demands", [False, True])
def test_ephemeral_ports_are_never_offered(demands: bool) -> None:
    cluster = TestCluster()
    cluster.framework("f1")
    if demands:
        shapes = (parse("cpus:2;ephemeral_ports:[1-2]"), parse("cpus:1"))
        cluster.allocator.request("f1", [Demand("", "*", shape) for shape in shapes], cluster.now)
    cluster.agent("s1", AGENT + ";ephemeral_ports:[1-9];ports:[1-9]")
    assert given(cluster.allocate()) == [("f1", "s1", "cpus:1" if demands else "cpus:2; mem:1024; ports:[1-9]")]


def test_a_role_the_framework_left_is_offered_no_more_and_counts_until_its_tasks_end() -> None:
    cluster = TestCluster()
    cluster.framework("f1", "a", "b", suppressed=("b",))
    cluster.agent("s1", AGENT)
    (offer,) = cluster.allocate()
    cluster.launch(offer, "cpus:1;mem:512", refuse_s=None)
    cluster.allocator.update_framework("f1", ("b",), (), FrameworkOptions())
    (offer,) = cluster.allocate()
    assert offer.role == "b"
    assert [(view.role, view.allocated, view.frameworks) for view in cluster.allocator.shares()] == [
        ("a", {"cpus": 1000, "mem": 512_000}, ()),
        ("b", {"cpus": 1000, "mem": 512_000}, ("f1",)),
    ]
    cluster.finish()
    assert [view.role for view in cluster.allocator.shares()] == ["b"]


# ---- Slices ---------------------------------------------------------------------------------------------


def test_a_pass_stops_within_its_budget_and_goes_on_where_it_stopped() -> None:
    def offers(budget_s: float) -> tuple[list[tuple[str, str, str]], int]:
        cluster = TestCluster()
        for index in range(10):
            cluster.framework(f"f{index}", f"role{index % 3}")
        for index in range(200):
            cluster.agent(f"s{index}", AGENT)
        clock = iter(range(10_000_000))
        made, passes = [], 0
        while cluster.allocator.unsettled:
            result = cluster.allocator.allocate(cluster.now, budget_s, lambda: float(next(clock)))
            made += result.allocations
            passes += 1
            assert result.finished != cluster.allocator.unsettled
        return given(made), passes

    whole, few = offers(1e9), offers(1)
    assert few[0] == whole[0]
    assert whole[1] == 1
    assert few[1] > 5


def test_nothing_is_due_when_nothing_can_change_by_itself() -> None:
    cluster = TestCluster(offer_hold_s=5.0)
    cluster.framework("f1")
    assert cluster.allocator.next_due() is None
    cluster.agent("s1", AGENT)
    (offer,) = cluster.allocate()
    assert cluster.allocator.next_due() == cluster.now_s + 5  # The offer will be old.
    cluster.decline(offer, refuse_s=2)
    assert cluster.allocator.next_due() == cluster.now_s + 2


def test_the_defaults_are_those_of_mesos() -> None:
    config = AllocatorConfig()
    assert (config.interval_s, config.min_allocatable, config.filter_gpu_resources) == (1.0, ({"cpus": 10}, {"mem": 32_000}), True)
