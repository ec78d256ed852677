"""Agents whose tasks use now less, now more of what they were given, so that what they lend comes and goes, under all faults."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from kernel.agent import effects as a
from kernel.agent.config import AgentConfig
from kernel.agent.isolators.limits import Usage
from kernel.agent.oversubscription.config import ControllerParameters, EstimatorParameters
from kernel.agent.oversubscription.controller import Machine
from kernel.agent.state import Task
from kernel.wire.agent import Oversubscribed, Register, StatusUpdate
from kernel.wire.resources import Key, Resources
from kernel.wire.revocable import firm, revocable
from kernel.wire.task import Reason, TaskState, TaskStatus
from tests.kernel.master import invariants
from tests.sim.cluster import Cluster, Framework
from tests.sim.machine import Agent

MEASURE_S = 1.0
USAGE = EstimatorParameters(share=1.0, margin=0.0, warm_up_s=2.0, window_s=8.0, memory=True)
FIXED = EstimatorParameters(resources="cpus:2;mem:512")  # So that what waits for slack ends, too, when nothing else runs.


class LendingAgent(Agent):
    """It measures, as the edge does. preempted: the tasks that it was told to end for others; lent: how often another amount was told;
    strained: whether its machine runs out of memory now and then."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.preempted: set[str] = set()
        self.lent = 0
        self.strained = True
        self._uses: dict[str, tuple[float, float]] = {}  # By container: cpus, and the time of them so far.

    def config(self) -> AgentConfig:
        fixed = self.name == "agent0"
        return replace(
            super().config(),
            resource_estimator="fixed" if fixed else "usage",
            resource_estimator_parameters=FIXED if fixed else USAGE,
            qos_controller_parameters=ControllerParameters(busy=0.5, calm_s=3.0),
        )

    def began(self) -> None:
        super().began()
        self._later(MEASURE_S, self._measure)

    def _measure(self) -> None:
        chance = self.world.chance
        for container in self.core.state.containers:
            cpus, spent = self._uses.get(container, (0.1, 0.0))
            if chance.random() < 0.1:
                cpus = chance.choice((0.05, 0.3, 1.0, 2.0))
            self._uses[container] = (cpus, spent + cpus * MEASURE_S)
        usages = {
            name: Usage(user_s=spent, system_s=0.0, rss_bytes=chance.choice((10, 60)) << 20)
            for name, (_, spent) in self._uses.items()
            if name in self.core.state.containers
        }
        available = 100 if self.strained and chance.random() < 0.03 else 4000
        life = self.life
        self.give(a.Measured(self.now().mono_s, usages, Machine(mem=4096, mem_available=available)))
        if self.alive(life):
            self._later(MEASURE_S, self._measure)

    def perform(self, effect: Any) -> None:
        match effect:
            case a.SignalContainer(container_id, 9):
                owner = self.core.state.containers.get(container_id)
                if isinstance(owner, Task) and owner.preempted:
                    self.preempted.add(owner.task_id)
                    if self.strained and self.world.chance.random() < 0.2:  # Between the kill and its end there is little time.
                        self.crash_soon()
            case a.ToMaster(StatusUpdate(status=status)) if status.reason is Reason.REASON_CONTAINER_PREEMPTED:
                self.preempted.add(status.task_id.value)  # It ended while the agent was away, before the kill that was written down.
            case a.ToMaster(Oversubscribed()):
                self.lent += 1
            case a.ToMaster(Register(slack=slack)):
                assert Resources.of(slack) == self.core.state.slack
        super().perform(effect)


class LendingFramework(Framework):
    """One that takes what is lent."""

    revocable = True


class Lending(Cluster):
    """A cluster that checks after each step that nothing is given out that is not lent any more."""

    agent_class, framework_class = LendingAgent, LendingFramework

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._checks = 0

    def wants(self) -> Resources:
        """Half of the tasks take cpus that are lent, some of these memory, too."""
        chance, own = self.world.chance, super().wants()
        if chance.random() < 0.5:
            return own
        names = {"cpus", "mem"} if chance.random() < 0.3 else {"cpus"}
        return Resources.made_of((Key(name, revocable=name in names), amount) for name, amount in own.scalars().items())

    def check_promised(self, agent: Any, used: Resources, offered: Resources) -> None:
        assert firm(agent.total).contains(firm(used + offered)), f"{agent.agent_id}: {used} + {offered} is promised of {agent.total}"
        lent = revocable(agent.total).without(used)  # What is used may be more than is lent by now.
        assert lent.contains(revocable(offered)), f"{agent.agent_id}: {used} + {offered} is given out of {agent.total}"

    def _check_sums(self) -> None:
        super()._check_sums()
        self._checks += 1
        if self._checks % 50 == 0:  # All of it takes long.
            invariants.check(self.master.core.state)

    def settle(self, within_s: float = 1500.0) -> None:
        for agent in self.agents:
            agent.strained = False
        super().settle(within_s)

    def unfinished(self) -> str:
        found = super().unfinished()
        if found:
            return found
        known = {seen.agent_id: revocable(seen.total) for seen in self.master.core.state.agents.values()}
        for agent in self.agents:
            state = agent.core.state
            if known.get(state.agent_id) != state.slack:
                return f"{agent.name} lends {state.slack}, the master knows of {known.get(state.agent_id)}"
        return ""

    @property
    def preempted(self) -> set[str]:
        return set().union(*(agent.preempted for agent in self.agents))

    def explains(self, task_id: str, end: TaskStatus) -> bool:
        """Whoever is preempted is gone, and nothing else."""
        if task_id in self.preempted:
            assert end.state is TaskState.TASK_GONE, f"{task_id} was preempted and is told {end.state.value}"
        return task_id in self.preempted


def live(seed: int, seconds: float = 120.0) -> Lending:
    """A whole history. Raises AssertionError."""
    cluster = Lending(seed)
    cluster.run(seconds)
    cluster.settle()
    cluster.check_end()
    return cluster
