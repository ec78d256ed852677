"""Offers cut to a stated demand (REQUEST), beside whole-agent offers (design, section 3 "Allocator")."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kernel.errors import CallError
from kernel.master.allocator import Why
from tests.kernel.master.allocator.cluster import TestCluster, demand, given, parse, who


def asking(*agents: str) -> TestCluster:
    """Agents, and a framework f1 that states its demand: none yet."""
    cluster = TestCluster()
    cluster.framework("f1", demands=True)
    for index, total in enumerate(agents):
        cluster.agent(f"s{index + 1}", total)
    assert cluster.allocate() == []
    return cluster


def why(cluster: TestCluster, framework_id: str = "f1") -> list[tuple[str, int, int, Why]]:
    return [(reason.name, reason.waiting, reason.offered, reason.why) for reason in cluster.allocator.explain(framework_id)]


# ---- Cutting --------------------------------------------------------------------------------------------


def test_an_offer_is_cut_to_the_demand() -> None:
    cluster = asking("cpus:4;mem:4096;ports:[1-9]")
    cluster.request("f1", demand("cpus:1;mem:100", 2))
    assert given(cluster.allocate()) == [("f1", "s1", "cpus:2; mem:200")]
    assert cluster.allocate() == []


def test_a_large_demand_is_met_with_few_large_offers() -> None:
    cluster = asking("cpus:64;mem:65536", "cpus:64;mem:65536")
    cluster.request("f1", demand("cpus:0.1;mem:32", 1000))
    assert given(cluster.allocate()) == [("f1", "s1", "cpus:50; mem:16000"), ("f1", "s2", "cpus:50; mem:16000")]


def test_what_does_not_fit_on_one_agent_goes_to_others() -> None:
    cluster = asking("cpus:2;mem:1000", "cpus:10;mem:1000")
    cluster.request("f1", demand("cpus:1;mem:10", 10))
    cluster.allocate()
    cpus: dict[str, int] = {}
    for offer in cluster.offers:
        cpus[offer.agent_id] = cpus.get(offer.agent_id, 0) + offer.resources.cpus
    assert cpus == {"s1": 2000, "s2": 8000}


def test_a_few_tasks_are_spread_over_agents() -> None:
    cluster = asking(*["cpus:8;mem:8000"] * 8)
    cluster.request("f1", demand("cpus:0.1;mem:32", 5))
    assert len({offer.agent_id for offer in cluster.allocate()}) == 5
    cluster.request("f1", demand("cpus:0.1;mem:32", 8))
    cluster.allocate()
    assert len({offer.agent_id for offer in cluster.offers}) == 8


def test_different_shapes_share_an_offer() -> None:
    cluster = asking("cpus:8;mem:8000")
    cluster.request("f1", demand("cpus:1;mem:32", 2, name="a"), demand("cpus:0.5;mem:1000;disk:0", 1, name="b"))
    assert given(cluster.allocate()) == [("f1", "s1", "cpus:2.5; mem:1064")]


def test_a_number_of_ports_means_any_and_a_range_means_these() -> None:
    cluster = asking("cpus:8;mem:8000;ports:[100-109]")
    cluster.request("f1", demand("cpus:1;mem:32;ports:2", 2), demand("cpus:1;mem:32;ports:[107-107]", 5))
    cluster.allocate()
    assert sorted(given(cluster.offers)) == [("f1", "s1", "cpus:3; mem:96; ports:[100-103, 107-107]")]
    assert why(cluster) == [("", 4, 1, Why.NO_FREE)]


def test_custom_scalars_sets_and_gpus_can_be_asked_for() -> None:
    cluster = asking("cpus:8;mem:8000;licences:3;zones:{a,b}")
    cluster.request("f1", demand("cpus:1;licences:2", 2), demand("cpus:1;zones:{b}", 1))
    cluster.allocate()
    assert sorted(given(cluster.offers)) == [("f1", "s1", "cpus:2; licences:2; zones:{b}")]


def test_reservations_of_the_role_are_used_before_what_is_free_for_all() -> None:
    cluster = TestCluster()
    cluster.framework("f1", "a/b", demands=True)
    cluster.agent("s1", "cpus(a):1;cpus(a/b):1;cpus(c):5;cpus:5;mem:1000")
    cluster.request("f1", demand("cpus:1.5;mem:100", 2, role="a/b"))
    (offer,) = cluster.allocate()
    assert offer.resources == parse("cpus(a/b):1;cpus(a):1;cpus:1;mem:200")


def test_a_demand_may_name_its_agent() -> None:
    cluster = asking("cpus:8;mem:8000", "cpus:8;mem:8000")
    cluster.request("f1", demand("cpus:1;mem:32", 20, agent="s2"))
    assert given(cluster.allocate()) == [("f1", "s2", "cpus:8; mem:256")]


def test_a_higher_priority_comes_first_within_a_framework() -> None:
    cluster = asking("cpus:3;mem:8000")
    cluster.request("f1", demand("cpus:1;mem:1", 9, name="low"), demand("cpus:1;mem:2", 2, name="high", priority=5))
    assert given(cluster.allocate()) == [("f1", "s1", "cpus:3; mem:5")]
    assert why(cluster) == [("low", 8, 1, Why.NO_FREE)]


def test_a_demand_below_the_minimum_for_whole_offers_is_met() -> None:
    cluster = asking("cpus:1;mem:1000")
    cluster.request("f1", demand("cpus:0.001;mem:1"))
    assert given(cluster.allocate()) == [("f1", "s1", "cpus:0.001; mem:1")]


def test_a_demand_for_a_foreign_role_is_refused() -> None:
    with pytest.raises(CallError, match="'x' is not one of the framework's roles"):
        asking().request("f1", demand("cpus:1", role="x"))


# ---- What is asked for, offered and launched ------------------------------------------------------------


def test_what_is_launched_is_not_offered_again() -> None:
    cluster = asking("cpus:8;mem:8000")
    cluster.request("f1", demand("cpus:1;mem:32", 3))
    (offer,) = cluster.allocate()
    cluster.launch(offer, *["cpus:1;mem:32"] * 3)
    assert cluster.allocate() == []
    assert why(cluster) == []


def test_what_is_not_launched_of_an_offer_is_offered_again_elsewhere_or_later() -> None:
    cluster = asking("cpus:3;mem:8000")
    cluster.request("f1", demand("cpus:1;mem:32", 3))
    (offer,) = cluster.allocate()
    cluster.launch(offer, "cpus:1;mem:32")
    assert cluster.allocate() == []
    assert why(cluster) == [("", 2, 0, Why.FILTERS)]
    assert given(cluster.wait(5)) == [("f1", "s1", "cpus:2; mem:64")]


def test_tasks_with_other_ports_than_asked_for_count_as_asked_for() -> None:
    cluster = asking("cpus:3;mem:8000;ports:[1-9]")
    cluster.request("f1", demand("cpus:1;mem:32;ports:2", 1))
    (offer,) = cluster.allocate()
    cluster.launch(offer, "cpus:1;mem:32;ports:[1-2]")
    assert cluster.allocate() == []


def test_the_same_demand_said_again_is_covered_by_open_offers() -> None:
    cluster = asking("cpus:8;mem:8000")
    cluster.request("f1", demand("cpus:1;mem:32", 3))
    assert len(cluster.allocate()) == 1
    cluster.request("f1", demand("cpus:1;mem:32", 3))
    assert cluster.allocate() == []
    cluster.request("f1", demand("cpus:1;mem:32", 5))
    assert given(cluster.allocate()) == [("f1", "s1", "cpus:2; mem:64")]


def test_open_offers_cover_a_changed_demand_as_far_as_it_fits() -> None:
    cluster = asking("cpus:8;mem:8000")
    cluster.request("f1", demand("cpus:1;mem:32", 4, name="old"))
    assert given(cluster.allocate()) == [("f1", "s1", "cpus:4; mem:128")]
    cluster.request("f1", demand("cpus:2;mem:32", 3, name="new"))
    assert given(cluster.allocate()) == [("f1", "s1", "cpus:2; mem:32")]


def test_whole_offers_made_before_cover_the_first_demand() -> None:
    cluster = TestCluster()
    cluster.framework("f1")
    cluster.agent("s1", "cpus:4;mem:4000")
    cluster.agent("s2", "cpus:4;mem:4000")
    whole = cluster.allocate()
    cluster.request("f1", demand("cpus:3;mem:32", 2))
    assert cluster.allocate() == []
    cluster.decline(*whole, refuse_s=None)
    assert len(cluster.allocate()) == 2


def test_an_empty_request_clears_the_demand_and_keeps_its_mode() -> None:
    cluster = asking("cpus:1;mem:1000")
    cluster.request("f1", demand("cpus:2;mem:32"))
    assert cluster.allocate() == []
    cluster.request("f1")
    cluster.agent("s2", "cpus:4;mem:4000")
    assert cluster.allocate() == []
    assert why(cluster) == []


def test_whole_agents_are_offered_again_after_the_demand_is_forgotten() -> None:
    cluster = asking("cpus:4;mem:4000")
    cluster.request("f1", demand("cpus:5;mem:1"))
    cluster.allocator.forget_demand("f1")
    assert given(cluster.allocate()) == [("f1", "s1", "cpus:4; mem:4000")]


def test_a_demand_waits_for_what_is_freed() -> None:
    cluster = asking("cpus:2;mem:1000")
    cluster.request("f1", demand("cpus:1;mem:32", 5))
    (offer,) = cluster.allocate()
    cluster.launch(offer, *["cpus:1;mem:32"] * 2)
    for waiting in (3, 2, 1):
        assert why(cluster) == [("", waiting, 0, Why.NO_FREE)]
        cluster.finish()
        (offer,) = cluster.allocate()
        cluster.launch(offer)
    assert why(cluster) == []


def test_a_new_demand_is_met_from_agents_that_have_not_changed() -> None:
    cluster = asking("cpus:2;mem:1000", "cpus:9;mem:1000")
    cluster.request("f1", demand("cpus:20;mem:1", name="too large"))
    assert cluster.allocate() == []
    cluster.request("f1", demand("cpus:20;mem:1", name="too large"), demand("cpus:9;mem:1", name="fits"))
    assert given(cluster.allocate()) == [("f1", "s2", "cpus:9; mem:1")]


def test_saying_the_same_again_does_not_search_all_agents_again() -> None:
    cluster = asking("cpus:2;mem:1000")
    cluster.request("f1", demand("cpus:20;mem:1", 1))
    cluster.allocate()
    cluster.request("f1", demand("cpus:20;mem:1", 7))
    assert not cluster.allocator._state.dirty_leaves


# ---- Refusals -------------------------------------------------------------------------------------------


def test_a_declined_cut_is_refused_for_its_time_and_offered_on_another_agent() -> None:
    cluster = asking("cpus:2;mem:1000", "cpus:2;mem:1000")
    cluster.request("f1", demand("cpus:1;mem:32"))
    (first,) = cluster.allocate()
    cluster.decline(first)
    (second,) = cluster.allocate()
    assert first.agent_id != second.agent_id
    cluster.decline(second)
    assert cluster.allocate() == []
    assert len(cluster.wait(5)) == 1


def test_a_request_lifts_refusals_made_for_no_time_only() -> None:
    cluster = asking("cpus:2;mem:1000")
    for refuse_s, again in ((0.0, True), (5.0, False)):
        cluster.request("f1", demand("cpus:1;mem:32"))
        (offer,) = cluster.allocate()
        cluster.decline(offer, refuse_s=refuse_s)
        assert cluster.allocate() == []
        cluster.request("f1", demand("cpus:1;mem:32"))
        assert bool(cluster.allocate()) == again
        cluster.rescind(*cluster.offers)


# ---- Beside whole-agent offers --------------------------------------------------------------------------


def hoarded(agents: int = 2, **config: object) -> TestCluster:
    """Whole-agent frameworks w1 and w2 hold every agent in open offers; f1 states demands, w2 has the higher share."""
    cluster = TestCluster(**config)
    cluster.framework("w1")
    for index in range(agents):
        cluster.agent(f"s{index + 1}", "cpus:4;mem:4000")
    cluster.allocate()
    cluster.framework("w2")
    cluster.agent("big1", "cpus:8;mem:8000")
    cluster.agent("big2", "cpus:8;mem:8000")
    cluster.allocate()
    cluster.framework("f1", demands=True)
    return cluster


def test_small_demands_are_met_beside_whole_agent_offers() -> None:
    cluster = TestCluster()
    cluster.framework("f1", demands=True)
    cluster.framework("w1")
    cluster.request("f1", demand("cpus:1;mem:100"))
    cluster.agent("s1", "cpus:4;mem:4000")
    assert sorted(given(cluster.allocate())) == [("f1", "s1", "cpus:1; mem:100"), ("w1", "s1", "cpus:3; mem:3900")]


def test_an_old_whole_agent_offer_is_taken_back_for_a_demand_that_fits_only_there() -> None:
    cluster = hoarded()
    cluster.request("f1", demand("cpus:1;mem:100"))
    assert cluster.wait(4.75) == []
    offers = cluster.wait(0.5)
    assert len(cluster.rescinded) == 1
    assert ("f1", "cpus:1; mem:100") in [(offer.framework_id, str(offer.resources)) for offer in offers]
    assert len([offer for offer in cluster.offers if offer.framework_id == "f1"]) == 1
    assert cluster.wait(30) == []  # One was enough.
    assert len(cluster.rescinded) == 1


def test_the_framework_with_the_highest_share_gives_way() -> None:
    cluster = hoarded()
    cluster.request("f1", demand("cpus:1;mem:100"))
    cluster.wait(6)
    assert [offer.framework_id for offer in cluster.rescinded] == ["w2"]


def test_an_offer_that_would_not_help_is_left_alone() -> None:
    cluster = hoarded()
    cluster.request("f1", demand("cpus:5;mem:100"), demand("cpus:100;mem:1"))
    cluster.wait(6)
    assert [offer.agent_id[:3] for offer in cluster.rescinded] == ["big"]
    cluster.request("f1", demand("cpus:9;mem:100"), demand("cpus:100;mem:1"))
    cluster.wait(20)
    assert len(cluster.rescinded) == 1


def test_no_offer_is_taken_back_while_the_demand_fits_a_free_piece() -> None:
    cluster = hoarded()
    cluster.wait(10)
    cluster.allocator.suppress("w1", ())
    cluster.allocator.suppress("w2", ())
    cluster.agent("free", "cpus:1;mem:1000")
    cluster.request("f1", demand("cpus:1;mem:100"))
    assert given(cluster.allocate()) == [("f1", "free", "cpus:1; mem:100")]
    cluster.wait(10)
    assert not cluster.rescinded


def test_a_demand_that_begins_to_wait_finds_offers_that_are_old_already() -> None:
    cluster = hoarded()
    cluster.wait(100)
    cluster.request("f1", demand("cpus:1;mem:100"))
    assert who(cluster.allocate()).count("f1") == 1


def test_what_is_free_beside_an_old_offer_counts_with_it() -> None:
    """w1's offer of 2 cpus is not enough for 4; with the 2 that a task gives back it is."""
    cluster = TestCluster()
    cluster.framework("w1")
    cluster.agent("s1", "cpus:4;mem:4000")
    (offer,) = cluster.allocate()
    cluster.launch(offer, "cpus:2;mem:2000", refuse_s=None)
    (offer,) = cluster.allocate()
    cluster.allocator.suppress("w1", ())
    cluster.framework("f1", demands=True)
    cluster.request("f1", demand("cpus:4;mem:100"))
    cluster.wait(10)
    assert not cluster.rescinded
    cluster.finish()
    assert given(cluster.allocate()) == [("f1", "s1", "cpus:4; mem:100")]
    assert cluster.rescinded == [offer]


def test_a_large_demand_gets_half_of_what_came_back_at_a_time() -> None:
    cluster = TestCluster()
    cluster.framework("w1")
    cluster.agent("s1", "cpus:8;mem:8000")
    cluster.allocate()
    cluster.framework("f1", demands=True)
    cluster.request("f1", demand("cpus:1;mem:100", 100))
    offers = cluster.wait(5.25)
    assert given(offers)[0] == ("f1", "s1", "cpus:4; mem:400")


def test_a_demand_withdrawn_frees_what_was_kept_for_it() -> None:
    cluster = hoarded(1)
    cluster.wait(10)
    cluster.request("f1", demand("cpus:8;mem:100"))
    result = cluster.allocator.allocate(cluster.now)
    (taken,) = result.rescind
    cluster.request("f1")
    cluster.rescind(taken)
    assert who(cluster.allocate()) in (["w1"], ["w2"])


# ---- Starvation -----------------------------------------------------------------------------------------


def test_a_large_demand_does_not_starve_beside_small_ones() -> None:
    """Small tasks fill each piece as it becomes free; after 60 s one agent is kept for the large one."""
    cluster = TestCluster()
    cluster.framework("small", demands=True)
    cluster.framework("large", demands=True)
    for index in range(2):
        cluster.agent(f"s{index}", "cpus:4;mem:4000")
    cluster.request("small", demand("cpus:1;mem:100", 100_000))
    cluster.allocate()
    for offer in list(cluster.offers):
        cluster.launch(offer, *["cpus:1;mem:100"] * (offer.resources.cpus // 1000))
    cluster.request("large", demand("cpus:4;mem:100", name="large"))
    started_s = cluster.now_s
    while "large" not in who(cluster.offers):
        assert cluster.now_s < started_s + 80
        cluster.finish(0)  # The oldest task.
        cluster.allocate()
        for offer in list(cluster.offers):
            if offer.framework_id == "small":
                cluster.launch(offer)
        cluster.wait(1)
    assert cluster.now_s >= started_s + 60
    assert [reason.why for reason in cluster.allocator.explain("small")] == [Why.NO_FREE]


def kept(cluster: TestCluster) -> list[str]:
    return [agent.agent_id for agent in cluster.allocator._state.agents.values() if agent.claim is not None]


def starving(*agents: str) -> TestCluster:
    """f1 waits for 4 cpus; of each agent, only a part is free, the rest runs tasks of `other`."""
    cluster = TestCluster()
    cluster.framework("other", demands=True)
    cluster.framework("f1", demands=True)
    for index, used in enumerate(agents):
        cluster.agent(f"s{index + 1}", "cpus:4;mem:4000")
        cluster.tasks.append(("other", "*", f"s{index + 1}", parse(used)))
        cluster.allocator.charge("other", "*", f"s{index + 1}", parse(used))
    cluster.request("f1", demand("cpus:4;mem:100", name="large"))
    cluster.allocate()
    return cluster


def test_the_agent_that_lacks_least_is_kept() -> None:
    cluster = starving("cpus:3", "cpus:1", "cpus:2")
    cluster.wait(59)
    assert kept(cluster) == []
    cluster.wait(2)
    assert kept(cluster) == ["s2"]
    assert why(cluster) == [("large", 1, 0, Why.CLAIMED)]


def test_nothing_else_is_offered_on_an_agent_that_is_kept() -> None:
    cluster = starving("cpus:1", "cpus:3")
    cluster.wait(61)
    cluster.framework("whole")
    cluster.request("other", demand("cpus:0.5;mem:1", 100))
    cluster.allocate()
    assert {offer.agent_id for offer in cluster.offers} == {"s2"}
    cluster.finish(0)
    assert ("f1", "s1", "cpus:4; mem:100") in given(cluster.allocate())
    assert kept(cluster) == []


def test_an_agent_kept_in_vain_is_changed_for_another_each_for_twice_as_long() -> None:
    cluster = starving("cpus:1", "cpus:2", "cpus:3")
    order = []
    cluster.wait(0.5)
    for minutes in (1, 1, 2, 4):
        cluster.wait(60 * minutes)
        order += kept(cluster)
    assert order == ["s1", "s2", "s3", "s1"]


def test_an_agent_that_drains_slowly_is_kept() -> None:
    cluster = TestCluster()
    cluster.framework("f1", demands=True)
    cluster.framework("other")
    for name in ("s1", "s2"):
        cluster.agent(name, "cpus:4;mem:4000")
        for _ in range(4):
            cluster.tasks.append(("other", "*", name, parse("cpus:1")))
            cluster.allocator.charge("other", "*", name, parse("cpus:1"))
    cluster.allocator.suppress("other", ())
    cluster.request("f1", demand("cpus:4;mem:100"))
    cluster.wait(62)
    for _ in range(3):
        cluster.finish(0)  # One of s1.
        cluster.wait(60)
        assert kept(cluster) == ["s1"]
    cluster.finish(0)
    assert who(cluster.allocate()) == ["f1"]


@pytest.mark.parametrize(
    "end",
    [
        lambda cluster: cluster.request("f1"),
        lambda cluster: cluster.allocator.suppress("f1", ()),
        lambda cluster: cluster.allocator.set_framework_active("f1", False),
        lambda cluster: cluster.allocator.forget_demand("f1"),
        lambda cluster: cluster.remove_framework("f1"),
    ],
    ids=["withdrawn", "suppressed", "inactive", "forgotten", "removed"],
)
def test_an_agent_is_kept_no_longer_than_its_demand_waits(end: Callable[[TestCluster], None]) -> None:
    cluster = starving("cpus:1")
    cluster.wait(61)
    assert kept(cluster) == ["s1"]
    end(cluster)
    cluster.request("other", demand("cpus:3;mem:1"))
    assert cluster.allocate()
    assert kept(cluster) == []


@pytest.mark.parametrize("demands", [False, True])
def test_offers_that_are_not_answered_do_not_keep_a_starving_demand_from_its_agent(demands: bool) -> None:
    cluster = starving("cpus:1")
    cluster.framework("silent", demands=demands)
    if demands:
        cluster.request("silent", demand("cpus:2;mem:1"))
    assert who(cluster.allocate()) == ["silent"]
    cluster.wait(61)
    assert who(cluster.rescinded) == ["silent"]
    cluster.finish()
    assert given(cluster.allocate())[0] == ("f1", "s1", "cpus:4; mem:100")


def test_another_agent_is_kept_when_the_first_one_is_lost() -> None:
    cluster = starving("cpus:1", "cpus:2")
    cluster.wait(61)
    cluster.remove_agent("s1")
    cluster.allocate()
    assert kept(cluster) == []
    cluster.wait(61)
    assert kept(cluster) == ["s2"]


def test_what_can_never_fit_keeps_no_agent() -> None:
    cluster = starving("cpus:1")
    cluster.request("f1", demand("cpus:5;mem:1"))
    cluster.wait(200)
    assert kept(cluster) == []


# ---- Explaining -----------------------------------------------------------------------------------------


def test_each_waiting_demand_has_its_reason() -> None:
    cluster = TestCluster()
    cluster.framework("f1", "a", demands=True)
    cluster.request("f1", demand("cpus:1;mem:1", 3, role="a", name="d"))
    assert why(cluster) == [("d", 3, 0, Why.NO_AGENTS)]
    cluster.agent("s1", "cpus:2;mem:1000;gpus:1")
    cluster.allocate()
    assert why(cluster) == [("d", 3, 0, Why.CONSTRAINT)]
    cluster.agent("s2", "cpus:0.5;mem:1000")
    cluster.allocate()
    assert why(cluster) == [("d", 3, 0, Why.SIZE)]
    cluster.agent("s3", "cpus(b):4;mem:1000")
    cluster.allocate()
    assert why(cluster) == [("d", 3, 0, Why.RESERVED)]
    cluster.agent("s4", "cpus:2;mem:1000")
    cluster.allocate()
    assert why(cluster) == [("d", 1, 2, Why.NO_FREE)]
    cluster.decline(*cluster.offers)
    cluster.allocate()
    assert why(cluster) == [("d", 3, 0, Why.FILTERS)]
    cluster.allocator.suppress("f1", ())
    assert why(cluster) == [("d", 3, 0, Why.SUPPRESSED)]
    cluster.allocator.set_framework_active("f1", False)
    assert why(cluster) == [("d", 3, 0, Why.INACTIVE)]


def test_roles_show_weight_share_and_what_is_offered() -> None:
    cluster = asking("cpus:4;mem:4000")
    cluster.allocator.set_weight("*", 2.0)
    cluster.request("f1", demand("cpus:1;mem:100", 2))
    (offer,) = cluster.allocate()
    (view,) = cluster.allocator.shares()
    assert (view.role, view.weight, view.share, view.frameworks) == ("*", 2.0, 0.25, ("f1",))
    assert view.allocated == view.offered == {"cpus": 2000, "mem": 200_000}
    cluster.launch(offer)
    (view,) = cluster.allocator.shares()
    assert (view.allocated, view.offered) == ({"cpus": 2000, "mem": 200_000}, {})
