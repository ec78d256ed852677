"""A cluster for tests of the allocator: short words for its events, and a check of what must hold after each pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kernel.clock import Now
from kernel.master.allocator import Allocation, Allocator, AllocatorConfig, Demand, FrameworkOptions, Quota
from kernel.master.allocator.quota import unreserved_amount
from kernel.wire.common import DomainInfo
from kernel.wire.constraints import Site
from kernel.wire.resources import EMPTY, Resources, quantity
from kernel.wire.revocable import firm, revocable
from kernel.wire.roles import is_same_or_below
from kernel.wire.task import Attribute

NOBODY = FrameworkOptions()


def parse(text: str) -> Resources:
    return Resources.parse(text)


def _amounts(text: str) -> dict[str, int]:
    pairs = (part.split(":") for part in text.split(";") if part)
    return {name: round(float(amount) * 1000) for name, amount in pairs}


def demand(
    shape: str,
    count: int = 1,
    role: str = "*",
    name: str = "",
    agent: str | None = None,
    priority: int = 0,
    least: int | None = None,
    prefer: tuple[str, ...] = (),
) -> Demand:
    return Demand(name, role, parse(shape), count, least, agent_id=agent, priority=priority, prefer=prefer)


class TestCluster:
    """Drives an Allocator as the master core does and keeps its own books beside it."""

    __test__ = False

    def __init__(self, seed: int = 0, **config: object) -> None:
        self.allocator = Allocator(AllocatorConfig(**config), seed)  # type: ignore[arg-type]
        self.now_s = 1000.0
        self.totals: dict[str, Resources] = {}
        self.offers: dict[Allocation, None] = {}
        self.tasks: list[tuple[str, str, str, Resources]] = []
        self.rescinded: list[Allocation] = []
        self.quotas: dict[str, Quota] = {}

    @property
    def now(self) -> Now:
        return Now(self.now_s, self.now_s)

    # ---- events -----------------------------------------------------------------------------------------

    def agent(
        self, agent_id: str, total: str, hostname: str = "", attributes: tuple[Attribute, ...] = (), domain: DomainInfo | None = None
    ) -> None:
        self.totals[agent_id] = parse(total)
        self.allocator.add_agent(agent_id, parse(total), Site(hostname or agent_id, attributes, domain), self.now)

    def framework(
        self, framework_id: str, *roles: str, suppressed: Iterable[str] = (), options: FrameworkOptions = NOBODY, demands: bool = False
    ) -> None:
        self.allocator.add_framework(framework_id, roles or ("*",), suppressed, options)
        if demands:
            self.request(framework_id)

    def request(self, framework_id: str, *demands: Demand) -> None:
        self.allocator.request(framework_id, demands, self.now)

    def decline(self, *allocations: Allocation, refuse_s: float | None = 5.0) -> None:
        for allocation in allocations:
            del self.offers[allocation]
            self.allocator.close_offers([allocation], EMPTY, refuse_s, self.now)

    def rescind(self, *allocations: Allocation) -> None:
        self.decline(*allocations, refuse_s=None)

    def launch(self, allocation: Allocation, *tasks: str, refuse_s: float | None = 5.0) -> None:
        """Accept one offer, launching tasks of these resources; without any: one that uses all."""
        shapes = [parse(task) for task in tasks] or [allocation.resources]
        used = EMPTY
        for shape in shapes:
            used += shape
            self.tasks.append((allocation.framework_id, allocation.role, allocation.agent_id, shape))
        del self.offers[allocation]
        self.allocator.close_offers([allocation], used, refuse_s, self.now)
        self.allocator.launched(allocation.framework_id, allocation.role, shapes)

    def finish(self, index: int = 0) -> None:
        framework_id, role, agent_id, resources = self.tasks.pop(index)
        self.allocator.recover(framework_id, role, agent_id, resources, self.now)

    def remove_agent(self, agent_id: str) -> None:
        self.rescind(*(offer for offer in self.offers if offer.agent_id == agent_id))
        for index in [number for number, task in enumerate(self.tasks) if task[2] == agent_id][::-1]:
            self.finish(index)
        del self.totals[agent_id]
        self.allocator.remove_agent(agent_id)

    def remove_framework(self, framework_id: str) -> None:
        self.rescind(*(offer for offer in self.offers if offer.framework_id == framework_id))
        for index in [number for number, task in enumerate(self.tasks) if task[0] == framework_id][::-1]:
            self.finish(index)
        self.allocator.remove_framework(framework_id)

    def update_agent(self, agent_id: str, total: str) -> None:
        self.totals[agent_id] = parse(total)
        self.allocator.update_agent(agent_id, parse(total), Site(agent_id), self.now)

    def lend(self, agent_id: str, slack: Resources) -> None:
        """So much of the agent is revocable now; what of it is offered comes back."""
        self.rescind(*(offer for offer in self.offers if offer.agent_id == agent_id and revocable(offer.resources)))
        self.totals[agent_id] = firm(self.totals[agent_id]) + slack
        self.allocator.update_agent(agent_id, self.totals[agent_id], Site(agent_id), self.now)

    def quota(self, role: str, guarantee: str = "", limit: str = "") -> list[Allocation]:
        """Set a role's quota, as `cpus:1;mem:2`, and take back what is offered beyond it; without any: remove it."""
        self.quotas[role] = Quota(_amounts(guarantee), _amounts(limit))
        if not guarantee and not limit:
            del self.quotas[role]
        self.allocator.set_quotas(self.quotas)
        beyond = self.allocator.offers_beyond_quota()
        self.rescind(*beyond)
        return beyond

    # ---- passes -----------------------------------------------------------------------------------------

    def allocate(self, budget_s: float = 0.0, stopwatch: Callable[[], float] | None = None) -> list[Allocation]:
        """Passes until all is settled. Returns what was offered, in order."""
        made: list[Allocation] = []
        for _ in range(10_000):
            kept, quorums = self._kept(), self._quorums()
            result = self.allocator.allocate(self.now, budget_s, stopwatch)
            self._check_quotas(result.allocations, kept)
            self._check_gangs(result.allocations, quorums)
            for allocation in result.rescind:
                if allocation in self.offers:
                    self.rescinded.append(allocation)
                    self.rescind(allocation)
            made += result.allocations
            self.offers.update(dict.fromkeys(result.allocations))
            self.check()
            if not self.allocator.unsettled:
                assert result.finished or stopwatch is not None  # It may run out of time with the last that there is to do.
                return [allocation for allocation in made if allocation in self.offers]
        raise AssertionError("the allocator never settles")

    def wait(self, seconds: float) -> list[Allocation]:
        """Let time pass in ticks, with passes in between, as the master does."""
        made: list[Allocation] = []
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s = min(end_s, self.now_s + 0.25)
            self.allocator.expire(self.now)
            if self.allocator.unsettled:
                made += self.allocate()
        return [allocation for allocation in made if allocation in self.offers]

    def consumed(self, role: str) -> dict[str, int]:
        """What a role consumes, added up from the books of the test."""
        sums: dict[str, int] = {}
        for total in self.totals.values():
            for key, amount in (total.other or {}).items():
                if key.reservations and isinstance(amount, int) and is_same_or_below(key.role, role):
                    sums[key.name] = sums.get(key.name, 0) + quantity(key, amount)
        held = [(offer.role, offer.resources) for offer in self.offers] + [(task[1], task[3]) for task in self.tasks]
        for of, resources in held:
            if is_same_or_below(of, role):
                for name in ("cpus", "mem", "disk", "gpus", "bandwidth"):
                    sums[name] = sums.get(name, 0) + unreserved_amount(resources, name)
        return sums

    def unmet(self, name: str, role: str = "") -> int:
        """What is to be kept free of a resource for the guarantees of a role and those below it; of all, without one."""
        below = [other for other in self.quotas if other != role and (not role or is_same_or_below(other, role))]
        nearest = [one for one in below if not any(one != other and is_same_or_below(one, other) for other in below)]
        beneath = sum(self.unmet(name, one) for one in nearest)
        own = self.quotas[role].guarantees.get(name, 0) - self.consumed(role).get(name, 0) if role else 0
        return max(own, beneath, 0)

    def free(self, name: str) -> int:
        """How much of a scalar is free, not reserved, on agents that may be offered and are kept for nobody."""
        agents = self.allocator._state.agents.values()
        return sum(unreserved_amount(agent.free, name) for agent in agents if agent.open and agent.claim is None)

    def _kept(self) -> dict[str, int]:
        """By how much what is free falls short of what is guaranteed."""
        names = {name for quota in self.quotas.values() for name in quota.guarantees}
        return {name: max(0, self.unmet(name) - self.free(name)) for name in names}

    def _quorums(self) -> dict[object, int]:
        """How many tasks of each gang are to be placed at once."""
        frameworks = self.allocator._state.frameworks.values()
        return {gang: gang.quorum for framework in frameworks for leaf in framework.leaves.values() for gang in leaf.gangs}

    def _check_gangs(self, allocations: Iterable[Allocation], quorums: dict[object, int]) -> None:
        """A gang got as many as are of use in one pass, or none."""
        placed: dict[object, int] = {}
        for allocation in allocations:
            for entry, times in allocation.cover:
                placed[entry] = placed.get(entry, 0) + times
        for gang, quorum in quorums.items():
            assert placed.get(gang, 0) == 0 or placed[gang] >= quorum, f"{gang}: {placed[gang]} of {quorum}"

    def _check_quotas(self, allocations: Iterable[Allocation], short: dict[str, int]) -> None:
        """No offer passes a limit, or takes what is kept for guarantees. Called before `offers` know of the new ones."""
        quota = self.allocator._state.quota
        more = dict.fromkeys(allocations)
        self.offers.update(more)
        for role, set_ in self.quotas.items():
            consumed = self.consumed(role)
            for bound in quota.bounds.get(role, ()):
                assert bound.consumed == consumed.get(bound.name, 0), (role, bound.name)
                assert bound.pool is None or bound.unmet == self.unmet(bound.name, role)
            for name, limit in set_.limits.items():
                taken = [o for o in more if is_same_or_below(o.role, role) and unreserved_amount(o.resources, name)]
                assert not taken or consumed.get(name, 0) <= limit, f"{role} is beyond its limit: {consumed} by {taken}"
        for pool in quota.pools:
            assert pool.free == self.free(pool.name)
            assert pool.below == self.unmet(pool.name)
            claims = [agent for agent in self.allocator._state.agents.values() if agent.claim is not None]
            assert claims or self.unmet(pool.name) - pool.free <= short[pool.name], f"what was kept of {pool.name} was given away"
        for offer in more:
            del self.offers[offer]

    def check(self) -> None:
        """used + offered + free = total, and nothing is promised twice."""
        held: dict[str, Resources] = {}
        for allocation in self.offers:
            held[allocation.agent_id] = held.get(allocation.agent_id, EMPTY) + allocation.resources
            assert allocation.resources
        for _, _, agent_id, resources in self.tasks:
            held[agent_id] = held.get(agent_id, EMPTY) + resources
        state = self.allocator._state
        sums: dict[str, int] = {}
        for agent_id, total in self.totals.items():
            expected = held.get(agent_id, EMPTY)
            assert firm(total).contains(firm(expected))  # Of what is revocable there may be less than is used.
            assert state.agents[agent_id].held == expected
            assert state.agents[agent_id].free == total.without(expected)
            for name, amount in expected.scalars().items():
                sums[name] = sums.get(name, 0) + amount
        root = state.tree.root
        counted = {"cpus": root.cpus, "mem": root.mem, "disk": root.disk, "gpus": root.gpus, **(root.extra or {})}
        assert {name: n for name, n in counted.items() if n} == {
            name: n for name, n in sums.items() if n and name not in ("ports", "zones")
        }


def given(allocations: Iterable[Allocation]) -> list[tuple[str, str, str]]:
    """Who was offered what where."""
    return [(allocation.framework_id, allocation.agent_id, str(allocation.resources)) for allocation in allocations]


def who(allocations: Iterable[Allocation]) -> list[str]:
    return [allocation.framework_id for allocation in allocations]
