"""Who gets how much: weighted dominant resource fairness over roles, then frameworks (spec: mesos-v1, section 7)."""

from __future__ import annotations

import pytest

from kernel.master.allocator import FrameworkOptions
from tests.kernel.master.allocator.cluster import TestCluster, demand, given, parse, who

AGENT = "cpus:2;mem:1024"


def total(cluster: TestCluster, framework_id: str) -> dict[str, float]:
    """What is used or offered, in whole units."""
    sums: dict[str, float] = {}
    for offer in cluster.offers:
        if offer.framework_id == framework_id:
            for name, amount in offer.resources.scalars().items():
                sums[name] = sums.get(name, 0) + amount / 1000
    return sums


def test_each_new_agent_goes_wholly_to_the_role_with_the_lowest_dominant_share() -> None:
    cluster = TestCluster()
    cluster.framework("f1", "role1")
    cluster.framework("f2", "role2")
    cluster.agent("s1", "cpus:2;mem:1024")
    assert given(cluster.allocate()) == [("f1", "s1", "cpus:2; mem:1024")]
    cluster.agent("s2", "cpus:1;mem:512")
    assert given(cluster.allocate()) == [("f2", "s2", "cpus:1; mem:512")]
    cluster.agent("s3", "cpus:3;mem:2048")  # Shares now: f1 2/6 and 1024/3584, f2 1/6.
    assert who(cluster.allocate()) == ["f2"]
    cluster.agent("s4", "cpus:4;mem:4096")
    assert who(cluster.allocate()) == ["f1"]


@pytest.mark.parametrize("counts", [(1000, 1000), (700, 5000)])
def test_equal_demands_end_with_equal_shares_in_few_offers(counts: tuple[int, int]) -> None:
    cluster = TestCluster()
    for index in range(4):
        cluster.agent(f"s{index}", "cpus:32;mem:64000")
    for framework_id, count in zip(("f1", "f2"), counts, strict=True):
        cluster.framework(framework_id, demands=True)
        cluster.request(framework_id, demand("cpus:0.1;mem:32", count))
    cluster.allocate()
    assert total(cluster, "f1")["cpus"] == pytest.approx(total(cluster, "f2")["cpus"], rel=0.01)
    assert total(cluster, "f1")["cpus"] + total(cluster, "f2")["cpus"] == pytest.approx(128)
    assert len(cluster.offers) <= 2 * 4


def test_demands_for_other_scalars_than_the_usual_take_turns_too() -> None:
    cluster = TestCluster()
    cluster.agent("s1", "cpus:8;bandwidth:1000")
    for framework_id in ("f1", "f2"):
        cluster.framework(framework_id, demands=True)
        cluster.request(framework_id, demand("bandwidth:10", 1000))
    cluster.allocate()
    assert total(cluster, "f1") == total(cluster, "f2") == {"bandwidth": 500}


def test_equal_shares_mean_equal_numbers_of_allocations_not_order_by_name() -> None:
    cluster = TestCluster()
    for framework_id in ("f1", "f2", "f3"):
        cluster.framework(framework_id)
    cluster.agent("s1", AGENT)
    order = []
    for _ in range(9):
        (offer,) = cluster.allocate()
        order.append(offer.framework_id)
        cluster.rescind(offer)
    assert order == ["f1", "f2", "f3"] * 3


def test_weights_of_two_to_one_give_agents_two_to_one() -> None:
    cluster = TestCluster()
    cluster.allocator.set_weight("role2", 2.0)
    cluster.framework("f1", "role1")
    cluster.framework("f2", "role2")
    for index in range(12):
        cluster.agent(f"s{index}", AGENT)
    assert sorted(who(cluster.allocate())) == ["f1"] * 4 + ["f2"] * 8


def test_a_weight_changed_counts_from_the_next_allocation_on() -> None:
    cluster = TestCluster()
    cluster.framework("f1", "role1")
    cluster.framework("f2", "role2")
    for index in range(6):
        cluster.agent(f"s{index}", AGENT)
    assert sorted(who(cluster.allocate())) == ["f1"] * 3 + ["f2"] * 3
    cluster.allocator.set_weight("role1", 2.0)
    for index in range(6, 12):
        cluster.agent(f"s{index}", AGENT)
    cluster.allocate()
    assert sorted(who(cluster.offers)) == ["f1"] * 8 + ["f2"] * 4


def test_shares_compare_per_level_of_the_role_tree() -> None:
    """`b` competes with `a` as one, however many are below `a`; a framework in `a` competes with a's children as `a/.`."""
    cluster = TestCluster()
    cluster.framework("in-a", "a")
    cluster.framework("in-a/x", "a/x")
    cluster.framework("in-a/y", "a/y")
    cluster.framework("in-b", "b")
    for index in range(12):
        cluster.agent(f"s{index}", AGENT)
    offers = who(cluster.allocate())
    assert {framework_id: offers.count(framework_id) for framework_id in offers} == {"in-a": 2, "in-a/x": 2, "in-a/y": 2, "in-b": 6}


def test_a_role_may_get_roles_below_it_later() -> None:
    cluster = TestCluster()
    cluster.framework("in-a", "a")
    cluster.framework("in-b", "b")
    for index in range(4):
        cluster.agent(f"s{index}", AGENT)
    cluster.allocate()
    cluster.framework("in-a/x", "a/x")
    for index in range(4, 8):
        cluster.agent(f"s{index}", AGENT)
    cluster.allocate()
    offers = who(cluster.offers)
    assert {framework_id: offers.count(framework_id) for framework_id in offers} == {"in-a": 2, "in-a/x": 2, "in-b": 4}
    views = {view.role: view for view in cluster.allocator.shares()}
    assert set(views) == {"a", "a/x", "b"}
    assert views["a"].share == pytest.approx(0.5)
    assert views["a"].frameworks == ("in-a",)
    assert views["a/x"].allocated == {"cpus": 4000, "mem": 2048000}


def test_the_virtual_leaf_weighs_one_and_the_weight_of_its_role_acts_among_siblings() -> None:
    cluster = TestCluster()
    cluster.allocator.set_weight("a", 3.0)
    cluster.framework("in-a", "a")
    cluster.framework("in-a/x", "a/x")
    cluster.framework("in-b", "b")
    for index in range(16):
        cluster.agent(f"s{index}", AGENT)
    offers = who(cluster.allocate())
    assert {framework_id: offers.count(framework_id) for framework_id in offers} == {"in-a": 6, "in-a/x": 6, "in-b": 4}


def test_names_excluded_from_fair_sharing_do_not_count() -> None:
    def first_two(**config: object) -> list[str]:
        cluster = TestCluster(**config)
        cluster.agent("s1", "cpus:2;mem:1024;gpus:1")
        cluster.agent("s2", "cpus:98;mem:99999")
        cluster.allocator.set_agent_active("s2", False)
        for framework_id in ("f1", "f2"):
            cluster.framework(framework_id, options=FrameworkOptions(gpu_aware=True))
        first = cluster.allocate()
        cluster.agent("s3", "cpus:2;mem:1024")
        second = cluster.allocate()
        cluster.agent("s4", "cpus:1;mem:1")
        cluster.agent("s5", "cpus:1;mem:1")
        return who(first + second + cluster.allocate())

    assert first_two() == ["f1", "f2", "f2", "f2"]  # The one GPU is all there is: f1's share is 1.
    assert first_two(excluded_names=frozenset(["gpus"])) == ["f1", "f2", "f1", "f2"]


def test_reserved_resources_count_in_the_share() -> None:
    cluster = TestCluster()
    cluster.framework("f1", "role1")
    cluster.framework("f2", "role2")
    cluster.agent("s1", "cpus(role1):2;mem(role1):1024")
    assert who(cluster.allocate()) == ["f1"]
    cluster.agent("s2", AGENT)
    assert who(cluster.allocate()) == ["f2"]


def test_what_runs_already_counts_in_the_share() -> None:
    cluster = TestCluster()
    cluster.framework("f1")
    cluster.framework("f2")
    cluster.agent("s1", "cpus:4;mem:2048")
    cluster.tasks.append(("f1", "*", "s1", parse("cpus:2;mem:1024")))
    cluster.allocator.charge("f1", "*", "s1", parse("cpus:2;mem:1024"))
    assert given(cluster.allocate()) == [("f2", "s1", "cpus:2; mem:1024")]


def test_the_order_of_adding_frameworks_and_agents_does_not_matter() -> None:
    def shares(frameworks_first: bool) -> list[object]:
        cluster = TestCluster()
        steps = [
            lambda: [cluster.framework(f"f{index}", "role") for index in range(3)],
            lambda: [cluster.agent(f"s{index}", AGENT) for index in range(6)],
        ]
        for step in steps if frameworks_first else steps[::-1]:
            step()
        cluster.allocate()
        return [sorted(who(cluster.offers)), cluster.allocator.shares()]

    assert shares(True) == shares(False)


def test_a_removed_agent_leaves_consistent_totals() -> None:
    cluster = TestCluster()
    cluster.framework("f1", "role1")
    cluster.framework("f2", "role2")
    cluster.agent("s1", AGENT)
    cluster.agent("s2", AGENT)
    cluster.allocate()
    cluster.remove_agent("s1")
    cluster.allocate()
    shares = {view.role: view.share for view in cluster.allocator.shares()}
    assert shares == {"role1": 0.0, "role2": 1.0}
    cluster.remove_agent("s2")
    cluster.allocate()
    assert {view.share for view in cluster.allocator.shares()} == {0.0}


def test_an_incapable_framework_does_not_end_the_loop_for_others() -> None:
    cluster = TestCluster()
    cluster.framework("f1")
    cluster.framework("f2", options=FrameworkOptions(gpu_aware=True))
    cluster.agent("s1", "cpus:2;mem:1024;gpus:1")
    assert who(cluster.allocate()) == ["f2"]


def test_what_a_framework_held_stops_counting_when_it_is_gone() -> None:
    cluster = TestCluster()
    cluster.framework("f1", "a/x")
    cluster.framework("f2", "b")
    cluster.agent("s1", AGENT)
    (offer,) = cluster.allocate()
    cluster.launch(offer)
    cluster.remove_framework("f1")
    assert who(cluster.allocate()) == ["f2"]
    assert [view.role for view in cluster.allocator.shares()] == ["b"]
