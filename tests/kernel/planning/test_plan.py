"""What a change would do: what is planned is what then happens."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from kernel.clock import Now
from kernel.errors import CallError
from kernel.master.allocator import Allocation, Allocator, AllocatorConfig, Demand, FrameworkOptions, Held, Quota
from kernel.planning import plan as planning
from kernel.planning.plan import Change, plan
from kernel.wire import codec
from kernel.wire.allocation import Snapshot
from kernel.wire.constraints import Site
from kernel.wire.resources import EMPTY, Resources

ROLES = ("a", "a/x", "a/y", "b", "c")
CLUSTERS = 150  # In `make soak`: 10,000.


class Cluster:
    """A real allocator, whose frameworks take what they are offered."""

    def __init__(self, **config: Any) -> None:
        self.now = Now(1000.0, 1000.0)
        self.allocator = Allocator(AllocatorConfig(**config))
        self.tasks: list[tuple[str, str, str, Resources]] = []  # Framework, role, agent, what it holds.
        self.names: dict[str, str] = {}
        self.weights: dict[str, float] = {}
        self.quotas: dict[str, Quota] = {}

    def agent(self, agent_id: str, total: str) -> None:
        self.allocator.add_agent(agent_id, Resources.parse(total), Site(agent_id), self.now)

    def framework(self, name: str, *roles: str) -> None:
        self.names[name] = name
        self.allocator.add_framework(name, roles, (), FrameworkOptions())

    def request(self, name: str, *demands: tuple[str, str, int]) -> None:
        wanted = [Demand(f"{role} {shape}", role, Resources.parse(shape), count) for role, shape, count in demands]
        self.allocator.request(name, wanted, self.now)

    def settle(self) -> None:
        while self.allocator.unsettled:
            result = self.allocator.allocate(self.now)
            for allocation in result.rescind:
                self.allocator.close_offers((allocation,), EMPTY, None, self.now)
            for allocation in result.allocations:
                self._launch(allocation)

    def _launch(self, allocation: Allocation) -> None:
        shapes = [entry.demand.shape for entry, times in allocation.cover for _ in range(times)] or [allocation.resources]
        self.tasks += [(allocation.framework_id, allocation.role, allocation.agent_id, shape) for shape in shapes]
        self.allocator.close_offers((allocation,), allocation.resources, None, self.now)
        if allocation.cover:
            self.allocator.launched(allocation.framework_id, allocation.role, shapes)

    def end(self, number: int) -> None:
        framework, role, agent, shape = self.tasks.pop(number)
        self.allocator.recover(framework, role, agent, shape, self.now)

    def snapshot(self) -> Snapshot:
        """As the master would send it."""
        head = self.allocator.snapshot(self.names, self.weights, self.quotas)
        agents = tuple(seen.part() for seen in self.allocator.agents_seen(self._held))
        return codec.decode(codec.encode(msgspec.structs.replace(head, agents=agents)), Snapshot)

    def _held(self, agent_id: str) -> Iterator[Held]:
        return (Held(framework, role, shape) for framework, role, agent, shape in self.tasks if agent == agent_id)

    def change(self, change: Change) -> None:
        """It happens."""
        for role, weight in change.weights.items():
            self.weights[role] = weight
            self.allocator.set_weight(role, weight)
        for role, quota in change.quotas.items():
            self.quotas[role] = quota or Quota()
        if change.quotas:
            self.allocator.set_quotas({role: quota for role, quota in self.quotas.items() if quota != Quota()})

    def held(self) -> dict[str, Counter[str]]:
        return {view.role: Counter(view.allocated) for view in self.allocator.shares()}

    def waiting(self) -> int:
        return sum(entry.needed for name in self.names for entry in self.allocator.waiting(name))


def shared(preempts: bool = False, **quotas: Quota) -> Cluster:
    """Two roles that want more than there is; what runs is mostly of the first."""
    cluster = Cluster(preempts=preempts)
    cluster.agent("s1", "cpus:8;mem:8192")
    cluster.agent("s2", "cpus:8;mem:8192")
    cluster.framework("f", "a")
    cluster.framework("g", "b")
    cluster.change(Change(quotas=quotas))
    cluster.request("g")
    cluster.request("f", ("a", "cpus:1;mem:512", 14))
    cluster.settle()
    cluster.request("g", ("b", "cpus:1;mem:512", 20))
    cluster.settle()
    return cluster


def of(found: planning.Plan, role: str) -> planning.RolePlan:
    return next(one for one in found.roles if one.role == role)


def test_without_a_change_nothing_changes() -> None:
    found = plan(shared().snapshot(), Change())
    assert [(one.role, one.held["cpus"], one.after["cpus"], one.waiting, one.waiting_after) for one in found.roles] == [
        ("a", 14_000, 14_000, 0, 0),
        ("b", 2_000, 2_000, 18, 18),
    ]


def test_in_the_long_run_shares_are_equal_and_a_weight_moves_them() -> None:
    even = plan(shared().snapshot(), Change())
    assert of(even, "a").share_before == of(even, "b").share_before == 0.5
    moved = plan(shared().snapshot(), Change(weights={"b": 3.0}))
    assert of(moved, "b").share_after == pytest.approx(0.75)
    assert of(moved, "a").share_after == pytest.approx(0.25)


def test_a_higher_limit_lets_those_who_wait_go_on_at_once() -> None:
    cluster = shared(b=Quota(limits={"cpus": 1_000}))
    found = plan(cluster.snapshot(), Change(quotas={"b": Quota(limits={"cpus": 2_000})}))
    assert (of(found, "b").held["cpus"], of(found, "b").after["cpus"]) == (1_000, 2_000)


def test_a_limit_below_what_runs_ends_nothing_and_is_told() -> None:
    found = plan(shared().snapshot(), Change(quotas={"a": Quota(limits={"cpus": 4_000})}))
    assert (found.beyond, of(found, "a").after["cpus"]) == (["a"], 14_000)
    assert of(found, "a").share_after == pytest.approx(0.25)


def test_guarantees_are_held_against_what_there_is_and_those_below_count_in_those_above() -> None:
    change = Change(quotas={"a": Quota({"cpus": 10_000}), "a/x": Quota({"cpus": 8_000}), "b": Quota({"cpus": 7_000})})
    (capacity,) = plan(shared().snapshot(), change).capacity
    assert (capacity.name, capacity.total, capacity.guaranteed, capacity.fits) == ("cpus", 16_000, 17_000, False)


def test_the_loss_of_an_agent_loses_its_tasks_and_they_are_asked_for_again() -> None:
    found = plan(shared().snapshot(), Change(lost=("s1",)))
    assert sum(found.lost.values()) == 8
    assert sum(one.after["cpus"] for one in found.roles) == 8_000
    assert sum(one.waiting_after for one in found.roles) == 18 + 8
    with pytest.raises(CallError, match="there is no agent 's9'"):
        plan(shared().snapshot(), Change(lost=("s9",)))


def test_a_plan_draws_who_is_next_where_the_master_does() -> None:
    cluster = Cluster(drawn_roles=True, drawn_frameworks=True)
    assert cluster.snapshot().rules.drawn_roles
    assert cluster.snapshot().rules.drawn_frameworks
    assert Allocator.restored(cluster.snapshot(), cluster.now).snapshot({}, {}, {}).rules == cluster.snapshot().rules


def test_a_demand_that_is_only_thought_of_takes_part() -> None:
    found = plan(shared().snapshot(), Change(demands=(planning.Demand("c", Resources.parse("cpus:1;mem:512"), 50),)))
    assert of(found, "c").waiting_after == 50
    assert of(found, "c").share_after == pytest.approx(1 / 3, abs=0.07)


def random_cluster(chance: random.Random) -> tuple[Cluster, Change]:
    cluster = Cluster()
    for number in range(chance.randint(1, 5)):
        cluster.agent(f"s{number}", f"cpus:{chance.randint(1, 8)};mem:{chance.randint(1, 8) * 512}")
    for role in ROLES:
        if chance.random() < 0.3:
            cluster.change(Change(weights={role: chance.choice((0.5, 2.0, 3.0))}))
    if chance.random() < 0.5:
        cluster.change(Change(quotas={chance.choice(ROLES): random_quota(chance)}))
    for number in range(chance.randint(1, 5)):
        roles = chance.sample(ROLES, chance.randint(1, 2))
        name = f"f{number}"
        cluster.framework(name, *roles)
        if chance.random() < 0.85:
            shapes = [
                (chance.choice(roles), f"cpus:{chance.choice((0.5, 1, 2, 3))};mem:{chance.choice((128, 512, 1024))}") for _ in range(2)
            ]
            cluster.request(name, *((role, shape, chance.randint(1, 8)) for role, shape in dict.fromkeys(shapes)))
        if chance.random() < 0.5:
            cluster.settle()
    cluster.settle()
    for _ in range(chance.randint(0, 6)):
        if cluster.tasks:
            cluster.end(chance.randrange(len(cluster.tasks)))
            cluster.settle()
    weights = {chance.choice(ROLES): chance.choice((0.25, 1.0, 4.0))} if chance.random() < 0.5 else {}
    quotas = {chance.choice(ROLES): random_quota(chance) if chance.random() < 0.8 else None} if chance.random() < 0.8 else {}
    return cluster, Change(quotas=quotas, weights=weights)


def random_shape(chance: random.Random) -> str:
    return f"cpus:{chance.choice((0.5, 1, 2, 3))};mem:{chance.choice((128, 512, 1024))}"


def random_quota(chance: random.Random) -> Quota:
    guaranteed = chance.randint(0, 6) * 1000
    limit = {"cpus": guaranteed + chance.randint(0, 6) * 1000} if chance.random() < 0.6 else {}
    return Quota({"cpus": guaranteed} if guaranteed else {}, limit)


def check(seed: int) -> None:
    cluster, change = random_cluster(random.Random(seed))
    found = plan(cluster.snapshot(), change)
    assert {one.role: one.held for one in found.roles if one.held} == {role: held for role, held in cluster.held().items() if held}, seed
    cluster.change(change)
    cluster.settle()
    assert {one.role: one.after for one in found.roles if one.after} == {role: held for role, held in cluster.held().items() if held}, seed
    tops = {role.split("/")[0] for role in ROLES}
    assert sum(one.waiting_after for one in found.roles if one.role in tops) == cluster.waiting(), seed


def test_what_is_planned_is_what_then_happens() -> None:
    for seed in range(CLUSTERS):
        check(seed)


@pytest.mark.soak
def test_what_is_planned_is_what_then_happens_in_ten_thousand_clusters() -> None:
    for seed in range(10_000):
        check(seed)


@pytest.mark.parametrize("preempts", [False, True])
def test_what_ends_for_a_guarantee_where_that_is_switched_on(preempts: bool) -> None:
    change = Change(quotas={"a": Quota({}, {"cpus": 12_000}), "b": Quota({"cpus": 6_000})})
    found = plan(shared(preempts).snapshot(), change)
    assert found.preempted == ({("f", "a"): 2} if preempts else {})
    (b,) = (one for one in found.roles if one.role == "b")
    assert (b.held["cpus"], b.after["cpus"]) == (2_000, 4_000 if preempts else 2_000)
    assert planning.figures(found)["preempted"] == ([{"framework": "f", "role": "a", "tasks": 2}] if preempts else [])
