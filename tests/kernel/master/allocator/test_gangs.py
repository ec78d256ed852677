"""Gangs: demands of which fewer than `min` at once are of no use (design, section 3 "Allocator")."""

from __future__ import annotations

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from kernel.master.allocator import Why
from tests.kernel.master.allocator import test_properties as histories
from tests.kernel.master.allocator.cluster import TestCluster, demand, given, who

ONE = "cpus:1;mem:10"


def asking(*agents: str, **config: object) -> TestCluster:
    """Agents, and a framework f1 that states its demand: none yet."""
    cluster = TestCluster(**config)
    cluster.framework("f1", demands=True)
    for index, total in enumerate(agents):
        cluster.agent(f"s{index + 1}", total)
    assert cluster.allocate() == []
    return cluster


def tasks(cluster: TestCluster, framework_id: str = "f1") -> int:
    """How many tasks are offered to it."""
    return sum(times for offer in cluster.offers if offer.framework_id == framework_id for _, times in offer.cover)


# ---- All or nothing -------------------------------------------------------------------------------------


def test_a_gang_is_offered_whole_over_several_agents() -> None:
    cluster = asking("cpus:2;mem:1000", "cpus:3;mem:1000", "cpus:4;mem:1000")
    cluster.request("f1", demand(ONE, 5, least=5))
    assert given(cluster.allocate()) == [("f1", "s1", "cpus:2; mem:20"), ("f1", "s2", "cpus:3; mem:30")]


def test_a_gang_that_does_not_fit_whole_is_offered_nothing_and_keeps_nothing_from_others() -> None:
    cluster = asking("cpus:2;mem:1000", "cpus:2;mem:1000")
    cluster.framework("f2", demands=True)
    cluster.request("f1", demand(ONE, 5, least=5))
    assert cluster.allocate() == []
    cluster.request("f2", demand(ONE, 4))
    cluster.allocate()
    assert (tasks(cluster, "f1"), tasks(cluster, "f2")) == (0, 4)


def test_beyond_its_least_a_gang_takes_turns_like_any_other() -> None:
    cluster = asking(*["cpus:4;mem:1000"] * 2)
    cluster.framework("f2", demands=True)
    cluster.request("f1", demand(ONE, 100, least=3))
    cluster.request("f2", demand(ONE, 100))
    cluster.allocate()
    assert (tasks(cluster, "f1"), tasks(cluster, "f2")) == (4, 4)


def test_more_than_the_least_is_offered_when_it_is_there() -> None:
    cluster = asking("cpus:4;mem:1000", "cpus:3;mem:1000")
    cluster.request("f1", demand(ONE, 10, least=4))
    cluster.allocate()
    assert tasks(cluster) == 7


def test_a_gang_is_offered_as_soon_as_enough_has_become_free() -> None:
    cluster = asking("cpus:2;mem:1000", "cpus:2;mem:1000")
    cluster.request("f1", demand(ONE, 4))
    for offer in cluster.allocate():
        cluster.launch(offer, *[ONE] * 2)
    cluster.request("f1", demand(ONE, 3, least=3))
    assert cluster.allocate() == []
    cluster.finish()
    cluster.finish()
    assert cluster.allocate() == []
    cluster.finish()
    assert cluster.allocate() != []
    assert tasks(cluster) == 3


def test_a_new_agent_may_complete_what_a_gang_needs() -> None:
    cluster = asking("cpus:2;mem:1000")
    cluster.request("f1", demand(ONE, 4, least=4))
    assert cluster.allocate() == []
    cluster.agent("s2", "cpus:2;mem:1000")
    cluster.allocate()
    assert tasks(cluster) == 4


def test_a_gang_whose_turn_it_is_comes_before_those_with_more() -> None:
    cluster = asking("cpus:4;mem:1000", "cpus:4;mem:1000")
    cluster.framework("f2", demands=True)
    cluster.request("f2", demand(ONE, 1000))
    for offer in cluster.allocate():
        cluster.launch(offer, *[ONE] * 4)
    cluster.request("f2", demand(ONE, 1000))
    cluster.request("f1", demand(ONE, 2, least=2))
    cluster.finish()
    cluster.finish()
    assert who(cluster.allocate()) == ["f1"]
    assert tasks(cluster) == 2


def test_an_agent_of_choice_constrains_a_gang_too() -> None:
    cluster = asking("cpus:2;mem:1000", "cpus:4;mem:1000")
    cluster.request("f1", demand(ONE, 3, least=3, agent="s1"))
    assert cluster.allocate() == []
    cluster.request("f1", demand(ONE, 3, least=3, agent="s2"))
    assert given(cluster.allocate()) == [("f1", "s2", "cpus:3; mem:30")]


def test_what_is_reserved_for_the_role_counts() -> None:
    cluster = TestCluster()
    cluster.framework("f1", "a", demands=True)
    cluster.agent("s1", "cpus(a):2;mem:1000")
    cluster.agent("s2", "cpus:1;cpus(b):5;mem:1000")
    cluster.request("f1", demand(ONE, 3, "a", least=3))
    assert given(cluster.allocate()) == [("f1", "s1", "mem:20; cpus(a):2"), ("f1", "s2", "cpus:1; mem:10")]


def test_of_several_gangs_each_is_whole_or_nothing() -> None:
    cluster = asking("cpus:5;mem:1000", "cpus:5;mem:1000")
    cluster.request("f1", *(demand(ONE, 4, least=4, name=name) for name in "abc"))
    cluster.allocate()
    assert tasks(cluster) == 8
    assert [(reason.name, reason.waiting) for reason in cluster.allocator.explain("f1")] == [("c", 4)]


def test_a_smaller_gang_need_not_wait_for_a_larger_one_of_its_kind() -> None:
    cluster = asking("cpus:5;mem:1000")
    cluster.request("f1", demand(ONE, 8, least=8, name="large"), demand(ONE, 4, least=4, name="small"))
    cluster.allocate()
    assert tasks(cluster) == 4


# ---- What comes of the offers ---------------------------------------------------------------------------


def test_what_is_missing_of_a_gang_that_is_offered_is_offered_by_itself_and_all_at_once() -> None:
    """An offer is taken back while the others stay: with them it is of use."""
    cluster = asking("cpus:2;mem:1000", "cpus:2;mem:1000")
    cluster.request("f1", demand(ONE, 4, least=4))
    assert len(cluster.allocate()) == 2
    cluster.remove_agent("s1")
    assert cluster.allocate() == []
    cluster.agent("s3", "cpus:1;mem:1000")
    assert cluster.allocate() == []
    cluster.agent("s4", "cpus:1;mem:1000")
    assert given(cluster.allocate()) == [("f1", "s3", "cpus:1; mem:10"), ("f1", "s4", "cpus:1; mem:10")]


def test_a_gang_declined_whole_is_needed_whole_again() -> None:
    cluster = asking("cpus:2;mem:1000", "cpus:2;mem:1000")
    cluster.request("f1", demand(ONE, 4, least=4))
    cluster.decline(*cluster.allocate(), refuse_s=5)
    assert cluster.wait(4.5) == []
    assert len(cluster.wait(2)) == 2
    assert tasks(cluster) == 4


def test_a_gang_half_declined_needs_only_the_other_half() -> None:
    cluster = asking("cpus:2;mem:1000", "cpus:2;mem:1000")
    cluster.request("f1", demand(ONE, 4, least=4))
    first, second = cluster.allocate()
    cluster.launch(first, ONE, ONE)
    cluster.decline(second, refuse_s=2)
    cluster.agent("s3", "cpus:1;mem:1000")
    assert given(cluster.allocate()) == []
    cluster.wait(3)
    assert tasks(cluster) == 2


def test_launched_tasks_are_those_of_the_gang_they_were_offered_to() -> None:
    cluster = asking("cpus:5;mem:1000")
    cluster.request("f1", demand(ONE, 8, least=8, name="large"), demand(ONE, 4, least=4, name="small"))
    (offer,) = cluster.allocate()
    cluster.launch(offer, *[ONE] * 4)
    assert [(reason.name, reason.waiting) for reason in cluster.allocator.explain("f1")] == [("large", 8)]


@pytest.mark.parametrize("end", ["suppress", "request", "leave"])
def test_a_gang_that_is_wanted_no_more_is_not_offered(end: str) -> None:
    cluster = asking("cpus:2;mem:1000")
    cluster.request("f1", demand(ONE, 4, least=4))
    cluster.allocate()
    if end == "suppress":
        cluster.allocator.suppress("f1", [])
    elif end == "request":
        cluster.request("f1")
    else:
        cluster.allocator.set_framework_active("f1", False)
    cluster.agent("s2", "cpus:9;mem:1000")
    assert cluster.allocate() == []
    assert not cluster.allocator._state.rooms.all
    cluster.request("f1", demand(ONE, 4, least=4))
    cluster.allocator.revive("f1", [], cluster.now)
    cluster.allocator.set_framework_active("f1", True)
    cluster.allocate()
    assert tasks(cluster) == 4


# ---- Quota ----------------------------------------------------------------------------------------------


def test_the_sum_of_a_gang_is_held_to_the_limit() -> None:
    cluster = TestCluster()
    cluster.framework("f1", "a", demands=True)
    cluster.agent("s1", "cpus:4;mem:1000")
    cluster.agent("s2", "cpus:4;mem:1000")
    cluster.quota("a", limit="cpus:5")
    cluster.request("f1", demand(ONE, 6, "a", least=6))
    assert cluster.allocate() == []
    assert [reason.why for reason in cluster.allocator.explain("f1")] == [Why.QUOTA_LIMIT]
    cluster.quota("a", limit="cpus:6")
    cluster.allocate()
    assert tasks(cluster) == 6


def test_a_gang_goes_on_when_its_role_is_below_the_limit_again() -> None:
    cluster = TestCluster()
    cluster.framework("f1", "a", demands=True)
    cluster.agent("s1", "cpus:9;mem:1000")
    cluster.quota("a", limit="cpus:5")
    cluster.request("f1", demand(ONE, 3, "a"))
    (offer,) = cluster.allocate()
    cluster.launch(offer, ONE, ONE, ONE)
    cluster.request("f1", demand(ONE, 4, "a", least=4))
    assert cluster.allocate() == []
    cluster.finish()
    assert cluster.allocate() == []
    cluster.finish()
    cluster.wait(1)
    assert tasks(cluster) == 4


def test_a_gang_takes_nothing_that_is_kept_for_guarantees() -> None:
    cluster = TestCluster()
    cluster.framework("f1", "a", demands=True)
    cluster.agent("s1", "cpus:4;mem:1000")
    cluster.quota("b", guarantee="cpus:2")
    cluster.request("f1", demand(ONE, 3, "a", least=3))
    assert cluster.allocate() == []
    cluster.agent("s2", "cpus:1;mem:1000")
    cluster.wait(1)
    assert tasks(cluster) == 3


# ---- Starvation -----------------------------------------------------------------------------------------


def churn(cluster: TestCluster, rounds: int) -> int:
    """Another framework keeps the cluster full with short tasks; return after how many rounds f1 was offered something."""
    for number in range(rounds):
        cluster.request("f2", demand(ONE, 1000))
        for offer in list(cluster.offers):
            if offer.framework_id == "f2":
                cluster.launch(offer, *[ONE] * (offer.resources.cpus // 1000), refuse_s=None)
            else:
                return number
        if cluster.tasks:
            cluster.finish()
        cluster.wait(1)
    raise AssertionError(cluster.allocator.explain("f1"))


@pytest.mark.parametrize("agents", [2, 4, 12])
def test_a_gang_starves_not_beside_small_tasks(agents: int) -> None:
    """Whatever part of the cluster it needs."""
    cluster = asking(*["cpus:2;mem:1000"] * agents, starvation_s=10)
    cluster.framework("f2", demands=True)
    cluster.allocator.set_weight("*", 1)
    cluster.request("f2", demand(ONE, 1000))
    cluster.allocate()
    churn_rounds = [offer for offer in cluster.offers if offer.framework_id == "f2"]
    assert churn_rounds
    cluster.request("f1", demand("cpus:2;mem:20", agents, least=agents))
    assert churn(cluster, 10 + 4 * agents) >= 10
    assert tasks(cluster) == agents


def test_an_agent_kept_for_a_gang_counts_once() -> None:
    cluster = asking("cpus:2;mem:1000", "cpus:2;mem:1000", starvation_s=10)
    cluster.request("f1", demand(ONE, 2, agent="s2"))
    for offer in cluster.allocate():
        cluster.launch(offer)
    cluster.request("f1", demand(ONE, 4, least=4))
    assert cluster.wait(100) == []
    for _ in list(cluster.tasks):
        cluster.finish()
    cluster.wait(1)
    assert tasks(cluster) == 4


def test_two_starving_gangs_do_not_wait_for_each_other() -> None:
    cluster = TestCluster(starvation_s=10)
    for number in range(4):
        cluster.agent(f"s{number}", "cpus:1;mem:100")
    cluster.framework("small", "z", demands=True)
    cluster.request("small", demand(ONE, 100, "z"))
    for offer in cluster.allocate():
        cluster.launch(offer)
    cluster.request("small", demand(ONE, 100, "z"))
    for name in ("a", "b"):
        cluster.framework(name, name, demands=True)
        cluster.request(name, demand(ONE, 3, name, least=3))
    served = []
    for _ in range(100):
        for offer in list(cluster.offers):
            served.append(offer.framework_id)
            cluster.launch(offer)
        if cluster.tasks:
            cluster.finish()
        cluster.wait(1)
        cluster.request("small", demand(ONE, 100, "z"))
    assert {"a", "b"} <= set(served)


def test_one_gang_of_a_role_accumulates_at_a_time() -> None:
    cluster = asking(*["cpus:1;mem:100"] * 4, starvation_s=10)
    cluster.request("f1", demand(ONE, 4))
    for offer in cluster.allocate():
        cluster.launch(offer)
    cluster.request("f1", *(demand(ONE, 2, least=2, name=name) for name in "ab"))
    cluster.wait(30)
    assert len(cluster.allocator._state.accumulating) == 1
    assert cluster.allocator._state.claimed == 2
    assert {reason.why for reason in cluster.allocator.explain("f1")} == {Why.CLAIMED, Why.NO_FREE}


def test_a_gang_for_which_the_cluster_is_too_small_keeps_no_agent() -> None:
    cluster = asking(*["cpus:1;mem:100"] * 4, starvation_s=10)
    cluster.request("f1", demand(ONE, 5, least=5))
    cluster.wait(100)
    assert cluster.allocator._state.claimed == 0


def test_where_nothing_ends_agents_are_given_up_for_others_and_then_for_nobody() -> None:
    """Services that never end must not make a starving gang hold half of the cluster back for ever."""
    cluster = asking(*["cpus:2;mem:100"] * 4, starvation_s=10)
    cluster.request("f1", demand(ONE, 4, name="services"))
    for offer in cluster.allocate():
        cluster.launch(offer)
    cluster.request("f1", demand("cpus:2;mem:10", 2, least=2))
    states = []
    for _ in range(40):
        cluster.wait(10)
        states.append(frozenset(agent.agent_id for gang in cluster.allocator._state.accumulating for agent in gang.kept))
    assert len(set(states)) >= 3
    assert frozenset() in states


# ---- Histories ------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@drawn(histories.steps, st.sampled_from(histories.SHAPES[:4]))
def test_no_gang_starves(history: list[histories.Step], shape: str) -> None:
    """Whatever happened before: while others keep launching what they are offered and every task ends some time, a gang for which the
    cluster is large enough is met in bounded time."""
    player = histories.History()
    for name in ("first", "second"):
        player.cluster.agent(name, "cpus:4;mem:4000;ports:[1-20]")
    player.play(history)
    cluster = player.cluster
    if not {"first", "second"} <= set(cluster.totals):
        return
    for name in ("first", "second"):
        cluster.allocator.set_agent_active(name, True)
    for name in player.frameworks:
        cluster.allocator.set_framework_active(name, True)
    cluster.framework("last", "c", demands=True)
    cluster.request("last", demand(shape, 2, "c", least=2))
    rounds = 0
    while not tasks(cluster, "last"):
        rounds += 1
        assert rounds < 400, cluster.allocator.explain("last")
        for offer in list(cluster.offers):
            if rounds % 3 == 0 and offer.framework_id in player.demanding:
                cluster.launch(offer, refuse_s=None)
        if cluster.tasks:
            cluster.finish(0)
        cluster.wait(1)
        for framework_id in player.demanding & set(player.frameworks):
            if rounds % 2:
                role = next(iter(cluster.allocator._state.frameworks[framework_id].leaves))
                cluster.request(framework_id, demand("cpus:0.5;mem:50", 1000, role))
