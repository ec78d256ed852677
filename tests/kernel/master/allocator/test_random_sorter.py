"""The random sorter: each allocation goes to anybody, more often to those of more weight (spec: mesos-v1, section 7.3)."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given as drawn
from hypothesis import settings

from kernel.master.allocator.chance import Chance
from tests.kernel.master.allocator import test_properties as histories
from tests.kernel.master.allocator.cluster import TestCluster, demand, who

SEEDS = range(5)


def winners(seed: int, weights: dict[str, float], rounds: int, roles: bool = True, demands: bool = False) -> dict[str, int]:
    """How often each role (or framework of one role) got the one agent that becomes free."""
    cluster = TestCluster(seed, drawn_roles=roles, drawn_frameworks=not roles)
    for name, weight in weights.items():
        role = name if roles else "*"
        cluster.framework(name, role, demands=demands)
        if roles:
            cluster.allocator.set_weight(role, weight)
        if demands:
            cluster.request(name, demand("cpus:1;mem:10", 100_000, role))
    cluster.agent("s", "cpus:1;mem:10")
    counts = dict.fromkeys(weights, 0)
    for _ in range(rounds):
        (offer,) = cluster.allocate()
        counts[offer.framework_id] += 1
        cluster.launch(offer)
        cluster.finish()
    return counts


def test_numbers_are_the_same_for_the_same_seed_and_even() -> None:
    chance, same = Chance(7), Chance(7)
    parts = [chance.part() for _ in range(10_000)]
    assert parts == [same.part() for _ in range(10_000)] != [Chance(8).part() for _ in range(10_000)]
    assert all(0 < part <= 1 for part in parts)
    assert all(900 < sum(tenth / 10 < part <= (tenth + 1) / 10 for part in parts) < 1100 for tenth in range(10))
    assert abs(sum(chance.wait(4.0) for _ in range(10_000)) / 10_000 - 0.25) < 0.01


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("demands", [False, True])
def test_roles_get_in_proportion_to_their_weights(seed: int, demands: bool) -> None:
    """Within four standard deviations."""
    weights, rounds = {"a": 1.0, "b": 2.0, "c": 5.0}, 1000
    counts = winners(seed, weights, rounds, demands=demands)
    for name, weight in weights.items():
        part = weight / 8
        assert abs(counts[name] - rounds * part) < 4 * math.sqrt(rounds * part * (1 - part)), counts


@pytest.mark.parametrize("seed", SEEDS)
def test_frameworks_of_a_role_get_alike(seed: int) -> None:
    counts = winners(seed, {"f": 1.0, "g": 1.0}, 1000, roles=False)
    assert abs(counts["f"] - 500) < 64, counts


@pytest.mark.parametrize("seed", SEEDS)
def test_what_went_before_does_not_matter(seed: int) -> None:
    """Whoever got the last one gets the next one as often as anybody: there are no turns."""
    cluster = TestCluster(seed, drawn_roles=True)
    for name in ("a", "b"):
        cluster.framework(name, name)
    cluster.agent("s", "cpus:1;mem:10")
    got = []
    for _ in range(1000):
        (offer,) = cluster.allocate()
        got.append(offer.framework_id)
        cluster.launch(offer)
        cluster.finish()
    again = sum(first == second for first, second in pairwise(got))
    assert abs(again - 500) < 64


def test_roles_in_levels_share_the_chance_of_their_parent() -> None:
    cluster = TestCluster(1, drawn_roles=True)
    for role in ("a/x", "a/y", "b"):
        cluster.framework(role, role)
    cluster.agent("s", "cpus:1;mem:10")
    counts = dict.fromkeys(("a/x", "a/y", "b"), 0)
    for _ in range(1000):
        (offer,) = cluster.allocate()
        counts[offer.role] += 1
        cluster.launch(offer)
        cluster.finish()
    assert abs(counts["b"] - 500) < 64
    assert abs(counts["a/x"] - 250) < 55


def test_shares_decide_where_only_the_other_level_is_random() -> None:
    cluster = TestCluster(drawn_frameworks=True)
    cluster.framework("a", "a")
    cluster.framework("b", "b")
    for number in range(8):
        cluster.agent(f"s{number}", "cpus:1;mem:10")
    assert sorted(who(cluster.allocate())) == ["a"] * 4 + ["b"] * 4


def test_equal_seeds_give_equal_allocations() -> None:
    weights = {"a": 1.0, "b": 2.0}

    def course(seed: int) -> list[str]:
        cluster = TestCluster(seed, drawn_roles=True)
        for name, weight in weights.items():
            cluster.framework(name, name)
            cluster.allocator.set_weight(name, weight)
        for number in range(40):
            cluster.agent(f"s{number}", "cpus:1;mem:10")
        return who(cluster.allocate())

    assert course(3) == course(3)
    assert course(3) != course(4)


class History(histories.History):
    def __init__(self) -> None:
        super().__init__(TestCluster(5, drawn_roles=True, drawn_frameworks=True))


@settings(max_examples=100, deadline=None)
@drawn(histories.steps)
def test_nothing_is_promised_twice_and_nothing_is_overlooked(history: list[histories.Step]) -> None:
    player = History()
    player.play(history)
    histories.check_sums(player)
    histories.check_demands(player)
    histories.check_nothing_was_overlooked(player)
