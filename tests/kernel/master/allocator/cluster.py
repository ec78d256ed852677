"""A cluster for tests of the allocator: short words for its events, and a check of what must hold after each pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kernel.clock import Now
from kernel.master.allocator import Allocation, Allocator, AllocatorConfig, Demand, FrameworkOptions
from kernel.wire.common import DomainInfo
from kernel.wire.constraints import Site
from kernel.wire.resources import EMPTY, Resources
from kernel.wire.task import Attribute

NOBODY = FrameworkOptions()


def parse(text: str) -> Resources:
    return Resources.parse(text)


def demand(shape: str, count: int = 1, role: str = "*", name: str = "", agent: str | None = None, priority: int = 0) -> Demand:
    return Demand(name, role, parse(shape), count, agent_id=agent, priority=priority)


class TestCluster:
    """Drives an Allocator as the master core does and keeps its own books beside it."""

    __test__ = False

    def __init__(self, **config: object) -> None:
        self.allocator = Allocator(AllocatorConfig(**config))  # type: ignore[arg-type]
        self.now_s = 1000.0
        self.totals: dict[str, Resources] = {}
        self.offers: dict[Allocation, None] = {}
        self.tasks: list[tuple[str, str, str, Resources]] = []
        self.rescinded: list[Allocation] = []

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

    # ---- passes -----------------------------------------------------------------------------------------

    def allocate(self, budget_s: float = 0.0, stopwatch: Callable[[], float] | None = None) -> list[Allocation]:
        """Passes until all is settled. Returns what was offered, in order."""
        made: list[Allocation] = []
        for _ in range(10_000):
            result = self.allocator.allocate(self.now, budget_s, stopwatch)
            for allocation in result.rescind:
                if allocation in self.offers:
                    self.rescinded.append(allocation)
                    self.rescind(allocation)
            made += result.allocations
            self.offers.update(dict.fromkeys(result.allocations))
            self.check()
            if not self.allocator.unsettled:
                assert result.finished
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
            assert total.contains(expected)
            assert state.agents[agent_id].held == expected
            assert state.agents[agent_id].free == total - expected
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
