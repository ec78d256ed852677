"""Demands that prefer certain agents (`prefer`): delay scheduling, as in the Mesos paper, section 4.4; and how long demands may starve."""

from __future__ import annotations

from kernel.master.allocator import Why
from tests.kernel.master.allocator.cluster import TestCluster, demand, given, parse

ONE = "cpus:1;mem:10"


def asking(*agents: str, **config: object) -> TestCluster:
    """Agents s1, s2 and so on, and a framework f1 that states its demand: none yet."""
    cluster = TestCluster(**config)
    cluster.framework("f1", demands=True)
    for index, total in enumerate(agents):
        cluster.agent(f"s{index + 1}", total)
    assert cluster.allocate() == []
    return cluster


def where(cluster: TestCluster) -> list[str]:
    return [offer.agent_id for offer in cluster.offers]


def full(cluster: TestCluster, agent_id: str) -> None:
    """Something runs there that takes all of it."""
    cluster.framework("other", demands=True)
    cluster.request("other", demand(str(cluster.totals[agent_id]), agent=agent_id))
    (offer,) = cluster.allocate()
    cluster.launch(offer)


# ---- Delay scheduling -----------------------------------------------------------------------------------


def test_an_agent_that_is_preferred_comes_first_the_best_at_the_very_first() -> None:
    for delay_s in (3.0, 0.0):
        cluster = asking(*["cpus:4;mem:1000"] * 4, locality_s=delay_s)
        cluster.request("f1", demand(ONE, prefer=("s3", "s2")))
        assert given(cluster.allocate()) == [("f1", "s3", "cpus:1; mem:10")]


def test_it_is_waited_for_so_long_then_any_agent_will_do() -> None:
    cluster = asking("cpus:4;mem:1000", "cpus:4;mem:1000")
    full(cluster, "s2")
    cluster.request("f1", demand(ONE, prefer=("s2",)))
    assert cluster.allocate() == []
    assert cluster.wait(2.5) == []
    assert given(cluster.wait(1)) == [("f1", "s1", "cpus:1; mem:10")]


def test_what_becomes_free_there_meanwhile_is_offered_at_once() -> None:
    cluster = asking("cpus:4;mem:1000", "cpus:4;mem:1000")
    full(cluster, "s2")
    cluster.request("f1", demand(ONE, 6, prefer=("s2",)))
    assert cluster.wait(2) == []
    cluster.finish()
    assert set(where(cluster)) == set()
    cluster.allocate()
    assert (set(where(cluster)), sum(offer.resources.cpus for offer in cluster.offers)) == ({"s2"}, 4000)


def test_getting_something_there_begins_the_wait_anew() -> None:
    cluster = asking("cpus:4;mem:1000", "cpus:1;mem:1000")
    cluster.request("f1", demand(ONE, 2, prefer=("s2",)))
    cluster.wait(2)
    assert where(cluster) == ["s2"]
    cluster.launch(*cluster.offers)
    cluster.now_s += 0.5
    assert cluster.allocate() == []
    cluster.finish()
    cluster.wait(0.25)
    assert where(cluster) == ["s2"]  # 2.75 s after it began to wait.
    assert cluster.wait(2.5) == []


def test_who_has_gone_elsewhere_goes_on_there_until_it_gets_something_it_prefers() -> None:
    cluster = asking("cpus:2;mem:1000", "cpus:1;mem:1000")
    full(cluster, "s2")
    cluster.request("f1", demand(ONE, 3, prefer=("s2",)))
    cluster.wait(4)
    assert where(cluster) == ["s1"]
    cluster.finish()
    cluster.allocate()
    assert sorted(where(cluster)) == ["s1", "s2"]


def test_the_same_demand_said_again_after_it_was_met_waits_anew() -> None:
    cluster = asking("cpus:4;mem:1000", "cpus:1;mem:1000")
    full(cluster, "s2")
    cluster.request("f1", demand(ONE, prefer=("s2",)))
    (offer,) = cluster.wait(4)
    cluster.launch(offer)
    cluster.request("f1", demand(ONE, prefer=("s2",)))
    assert cluster.wait(2.5) == []
    assert len(cluster.wait(1)) == 1


def test_a_gang_waits_for_agents_it_prefers_too() -> None:
    cluster = asking("cpus:4;mem:1000", "cpus:1;mem:1000", "cpus:1;mem:1000")
    cluster.request("f1", demand(ONE, 3, least=3, prefer=("s2", "s3")))
    assert cluster.wait(2.5) == []
    cluster.wait(1)
    assert sorted(where(cluster)) == ["s1", "s2", "s3"]


def test_nothing_is_looked_at_meanwhile() -> None:
    cluster = asking("cpus:4;mem:1000", "cpus:4;mem:1000")
    full(cluster, "s2")
    cluster.request("f1", demand(ONE, prefer=("s2",)))
    cluster.allocate()
    assert cluster.allocator.next_due() == cluster.now_s + 3
    cluster.now_s += 2.9
    cluster.allocator.expire(cluster.now)
    assert not cluster.allocator.unsettled


def test_agents_that_are_not_there_are_waited_for_no_longer() -> None:
    cluster = asking("cpus:4;mem:1000")
    cluster.request("f1", demand(ONE, prefer=("gone",)))
    assert cluster.wait(2.5) == []
    assert len(cluster.wait(1)) == 1


def test_why_it_waits_is_told() -> None:
    cluster = asking("cpus:4;mem:1000", "cpus:4;mem:1000")
    full(cluster, "s2")
    cluster.request("f1", demand(ONE, prefer=("s2",)), demand(ONE, prefer=("gone",), name="gone"))
    cluster.allocate()
    assert [reason.why for reason in cluster.allocator.explain("f1")] == [Why.LOCALITY, Why.LOCALITY]


# ---- How long demands may starve ------------------------------------------------------------------------


def claimed_after(role: str) -> float:
    """After how many seconds an agent is kept for a demand in the role."""
    cluster = TestCluster(starvation_s=60, starvation_by_role={"a": 20.0, "a/b": 10.0})
    cluster.agent("s1", "cpus:2;mem:100")
    cluster.framework("other", "z", demands=True)
    cluster.request("other", demand("cpus:1;mem:10", role="z"))
    (offer,) = cluster.allocate()
    cluster.launch(offer)
    cluster.framework("f", role, demands=True)
    cluster.request("f", demand("cpus:2;mem:10", role=role))
    cluster.allocate()
    for seconds in range(100):
        if cluster.allocator._state.claimed:
            return seconds
        cluster.wait(1)
    raise AssertionError("no agent is kept")


def test_roles_may_have_other_times_and_hand_them_down() -> None:
    assert [claimed_after(role) for role in ("c", "a", "a/x", "a/b", "a/b/c")] == [60, 20, 20, 10, 10]


def test_a_demand_that_was_met_starves_no_sooner_when_it_is_said_again() -> None:
    cluster = asking("cpus:1;mem:100", starvation_s=10)
    cluster.request("f1", demand(ONE))
    (offer,) = cluster.allocate()
    cluster.launch(offer)
    cluster.wait(100)
    cluster.request("f1", demand(ONE))
    cluster.wait(5)
    assert cluster.allocator._state.claimed == 0
    assert parse(ONE) == offer.resources
