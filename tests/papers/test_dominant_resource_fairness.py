"""The worked examples of the paper on Dominant Resource Fairness (Ghodsi et al., NSDI 2011), with the master's own allocator."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tests.kernel.master.allocator.cluster import TestCluster, demand
from tests.papers.economies import Economy, User, allocated, continuous, opened, tasks_of


def units(**amounts: int) -> dict[str, int]:
    return {name: 1000 * amount for name, amount in amounts.items()}


def economy(machine: dict[str, int], *users: User) -> Economy:
    return Economy(machine, users)


# 9 CPUs and 18 GB; a task of A needs <1 CPU, 4 GB>, one of B <3 CPUs, 1 GB>. The paper lets B begin; here equal shares begin by name.
A = User("user-2-a", units(cpus=1, mem=4))
B = User("user-1-b", units(cpus=3, mem=1))
EXAMPLE = economy(units(cpus=9, mem=18), A, B)
ORDER = ["b", "a", "a", "b", "a"]
# Table 1: the dominant shares of A and B after each turn.
TABLE = [
    (Fraction(0), Fraction(1, 3)),
    (Fraction(2, 9), Fraction(1, 3)),
    (Fraction(4, 9), Fraction(1, 3)),
    (Fraction(4, 9), Fraction(2, 3)),
    (Fraction(2, 3), Fraction(2, 3)),
]


def holding(cluster: TestCluster, user: User) -> dict[str, float]:
    """What a user's tasks and offers hold, in whole units."""
    held = [task[3] for task in cluster.tasks if task[0] == user.name]
    held += [offer.resources for offer in cluster.offers if offer.framework_id == user.name]
    return {name: sum(resources.scalars().get(name, 0) for resources in held) / 1000 for name in ("cpus", "mem")}


def shares(cluster: TestCluster) -> tuple[float, float]:
    found = {view.role: view.share for view in cluster.allocator.shares()}
    return found[A.name], found[B.name]


def test_all_at_once_three_tasks_of_a_beside_two_of_b_equalise_the_dominant_shares() -> None:
    cluster = opened([EXAMPLE.machine], EXAMPLE.users, count=10)
    cluster.allocate()
    assert holding(cluster, A) == {"cpus": 3, "mem": 12}
    assert holding(cluster, B) == {"cpus": 6, "mem": 2}
    assert shares(cluster) == (2 / 3, 2 / 3)
    assert len(cluster.offers) == 2


def test_frameworks_that_take_whole_offers_and_launch_one_task_of_each_have_the_turns_of_table_1() -> None:
    """Each offer is all that is free; what a task leaves of it is offered to whoever is next."""
    cluster = TestCluster()
    cluster.agent("m", "cpus:9;mem:18000")
    shapes = {A.name: "cpus:1;mem:4000", B.name: "cpus:3;mem:1000"}
    for name in shapes:
        cluster.framework(name, name)
    order = []
    for expected in TABLE:
        (offer,) = cluster.allocate()
        cluster.launch(offer, shapes[offer.framework_id], refuse_s=None)
        order.append(offer.framework_id[-1])
        assert shares(cluster) == tuple(map(float, expected))
    assert order == ORDER
    assert holding(cluster, A) == {"cpus": 3, "mem": 12000}
    assert holding(cluster, B) == {"cpus": 6, "mem": 2000}


def test_frameworks_that_request_one_task_at_a_time_have_the_turns_of_table_1() -> None:
    """Of what a pass offers, only the first is taken: the next in line at that time."""
    cluster = TestCluster()
    users = {A.name: A, B.name: B}
    for name in users:
        cluster.framework(name, name, demands=True)
    cluster.agent("m", "cpus:9;mem:18")
    order = []
    for expected in TABLE:
        for name, user in users.items():
            cluster.request(name, demand("cpus:1;mem:4" if user is A else "cpus:3;mem:1", 1, name))
        first, *rest = cluster.allocate()
        cluster.rescind(*rest)
        cluster.launch(first, refuse_s=None)
        for name in users:
            cluster.request(name)
        order.append(first.framework_id[-1])
        assert shares(cluster) == tuple(map(float, expected))
    assert order == ORDER


def test_the_continuous_solution_of_the_example_is_what_whole_tasks_reach() -> None:
    assert continuous(EXAMPLE) == {A.name: 3, B.name: 2}
    assert allocated(EXAMPLE) == {A.name: 3, B.name: 2}


@pytest.mark.parametrize(("weight_a", "weight_b"), [(1, 1), (2, 1), (1, 2), (3, 1), (1, 5)], ids=lambda weight: str(weight))
def test_weights_divide_the_dominant_shares(weight_a: int, weight_b: int) -> None:
    """The example a hundred times as large: dominant shares are in the ratio of the weights, up to a task."""
    a, b = User(A.name, A.task, weight_a), User(B.name, B.task, weight_b)
    large = economy(units(cpus=900, mem=1800), a, b)
    exact, whole = continuous(large), allocated(large)
    assert large.level(a, exact[a.name]) == large.level(b, exact[b.name])
    for user in large.users:
        assert abs(whole[user.name] - exact[user.name]) < 3, (whole, exact)


def test_where_fair_assets_break_the_sharing_incentive_dominant_shares_keep_it() -> None:
    """30 units of each resource, tasks <1, 3> and <1, 1>. Equal sums of all shares would leave the second user <12, 12>, less than
    its half; equal dominant shares give it <15, 15>."""
    users = User("one", units(cpus=1, mem=3)), User("two", units(cpus=1, mem=1))
    assert allocated(economy(units(cpus=30, mem=30), *users)) == {"one": 5, "two": 15}


def test_where_equal_incomes_reward_a_lie_dominant_shares_do_not() -> None:
    """Tasks <16, 1> and <1, 2>. In a market with equal incomes the first user gains by claiming <16, 8>; here it gets the same."""
    honest = economy(units(cpus=600, mem=600), User("one", units(cpus=16, mem=1)), User("two", units(cpus=1, mem=2)))
    lying = honest.instead(honest.users[0], task=units(cpus=16, mem=8))
    assert allocated(honest) == allocated(lying) == {"one": 25, "two": 200}


# ---- Table 2: which properties DRF has -------------------------------------------------------------------------------------------
# Sharing incentive, strategy-proofness, envy-freeness and Pareto efficiency: test_drf_economies.py.


def test_single_resource_fairness_one_resource_is_shared_by_max_min() -> None:
    users = User("one", units(cpus=1)), User("two", units(cpus=2)), User("three", units(cpus=3))
    assert allocated(economy(units(cpus=36), *users)) == {"one": 12, "two": 6, "three": 4}


def test_single_resource_fairness_what_some_do_not_need_goes_to_the_others() -> None:
    cluster = opened([units(cpus=30)], [], 0)
    for name, count in (("modest", 4), ("one", 100), ("two", 100)):
        cluster.framework(name, name)
        cluster.request(name, demand("cpus:1", count, name))
    cluster.allocate()
    users = [User(name, {}) for name in ("modest", "one", "two")]
    assert tasks_of(cluster, users) == {"modest": 4, "one": 13, "two": 13}


def test_bottleneck_fairness_one_dominant_resource_of_all_is_shared_by_max_min() -> None:
    users = User("one", units(cpus=4, mem=1)), User("two", units(cpus=2, mem=1)), User("three", units(cpus=1, mem=1))
    assert allocated(economy(units(cpus=48, mem=480), *users)) == {"one": 4, "two": 8, "three": 16}


def test_population_monotonicity_when_a_user_leaves_nobody_else_loses() -> None:
    users = User("one", units(cpus=1, mem=4)), User("two", units(cpus=3, mem=1)), User("three", units(cpus=2, mem=2))
    whole = economy(units(cpus=90, mem=180), *users)
    before = allocated(whole)
    for gone in users:
        after = allocated(Economy(whole.machine, tuple(user for user in users if user != gone)))
        assert all(after[name] >= before[name] for name in after)


def test_resource_monotonicity_does_not_hold_as_the_paper_proves_for_all_that_share_so() -> None:
    """More of a resource can cost a user tasks: its dominant share falls for the other."""
    users = User("one", units(cpus=2, mem=1)), User("two", units(cpus=1, mem=2))
    assert allocated(economy(units(cpus=12, mem=12), *users)) == {"one": 4, "two": 4}
    assert allocated(economy(units(cpus=24, mem=12), *users)) == {"one": 6, "two": 3}
