"""The allocator alone, in this process: how long a pass takes, by CPU time.

The cluster is settled and all that was offered refused for a year, a few times, so that a full cycle finds every agent free
and refused by a few frameworks. In mode `whole` frameworks take whole agents, as in Mesos; in mode `demand` they
state what they wait for, half as much again as there is. With quota, roles are in three levels and have weights, and every other one has
a quota: a guarantee of a third of its equal part, a limit of one and a half times as much. With reservations, a part of every
tenth agent is reserved for a role.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

from msgspec import Struct

from bench.report import Report, percentile
from kernel.clock import Now
from kernel.master.allocator import Allocation, Allocator, AllocatorConfig, Demand, FrameworkOptions, Quota
from kernel.wire.constraints import Site
from kernel.wire.resources import EMPTY, Resources
from kernel.wire.roles import ancestors

GRID = ((1_000, 100), (5_000, 500), (10_000, 1_000), (20_000, 2_000), (50_000, 6_000))  # Agents, frameworks.
TOTAL = Resources.parse("cpus:24;mem:65536;disk:500000;ports:[31000-32000]")
RESERVED = "cpus(*):20;mem(*):57344;disk(*):500000;ports(*):[31000-32000];cpus:4;mem:8192"  # The rest is for a role.
SHAPE = Resources.parse("cpus:2;mem:4096")
SHAPES_PER_AGENT = 12
YEAR_S = 365 * 86400.0
CYCLES = 3
TRIES = 200
PEERS = {"Mesos 1.8 (its own allocator benchmark, 20,000 agents x 2,000 frameworks; C++, hardware not published)": "3.8 s a full cycle"}


class Size(Struct, frozen=True):
    """What is measured. refusals: by how many frameworks each agent is refused."""

    agents: int
    frameworks: int
    roles: int
    refusals: int
    demanding: bool
    quota: bool = False
    reservations: bool = False


class _Cluster:
    """An allocator with its agents and frameworks, told what the master would tell it."""

    def __init__(self, size: Size) -> None:
        agents, frameworks = size.agents, size.frameworks
        self.allocator = Allocator(AllocatorConfig())
        roles = [_role(number) if size.quota else f"role-{number}" for number in range(size.roles)]
        self.now = Now(1000.0, 1000.0)
        self.offers: dict[Allocation, None] = {}
        for number in range(agents):
            total = TOTAL
            if size.reservations and number % 10 == 0:
                total = Resources.parse(RESERVED, roles[number // 10 % len(roles)])
            self.allocator.add_agent(f"agent-{number}", total, Site(f"host-{number}"), self.now)
        if size.quota:
            for number, path in enumerate(dict.fromkeys(path for role in roles for path in (*ancestors(role), role))):
                self.allocator.set_weight(path, 1.0 + number % 3)
            self.allocator.set_quotas(_quotas(roles, agents))
        count = -(-agents * SHAPES_PER_AGENT * 3 // (frameworks * 2))
        for number in range(frameworks):
            name, role = f"framework-{number}", roles[number % len(roles)]
            self.allocator.add_framework(name, (role,), (), FrameworkOptions())
            if size.demanding:
                self.allocator.request(name, (Demand("task", role, SHAPE, count),), self.now)

    def settle(self) -> None:
        """A cycle: passes until nothing is left to decide."""
        while self.allocator.unsettled:
            result = self.allocator.allocate(self.now)
            for allocation in result.rescind:
                self.allocator.close_offers((allocation,), EMPTY, None, self.now)
                self.offers.pop(allocation, None)
            self.offers.update(dict.fromkeys(result.allocations))

    def give_back(self, refuse_s: float | None) -> int:
        """Close all offers unused; return how many."""
        for allocation in self.offers:
            self.allocator.close_offers((allocation,), EMPTY, refuse_s, self.now)
        count = len(self.offers)
        self.offers.clear()
        return count

    def launch(self) -> Iterator[tuple[str, str, str]]:
        """Use up all that is offered; return who runs what where."""
        for allocation in self.offers:
            self.allocator.close_offers((allocation,), allocation.resources, None, self.now)
            yield allocation.framework_id, allocation.role, allocation.agent_id
        self.offers.clear()

    def cpu_s(self) -> float:
        """CPU time of a cycle."""
        began_s = time.process_time()
        self.settle()
        return time.process_time() - began_s


def _role(number: int) -> str:
    """The roles of a tree, in three levels of ten, ten and as many as there are."""
    return f"role-{number % 10}/{number // 10 % 10}/{number // 100}"


def _quotas(roles: list[str], agents: int) -> dict[str, Quota]:
    """Every other role of each level has one. What is guaranteed is a third of the cluster, limits leave half as much again."""
    quotas = {}
    for level in (1, 2, 3):
        paths = list(dict.fromkeys("/".join(role.split("/")[:level]) for role in roles))
        part = {name: amount * agents // len(paths) for name, amount in (("cpus", TOTAL.cpus), ("mem", TOTAL.mem))}
        for path in paths[::2]:
            guarantees = {name: amount // 3 for name, amount in part.items()} if level == 3 else {}
            quotas[path] = Quota(guarantees, {name: amount * 3 // 2 for name, amount in part.items()})
    return quotas


def run(size: Size) -> Report:
    """Measure one size. Raises nothing of its own."""
    cluster = _Cluster(size)
    refused = 0
    for _ in range(size.refusals):
        cluster.settle()
        refused += cluster.give_back(YEAR_S)
    gc.collect()
    gc.freeze()  # As the master does.
    try:
        full = []
        for _ in range(CYCLES):
            full.append(cluster.cpu_s())
            offers = cluster.give_back(None)
        cluster.settle()
        running = list(cluster.launch())
        cluster.settle()
        idle, freed = [], []
        for number in range(TRIES):
            cluster.now = Now(cluster.now.mono_s + 0.01, 0.0)
            began_s = time.process_time()
            cluster.allocator.expire(cluster.now)
            cluster.settle()
            idle.append(time.process_time() - began_s)
            framework_id, role, agent_id = running[number * len(running) // TRIES]
            began_s = time.process_time()
            cluster.allocator.recover(framework_id, role, agent_id, SHAPE, cluster.now)
            cluster.settle()
            freed.append(time.process_time() - began_s)
            list(cluster.launch())
    finally:
        gc.unfreeze()
    results = {
        "full_cycle_s": min(full),
        "idle_cycle_s": percentile(idle, 0.5),
        "one_freed_s": percentile(freed, 0.5),
        "one_freed_p99_s": percentile(freed, 0.99),
        "offers": offers,
        "refused": refused,
    }
    params: dict[str, int | float | str] = {
        "agents": size.agents,
        "frameworks": size.frameworks,
        "roles": size.roles,
        "refusals": size.refusals,
        "mode": "demand" if size.demanding else "whole",
        "quota": str(size.quota).lower(),
        "reservations": str(size.reservations).lower(),
    }
    return Report("allocator", params, results, PEERS)
